# Limits and accounting of environments through control groups, version 1 or 2.
#
# Every group lies under one parent, `lambent-<node id>`, in each hierarchy that is used, so that a node which starts
# after a SIGKILL finds what its predecessor left and a node that stops leaves nothing.
#
# Creating a group is on the path of a cold start: nothing is read there and each file is opened once.
from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from lambent.dataplane.sandbox import cgroup_files
from lambent.dataplane.sandbox.cgroup_discovery import Finding, find_v1, find_v2
from lambent.dataplane.sandbox.cgroup_files import Files, read_again, read_pids
from lambent.dataplane.sandbox.cgroup_removal import Removal, kill_group, remove_now, remove_waiting
from lambent.dataplane.sandbox.cgroup_versions import MEMORY_MB_OF_ONE_CPU, Flavour, cpu_shares
from lambent.dataplane.sandbox.leases import LimitsLease
from lambent.model.limits import PROCESSES


class Cgroup:
    """The groups of one environment, one in each hierarchy."""

    def __init__(self, driver: CgroupDriver, groups: Sequence[str]) -> None:
        self.groups = groups
        self._driver = driver
        self._flavour = driver.flavour
        self._memory = self._flavour.memory_group(groups)
        self._peak_fd = -1
        self._oom_fd = -1
        self._removed = False

    def procs_fds(self) -> list[int]:
        """New write descriptors, the caller's to close. A process of one thread that writes "0" enters the groups."""
        fds: list[int] = []
        try:
            for group in self.groups:
                fds.append(os.open(f"{group}/{self._flavour.enter_file}", os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def memory_peak_mb(self) -> int:
        """The most that was charged at once since the group was made, rounded up; 0 after `close`."""
        if self._peak_fd < 0 and not self._removed:
            self._peak_fd = self._open(self._flavour.peak_file)
        text = read_again(self._peak_fd)
        return -(-int(text) >> 20) if text.isdigit() else 0

    def oom_kills(self) -> int:
        """How many processes the kernel killed because the group was at its memory limit; 0 after `close`."""
        if self._oom_fd < 0 and not self._removed:
            self._oom_fd = self._open(self._flavour.oom_file)
        words = read_again(self._oom_fd).split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def process_count(self) -> int:
        """Processes in the group now."""
        return len(read_pids(self._memory))

    def kill(self) -> None:
        """Send SIGKILL to every process in the group. Returns without waiting for their end."""
        kill_group(self.groups, self._flavour, self._driver.files)

    def close(self) -> None:
        """Close descriptors; the groups stay."""
        for fd in (self._peak_fd, self._oom_fd):
            if fd >= 0:
                os.close(fd)
        self._peak_fd = self._oom_fd = -1

    def remove(self) -> None:
        """Close, and remove the groups; what is still in them is killed. May be called twice.

        Never waits: a group that is still busy is removed later by the driver.
        """
        if self._removed:
            return
        self._removed = True
        self.close()
        self._driver.remove(self.groups)

    def release(self) -> None:
        self.remove()

    def _open(self, name: str) -> int:
        try:
            return os.open(f"{self._memory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1


class CgroupDriver:
    """Makes groups under the node's parent. Used from one thread."""

    def __init__(self, flavour: Flavour, *, files: Files | None = None) -> None:
        self.flavour = flavour
        self.files = files or Files()
        self._parents: list[str] = []
        self._node_id = ""
        self._removals: set[Removal] = set()

    def start(self, node_id: str) -> None:
        """Remove what an earlier node of this id left and make the parent. Blocks; raises OSError."""
        self.sweep_processes(node_id)
        self._node_id = node_id
        self._parents = [f"{base}/{parent_name(node_id)}" for base in self.flavour.bases]
        try:
            for parent in self._parents:
                self.files.make(parent)
            self.flavour.prepare(self._parents)
        except OSError:
            self.stop()
            raise

    def create(
        self,
        name: str,
        *,
        memory_mb: int,
        extra_memory_mb: int = 0,
        cpu_shares: int,
        pids_max: int,
        cpu_quota: float | None = None,
    ) -> Cgroup:
        """A group with its limits set, nobody in it. `cpu_quota` is in CPUs; None lets it use what is idle.

        Raises OSError; then nothing of it is left.
        """
        cgroup = self.make(name)
        try:
            self.flavour.limit(
                cgroup.groups,
                memory_mb=memory_mb + extra_memory_mb,
                cpu_shares=cpu_shares,
                cpu_quota=cpu_quota,
                pids_max=pids_max,
            )
        except OSError:
            for group in cgroup.groups:
                self.files.remove(group)
            raise
        return cgroup

    def make(self, name: str) -> Cgroup:
        """A group without limits, nobody in it. Raises OSError; then nothing of it is left."""
        groups = [f"{parent}/{name}" for parent in self._parents]
        made: list[str] = []
        try:
            for group in groups:
                self.files.make(group)
                made.append(group)
        except OSError:
            for group in made:
                self.files.remove(group)
            raise
        return Cgroup(self, groups)

    def remove(self, groups: Sequence[str]) -> None:
        left = remove_now(groups, self.files)
        if not left:
            return
        kill_group(left, self.flavour, self.files)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            remove_waiting(left, self.flavour, self.files)
            return
        self._removals.add(Removal(loop, left, self.flavour, self.files, self._removals))

    def sweep(self, node_id: str) -> int:
        """Kill and remove every group under a node's parent, and the parent. Blocks up to 5 s.

        Returns how many groups of environments there were; those that could not be removed are logged.
        """
        parents = [f"{base}/{parent_name(node_id)}" for base in self.flavour.bases]
        groups = [group for parent in parents for group in _descendants(parent)]
        if groups:
            kill_group(groups, self.flavour, self.files)
        remove_waiting([*groups, *parents], self.flavour, self.files)
        return len(groups) // max(1, len(parents))

    def sweep_processes(self, node_id: str) -> None:
        """`sweep` for a node and for each process of one that was several. Blocks."""
        prefix = f"{parent_name(node_id)}-"
        names = {path.name for base in self.flavour.bases for path in Path(base).glob(f"{prefix}*")}
        for process in ["", *sorted(name.removeprefix(parent_name(node_id)) for name in names)]:
            self.sweep(node_id + process)

    def stop(self) -> None:
        """Kill and remove everything that `start` and `create` made. Blocks up to 5 s."""
        for removal in list(self._removals):
            removal.cancel()
        if self._node_id:
            self.sweep(self._node_id)
            self._node_id = ""


class EnvironmentLimits:
    """What the launcher asks of limits: CPU in proportion to memory, as a share or, with `cpu_quota`, as a bound."""

    def __init__(self, driver: CgroupDriver, *, pids_max: int = PROCESSES, cpu_quota: bool = False) -> None:
        self._driver = driver
        self._pids_max = pids_max
        self._cpu_quota = cpu_quota

    def create(self, name: str, *, memory_mb: int) -> Cgroup:
        return self._driver.create(
            name,
            memory_mb=memory_mb,
            cpu_shares=cpu_shares(memory_mb),
            pids_max=self._pids_max,
            cpu_quota=self._quota(memory_mb),
        )

    def make(self, name: str) -> Cgroup:
        """A group whose limits `limit` sets, before code of a tenant is in it."""
        return self._driver.make(name)

    def limit(self, lease: LimitsLease, *, memory_mb: int) -> None:
        assert isinstance(lease, Cgroup)
        self._driver.flavour.limit(
            lease.groups,
            memory_mb=memory_mb,
            cpu_shares=cpu_shares(memory_mb),
            pids_max=self._pids_max,
            cpu_quota=self._quota(memory_mb),
        )

    def _quota(self, memory_mb: int) -> float | None:
        return memory_mb / MEMORY_MB_OF_ONE_CPU if self._cpu_quota else None


def parent_name(node_id: str) -> str:
    return f"lambent-{node_id}"


def _descendants(group: str) -> list[str]:
    """Innermost first, the order in which they can be removed."""
    found = []
    for folder, _, _ in os.walk(group, topdown=False):
        if folder != group:
            found.append(folder)
    return found


def discover(
    *,
    mounts: Path = cgroup_files.MOUNTS,
    membership: Path = cgroup_files.MEMBERSHIP,
    files: Files | None = None,
) -> CgroupDriver | None:
    """The driver that this machine and user allow, version 2 first; `probe` says why there is none."""
    files = files or Files()
    found = cgroup_files.read_mounts(mounts)
    flavour, _ = find_v2(found.v2, membership, files)
    if flavour is None:
        flavour, _ = find_v1(found.v1, files)
    return None if flavour is None else CgroupDriver(flavour, files=files)


def probe(
    *,
    mounts: Path = cgroup_files.MOUNTS,
    membership: Path = cgroup_files.MEMBERSHIP,
) -> list[Finding]:
    """What `discover` looks at, for people. Changes nothing."""
    found = cgroup_files.read_mounts(mounts)
    _, second = find_v2(found.v2, membership, None)
    _, first = find_v1(found.v1, None)
    return [second, first]
