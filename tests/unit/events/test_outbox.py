from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lambent.events import outbox
from lambent.events.outbox import MAX_ATTEMPTS_AT_ONCE, MAX_OF_A_LANE, Outbox, Parcel
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Connection, Tables
from lambent.substrate.sqlite import open_tables

ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables([outbox.SCHEMA]),
    "sqlite": lambda folder: open_tables(folder / "events.db", [outbox.SCHEMA]),
}


class Post:
    """An outbox whose targets fail as they are told to. Attempts are two seconds apart and three in number."""

    def __init__(self, tables: Tables, *, ordered: str = "ordered") -> None:
        self.tables = tables
        self.now = 1000.0
        self.failures: dict[str, list[Exception]] = {}
        self.arrived: list[str] = []
        self.put_away: list[tuple[str, str, int]] = []
        self.keep: Exception | None = None
        self.gates: dict[str, asyncio.Event] = {}
        self.under_way = 0
        self.most_under_way = 0
        self.settled = asyncio.Condition()
        self.outbox = self.open(ordered)

    def open(self, ordered: str = "ordered") -> Outbox:
        return Outbox(
            "test",
            self.tables,
            self._send,
            next_wait=self._next_wait,
            give_up=self._give_up,
            is_ordered=lambda lane: lane == ordered,
            now=lambda: self.now,
        )

    async def put(self, lane: str, *names: str) -> None:
        def work(connection: Connection) -> None:
            for name in names:
                outbox.put(connection, "test", lane, name.encode(), now=self.now)

        await self.tables.write(work)
        self.outbox.ring(lane)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.settled:
            await self.settled.wait_for(holds)

    async def empty(self, *lanes: str) -> None:
        async with asyncio.timeout(10):
            for lane in lanes:
                while await self.outbox.count(lane):
                    await asyncio.sleep(0)

    async def _send(self, parcel: Parcel) -> None:
        name = parcel.body.decode()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if name in self.gates:
                await self.gates[name].wait()
            await asyncio.sleep(0)
            if failures := self.failures.get(name):
                raise failures.pop(0)
            self.arrived.append(name)
        finally:
            self.under_way -= 1
            async with self.settled:
                self.settled.notify_all()

    async def _next_wait(self, parcel: Parcel) -> float | None:
        return 2.0 if parcel.attempts < 3 else None

    async def _give_up(self, parcel: Parcel, reason: str) -> None:
        if self.keep is not None:
            failure, self.keep = self.keep, None
            raise failure
        self.put_away.append((parcel.body.decode(), reason, parcel.attempts))
        async with self.settled:
            self.settled.notify_all()


@pytest.fixture(params=ADAPTERS)
async def post(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Post]:
    tables = ADAPTERS[request.param](tmp_path)
    post = Post(tables)
    await post.outbox.start()
    yield post
    await post.outbox.stop()
    await tables.close()


async def test_a_parcel_arrives_and_is_gone(post: Post) -> None:
    await post.put("a", "one", "two")
    await post.empty("a")
    assert sorted(post.arrived) == ["one", "two"]


async def test_a_parcel_that_fails_is_tried_again_when_it_is_due(post: Post) -> None:
    post.failures["one"] = [PlatformError("down"), RuntimeError("odd")]
    await post.put("a", "one")
    for left in (1, 0):
        await post.until(lambda left=left: len(post.failures["one"]) == left)  # type: ignore[misc]
        assert post.arrived == []
        while post.outbox._lanes["a"].bell.is_set():
            await asyncio.sleep(0)
        post.now += 2
        post.outbox.ring("a")
    await post.empty("a")
    assert post.arrived == ["one"]


async def test_a_parcel_that_ran_out_is_put_away_with_the_reason(post: Post) -> None:
    post.failures["one"] = [PlatformError("down")] * 3
    await post.put("a", "one")
    async with asyncio.timeout(10):
        while not post.put_away:
            post.now += 2
            post.outbox.ring("a")
            await asyncio.sleep(0.001)
    assert post.put_away == [("one", "down", 3)]
    await post.empty("a")


async def test_what_makes_no_sense_to_try_again_is_put_away_at_once(post: Post) -> None:
    post.failures["one"] = [CallerError("NoSuchQueue", "There is no such queue.")]
    await post.put("a", "one")
    await post.until(lambda: bool(post.put_away))
    assert post.put_away == [("one", "There is no such queue.", 0)]


async def test_a_parcel_that_could_not_be_put_away_is_kept(post: Post) -> None:
    post.failures["one"] = [CallerError("Gone", "gone")] * 2
    post.keep = PlatformError("full")
    await post.put("a", "one")
    await post.until(lambda: post.keep is None)
    assert await post.outbox.count("a") == 1
    async with asyncio.timeout(10):
        while not post.put_away:
            post.now += outbox.KEPT_S
            post.outbox.ring("a")
            await asyncio.sleep(0.001)
    await post.empty("a")


async def test_a_target_that_does_not_answer_delays_no_other(post: Post) -> None:
    gate = post.gates["stuck"] = asyncio.Event()
    for number in range(3):
        post.gates[f"stuck-{number}"] = gate
    await post.put("slow", "stuck", "stuck-0", "stuck-1", "stuck-2")
    await post.put("quick", "one")
    await post.empty("quick")
    assert post.arrived == ["one"]
    gate.set()
    await post.empty("slow")


async def test_attempts_at_once_are_bounded_for_a_lane_and_in_all(post: Post) -> None:
    gate = asyncio.Event()
    lanes = [f"lane-{number}" for number in range(2 * MAX_ATTEMPTS_AT_ONCE // MAX_OF_A_LANE)]
    for lane in lanes:
        names = [f"{lane}-{number}" for number in range(2 * MAX_OF_A_LANE)]
        post.gates.update(dict.fromkeys(names, gate))
        await post.put(lane, *names)
        if lane == lanes[0]:
            async with asyncio.timeout(10):
                while post.under_way < MAX_OF_A_LANE:
                    await asyncio.sleep(0)
            assert post.most_under_way == MAX_OF_A_LANE
    async with asyncio.timeout(10):
        while post.under_way < MAX_ATTEMPTS_AT_ONCE:
            await asyncio.sleep(0)
    gate.set()
    await post.empty(*lanes)
    assert post.most_under_way == MAX_ATTEMPTS_AT_ONCE
    assert len(post.arrived) == len(lanes) * 2 * MAX_OF_A_LANE


async def test_an_ordered_lane_sends_one_after_the_other_and_waits_for_the_one_that_fails(post: Post) -> None:
    names = [str(number) for number in range(20)]
    post.failures["3"] = [PlatformError("down")]
    await post.put("ordered", *names)
    await post.until(lambda: not post.failures["3"])
    assert post.arrived == names[:3]
    async with asyncio.timeout(10):
        while await post.outbox.count("ordered"):
            post.now += 2
            post.outbox.ring("ordered")
            await asyncio.sleep(0.001)
    assert post.arrived == names
    assert post.most_under_way == 1


async def test_what_was_under_way_when_the_node_stopped_is_sent_by_the_next(post: Post) -> None:
    post.gates["one"] = asyncio.Event()
    await post.put("a", "one")
    await post.put("b", "two")
    await post.empty("b")
    await post.outbox.stop()
    post.gates.clear()
    post.outbox = post.open()
    await post.outbox.start()
    await post.empty("a")
    assert post.arrived == ["two", "one"]


async def test_what_was_put_by_a_transaction_that_failed_is_never_sent(post: Post) -> None:
    def work(connection: Connection) -> None:
        outbox.put(connection, "test", "a", b"one", now=post.now)
        raise CallerError("No", "no")

    with pytest.raises(CallerError):
        await post.tables.write(work)
    post.outbox.ring("a")
    await post.put("b", "two")
    await post.empty("a", "b")
    assert post.arrived == ["two"]


async def test_outboxes_of_other_names_are_left_alone(post: Post) -> None:
    await post.tables.write(lambda connection: outbox.put(connection, "other", "a", b"x", now=post.now))
    await post.put("a", "one")
    await post.empty("a")
    assert post.arrived == ["one"]


async def test_a_lane_whose_target_is_gone_is_emptied(post: Post) -> None:
    post.failures["one"] = [PlatformError("down")]
    await post.put("a", "one")
    await post.until(lambda: not post.failures["one"])
    await post.tables.write(lambda connection: outbox.drop_lanes(connection, "test", "a"))
    assert await post.outbox.count("a") == 0


async def test_a_target_that_is_gone_takes_its_lanes_along_and_no_others(post: Post) -> None:
    lanes = ["a", "a|1", "a|2", "ab", "a}"]

    def work(connection: Connection) -> None:
        for lane in lanes:
            outbox.put(connection, "test", lane, b"x", now=post.now)
        outbox.drop_lanes(connection, "test", "a")

    await post.tables.write(work)
    assert [await post.outbox.count(lane) for lane in lanes] == [0, 0, 0, 1, 1]
