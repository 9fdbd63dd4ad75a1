"""What happens when a schedule is due: its next due time, and the hand-over to its target."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

import msgspec

from lambent.events import handover
from lambent.events.deliveries import Delivery
from lambent.events.handover import MAX_AGE_S, MAX_RETRIES, HandOver
from lambent.events.schedules import store
from lambent.events.schedules.expressions import at_text, parse_expression
from lambent.events.schedules.store import Record
from lambent.events.schedules.timers import Missed, plan_run, set_timer
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection

_ATTEMPT = "<aws.scheduler.attempt-number>"


def next_due(record: Record, after: float) -> float | None:
    """Raises ExpressionRefused."""
    start: datetime | None = record.get("StartDate")
    began: datetime = start or record["LastModificationDate"]
    expression = parse_expression(
        record["ScheduleExpression"], zone=record["ScheduleExpressionTimezone"], start_at=began.timestamp()
    )
    if start is not None:
        after = max(after, start.timestamp() - 1e-3)
    return _before_end(record, expression.next_after(after))


def _before_end(record: Record, due_at: float | None) -> float | None:
    end: datetime | None = record.get("EndDate")
    return None if due_at is None or (end is not None and due_at > end.timestamp()) else due_at


class Firing:
    """`fire` is what the timers call."""

    def __init__(
        self,
        *,
        missed: Missed = Missed.ONCE,
        jitter: Callable[[], float] = random.random,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._missed = missed
        self._jitter = jitter
        self._new_id = new_id

    def fire(self, connection: Connection, arn: str, due_at: float, now: float) -> list[str]:
        record = store.get(connection, "schedules", arn)
        if record is None or record["State"] != "ENABLED":
            set_timer(connection, store.BOX, arn, None)
            return []
        run = plan_run(_Bounded(record), due_at, now, self._missed)
        set_timer(connection, store.BOX, arn, run.next_due_at)
        if run.fires:
            window_s = record["FlexibleTimeWindow"].get("MaximumWindowInMinutes", 0) * 60
            delay_s = max(0.0, due_at + window_s * self._jitter() - now)
            handed = _make_hand_over(record, due_at, self._new_id(), since=now + delay_s)
            handover.put(connection, store.BOX, arn, handed, now=now, delay_s=delay_s)
        if run.next_due_at is None and record["ActionAfterCompletion"] == "DELETE":
            store.delete_schedule(connection, arn)
        return [arn] if run.fires else []


class _Bounded:
    """A schedule as an expression: within its dates."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def next_after(self, moment: float) -> float | None:
        return next_due(self._record, moment)


def _make_hand_over(record: Record, due_at: float, execution_id: str, *, since: float) -> HandOver:
    arn, target = record["Arn"], record["Target"]
    region, account = arn.split(":")[3:5]
    attributes = dict(target.get("EventBridgeParameters", {}))
    if "SqsParameters" in target:
        attributes["MessageGroupId"] = target["SqsParameters"].get("MessageGroupId", "")
    text = target.get("Input")
    if text is None:
        text = _default_input(record, account, region, due_at, execution_id)
    for name, value in (
        ("schedule-arn", arn),
        ("scheduled-time", at_text(due_at)),
        ("execution-id", execution_id),
    ):
        text = text.replace(f"<aws.scheduler.{name}>", value)
    retry = target.get("RetryPolicy", {})
    return HandOver(
        delivery=Delivery(
            account=account,
            region=region,
            target=target["Arn"],
            body=text.encode(),
            source_arn=arn,
            attributes=attributes,
        ),
        since=since,
        max_retries=retry.get("MaximumRetryAttempts", MAX_RETRIES),
        max_age_s=retry.get("MaximumEventAgeInSeconds", MAX_AGE_S),
        dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
        names={"SCHEDULE_ARN": arn, "SCHEDULED_TIME": at_text(due_at), "EXECUTION_ID": execution_id},
        attempt_mark=_ATTEMPT if _ATTEMPT in text else "",
    )


def _default_input(record: Record, account: str, region: str, due_at: float, execution_id: str) -> str:
    event = {
        "version": "0",
        "id": execution_id,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": account,
        "time": at_text(due_at),
        "region": region,
        "resources": [record["Arn"]],
        "detail": "{}",
    }
    return msgspec.json.encode(event).decode()
