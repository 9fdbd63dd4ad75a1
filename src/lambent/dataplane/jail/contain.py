"""Confinement of one environment, from fork to the first instruction of user code: one straight line.

Runs in the child, as a list of steps in security order. A step that raises ends the child: nothing after it runs,
the node is told which step it was and why. Steps that give up a privilege come after all that need it.

The line has a place to wait: what is before it is the same for every environment of a runtime, what is after it belongs
to one version. A shell (`runtime/shell.py`) waits there, still privileged but with no user code in it, ever.
"""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Tuple

from lambent.dataplane.jail import landlock, limits, mounts, namespaces, privileges, seccomp
from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.wire.spec import EnvironmentSpec


class Means(NamedTuple):
    """What the child was handed: descriptors, and what its zygote prepared once for all."""

    spec: EnvironmentSpec
    cgroup_fds: Tuple[int, ...]
    network_fd: int
    """-1: none came along."""
    scratch_fd: int
    """-1: none came along."""
    filter: bytes
    landlock_abi: int
    template_filter: bytes = b""


Step = Callable[[Means], None]


def enter_cgroup(means: Means) -> None:
    # First, so that all that follows is already counted; and before the cgroup namespace, whose root is
    # the group that we are in when it is made (entered later, /proc/self/cgroup would show the host's path).
    for fd in means.cgroup_fds:
        os.write(fd, b"0")
        os.close(fd)


def enter_network(means: Means) -> None:
    # Before the user namespace of `become`, from within which the network namespace could not be entered.
    namespaces.enter_network(means.spec.network, means.network_fd)


def unshare_namespaces(_: Means) -> None:
    # The pid namespace is already its own: the zygote asks for it before it forks.
    namespaces.unshare_rest()


def mount_proc(_: Means) -> None:
    mounts.mount_proc()


def mount_own_files(means: Means) -> None:
    mounts.mount_own(means.spec, means.scratch_fd)


def start_session(_: Means) -> None:
    # No controlling terminal, so no TIOCSTI either.
    os.setsid()


def set_limits(means: Means) -> None:
    limits.set_limits(means.spec)


def forbid_early_oom_escape(_: Means) -> None:
    # Only raising is free once privileges are gone; whatever the node has, the function does not inherit less.
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(fd, b"500")
    finally:
        os.close(fd)


def become_user(means: Means) -> None:
    privileges.become(means.spec)


def drop_capabilities(_: Means) -> None:
    privileges.drop_capabilities()


def forbid_new_privileges(_: Means) -> None:
    # Landlock and seccomp require it of processes without CAP_SYS_ADMIN.
    privileges.forbid_new_privileges()


def restrict_files(means: Means) -> None:
    # Not a template: its environments have another /tmp, which its rules would close to them. They restrict themselves.
    if means.spec.landlock and means.landlock_abi and not means.spec.template:
        landlock.restrict(means.landlock_abi)


def close_descriptors(means: Means) -> None:
    # An inherited folder descriptor would walk out of the root. 3 is the channel to the node, 4 the exit report,
    # 5 what a template is told by.
    sc.close_from(6 if means.spec.template else 5)


def filter_system_calls(means: Means) -> None:
    # Last: the steps above use calls that it refuses.
    seccomp.install_filter(means.template_filter if means.spec.template else means.filter)


NAMESPACE_STEPS_AHEAD: Tuple[Step, ...] = (
    enter_cgroup,
    enter_network,
    unshare_namespaces,
    mount_proc,
    start_session,
    forbid_early_oom_escape,
)

NAMESPACE_STEPS_ON_USE: Tuple[Step, ...] = (
    mount_own_files,
    set_limits,
    become_user,
    drop_capabilities,
    forbid_new_privileges,
    restrict_files,
    close_descriptors,
    filter_system_calls,
)

NAMESPACE_STEPS = NAMESPACE_STEPS_AHEAD + NAMESPACE_STEPS_ON_USE

# No help of namespaces: against accidents, not against attackers. Said loudly by the node that uses it.
PROCESS_STEPS: Tuple[Step, ...] = (
    enter_cgroup,
    start_session,
    set_limits,
    forbid_new_privileges,
    close_descriptors,
    filter_system_calls,
)

STEPS = {"root": NAMESPACE_STEPS, "user": NAMESPACE_STEPS, "process": PROCESS_STEPS}
# The zygote's link and its reports of others are of no use to a child that waits: they go first.
SHELL_STEPS: Tuple[Step, ...] = (*NAMESPACE_STEPS_AHEAD, close_descriptors)


class StepFailed(Exception):
    """A confinement step failed; the child must end."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__("{}: {}".format(step, reason))
        self.step = step
        self.reason = reason


def contain(means: Means) -> None:
    """Run every step of the spec's chain. Raises StepFailed."""
    _run(STEPS[means.spec.confine], means)


def contain_ahead(means: Means) -> None:
    """The first half, for a shell; needs nothing of a version. Raises StepFailed."""
    _run(SHELL_STEPS, means)


def contain_on_use(means: Means) -> None:
    """The second half: with the first, all of `contain`. Raises StepFailed."""
    _run(NAMESPACE_STEPS_ON_USE, means)


def _run(steps: Tuple[Step, ...], means: Means) -> None:
    fail_at = means.spec.fail_step
    for step in steps:
        try:
            if step.__name__ == fail_at:
                raise OSError("failure asked for by a test")
            step(means)
        except Exception as exc:
            raise StepFailed(step.__name__, "{}: {}".format(type(exc).__name__, exc)) from exc
