"""The event of a queue (developer guide, "Using Lambda with Amazon SQS")."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from lambent.events.mappings.sources.ports import Configuration, Message, Values


def read_message(received: Values, arn: str, region: str) -> Message:
    """From a message as ReceiveMessage answers it."""
    attributes = {name: str(value) for name, value in (received.get("Attributes") or {}).items()}
    event: dict[str, Any] = {
        "messageId": received["MessageId"],
        "receiptHandle": received["ReceiptHandle"],
        "body": received.get("Body", ""),
        "attributes": attributes,
        "messageAttributes": {
            name: _show_attribute(value) for name, value in (received.get("MessageAttributes") or {}).items()
        },
        "md5OfBody": received.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    }
    if received.get("MD5OfMessageAttributes"):
        event["md5OfMessageAttributes"] = received["MD5OfMessageAttributes"]
    return Message(
        id=received["MessageId"],
        event=event,
        data=event["body"].encode(),
        at=int(attributes.get("SentTimestamp") or 0) / 1000,
        group=attributes.get("MessageGroupId", "") if arn.endswith(".fifo") else "",
        receipt=received["ReceiptHandle"],
    )


def shape(_configuration: Configuration, records: Sequence[Values]) -> Values:
    return {"Records": list(records)}


def _show_attribute(value: Values) -> dict[str, Any]:
    shown: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if value.get("StringValue") is not None:
        shown["stringValue"] = value["StringValue"]
    if value.get("BinaryValue") is not None:
        binary = value["BinaryValue"]
        # Bytes from a queue of this node; already text from JSON.
        shown["binaryValue"] = base64.b64encode(binary).decode() if isinstance(binary, bytes) else binary
    return shown
