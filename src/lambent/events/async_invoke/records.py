"""What destinations and dead-letter targets get of an event that ended.

Developer guide, "Retaining records of asynchronous invocations" (version 1.0 of the record) and "Dead-letter queues".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.events.async_invoke.model import Event
from lambent.events.async_invoke.store import Parcel
from lambent.events.deliveries import Delivery
from lambent.model.invocation import Outcome

SUCCESS, EXHAUSTED, TOO_OLD = "Success", "RetriesExhausted", "EventAgeExceeded"


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery on its way, and the event that is dead when it fails; 0 for the record of a success."""

    event: int
    delivery: Delivery


def write_record(event: Event, condition: str, outcome: Outcome | None, now: float) -> bytes:
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": event.arn,
            "condition": condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": msgspec.Raw(event.payload),
    }
    if outcome is not None:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": outcome.executed_version}
        if outcome.function_error:
            context["functionError"] = outcome.function_error
        record["responseContext"] = context
        record["responsePayload"] = msgspec.Raw(outcome.payload or b"null")
    return msgspec.json.encode(record)


def to_destination(event: Event, target: str, condition: str, outcome: Outcome | None, now: float) -> Parcel:
    is_success = condition == SUCCESS
    delivery = Delivery(
        account=event.account,
        region=event.region,
        target=target,
        body=write_record(event, condition, outcome, now),
        source_arn=event.arn,
        attributes={
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {'Success' if is_success else 'Failure'}",
        },
        trace_id=event.trace_id,
    )
    return Parcel(target, msgspec.msgpack.encode(Envelope(event=0 if is_success else event.id, delivery=delivery)))


def to_dead_letters(event: Event, target: str, error: str) -> Parcel:
    """The event itself; the queue or topic shows in attributes what came of it."""
    delivery = Delivery(
        account=event.account,
        region=event.region,
        target=target,
        body=event.payload,
        source_arn=event.arn,
        message_attributes={"RequestID": event.request_id, "ErrorCode": "200", "ErrorMessage": error[:1024]},
        trace_id=event.trace_id,
    )
    return Parcel(target, msgspec.msgpack.encode(Envelope(event=event.id, delivery=delivery)))
