"""https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html: `rmqMessagesByQueue`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.events.mappings.sources.encoding import encode_text, list_bytes
from lambent.events.mappings.sources.ports import Configuration, Values

PLACE = "_queue"
"""Within a message until its event is shaped: `queue::virtual host`, under which the contract puts it."""


def make_event(*, queue: str, virtual_host: str, properties: Values, redelivered: bool, data: bytes) -> Values:
    """`properties` are AMQP's by the contract's names, `timestamp` a datetime."""
    shown = {**properties, "headers": show_headers(properties.get("headers") or {}), "bodySize": len(data)}
    if isinstance(shown.get("timestamp"), datetime.datetime):
        shown["timestamp"] = _show_time(shown["timestamp"])
    return {
        PLACE: f"{queue}::{virtual_host}",
        "basicProperties": shown,
        "redelivered": redelivered,
        "data": encode_text(data),
    }


def _show_time(at: datetime.datetime) -> str:
    """As Java shows it: `Jan 1, 1970, 12:33:41 AM`."""
    return f"{at:%b} {at.day}, {at.year}, {at.hour % 12 or 12}:{at:%M:%S %p}"


def show_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _show(value) for name, value in headers.items()}


def _show(value: Any) -> Any:
    match value:
        case str():
            return {"bytes": list_bytes(value.encode())}
        case bytes() | bytearray():
            return {"bytes": list_bytes(bytes(value))}
        case Mapping():
            return show_headers(value)
        case list() | tuple():
            return [_show(entry) for entry in value]
        case None | bool() | int() | float():
            return value
        case datetime.datetime():
            return _show_time(value)
        case _:
            return str(value)


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    by_queue: dict[str, list[Values]] = {}
    for record in records:
        shown = {name: value for name, value in record.items() if name != PLACE}
        by_queue.setdefault(record[PLACE], []).append(shown)
    return {
        "eventSource": "aws:rmq",
        "eventSourceArn": configuration.source_arn,
        "rmqMessagesByQueue": by_queue,
    }
