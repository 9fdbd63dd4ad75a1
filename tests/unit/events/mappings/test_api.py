from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.unit.events.mappings.world import CONTEXT, DEAD, QUEUE, STREAM, World

from lambent.model.errors import CallerError


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.runtime.stop()


async def test_a_mapping_is_creating_then_enabled_and_shows_its_defaults(world: World) -> None:
    made = await world.api.create(CONTEXT, {"FunctionName": "f:live", "EventSourceArn": QUEUE})
    assert made["State"] == "Creating"
    assert await world.settled(made["UUID"]) == "Enabled"
    shown = await world.get(made["UUID"])
    assert shown["FunctionArn"].endswith(":function:f:live")
    assert (shown["BatchSize"], shown["MaximumBatchingWindowInSeconds"]) == (10, 0)
    assert "StartingPosition" not in shown
    assert shown["StateTransitionReason"] == "USER_INITIATED"
    assert shown["LastProcessingResult"] == "No records processed"


async def test_a_mapping_may_be_made_disabled(world: World) -> None:
    made = await world.create(EventSourceArn=QUEUE, Enabled=False)
    assert await world.settled(made["UUID"]) == "Disabled"


STREAMING = {"EventSourceArn": STREAM, "StartingPosition": "LATEST"}


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({}, "InvalidParameterValueException", "Unrecognized event source"),
        ({"EventSourceArn": "arn:aws:x:eu-west-1:1:y"}, "InvalidParameterValueException", "Unrecognized event source"),
        ({"EventSourceArn": STREAM}, "InvalidParameterValueException", "startingPosition"),
        ({"EventSourceArn": QUEUE, "StartingPosition": "LATEST"}, "InvalidParameterValueException", "StartingPosition"),
        ({"EventSourceArn": QUEUE, "KMSKeyArn": "arn:aws:kms:x"}, "InvalidParameterValueException", "no effect"),
        (
            {"EventSourceArn": QUEUE, "MetricsConfig": {"Metrics": ["EventCount"]}},
            "InvalidParameterValueException",
            "no effect",
        ),
        ({"EventSourceArn": QUEUE, "BatchSize": 11}, "InvalidParameterValueException", "batch window"),
        ({"EventSourceArn": QUEUE, "FunctionName": "g"}, "InvalidParameterValueException", "Function does not exist"),
        (
            {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": "[]"}]}},
            "InvalidParameterValueException",
            "Invalid filter pattern definition",
        ),
        (
            {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": '{"a": [1]}'}] * 11}},
            "InvalidParameterValueException",
            "11 filters",
        ),
        ({**STREAMING, "StartingPosition": "AT_TIMESTAMP"}, "InvalidParameterValueException", "Timestamp"),
        ({**STREAMING, "MaximumRecordAgeInSeconds": 59}, "InvalidParameterValueException", "60"),
        (
            {**STREAMING, "ParallelizationFactor": 2, "TumblingWindowInSeconds": 30},
            "InvalidParameterValueException",
            "ParallelizationFactor",
        ),
        (
            {**STREAMING, "DestinationConfig": {"OnFailure": {"Destination": DEAD + "x"}}},
            "InvalidParameterValueException",
            "does not exist",
        ),
    ],
)
async def test_what_a_source_does_not_take_is_refused(
    world: World, params: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(CallerError) as refused:
        await world.api.create(CONTEXT, {"FunctionName": "f", **params})
    assert refused.value.code == code
    assert says in refused.value.message


async def test_one_mapping_for_a_source_and_a_function(world: World) -> None:
    made = await world.create(EventSourceArn=QUEUE)
    with pytest.raises(CallerError) as refused:
        await world.create(EventSourceArn=QUEUE)
    assert (refused.value.code, refused.value.status) == ("ResourceConflictException", 409)
    assert made["UUID"] in refused.value.message
    await world.create(EventSourceArn=QUEUE, FunctionName="f:live")


async def test_updates_keep_what_they_do_not_name(world: World) -> None:
    made = await world.create(**STREAMING, BatchSize=5)
    changed = await world.api.update(CONTEXT, {"UUID": made["UUID"], "MaximumRetryAttempts": 3})
    assert changed["State"] == "Updating"
    assert await world.settled(made["UUID"]) == "Enabled"
    shown = await world.get(made["UUID"])
    assert (shown["BatchSize"], shown["MaximumRetryAttempts"]) == (5, 3)


async def test_a_change_before_the_last_has_settled_is_refused_as_in_use(world: World) -> None:
    made = await world.api.create(CONTEXT, {"FunctionName": "f", "EventSourceArn": QUEUE})
    with pytest.raises(CallerError) as refused:
        await world.api.update(CONTEXT, {"UUID": made["UUID"], "BatchSize": 5})
    assert refused.value.code == "ResourceInUseException"


async def test_another_account_sees_nothing_of_it(world: World) -> None:
    made = await world.create(EventSourceArn=QUEUE)
    other = msgspec.structs.replace(CONTEXT, account="999999999999")
    with pytest.raises(CallerError) as refused:
        await world.api.get(other, {"UUID": made["UUID"]})
    assert refused.value.code == "ResourceNotFoundException"
    with pytest.raises(CallerError):
        await world.api.delete(other, {"UUID": made["UUID"]})
    assert (await world.api.list(other, {}))["EventSourceMappings"] == []


async def test_lists_go_by_source_and_function_in_pages(world: World) -> None:
    first = await world.create(EventSourceArn=QUEUE)
    second = await world.create(**STREAMING, FunctionName="f:live")
    by_source = await world.api.list(CONTEXT, {"EventSourceArn": STREAM})
    assert [shown["UUID"] for shown in by_source["EventSourceMappings"]] == [second["UUID"]]
    by_function = await world.api.list(CONTEXT, {"FunctionName": "f:live"})
    assert [shown["UUID"] for shown in by_function["EventSourceMappings"]] == [second["UUID"]]
    page = await world.api.list(CONTEXT, {"MaxItems": 1})
    rest = await world.api.list(CONTEXT, {"MaxItems": 1, "Marker": page["NextMarker"]})
    found = {shown["UUID"] for shown in page["EventSourceMappings"] + rest["EventSourceMappings"]}
    assert found == {first["UUID"], second["UUID"]}


async def test_a_mapping_whose_node_died_in_between_goes_on_to_its_state(world: World) -> None:
    await world.runtime.stop()
    made = await world.api.create(CONTEXT, {"FunctionName": "f", "EventSourceArn": QUEUE})
    gone = await world.api.create(CONTEXT, {"FunctionName": "f", **STREAMING})
    await world.api.delete(CONTEXT, {"UUID": gone["UUID"]})
    assert (await world.get(made["UUID"]))["State"] == "Creating"
    world.runtime = world.new_runtime()
    await world.runtime.start()
    assert await world.settled(made["UUID"]) == "Enabled"
    assert await world.settled(gone["UUID"]) == ""
    assert world.stream.dropped
