"""The event of JetStream messages. AWS has none; this is in the spirit of its own queues (docs/events.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambent.events.mappings.sources.encoding import encode_text
from lambent.events.mappings.sources.ports import Configuration, Message, Values


def make_message(
    *,
    arn: str,
    region: str,
    stream: str,
    sequence: int,
    subject: str,
    at: float,
    deliveries: int,
    headers: Mapping[str, str],
    data: bytes,
    receipt: Any,
) -> Message:
    """`sequence` is the stream's own, the same whenever the message comes again; `deliveries` counts from 1."""
    identifier = f"{stream}:{sequence}"
    event = {
        "messageId": identifier,
        "eventSource": "lambent:nats",
        "eventSourceARN": arn,
        "awsRegion": region,
        "stream": stream,
        "sequence": sequence,
        "subject": subject,
        "headers": dict(headers),
        "timestamp": round(at * 1000),
        "deliveryCount": deliveries,
        "data": encode_text(data),
    }
    return Message(id=identifier, event=event, data=data, at=at, receipt=receipt)


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    return {"Records": list(records)}
