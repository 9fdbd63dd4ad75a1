"""The way of a template's fork into its slot, and to the same confinement as any other environment.

This runs in the memory of user code: nothing here is relied upon by anybody but the environment itself. What must
hold against hostile code is made by `slot.py` and by the kernel, and docs/security.md says what is left.

    template -> joiner (enters the slot's namespaces) -> first of the pid namespace -> runtime

Two children in between and not one: the slot's init only inherits what is orphaned *inside* its pid namespace. Both
borrow the template's memory where they can, so that it is copied once.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, List, NamedTuple, NoReturn, Optional, Tuple

from lambent.dataplane.jail import borrowed, landlock, privileges, seccomp, slot
from lambent.dataplane.jail import syscalls as sc

CONTROL_FD, COMMAND_FD = 3, 5


class ForkMeans(NamedTuple):
    control_fd: int
    log_fd: int
    joined_fd: int
    namespace_fds: List[int]
    cgroup_fds: List[int]
    task_root: str
    filter: bytes
    landlock_abi: int


class Forker:
    """Made once in a template; `fork_into` is then called for each environment."""

    def __init__(self) -> None:
        self._stacks: Optional[Tuple[borrowed.Stack, borrowed.Stack]] = None
        if borrowed.POSSIBLE:
            self._stacks = (borrowed.Stack(), borrowed.Stack())

    def fork_into(self, means: ForkMeans, go_on: Callable[[], NoReturn]) -> None:
        """Returns in the template; `go_on` is called in the new environment. Raises OSError when there was no fork."""

        def join() -> None:
            _try(means, lambda: _enter(means))
            self._pass_on(go_first, 1)

        def go_first() -> None:
            if os.fork() == 0:
                _try(means, lambda: _settle(means))
                go_on()

        os.waitpid(self._pass_on(join, 0), 0)

    def _pass_on(self, work: Callable[[], None], stack: int) -> int:
        """Have a child do it, and return its pid."""
        if self._stacks is not None:
            return borrowed.run(work, self._stacks[stack])
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(70)
        return pid


def _try(means: ForkMeans, work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as exc:
        os.write(means.log_fd, "[lambent] fork: {}: {}\n".format(type(exc).__name__, exc).encode())
        raise


def _enter(means: ForkMeans) -> None:
    for fd in means.cgroup_fds:
        os.write(fd, b"0")
    slot.join(means.namespace_fds)


def _settle(means: ForkMeans) -> None:
    while os.getppid() != 1:
        time.sleep(0)
    _confine(means)


def _confine(means: ForkMeans) -> None:
    """The same steps as `contain.py`, from where a template stands: uid, limits and no_new_privs it has kept."""
    os.setsid()
    os.chdir(means.task_root)
    privileges.drop_bounding_set()
    privileges.drop_capabilities()
    # Joining a user namespace made the process undumpable, which hides its own /proc/self from it.
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
    if means.landlock_abi:
        landlock.restrict(means.landlock_abi)
    slot.tell_joined(means.joined_fd)
    os.dup2(means.control_fd, CONTROL_FD)
    os.dup2(means.log_fd, 1)
    os.dup2(means.log_fd, 2)
    for fd in (means.control_fd, means.log_fd, means.joined_fd, COMMAND_FD, *means.namespace_fds, *means.cgroup_fds):
        os.close(fd)
    seccomp.install_filter(means.filter)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
