from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.events.clockwork import DEAD, QUEUE, Clockwork

from lambent.events.schedules.expressions import parse_expression
from lambent.events.schedules.timers import Missed, plan_run, set_timer
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection

OFF = {"Mode": "OFF"}


def target(**members: Any) -> dict[str, Any]:
    return {"Arn": QUEUE, "RoleArn": "arn:aws:iam::123456789012:role/r", **members}


async def create(clockwork: Clockwork, name: str, expression: str, **members: Any) -> None:
    given = {"Target": target(), "FlexibleTimeWindow": OFF, **members}
    await clockwork.scheduler("CreateSchedule", Name=name, ScheduleExpression=expression, **given)


def at(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("at(%Y-%m-%dT%H:%M:%S)")


async def test_a_one_time_schedule_fires_once_and_deletes_itself(clockwork: Clockwork) -> None:
    text = '{"id": "<aws.scheduler.execution-id>", "try": "<aws.scheduler.attempt-number>"}'
    await create(clockwork, "once", at(clockwork.now + 5), ActionAfterCompletion="DELETE", Target=target(Input=text))
    await clockwork.timers.fire_due()
    assert clockwork.received.empty()
    clockwork.now += 5
    assert await clockwork.timers.fire_due() is None
    body = (await clockwork.next_received()).body
    assert b'"try": "1"' in body and b"<aws" not in body
    clockwork.now += 3600
    await clockwork.timers.fire_due()
    assert clockwork.received.empty()
    with pytest.raises(CallerError, match="does not exist"):
        await clockwork.scheduler("GetSchedule", Name="once")


async def test_a_due_time_is_not_fired_again_when_the_clock_goes_back(clockwork: Clockwork) -> None:
    await create(clockwork, "often", "rate(1 minute)")
    await clockwork.timers.fire_due()
    await clockwork.next_received()
    clockwork.now -= 30
    await clockwork.timers.fire_due()
    assert clockwork.received.empty()


@pytest.mark.parametrize(("missed", "runs"), [("once", 1), ("all", 11), ("skip", 0)])
def test_missed_runs_are_made_as_the_setting_says(missed: str, runs: int) -> None:
    expression, due_at, now, fired = parse_expression("rate(1 minute)", start_at=60.0), 60.0, 685.0, 0
    following: float | None = due_at
    while following is not None and following <= now:
        run = plan_run(expression, following, now, Missed(missed))
        fired, following = fired + run.fires, run.next_due_at
    assert (fired, following) == (runs, 720.0)


async def test_a_disabled_schedule_does_not_fire(clockwork: Clockwork) -> None:
    await create(clockwork, "off", "rate(1 minute)", State="DISABLED")
    assert await clockwork.timers.fire_due() is None


async def test_a_schedule_ends_with_its_end_date(clockwork: Clockwork) -> None:
    end = datetime.fromtimestamp(clockwork.now + 61, UTC)
    await create(clockwork, "ending", "rate(1 minute)", EndDate=end)
    assert await clockwork.timers.fire_due() == clockwork.now + 60
    clockwork.now += 60
    assert await clockwork.timers.fire_due() is None


async def test_what_a_target_refuses_lies_in_the_dead_letter_queue(clockwork: Clockwork) -> None:
    clockwork.failures[QUEUE] = CallerError("QueueDoesNotExist", "gone")
    await create(clockwork, "lost", "rate(1 minute)", Target=target(DeadLetterConfig={"Arn": DEAD}))
    await clockwork.timers.fire_due()
    letter = await clockwork.next_received()
    assert letter.target == DEAD
    assert letter.message_attributes["ERROR_CODE"] == "QueueDoesNotExist"
    assert letter.message_attributes["SCHEDULE_ARN"].endswith("default/lost")


async def test_a_schedule_is_created_once_for_a_client_token(clockwork: Clockwork) -> None:
    await create(clockwork, "same", "rate(1 day)", ClientToken="t")
    await create(clockwork, "same", "rate(1 day)", ClientToken="t")
    with pytest.raises(CallerError, match="already exists"):
        await create(clockwork, "same", "rate(1 day)", ClientToken="u")


async def test_a_group_goes_with_its_schedules(clockwork: Clockwork) -> None:
    await clockwork.scheduler("CreateScheduleGroup", Name="team", Tags=[{"Key": "a", "Value": "b"}])
    await create(clockwork, "one", "rate(1 day)", GroupName="team")
    assert [one["Name"] for one in (await clockwork.scheduler("ListSchedules"))["Schedules"]] == ["one"]
    await clockwork.scheduler("DeleteScheduleGroup", Name="team")
    assert (await clockwork.scheduler("ListSchedules"))["Schedules"] == []


async def test_universal_targets_are_refused(clockwork: Clockwork) -> None:
    universal = target(Arn="arn:aws:scheduler:::aws-sdk:sqs:sendMessage")
    with pytest.raises(CallerError, match="universal"):
        await create(clockwork, "any", "rate(1 day)", Target=universal)


async def test_a_timer_that_cannot_be_fired_stops_no_other(clockwork: Clockwork) -> None:
    def fail(_connection: Connection, _owner: str, _due_at: float, _now: float) -> list[str]:
        raise ValueError("no such zone")

    clockwork.timers.enter("broken", fail, lambda _lane: None)
    await clockwork.tables.write(lambda connection: set_timer(connection, "broken", "x", clockwork.now - 1))
    await create(clockwork, "sound", "rate(1 minute)")
    await clockwork.timers.fire_due()
    assert (await clockwork.next_received()).source_arn.endswith("default/sound")


async def test_a_target_that_is_busy_is_asked_again(clockwork: Clockwork) -> None:
    clockwork.failures[QUEUE] = CallerError("TooManyRequestsException", "later", status=429)
    target_once = target(RetryPolicy={"MaximumRetryAttempts": 0}, DeadLetterConfig={"Arn": DEAD})
    await create(clockwork, "busy", "rate(1 minute)", Target=target_once)
    await clockwork.timers.fire_due()
    letter = await clockwork.next_received()
    assert letter.message_attributes["EXHAUSTED_RETRY_CONDITION"] == "MaximumRetryAttempts"
