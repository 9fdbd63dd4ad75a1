"""The event of MQTT messages. AWS has none of this kind; this is in the spirit of its own queues (docs/events.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambent.events.mappings.sources.encoding import encode_text
from lambent.events.mappings.sources.ports import Configuration, Message, Values


def make_message(
    *, arn: str, region: str, number: int, topic: str, qos: int, retain: bool, at: float, data: bytes, receipt: Any
) -> Message:
    """`number` counts since the source was opened, as MQTT has no lasting name for a message; `at` is its arrival."""
    identifier = f"{round(at * 1000)}-{number}"
    event = {
        "messageId": identifier,
        "eventSource": "lambent:mqtt",
        "eventSourceARN": arn,
        "awsRegion": region,
        "topic": topic,
        "qos": qos,
        "retain": retain,
        "timestamp": round(at * 1000),
        "data": encode_text(data),
    }
    return Message(id=identifier, event=event, data=data, at=at, receipt=receipt)


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    return {"Records": list(records)}
