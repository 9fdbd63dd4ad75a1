"""How many shells there are and who gets them, with a zygote that only answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from lambent.dataplane.sandbox import shells as module
from lambent.dataplane.sandbox.leases import NetworkLease
from lambent.dataplane.sandbox.network.pool import NamespaceSource
from lambent.dataplane.sandbox.shells import Shell, ShellLost, Shells
from lambent.dataplane.sandbox.zygote_link import Spawned, ZygoteLink
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.spec import EnvironmentSpec

RUNTIME = "python3.12"
STEP = frames.encode(frames.STEP, b"enter_network\0no room")


class FakeNetworks:
    """Counts what is out."""

    def __init__(self) -> None:
        self.out = 0

    async def acquire(self, kind: str, *, environment_id: str, source: NamespaceSource | None = None) -> NetworkLease:
        self.out += 1
        return _FakeLease(self)

    def adopt(self, kind: str, fds: list[int], *, environment_id: str) -> NetworkLease:
        raise NotImplementedError


class _FakeLease:
    fd = 0

    def __init__(self, networks: FakeNetworks) -> None:
        self._networks = networks

    def take_runtime_api(self) -> socket.socket:
        raise NotImplementedError

    def release(self) -> None:
        self._networks.out -= 1


class FakeZygote:
    """Its shells are sleeping processes; `says` is what each sends on its channel at once."""

    def __init__(self, says: bytes = frames.encode(frames.WAITING, b"")) -> None:
        self.alive = True
        self.says = says
        self.made: list[Spawned] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._controls: list[socket.socket] = []

    def spawn(self, spec: EnvironmentSpec, fds: Sequence[tuple[str, int]], *, waits: bool) -> Spawned:
        assert waits
        assert (spec.code, spec.environment, spec.function) == ("", {}, "")
        loop = asyncio.get_running_loop()
        spawned = Spawned(loop)
        process = subprocess.Popen(["sleep", "1000"])
        self._processes.append(process)
        pidfd = os.pidfd_open(process.pid)
        control = socket.socket(fileno=os.dup(dict(fds)["control"]))
        control.send(self.says)
        self._controls.append(control)
        loop.add_reader(pidfd, self._report, pidfd, process, spawned)
        spawned.pid = process.pid
        spawned.pidfd.set_result(os.dup(pidfd))
        self.made.append(spawned)
        return spawned

    def _report(self, pidfd: int, process: subprocess.Popen[bytes], spawned: Spawned) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        spawned.exited.set_result(process.wait())

    def close(self) -> None:
        for control in self._controls:
            control.close()


Make = Callable[..., Shells]


@pytest.fixture
def networks() -> FakeNetworks:
    return FakeNetworks()


@pytest.fixture
async def make(networks: FakeNetworks, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(module, "REFILL_DELAY_S", 0.0)
    made: list[Shells] = []

    def make_shells(*, count: int = 2, has_room: Callable[[], bool] = lambda: True) -> Shells:
        shells = Shells(count=count, confine="root", networks=networks, limits=None, has_room=has_room)
        made.append(shells)
        return shells

    yield make_shells
    for shells in made:
        await shells.close()
    assert networks.out == 0


@pytest.fixture
async def zygote() -> AsyncIterator[FakeZygote]:
    fake = FakeZygote()
    yield fake
    fake.close()


def take(shells: Shells, zygote: FakeZygote, network: str = "outgoing") -> Shell | None:
    return shells.take(RUNTIME, cast(ZygoteLink, zygote), network)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def settle(shells: Shells) -> None:
    """Until nothing is planned and nothing is being made."""
    await until(lambda: shells._timer is None and (shells._filling is None or shells._filling.done()))


async def test_the_first_use_of_a_runtime_finds_none_and_starts_its_pool(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    await settle(shells)
    assert zygote.made == []
    assert take(shells, zygote) is None
    await settle(shells)
    assert shells.statistics() == {RUNTIME: 2}


async def test_a_shell_is_handed_out_once_and_replaced(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    take(shells, zygote)
    await settle(shells)
    first = take(shells, zygote)
    assert first is not None
    await settle(shells)
    others = [take(shells, zygote), take(shells, zygote)]
    assert len({first.id, *(shell.id for shell in others if shell is not None)}) == 3
    assert take(shells, zygote) is None
    for shell in (first, *others):
        assert shell is not None
        await shell.stop()


async def test_one_that_ended_while_it_waited_is_not_handed_out(
    make: Make, zygote: FakeZygote, networks: FakeNetworks
) -> None:
    shells = make()
    take(shells, zygote)
    await settle(shells)
    for spawned in zygote.made:
        os.kill(spawned.pid, signal.SIGKILL)
        # The kernel says so before the zygote's report is read: no await may come between.
        os.waitid(os.P_PID, spawned.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it is ending
    assert take(shells, zygote) is None
    await settle(shells)
    await until(lambda: networks.out == 2)
    assert shells.statistics() == {RUNTIME: 2}


async def test_one_that_ends_between_the_look_and_its_use_is_lost(make: Make, zygote: FakeZygote) -> None:
    shells = make(count=1)
    take(shells, zygote)
    await settle(shells)
    shell = take(shells, zygote)
    assert shell is not None
    zygote.close()
    with pytest.raises(ShellLost):
        await shell.use(module._specify("x", "root"), [])
    await shell.stop()


async def test_none_are_made_on_a_full_node(make: Make, zygote: FakeZygote) -> None:
    shells = make(has_room=lambda: len(zygote.made) < 1)
    take(shells, zygote)
    await settle(shells)
    assert shells.statistics() == {RUNTIME: 1}


async def test_none_are_made_by_a_draining_node(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    take(shells, zygote)
    shells.drain()
    assert take(shells, zygote) is None
    assert shells._timer is None or shells._timer.cancelled()
    assert shells._filling is None
    assert zygote.made == []


async def test_a_confinement_that_fails_is_not_tried_again_until_the_next_start(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    zygote.says = STEP
    take(shells, zygote)
    await settle(shells)
    assert len(zygote.made) == 1
    assert all(spawned.exited.done() for spawned in zygote.made)
    take(shells, zygote)
    await settle(shells)
    assert len(zygote.made) == 2


async def test_shells_of_a_zygote_that_ended_are_not_used_with_its_successor(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    take(shells, zygote)
    await settle(shells)
    zygote.alive = False
    successor = FakeZygote()
    assert take(shells, successor) is None
    await settle(shells)
    assert len(successor.made) == 2
    successor.close()


async def test_another_network_takes_no_shell(make: Make, zygote: FakeZygote) -> None:
    shells = make()
    assert take(shells, zygote, network="none") is None
    assert shells._timer is None
