"""Resource limits of the process itself; memory and CPU are the cgroup's where there is one."""

from __future__ import annotations

import resource

from lambent.dataplane.wire.spec import EnvironmentSpec

OPEN_FILES = 1024
PROCESSES = 1024
MEGABYTE = 1 << 20


def set_limits(spec: EnvironmentSpec) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_MEMLOCK, 8 * MEGABYTE)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_RTPRIO, 0)
    _limit(resource.RLIMIT_SIGPENDING, 1024)
    if spec.confine != "process":
        _limit(resource.RLIMIT_FSIZE, spec.ephemeral_mb * MEGABYTE)
    # Forks of a template share its uid, and would share this; each has a pids cgroup of its own.
    if spec.confine == "root" and not (spec.template and spec.cgroup):
        # The uid is this environment's own, so the count is too; the pids cgroup holds as well.
        _limit(resource.RLIMIT_NPROC, PROCESSES)
    if not spec.cgroup:
        _limit(resource.RLIMIT_DATA, spec.memory_mb * MEGABYTE)


def set_small_limits() -> None:
    """Of an init that only waits."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 16)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
