"""Limits and accounting on real control groups, with real processes in them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lambent.dataplane.sandbox import cgroup_files, cgroups
from lambent.dataplane.sandbox.cgroup_versions import VersionTwo
from lambent.dataplane.sandbox.cgroups import Cgroup, CgroupDriver, EnvironmentLimits

usable = os.geteuid() == 0 and any(finding.usable for finding in cgroups.probe())
pytestmark = pytest.mark.skipif(not usable, reason="needs root and control groups with memory and pids")

ENTER = """
import os, sys
for fd in map(int, sys.argv[1].split(",")):
    os.write(fd, b"0")
    os.close(fd)
"""
HOG = ENTER + "held = []\nwhile True: held.append(b'x' * (1 << 20))\n"
FORKS = """
import signal
children = []
try:
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    pass
print(len(children), flush=True)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.wait()
"""
WAITS = ENTER + "import signal; print('in', flush=True); signal.pause()"


@pytest.fixture
def node_id() -> str:
    return f"test-{os.urandom(6).hex()}"


@pytest.fixture
def driver(node_id: str) -> Iterator[CgroupDriver]:
    driver = cgroups.discover()
    assert driver is not None
    driver.start(node_id)
    yield driver
    driver.stop()
    assert left_of(node_id) == []


def left_of(node_id: str) -> list[str]:
    found = cgroup_files.read_mounts()
    places = {*found.v1.values(), *([found.v2] if found.v2 else [])}
    return [str(path) for place in places for path in place.glob(f"lambent-{node_id}")]


def make(driver: CgroupDriver, *, memory_mb: int = 64, pids_max: int = 64, cpu_quota: float | None = None) -> Cgroup:
    name = os.urandom(4).hex()
    return driver.create(name, memory_mb=memory_mb, cpu_shares=100, pids_max=pids_max, cpu_quota=cpu_quota)


def run_in(group: Cgroup, code: str, *argv: str) -> subprocess.Popen[str]:
    fds = group.procs_fds()
    try:
        arguments = [sys.executable, "-c", code, ",".join(map(str, fds)), *argv]
        return subprocess.Popen(arguments, pass_fds=fds, stdout=subprocess.PIPE, text=True)
    finally:
        for fd in fds:
            os.close(fd)


def finish(process: subprocess.Popen[str]) -> int:
    if process.stdout is not None:
        process.stdout.close()
    return process.wait(timeout=20)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_process_that_takes_more_than_its_memory_is_killed_and_counted(driver: CgroupDriver) -> None:
    group = make(driver, memory_mb=48)
    assert group.oom_kills() == 0
    assert finish(run_in(group, HOG)) == -signal.SIGKILL
    assert group.oom_kills() == 1
    assert 40 <= group.memory_peak_mb() <= 48
    group.remove()


def test_what_tmp_may_hold_comes_on_top_of_memory(driver: CgroupDriver) -> None:
    group = driver.create("tmp", memory_mb=32, extra_memory_mb=64, cpu_shares=100, pids_max=64)
    code = ENTER + "held = b'x' * (60 << 20); print('fits')"
    process = run_in(group, code)
    assert read_line(process) == "fits"
    assert finish(process) == 0
    assert group.oom_kills() == 0
    assert group.memory_peak_mb() >= 60
    group.remove()


def test_more_processes_than_allowed_cannot_be_forked(driver: CgroupDriver) -> None:
    group = make(driver, pids_max=16)
    process = run_in(group, ENTER + FORKS)
    assert read_line(process) == "15"
    assert finish(process) == 0
    group.remove()


def test_a_hard_quota_of_cpu_holds(driver: CgroupDriver) -> None:
    group = make(driver, cpu_quota=0.1)
    code = ENTER + "import time; end = time.time() + 1\nwhile time.time() < end: pass\nprint(time.process_time())"
    process = run_in(group, code)
    used_s = float(read_line(process))
    assert finish(process) == 0
    assert used_s < 0.4
    group.remove()


def test_a_killed_group_is_empty_and_can_be_removed(driver: CgroupDriver) -> None:
    group = make(driver)
    process = run_in(group, WAITS)
    assert read_line(process) == "in"
    group.kill()
    assert finish(process) == -signal.SIGKILL
    group.remove()
    assert not any(Path(path).exists() for path in group.groups)


def test_a_fork_bomb_does_not_outrun_the_kill(driver: CgroupDriver) -> None:
    bomb = ENTER + "print('in', flush=True)\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    group = make(driver, pids_max=32)
    process = run_in(group, bomb)
    assert read_line(process) == "in"
    group.remove()
    assert finish(process) == -signal.SIGKILL
    # Without a loop `remove` itself waits, a short while, until the groups are gone.
    assert not any(Path(path).exists() for path in group.groups)


async def test_removing_a_busy_group_kills_what_is_in_it_and_does_not_block(driver: CgroupDriver) -> None:
    group = make(driver)
    process = run_in(group, WAITS)
    read_line(process)
    began = time.perf_counter()
    group.remove()
    assert time.perf_counter() - began < 0.1
    async with asyncio.timeout(10):
        while any(Path(path).exists() for path in group.groups):
            await asyncio.sleep(0.001)
    assert finish(process) == -signal.SIGKILL


def test_creating_a_group_leaves_no_descriptor_open(driver: CgroupDriver) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        group = make(driver)
        for fd in group.procs_fds():
            os.close(fd)
        group.memory_peak_mb()
        group.oom_kills()
        group.remove()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def read_limits(group: Cgroup, *names: str) -> dict[str, str]:
    paths = [Path(folder) / name for folder in group.groups for name in names]
    return {path.name: path.read_text().strip() for path in paths if path.exists()}


def test_the_launcher_gets_cpu_in_proportion_to_memory(driver: CgroupDriver) -> None:
    group = EnvironmentLimits(driver, pids_max=77).create("e1", memory_mb=1_769)
    found = read_limits(group, "pids.max", "cpu.shares", "cpu.weight", "cpu.cfs_quota_us")
    assert found["pids.max"] == "77"
    assert found.get("cpu.shares", "1024") == "1024"
    assert found.get("cpu.weight", "100") == "100"
    assert found.get("cpu.cfs_quota_us", "-1") == "-1"
    group.release()
    bounded = EnvironmentLimits(driver, cpu_quota=True).create("e2", memory_mb=1_769)
    assert read_limits(bounded, "cpu.cfs_quota_us", "cpu.max") in (
        {"cpu.cfs_quota_us": "20000"},
        {"cpu.max": "20000 20000"},
    )
    bounded.release()


def test_a_node_that_was_killed_is_swept_up_after(node_id: str) -> None:
    predecessor = f"""
import subprocess, sys
from lambent.dataplane.sandbox import cgroups
driver = cgroups.discover()
driver.start({node_id!r})
group = driver.create("old", memory_mb=64, cpu_shares=100, pids_max=64)
fds = group.procs_fds()
code = {WAITS!r}
subprocess.Popen([sys.executable, "-c", code, ",".join(map(str, fds))], pass_fds=fds).wait()
"""
    node = subprocess.Popen([sys.executable, "-c", predecessor], stdout=subprocess.PIPE, text=True)
    assert read_line(node) == "in"
    node.kill()
    finish(node)
    left = left_of(node_id)
    assert left
    (orphan,) = cgroup_files.read_pids(f"{left[0]}/old")
    pidfd = os.pidfd_open(orphan)
    driver = cgroups.discover()
    assert driver is not None
    driver.start(node_id)
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    assert ended.poll(5_000), "the orphan has ended"
    os.close(pidfd)
    driver.stop()
    assert left_of(node_id) == []


class CoreOnly(VersionTwo):
    """Version 2 without controllers: killing and the notice of emptiness, on machines that keep limits in version 1."""

    def prepare(self, parents: Sequence[str]) -> None:
        assert (Path(parents[0]) / "cgroup.kill").exists()

    def limit(
        self, groups: Sequence[str], *, memory_mb: int, cpu_shares: int, cpu_quota: float | None, pids_max: int
    ) -> None:
        pass


@pytest.fixture
def core_driver(node_id: str) -> Iterator[CgroupDriver]:
    mount = cgroup_files.read_mounts().v2
    if mount is None:
        pytest.skip("cgroup v2 is not mounted")
    driver = CgroupDriver(CoreOnly(str(mount), has_cpu=False))
    driver.start(node_id)
    yield driver
    driver.stop()
    assert left_of(node_id) == []


async def test_version_2_kills_a_group_at_once_and_tells_when_it_is_empty(core_driver: CgroupDriver) -> None:
    group = make(core_driver)
    process = run_in(group, WAITS)
    read_line(process)
    group.remove()
    (removal,) = core_driver._removals
    assert removal._watch is not None
    removal._timer.cancel()  # the notice alone must do
    async with asyncio.timeout(10):
        while Path(group.groups[0]).exists():
            await asyncio.sleep(0.001)
    assert finish(process) == -signal.SIGKILL
    assert not core_driver._removals


def test_version_2_groups_are_swept_with_processes_in_them(core_driver: CgroupDriver) -> None:
    group = make(core_driver)
    process = run_in(group, WAITS)
    read_line(process)
    core_driver.stop()
    assert finish(process) == -signal.SIGKILL
    assert not Path(group.groups[0]).exists()
