"""The event of stream entries. AWS has none; this is in the spirit of its own queues (docs/events.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lambent.events.mappings.sources.encoding import encode_text
from lambent.events.mappings.sources.ports import Configuration, Message, Values


def make_message(*, arn: str, region: str, key: str, entry_id: str, fields: Mapping[bytes, bytes]) -> Message:
    """`data` has the fields as text where they are UTF-8; bytes that are not are under `binary`, in base64."""
    at_ms = int(entry_id.partition("-")[0])
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for name, value in fields.items():
        try:
            text[name.decode(errors="replace")] = value.decode()
        except UnicodeDecodeError:
            binary[name.decode(errors="replace")] = encode_text(value)
    event = {
        "messageId": entry_id,
        "eventSource": "lambent:redis",
        "eventSourceARN": arn,
        "awsRegion": region,
        "stream": key,
        "timestamp": at_ms,
        "data": text,
        "binary": binary,
    }
    return Message(id=entry_id, event=event, data=json.dumps(text).encode(), at=at_ms / 1000, receipt=entry_id)


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    return {"Records": list(records)}
