"""The way of a template's fork into its slot, and to the same confinement as any other environment.

This runs in the memory of user code: nothing here is relied upon by anybody but the environment itself. What must
hold against hostile code is made by `slot.py` and by the kernel, and docs/security.md says what is left.

    template -> joiner (enters the slot's namespaces) -> first of the pid namespace -> runtime

Two forks and not one: the slot's init only inherits what is orphaned *inside* its pid namespace.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import os
import signal
import time
from typing import List, NamedTuple

from lambent.dataplane.jail import landlock, privileges, seccomp, slot
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


def fork_into(means: ForkMeans) -> bool:
    """True in the new environment, False in the template. Raises OSError in the latter when there was no fork."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return False
    try:
        for fd in means.cgroup_fds:
            os.write(fd, b"0")
        slot.join(means.namespace_fds)
        for _ in range(2):
            if os.fork():
                os._exit(0)
        while os.getppid() != 1:
            time.sleep(0)
        _confine(means)
    except BaseException as exc:
        os.write(means.log_fd, "[lambent] fork: {}: {}\n".format(type(exc).__name__, exc).encode())
        os._exit(70)
    return True


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
