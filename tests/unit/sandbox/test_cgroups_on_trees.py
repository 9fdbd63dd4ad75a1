"""Version 2, and machines unlike this one, on a directory tree that behaves as the kernel's does where it matters."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from lambent.dataplane.sandbox import cgroups
from lambent.dataplane.sandbox.cgroup_discovery import Finding
from lambent.dataplane.sandbox.cgroup_files import Files
from lambent.dataplane.sandbox.cgroup_versions import cpu_shares
from lambent.dataplane.sandbox.cgroups import CgroupDriver

V2_FILES = [
    *("cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "cgroup.events"),
    *("memory.max", "memory.swap.max", "memory.oom.group", "memory.peak", "memory.events", "memory.current"),
    *("pids.max", "cpu.weight", "cpu.max"),
]


class Tree(Files):
    """Fills a new folder with control files and refuses what a kernel refuses."""

    def __init__(self, root: Path, *, names: list[str] = V2_FILES) -> None:
        self.root = root
        self.names = names
        self.killed: list[int] = []

    def fill(self, group: Path, controllers: str = "") -> None:
        group.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            (group / name).touch()
        (group / "cgroup.controllers").write_text(controllers)

    def make(self, group: str) -> None:
        super().make(group)
        parent = Path(group).parent
        self.fill(Path(group), (parent / "cgroup.subtree_control").read_text().replace("+", ""))

    def remove(self, group: str) -> None:
        path = Path(group)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "gone")
        if (path / "cgroup.procs").read_text() or any(child.is_dir() for child in path.iterdir()):
            raise OSError(errno.EBUSY, "busy")
        shutil.rmtree(path)

    def write(self, path: str, value: str) -> None:
        group, name = Path(path).parent, Path(path).name
        if name == "cgroup.procs":
            for source in self.root.rglob("cgroup.procs"):
                source.write_text("".join(f"{pid}\n" for pid in source.read_text().split() if pid != value))
            value = (group / name).read_text() + value + "\n"
        if name == "cgroup.subtree_control" and (group / "cgroup.procs").read_text() and group != self.root:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if name == "cgroup.kill":
            (group / "cgroup.procs").write_text("")
        os.truncate(path, 0)
        super().write(path, value)

    def kill(self, pid: int, number: int) -> None:
        self.killed.append(pid)


class Machine:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.mounts = folder / "mounts"
        self.membership = folder / "membership"
        self.tree = Tree(self.root)
        self.mounts.write_text(f"proc /proc proc rw 0 0\ncgroup2 {self.root} cgroup2 rw,nosuid 0 0\n")
        self.membership.write_text("0::/\n")

    def discover(self) -> CgroupDriver | None:
        return cgroups.discover(mounts=self.mounts, membership=self.membership, files=self.tree)

    def probe(self) -> list[Finding]:
        return cgroups.probe(mounts=self.mounts, membership=self.membership)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.tree.fill(machine.root, "cpuset cpu io memory pids")
    return machine


def start(machine: Machine, node_id: str = "n1") -> CgroupDriver:
    driver = machine.discover()
    assert driver is not None
    driver.start(node_id)
    return driver


def test_root_on_version_2_gets_groups_at_the_top_with_all_limits(machine: Machine) -> None:
    driver = start(machine)
    assert set(machine.read("cgroup.subtree_control").split()) == {"+memory", "+pids", "+cpu"}
    assert set(machine.read("lambent-n1/cgroup.subtree_control").split()) == {"+memory", "+pids", "+cpu"}
    driver.create("e1", memory_mb=512, extra_memory_mb=64, cpu_shares=1_024, pids_max=99, cpu_quota=0.5)
    limits = {name: machine.read(f"lambent-n1/e1/{name}") for name in V2_FILES if machine.read(f"lambent-n1/e1/{name}")}
    assert limits == {
        "memory.max": str(576 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "99",
        "cpu.weight": "100",
        "cpu.max": "10000 20000",
    }


def test_without_a_quota_what_is_idle_may_be_used(machine: Machine) -> None:
    start(machine).create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    assert machine.read("lambent-n1/e1/cpu.max") == ""
    assert machine.read("lambent-n1/e1/cpu.weight") == "7"


@pytest.mark.parametrize(("memory_mb", "shares"), [(1, 2), (128, 74), (1_769, 1_024), (3_538, 2_048), (10_240, 5_927)])
def test_cpu_is_shared_in_proportion_to_memory(memory_mb: int, shares: int) -> None:
    assert cpu_shares(memory_mb) == shares


def test_peak_and_out_of_memory_kills_are_read_off_version_2_files(machine: Machine) -> None:
    group = start(machine).create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    folder = machine.root / "lambent-n1/e1"
    (folder / "memory.peak").write_text(f"{(5 << 20) + 1}\n")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert (group.memory_peak_mb(), group.oom_kills()) == (6, 2)
    group.close()


def test_an_old_kernel_without_peak_kill_and_swap_files_is_made_do_with(machine: Machine) -> None:
    machine.tree.names = [
        name for name in V2_FILES if name not in ("memory.peak", "cgroup.kill", "memory.swap.max", "cgroup.events")
    ]
    driver = start(machine)
    group = driver.create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    folder = machine.root / "lambent-n1/e1"
    (folder / "memory.current").write_text(f"{3 << 20}\n")
    assert group.memory_peak_mb() == 3
    (folder / "cgroup.procs").write_text("41\n42\n0\n")
    group.kill()
    assert sorted(machine.tree.killed) == [41, 42]
    assert machine.read("lambent-n1/e1/pids.max") == "0", "nothing may be forked meanwhile"
    (folder / "cgroup.procs").write_text("")
    group.remove()
    assert not folder.exists()


def test_the_kernel_kills_a_group_where_it_can(machine: Machine) -> None:
    group = start(machine).create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    (machine.root / "lambent-n1/e1/cgroup.procs").write_text("41\n")
    group.kill()
    assert machine.read("lambent-n1/e1/cgroup.kill") == "1"
    assert machine.tree.killed == []


def test_stop_leaves_nothing_and_removing_twice_is_harmless(machine: Machine) -> None:
    driver = start(machine)
    first, _ = [driver.create(name, memory_mb=128, cpu_shares=74, pids_max=99) for name in ("e1", "e2")]
    first.remove()
    first.release()
    assert (first.memory_peak_mb(), first.oom_kills()) == (0, 0)
    driver.stop()
    driver.stop()
    assert not list(machine.root.glob("lambent-*"))


def test_a_group_whose_limits_cannot_be_set_is_not_left_behind(machine: Machine) -> None:
    driver = start(machine)
    machine.tree.names = [name for name in V2_FILES if name != "pids.max"]
    with pytest.raises(FileNotFoundError):
        driver.create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    assert not (machine.root / "lambent-n1/e1").exists()


def test_what_a_killed_node_left_is_swept_and_others_are_not_touched(machine: Machine) -> None:
    for node_id in ("n1", "n2"):
        start(machine, node_id).create("old", memory_mb=128, cpu_shares=74, pids_max=99)
        (machine.root / f"lambent-{node_id}/old/cgroup.procs").write_text("41\n")
    driver = machine.discover()
    assert driver is not None
    assert driver.sweep("n1") == 1
    assert [path.name for path in machine.root.glob("lambent-*")] == ["lambent-n2"]
    assert driver.sweep("n1") == 0


async def test_a_group_that_is_still_busy_is_removed_when_it_has_become_empty(machine: Machine) -> None:
    machine.tree.names = [name for name in V2_FILES if name != "cgroup.kill"]
    driver = start(machine)
    group = driver.create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    folder = machine.root / "lambent-n1/e1"
    (folder / "cgroup.procs").write_text("41\n")
    group.remove()
    assert folder.exists()
    (folder / "cgroup.procs").write_text("")
    async with asyncio.timeout(10):
        while folder.exists():
            await asyncio.sleep(0)
    driver.stop()


def test_an_ordinary_user_gets_groups_below_what_systemd_delegated(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = machine.root / "user.slice/user-1000.slice/user@1000.service"
    own = service / "app.slice/lambent.scope"
    for folder, controllers in ((service.parent, "memory pids"), (service, "memory pids"), (own.parent, ""), (own, "")):
        machine.tree.fill(folder, controllers)
    machine.membership.write_text(f"0::/{own.relative_to(machine.root)}\n")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_relative_to(service) and Path(path).exists())
    driver = start(machine)
    driver.create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    assert set((service / "cgroup.subtree_control").read_text().split()) == {"+memory", "+pids"}
    group = service / "lambent-n1/e1"
    assert (group / "memory.max").read_text() == str(128 << 20)
    assert (group / "cpu.weight").read_text() == "", "the cpu controller was not delegated"
    finding = machine.probe()[0]
    assert finding.usable
    assert finding.detail == f"memory and pids, no cpu controller below {service}"


def test_in_a_session_that_nothing_was_delegated_to_there_are_no_groups(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.membership.write_text("0::/user.slice/session-3.scope\n")
    machine.tree.fill(machine.root / "user.slice/session-3.scope")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert machine.discover() is None
    second, first = machine.probe()
    assert not second.usable
    assert "systemd-run --user --scope -p Delegate=yes" in second.hint
    assert (first.usable, first.detail) == (False, "not mounted: memory, pids")


def test_processes_of_the_group_itself_make_room_for_children(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = machine.root / "lambent.service"
    machine.tree.fill(own, "cpu memory pids")
    (own / "cgroup.procs").write_text("7\n8\n")
    machine.membership.write_text("0::/lambent.service\n")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_relative_to(own) and Path(path).exists())
    start(machine).create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    assert (own / "lambent-node/cgroup.procs").read_text().split() == ["7", "8"]
    assert (own / "lambent-n1/e1/memory.max").read_text() == str(128 << 20)


def test_a_container_that_sees_its_hosts_paths_uses_what_is_mounted(machine: Machine) -> None:
    machine.membership.write_text("0::/docker/0123\n")
    start(machine)
    assert (machine.root / "lambent-n1").exists()


def test_probing_changes_nothing(machine: Machine) -> None:
    assert machine.probe()[0].usable
    assert machine.read("cgroup.subtree_control") == ""


def test_a_machine_without_any_groups_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.mounts.write_text("proc /proc proc rw 0 0\n")
    assert machine.discover() is None
    assert [finding.detail for finding in machine.probe()] == ["not mounted", "not mounted: memory, pids"]


def test_version_1_without_cpu_and_swap_accounting_limits_memory_and_pids(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.tree.names = ["cgroup.procs", "cgroup.subtree_control", "memory.limit_in_bytes", "pids.max"]
    lines = []
    for controller in ("memory", "pids"):
        machine.tree.fill(machine.root / controller)
        lines.append(f"cgroup {machine.root / controller} cgroup rw,{controller} 0 0\n")
    machine.mounts.write_text("".join(lines))
    driver = start(machine)
    driver.create("e1", memory_mb=128, cpu_shares=74, pids_max=99)
    assert machine.read("memory/lambent-n1/e1/memory.limit_in_bytes") == str(128 << 20)
    assert machine.read("pids/lambent-n1/e1/pids.max") == "99"
    assert machine.probe()[1].detail == "memory and pids, no cpu controller, no swap accounting"
    driver.stop()
