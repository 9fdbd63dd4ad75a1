from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.events.mappings.world import CONTEXT, QUEUE, FakeQueue, FunctionFailed, World, bodies

from lambent.model.errors import CallerError

REPORTS = ["ReportBatchItemFailures"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.runtime.stop()


async def test_messages_are_handled_and_gone(world: World) -> None:
    world.queue.send("a", "b")
    made = await world.create(EventSourceArn=QUEUE)
    await world.until(lambda: len(world.queue.done) == 2)
    assert bodies(world.events[0]) == ["a", "b"]
    assert (await world.get(made["UUID"]))["LastProcessingResult"] == "OK"


async def test_what_filters_drop_never_reaches_the_function(world: World) -> None:
    pattern = json.dumps({"body": {"kind": ["paid"]}})
    world.queue.send('{"kind": "paid"}', '{"kind": "open"}', "text")
    await world.create(EventSourceArn=QUEUE, FilterCriteria={"Filters": [{"Pattern": pattern}]})
    await world.until(lambda: len(world.queue.done) == 3)
    assert [bodies(event) for event in world.events] == [['{"kind": "paid"}']]


async def test_only_what_is_reported_as_failed_comes_again(world: World) -> None:
    tried: list[str] = []

    def handler(event: dict[str, Any]) -> Any:
        tried.extend(bodies(event))
        bad = [body for body in bodies(event) if body == "b" and tried.count("b") == 1]
        return {"batchItemFailures": [{"itemIdentifier": body} for body in bad]}

    world.handler = handler
    world.queue.send("a", "b", "c")
    await world.create(EventSourceArn=QUEUE, FunctionResponseTypes=REPORTS)
    await world.until(lambda: len(world.queue.done) == 3)
    assert world.queue.done == ["a", "c", "b"]
    assert world.queue.again == ["b"]


async def test_a_function_that_fails_gives_its_batch_back_and_waits_longer_each_time(world: World) -> None:
    def handler(event: dict[str, Any]) -> Any:
        if len(world.events) < 4:
            raise FunctionFailed
        return None

    world.handler = handler
    world.queue.send("a")
    made = await world.create(EventSourceArn=QUEUE, ScalingConfig={"MaximumConcurrency": 2})
    await world.until(lambda: world.queue.done == ["a"])
    assert world.queue.again == ["a", "a", "a"]
    assert world.clock.slept == [1.0, 2.0, 4.0]
    assert (await world.get(made["UUID"]))["LastProcessingResult"] == "OK"


async def test_a_throttle_is_tried_again_before_the_messages_go_back(world: World) -> None:
    def handler(event: dict[str, Any]) -> Any:
        if len(world.events) < 3:
            raise CallerError("TooManyRequestsException", "Rate Exceeded.", status=429)

    world.handler = handler
    world.queue.send("a")
    await world.create(EventSourceArn=QUEUE)
    await world.until(lambda: world.queue.done == ["a"])
    assert world.queue.again == []


async def test_the_window_fills_a_batch_beyond_one_receive(world: World) -> None:
    world.queue.send(*(str(number) for number in range(25)))
    await world.create(EventSourceArn=QUEUE, BatchSize=20, MaximumBatchingWindowInSeconds=5)
    await world.until(lambda: len(world.queue.done) == 25)
    assert [len(bodies(event)) for event in world.events] == [20, 5]


async def test_no_more_batches_at_once_than_the_maximum(world: World) -> None:
    gate = asyncio.Event()
    running: list[int] = []

    async def before() -> None:
        running.append(1)
        await gate.wait()

    world.before_invoke = before
    world.queue.send("a", "b", "c", "d", "e")
    await world.create(EventSourceArn=QUEUE, BatchSize=1, ScalingConfig={"MaximumConcurrency": 2})
    await world.until(lambda: len(running) == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(running) == 2
    gate.set()
    await world.until(lambda: len(world.queue.done) == 5)


async def test_a_paused_mapping_finishes_its_batch_and_receives_no_more(world: World) -> None:
    gate = asyncio.Event()
    world.before_invoke = gate.wait  # type: ignore[assignment]
    world.queue.send("a")
    made = await world.create(EventSourceArn=QUEUE)
    await world.until(lambda: world.events)
    answer = await world.api.update(CONTEXT, {"UUID": made["UUID"], "Enabled": False})
    assert answer["State"] == "Disabling"
    gate.set()
    assert await world.settled(made["UUID"]) == "Disabled"
    assert world.queue.done == ["a"]
    world.queue.send("b")
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(world.events) == 1
    await world.api.update(CONTEXT, {"UUID": made["UUID"], "Enabled": True})
    await world.until(lambda: world.queue.done == ["a", "b"])


async def test_a_deleted_mapping_is_gone_when_its_batch_is_done(world: World) -> None:
    made = await world.create(EventSourceArn=QUEUE)
    answer = await world.api.delete(CONTEXT, {"UUID": made["UUID"]})
    assert answer["State"] == "Deleting"
    assert await world.settled(made["UUID"]) == ""
    with pytest.raises(CallerError) as refused:
        await world.get(made["UUID"])
    assert refused.value.code == "ResourceNotFoundException"
    assert world.queue.dropped


class MeasuredQueue(FakeQueue):
    async def lag(self) -> dict[str, int]:
        return {"messages": 7}


async def test_how_far_behind_a_mapping_is_stands_beside_its_last_result_while_it_is_read(world: World) -> None:
    world.queue = MeasuredQueue(world.clock)
    made = await world.create(EventSourceArn=QUEUE)
    await world.settled(made["UUID"])

    async def told() -> bool:
        return str((await world.get(made["UUID"]))["LastProcessingResult"]) == "No records processed (lag: messages 7)"

    await world.until(told)
    await world.api.update(CONTEXT, {"UUID": made["UUID"], "Enabled": False})
    await world.settled(made["UUID"])
    assert (await world.get(made["UUID"]))["LastProcessingResult"] == "No records processed"


async def test_a_group_in_which_something_failed_goes_no_further(world: World) -> None:
    def handler(event: dict[str, Any]) -> Any:
        if "g1" in bodies(event) and len(world.events) == 1:
            raise FunctionFailed

    world.handler = handler
    world.queue.send("g1", "g2", group="g", size=4_000_000)
    world.queue.send("h1", group="h", size=4_000_000)
    await world.create(EventSourceArn=QUEUE)
    await world.until(lambda: len(world.queue.done) == 3)
    tried = [bodies(event) for event in world.events]
    assert tried.count(["g1"]) == 2
    assert tried.index(["g2"]) > tried.index(["g1"], 1)
    assert "g2" in world.queue.again
