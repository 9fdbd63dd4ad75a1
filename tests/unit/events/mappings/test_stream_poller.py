from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.events.mappings.world import CONTEXT, DEAD, STREAM, FunctionFailed, World, bodies

from lambent.events.mappings.sources.ports import SourceLost, Start

HORIZON: dict[str, Any] = {"EventSourceArn": STREAM, "StartingPosition": "TRIM_HORIZON"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.runtime.stop()


def fail_on(world: World, *bad: str) -> None:
    def handler(event: dict[str, Any]) -> Any:
        if set(bad) & set(bodies(event)):
            raise FunctionFailed

    world.handler = handler


async def test_records_are_read_in_order_and_committed(world: World) -> None:
    world.stream.send("a", "b", "c")
    await world.create(**HORIZON, BatchSize=2)
    await world.until(lambda: world.stream.committed.get("0") == "3")
    assert [bodies(event) for event in world.events] == [["a", "b"], ["c"]]
    assert world.stream.opened == [("0", Start(position="TRIM_HORIZON"))]


async def test_a_restart_goes_on_after_the_checkpoint(world: World) -> None:
    world.stream.send("a", "b")
    await world.create(**HORIZON)
    await world.until(lambda: world.stream.committed.get("0") == "2")
    await world.runtime.stop()
    world.stream.send("c")
    world.runtime = world.new_runtime()
    await world.runtime.start()
    await world.until(lambda: world.stream.committed.get("0") == "3")
    assert [bodies(event) for event in world.events] == [["a", "b"], ["c"]]
    assert world.stream.opened[-1] == ("0", "2")


async def test_an_invocation_broken_off_is_made_again(world: World) -> None:
    gate = asyncio.Event()
    world.before_invoke = gate.wait  # type: ignore[assignment]
    world.stream.send("a")
    await world.create(**HORIZON)
    await world.until(lambda: world.events)
    await world.runtime.stop()
    gate.set()
    world.runtime = world.new_runtime()
    await world.runtime.start()
    await world.until(lambda: world.stream.committed.get("0") == "1")
    assert [bodies(event) for event in world.events] == [["a"], ["a"]]


async def test_a_failing_batch_blocks_its_partition_and_no_other(world: World) -> None:
    world.stream.records["1"] = []
    fail_on(world, "bad")
    world.stream.send("bad", "later")
    world.stream.send("fine", partition="1")
    await world.create(**HORIZON, BatchSize=1)
    await world.until(lambda: world.stream.committed.get("1") == "1" and len(world.events) > 5)
    assert "0" not in world.stream.committed
    assert ["later"] not in [bodies(event) for event in world.events]


async def test_a_poison_record_is_found_by_halving_and_handed_to_the_destination(world: World) -> None:
    fail_on(world, "bad")
    world.stream.send("a", "b", "bad", "c")
    made = await world.create(
        **HORIZON,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": DEAD}},
    )
    await world.until(lambda: world.stream.committed.get("0") == "4")
    tried = [bodies(event) for event in world.events]
    assert tried == [["a", "b", "bad", "c"], ["a", "b"], ["bad", "c"], ["bad"], ["bad"], ["c"]]
    [delivery] = world.delivered
    record = json.loads(delivery.body)
    assert delivery.target == DEAD
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["requestContext"]["functionArn"] == made["FunctionArn"]
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert record["StreamBatchInfo"]["startSequenceNumber"] == "3"
    assert record["StreamBatchInfo"]["batchSize"] == 1


async def test_a_partial_failure_notes_progress_and_goes_on_from_the_record_that_failed(world: World) -> None:
    answers = iter([{"batchItemFailures": [{"itemIdentifier": "2"}]}, None])
    world.handler = lambda event: next(answers)
    world.stream.send("a", "b", "c")
    await world.create(**HORIZON, FunctionResponseTypes=["ReportBatchItemFailures"])
    await world.until(lambda: world.stream.committed.get("0") == "3")
    assert [bodies(event) for event in world.events] == [["a", "b", "c"], ["b", "c"]]


async def test_records_beyond_the_maximum_age_are_given_up_untried(world: World) -> None:
    world.stream.send("old", at=world.clock.now() - 61)
    world.stream.send("new")
    await world.create(
        **HORIZON,
        MaximumRecordAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": DEAD}},
    )
    await world.until(lambda: world.stream.committed.get("0") == "2")
    assert [bodies(event) for event in world.events] == [["new"]]
    assert json.loads(world.delivered[0].body)["requestContext"]["condition"] == "RecordAgeExceeded"


async def test_lanes_run_beside_each_other_and_keep_the_order_of_a_key(world: World) -> None:
    seen: dict[str, list[str]] = {}

    def handler(event: dict[str, Any]) -> Any:
        for body in bodies(event):
            seen.setdefault(body[0], []).append(body)

    world.handler = handler
    for number in range(30):
        for key in "abcdef":
            world.stream.send(f"{key}{number:02}", key=key)
    await world.create(**HORIZON, BatchSize=10, ParallelizationFactor=4)
    await world.until(lambda: world.stream.committed.get("0") == "180")
    assert set(seen) == set("abcdef")
    assert all(values == sorted(values) and len(values) == 30 for values in seen.values())


async def test_filtered_records_count_as_done(world: World) -> None:
    world.stream.send("skip", "skip")
    await world.create(**HORIZON, FilterCriteria={"Filters": [{"Pattern": '{"data": ["take"]}'}]})
    await world.until(lambda: world.stream.committed.get("0") == "2")
    assert world.events == []


async def test_a_tumbling_window_carries_its_state_to_its_last_invocation(world: World) -> None:
    def handler(event: dict[str, Any]) -> Any:
        return {"state": {"count": event["state"].get("count", 0) + len(event["Records"])}}

    world.handler = handler
    begin = world.clock.at // 60 * 60
    world.clock.at = begin + 115
    world.stream.send("a", "b", at=begin + 1)
    world.stream.send("c", at=begin + 2)
    world.stream.send("d", at=begin + 61)
    await world.create(**HORIZON, BatchSize=2, TumblingWindowInSeconds=60)
    await world.until(lambda: sum(event["isFinalInvokeForWindow"] for event in world.events) == 2)
    told = [(bodies(event), event["state"], event["isFinalInvokeForWindow"]) for event in world.events]
    assert told == [
        (["a", "b"], {}, False),
        (["c"], {"count": 2}, False),
        ([], {"count": 3}, True),
        (["d"], {}, False),
        ([], {"count": 1}, True),
    ]
    assert world.events[0]["shardId"] == "0"
    assert world.events[0]["window"]["end"] == world.events[3]["window"]["start"]


async def test_the_state_of_a_window_survives_a_restart(world: World) -> None:
    world.handler = lambda event: {"state": {"n": event["state"].get("n", 0) + 1}}
    begin = world.clock.at // 900 * 900
    world.clock.at = begin + 1
    world.stream.send("a", at=begin + 1)
    await world.create(**HORIZON, TumblingWindowInSeconds=900)
    await world.until(lambda: world.stream.committed.get("0") == "1")
    await world.runtime.stop()
    world.clock.at = begin + 2
    world.stream.send("b", at=begin + 2)
    world.events.clear()
    world.runtime = world.new_runtime()
    await world.runtime.start()
    await world.until(lambda: any(bodies(event) == ["b"] for event in world.events))
    assert next(event["state"] for event in world.events if bodies(event) == ["b"])["n"] >= 1


async def test_a_lost_source_is_opened_again_and_told_to_the_owner(world: World) -> None:
    world.stream.fail = SourceLost("the broker is away", retry_safe=True)
    world.stream.send("a")
    made = await world.create(**HORIZON)
    await world.until(lambda: world.stream.committed.get("0") == "1")
    assert world.clock.slept[:1] == [1.0]
    assert (await world.get(made["UUID"]))["LastProcessingResult"] == "OK"


async def test_a_deleted_mapping_takes_away_what_it_holds_at_its_source(world: World) -> None:
    made = await world.create(**HORIZON)
    await world.api.delete(CONTEXT, {"UUID": made["UUID"]})
    assert await world.settled(made["UUID"]) == ""
    assert world.stream.dropped
