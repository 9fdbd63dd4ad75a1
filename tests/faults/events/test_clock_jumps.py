"""The wall clock is set forward and back under everything that waits: docs/events.md, "Clocks"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.events.async_invoke.test_invoker import THROTTLED, opened
from tests.unit.events.clockwork import SCHEMAS as CLOCKWORK_SCHEMAS
from tests.unit.events.clockwork import Clockwork
from tests.unit.events.queues.test_queues import FIFO, SCHEMAS, World
from tests.unit.events.schedules.test_schedules import at, create

from lambent.events import outbox
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Connection

DAY_S = 86_400.0


@pytest.fixture
def world() -> World:
    return World(MemoryTables(SCHEMAS))


@pytest.fixture
async def clockwork() -> AsyncIterator[Clockwork]:
    made = Clockwork(MemoryTables(CLOCKWORK_SCHEMAS))
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("jump_s", [-2.0, -3600.0, -DAY_S, -10 * 365 * DAY_S])
@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
async def test_what_was_sent_before_the_clock_went_back_is_there_at_once_in_its_order(
    world: World, name: str, jump_s: float
) -> None:
    fifo = name.endswith(".fifo")
    group: dict[str, Any] = {"MessageGroupId": "g"} if fifo else {}
    url = await world.queue(name, MessageRetentionPeriod="60", **(FIFO if fifo else {}))
    for number in range(30):
        await world.send(url, str(number), **group)
    world.now += jump_s
    await world.send(url, "30", **group)
    got = []
    while messages := await world.receive(url):
        for message in messages:
            got.append(message["Body"])
            await world.delete(url, message["ReceiptHandle"])
    assert sorted(got, key=int) == [str(number) for number in range(31)]
    assert not fifo or got == sorted(got, key=int)


async def test_a_message_is_kept_for_its_retention_by_the_clock_that_went_back(world: World) -> None:
    url = await world.queue(MessageRetentionPeriod="60")
    await world.send(url)
    world.now -= DAY_S
    assert len(await world.receive(url, VisibilityTimeout=0)) == 1
    world.now += 59
    assert len(await world.receive(url, VisibilityTimeout=0)) == 1
    world.now += 1
    assert await world.receive(url) == []


async def test_a_message_in_flight_stays_so_when_the_clock_goes_back_and_its_receipt_is_good(world: World) -> None:
    url = await world.queue(VisibilityTimeout="30")
    await world.send(url, "one")
    await world.send(url, "two")
    one, two = await world.receive(url)
    world.now -= DAY_S
    assert await world.receive(url) == []
    await world.delete(url, one["ReceiptHandle"])
    world.now += 29
    assert await world.receive(url) == []
    world.now += 1
    assert await world.bodies(url) == [two["Body"]]


async def test_a_delay_is_no_longer_than_it_was_when_the_clock_goes_back(world: World) -> None:
    url = await world.queue()
    await world.send(url, DelaySeconds=10)
    world.now -= DAY_S
    assert await world.receive(url) == []
    world.now += 10
    assert len(await world.receive(url)) == 1


async def test_a_clock_that_goes_forward_ends_visibility_and_delay_once_and_retention_by_its_measure(
    world: World,
) -> None:
    url = await world.queue(VisibilityTimeout="30", MessageRetentionPeriod=str(int(4 * DAY_S)))
    await world.send(url, "in flight")
    assert len(await world.receive(url)) == 1
    await world.send(url, "delayed", DelaySeconds=900)
    world.now += DAY_S
    assert sorted(await world.bodies(url)) == ["delayed", "in flight"]
    assert await world.receive(url) == []
    world.now += 4 * DAY_S
    assert await world.counts(url) == [0, 0, 0]


async def test_repeats_are_left_out_when_the_clock_goes_back(world: World) -> None:
    url = await world.queue("orders.fifo", **FIFO)
    await world.send(url, "same", MessageGroupId="g")
    world.now -= DAY_S
    await world.send(url, "same", MessageGroupId="g")
    assert await world.bodies(url) == ["same"]


async def test_no_schedule_fires_more_than_once_for_a_clock_that_goes_forward_and_back(clockwork: Clockwork) -> None:
    await create(clockwork, "often", "rate(1 minute)")
    await create(clockwork, "cron", "cron(* * * * ? *)")
    await create(clockwork, "once", at(clockwork.now + 30))
    await clockwork.timers.fire_due()
    for _ in range(2):
        await clockwork.next_received()
    # The first run of a rate is at once, and the minute is full. All three are due once after the jump.
    clockwork.now += 30 * DAY_S
    await clockwork.timers.fire_due()
    for _ in range(3):
        await clockwork.next_received()
    for jump_s in (-30 * DAY_S, 30 * DAY_S - 60, 1, -1):
        clockwork.now += jump_s
        await clockwork.timers.fire_due()
    assert clockwork.received.empty()
    clockwork.now += 120
    await clockwork.timers.fire_due()
    for _ in range(2):
        await clockwork.next_received()
    assert clockwork.received.empty()


@pytest.mark.parametrize("jump_s", [-3600.0, -DAY_S, -10 * 365 * DAY_S])
async def test_an_event_that_waits_is_tried_when_the_clock_has_gone_back(jump_s: float) -> None:
    async with opened(THROTTLED, "") as world:
        await world.accept()
        while not world.slept:
            await asyncio.sleep(0)
        world.now += jump_s
        await world.settle()
        assert (await world.show())["state"] == "done"
        assert sum(world.slept) <= 10


async def test_an_event_of_before_the_clock_went_back_does_not_outlive_its_age() -> None:
    async with opened(THROTTLED) as world:
        await world.set(max_age_s=60)
        await world.accept()
        while not world.slept:
            await asyncio.sleep(0)
        world.now -= DAY_S
        began_at = world.now
        await world.settle()
        assert (await world.show())["state"] == "dead", "kept, to be redriven"
        assert world.now - began_at <= 300


async def test_an_event_that_a_clock_made_too_old_is_kept_for_its_owner() -> None:
    async with opened("Unhandled") as world:
        await world.accept()
        while not world.slept:
            await asyncio.sleep(0)
        world.now += 7 * 3600
        await world.settle()
        assert (await world.show())["state"] == "dead"
        assert len(world.invoker.seen) <= 2


async def test_a_parcel_of_before_the_clock_went_back_is_sent() -> None:
    tables, sent, now = MemoryTables([outbox.SCHEMA]), asyncio.Event(), 1_000_000_000.0

    async def send(_parcel: outbox.Parcel) -> None:
        sent.set()

    async def never(*_values: Any) -> None:
        raise AssertionError

    box = outbox.Outbox("box", tables, send, next_wait=never, give_up=never, now=lambda: now)

    def put(connection: Connection) -> None:
        outbox.put(connection, "box", "lane", b"", now=now + 2 * DAY_S)

    await tables.write(put)
    await box.start()
    async with asyncio.timeout(60):
        await sent.wait()
    await box.stop()
