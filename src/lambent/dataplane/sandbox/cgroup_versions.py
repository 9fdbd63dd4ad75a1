"""What the two versions of control groups do differently: which files hold the limits, and in what scale."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Protocol

from lambent.dataplane.sandbox.cgroup_files import Files

MEMORY_MB_OF_ONE_CPU = 1_769
"""AWS Lambda developer guide, "Configure memory": at this size a function has one full virtual CPU."""

SHARES_OF_ONE_CPU = 1_024
QUOTA_PERIOD_US = 20_000
"""With the kernel's default of 100 ms a small quota stalls a function for 90 ms at a time."""


class Flavour(Protocol):
    """What the two versions do differently. `base` folders hold the node's parent group."""

    @property
    def bases(self) -> Sequence[str]: ...

    def prepare(self, parents: Sequence[str]) -> None:
        """Make newly created parent groups ready for children."""
        ...

    def limit(
        self, groups: Sequence[str], *, memory_mb: int, cpu_shares: int, cpu_quota: float | None, pids_max: int
    ) -> None: ...

    def memory_group(self, groups: Sequence[str]) -> str: ...

    peak_file: str
    oom_file: str
    enter_file: str
    """Where a process writes "0" to enter the group."""
    kill_file: str
    """Empty where the kernel cannot kill a group by itself."""
    events_file: str
    """Notifies when the group becomes empty; empty where there is none."""


def cpu_shares(memory_mb: int) -> int:
    return max(2, memory_mb * SHARES_OF_ONE_CPU // MEMORY_MB_OF_ONE_CPU)


@dataclasses.dataclass(slots=True)
class VersionOne:
    """Limits in the memory, cpu (where there is one) and pids hierarchies."""

    memory: str
    pids: str
    cpu: str | None
    has_swap_limit: bool
    """The kernel was built, and booted, to account for swap."""
    files: Files = dataclasses.field(default_factory=Files)
    peak_file: str = "memory.max_usage_in_bytes"
    oom_file: str = "memory.oom_control"
    enter_file: str = "tasks"
    """Moves the writing thread alone, which spares the wait for an RCU grace period that cgroup.procs means: 5 to 20
    ms of a cold start. The child that writes has one thread, so it is all of it."""
    kill_file: str = ""
    events_file: str = ""

    @property
    def bases(self) -> Sequence[str]:
        return [base for base in (self.memory, self.pids, self.cpu) if base is not None]

    def prepare(self, parents: Sequence[str]) -> None:
        # Together the environments weigh as much as one busy process on each CPU would.
        if self.cpu is not None:
            self.files.write(f"{parents[2]}/cpu.shares", str(SHARES_OF_ONE_CPU * (os.cpu_count() or 1)))

    def limit(
        self, groups: Sequence[str], *, memory_mb: int, cpu_shares: int, cpu_quota: float | None, pids_max: int
    ) -> None:
        write = self.files.write
        limit = str(memory_mb << 20)
        write(f"{groups[0]}/memory.limit_in_bytes", limit)
        if self.has_swap_limit:
            # Memory and swap together may never be less than memory alone, so this comes second.
            write(f"{groups[0]}/memory.memsw.limit_in_bytes", limit)
        write(f"{groups[1]}/pids.max", str(pids_max))
        if self.cpu is None:
            return
        write(f"{groups[2]}/cpu.shares", str(cpu_shares))
        if cpu_quota is not None:
            write(f"{groups[2]}/cpu.cfs_period_us", str(QUOTA_PERIOD_US))
            write(f"{groups[2]}/cpu.cfs_quota_us", str(_quota_us(cpu_quota)))

    def memory_group(self, groups: Sequence[str]) -> str:
        return groups[0]


@dataclasses.dataclass(slots=True)
class VersionTwo:
    """Limits in the one hierarchy."""

    base: str
    has_cpu: bool
    files: Files = dataclasses.field(default_factory=Files)
    has_swap_limit: bool = True
    peak_file: str = "memory.peak"
    """`memory.current` before Linux 5.19, which does not keep the peak."""
    oom_file: str = "memory.events"
    enter_file: str = "cgroup.procs"
    kill_file: str = "cgroup.kill"
    """Empty before Linux 5.14."""
    events_file: str = "cgroup.events"

    @property
    def bases(self) -> Sequence[str]:
        return [self.base]

    def prepare(self, parents: Sequence[str]) -> None:
        (parent,) = parents
        self.files.write(f"{parent}/cgroup.subtree_control", controllers_to_enable(self.has_cpu))
        if self.has_cpu:
            self.files.write(f"{parent}/cpu.weight", str(min(10_000, 100 * (os.cpu_count() or 1))))
        # What the kernel offers is only seen in a group below the root: asked once here, not at each cold start.
        names = set(os.listdir(parent))  # noqa: PTH208
        self.peak_file = "memory.peak" if "memory.peak" in names else "memory.current"
        self.kill_file = "cgroup.kill" if "cgroup.kill" in names else ""
        self.has_swap_limit = "memory.swap.max" in names

    def limit(
        self, groups: Sequence[str], *, memory_mb: int, cpu_shares: int, cpu_quota: float | None, pids_max: int
    ) -> None:
        (group,) = groups
        write = self.files.write
        write(f"{group}/memory.max", str(memory_mb << 20))
        if self.has_swap_limit:
            write(f"{group}/memory.swap.max", "0")
        write(f"{group}/memory.oom.group", "1")
        write(f"{group}/pids.max", str(pids_max))
        if not self.has_cpu:
            return
        write(f"{group}/cpu.weight", str(_weight(cpu_shares)))
        if cpu_quota is not None:
            write(f"{group}/cpu.max", f"{_quota_us(cpu_quota)} {QUOTA_PERIOD_US}")

    def memory_group(self, groups: Sequence[str]) -> str:
        return groups[0]


def _quota_us(cpus: float) -> int:
    # The kernel takes no quota below 1 ms.
    return max(1_000, int(QUOTA_PERIOD_US * cpus))


def _weight(shares: int) -> int:
    # Only proportions among siblings count, and these are kept; 100 is the default as 1024 is of shares.
    return min(10_000, max(1, shares * 100 // SHARES_OF_ONE_CPU))


def controllers_to_enable(has_cpu: bool) -> str:
    return "+memory +pids +cpu" if has_cpu else "+memory +pids"
