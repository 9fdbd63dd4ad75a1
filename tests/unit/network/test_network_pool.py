from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.dataplane.sandbox.network.namespace import Namespace
from lambent.dataplane.sandbox.network.pool import NetworkPool
from lambent.model.errors import PlatformError


class FakeSource:
    """Namespaces without a kernel: a descriptor of /dev/null and two sockets. `gate` holds the next ones back."""

    def __init__(self) -> None:
        self.alive = True
        self.made = 0
        self.failures: list[PlatformError] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def make_namespace(self, kind: str) -> list[int]:
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.made += 1
        sockets = 1 if kind == "none" else 2
        return [os.open("/dev/null", os.O_RDONLY), *(socket.socket().detach() for _ in range(sockets))]


@pytest.fixture
async def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
async def pool(source: FakeSource) -> AsyncIterator[NetworkPool]:
    opened = NetworkPool(source, spare={"outgoing": 2, "none": 1})
    yield opened
    await opened.close()


def _count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until_ready(pool: NetworkPool, kind: str, count: int) -> None:
    async with asyncio.timeout(5):
        while pool.statistics()[kind].ready < count:
            await asyncio.sleep(0)


async def test_a_ready_namespace_is_given_at_once_and_replaced(pool: NetworkPool, source: FakeSource) -> None:
    await pool.start()
    await _until_ready(pool, "outgoing", 2)
    source.gate.clear()
    namespace = await pool.acquire("outgoing")
    assert pool.statistics()["outgoing"].immediate == 1
    assert pool.statistics()["outgoing"].ready == 1
    source.gate.set()
    await _until_ready(pool, "outgoing", 2)
    namespace.release()


async def test_no_namespace_is_given_twice(pool: NetworkPool) -> None:
    namespaces = await asyncio.gather(*(pool.acquire("outgoing") for _ in range(20)))
    assert len({namespace.fd for namespace in namespaces}) == 20
    for namespace in namespaces:
        namespace.release()
    assert pool.statistics()["outgoing"].ready <= 2


async def test_those_who_wait_are_served_in_the_order_in_which_they_came(pool: NetworkPool, source: FakeSource) -> None:
    source.gate.clear()
    order: list[int] = []

    async def wait(number: int) -> None:
        namespace = await pool.acquire("none")
        order.append(number)
        namespace.release()

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    source.gate.set()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]


async def test_a_failure_reaches_all_who_wait_and_the_next_acquire_tries_again(
    pool: NetworkPool, source: FakeSource
) -> None:
    source.failures = [PlatformError("network namespace, unshare_network: Operation not permitted")]
    results = await asyncio.gather(pool.acquire("none"), pool.acquire("none"), return_exceptions=True)
    assert [type(result) for result in results] == [PlatformError, PlatformError]
    assert "unshare_network" in str(results[0])
    namespace = await pool.acquire("none")
    assert pool.statistics()["none"].failed == 1
    namespace.release()


async def test_one_who_stops_waiting_does_not_lose_the_namespace(pool: NetworkPool, source: FakeSource) -> None:
    source.gate.clear()
    first = asyncio.create_task(pool.acquire("none"))
    second = asyncio.create_task(pool.acquire("none"))
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    (await second).release()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_close_releases_what_is_ready_and_refuses_more(source: FakeSource) -> None:
    before = _count_descriptors()
    pool = NetworkPool(source, spare={"outgoing": 2})
    await pool.start()
    await _until_ready(pool, "outgoing", 2)
    await pool.close()
    assert _count_descriptors() == before
    with pytest.raises(PlatformError, match="closed"):
        await pool.acquire("outgoing")


async def test_release_may_be_repeated_and_leaves_what_was_taken(source: FakeSource) -> None:
    namespace = Namespace("outgoing", await source.make_namespace("outgoing"))
    listener = namespace.take_runtime_api()
    namespace.release()
    namespace.release()
    assert listener.fileno() >= 0
    assert all(item.fileno() < 0 for item in namespace.outgoing)
    listener.close()
