from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.unit.events.clockwork import DEAD, QUEUE, Clockwork

from lambent.events.buses.inputs import make_input
from lambent.model.errors import CallerError

ENTRY = {"Source": "shop", "DetailType": "Order", "Detail": '{"id": 7, "name": "a \\"b\\""}'}


async def make_rule(clockwork: Clockwork, name: str = "orders", **target: Any) -> None:
    await clockwork.bus("PutRule", Name=name, EventPattern='{"source": ["shop"]}')
    answer = await clockwork.bus("PutTargets", Rule=name, Targets=[{"Id": "1", "Arn": QUEUE, **target}])
    assert answer["FailedEntryCount"] == 0


async def test_an_event_reaches_the_targets_of_the_rules_that_match(clockwork: Clockwork) -> None:
    await make_rule(clockwork)
    answer = await clockwork.bus("PutEvents", Entries=[{**ENTRY, "Source": "other"}, ENTRY])
    assert answer["FailedEntryCount"] == 0
    event = json.loads((await clockwork.next_received()).body)
    assert event["id"] == answer["Entries"][1]["EventId"]
    assert event["detail"]["id"] == 7
    assert clockwork.received.empty()


async def test_an_entry_that_is_refused_fails_alone(clockwork: Clockwork) -> None:
    await make_rule(clockwork)
    answer = await clockwork.bus("PutEvents", Entries=[{**ENTRY, "Detail": "[]"}, ENTRY])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == "MalformedDetail"
    await clockwork.next_received()


async def test_a_template_is_filled_with_values_and_with_text(clockwork: Clockwork) -> None:
    transformer = {
        "InputPathsMap": {"id": "$.detail.id", "name": "$.detail.name"},
        "InputTemplate": '{"id": <id>, "name": <name>, "said": "<name> of <aws.events.rule-name>"}',
    }
    await make_rule(clockwork, InputTransformer=transformer)
    await clockwork.bus("PutEvents", Entries=[ENTRY])
    body = json.loads((await clockwork.next_received()).body)
    assert body == {"id": 7, "name": 'a "b"', "said": 'a "b" of orders'}


def test_a_path_that_finds_nothing_gives_null() -> None:
    assert make_input({"InputPath": "$.detail.no"}, {"detail": {}}, {}, 0.0) == "null"


async def test_what_a_target_refuses_lies_in_the_dead_letter_queue(clockwork: Clockwork) -> None:
    clockwork.failures[QUEUE] = CallerError("QueueDoesNotExist", "gone")
    await make_rule(clockwork, DeadLetterConfig={"Arn": DEAD})
    await clockwork.bus("PutEvents", Entries=[ENTRY])
    letter = await clockwork.next_received()
    assert letter.target == DEAD
    assert letter.message_attributes["RULE_ARN"].endswith("rule/orders")
    assert letter.message_attributes["ERROR_MESSAGE"] == "gone"


async def test_an_archive_is_replayed_with_the_name_of_the_replay(clockwork: Clockwork) -> None:
    await make_rule(clockwork)
    bus = (await clockwork.bus("DescribeEventBus"))["Arn"]
    archive = await clockwork.bus("CreateArchive", ArchiveName="all", EventSourceArn=bus)
    await clockwork.bus("PutEvents", Entries=[ENTRY])
    await clockwork.next_received()
    await clockwork.bus(
        "StartReplay",
        ReplayName="again",
        EventSourceArn=archive["ArchiveArn"],
        EventStartTime=datetime.fromtimestamp(clockwork.now - 60, UTC),
        EventEndTime=datetime.fromtimestamp(clockwork.now + 60, UTC),
        Destination={"Arn": bus},
    )
    assert json.loads((await clockwork.next_received()).body)["replay-name"] == "again"
    assert (await clockwork.bus("DescribeReplay", ReplayName="again"))["State"] == "COMPLETED"
    assert (await clockwork.bus("DescribeArchive", ArchiveName="all"))["EventCount"] == 1


async def test_an_event_goes_from_bus_to_bus(clockwork: Clockwork) -> None:
    other = (await clockwork.bus("CreateEventBus", Name="other"))["EventBusArn"]
    await make_rule(clockwork, Arn=other)
    await clockwork.bus("PutRule", Name="far", EventBusName="other", EventPattern='{"source": ["shop"]}')
    await clockwork.bus("PutTargets", Rule="far", EventBusName="other", Targets=[{"Id": "1", "Arn": QUEUE}])
    await clockwork.bus("PutEvents", Entries=[ENTRY])
    assert json.loads((await clockwork.next_received()).body)["detail-type"] == "Order"


async def test_a_rule_with_a_schedule_sends_scheduled_events(clockwork: Clockwork) -> None:
    await clockwork.bus("PutRule", Name="tick", ScheduleExpression="rate(5 minutes)")
    await clockwork.bus("PutTargets", Rule="tick", Targets=[{"Id": "1", "Arn": QUEUE}])
    await clockwork.timers.fire_due()
    assert clockwork.received.empty()
    clockwork.now += 300
    await clockwork.timers.fire_due()
    assert json.loads((await clockwork.next_received()).body)["detail-type"] == "Scheduled Event"
