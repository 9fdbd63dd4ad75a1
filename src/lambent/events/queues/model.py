"""Queues and messages as they are kept and handed about."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

import msgspec

DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    target: str
    """ARN of the dead-letter queue."""
    most_receives: int


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    account: str
    region: str
    name: str
    attributes: dict[str, str]
    """Those that can be set, defaults included."""
    tags: dict[str, str] = {}
    redrive: Redrive | None = None
    created_at: float
    """Seconds since 1970."""
    modified_at: float

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:{self.region}:{self.account}:{self.name}"

    @property
    def is_fifo(self) -> bool:
        return self.name.endswith(".fifo")

    def seconds(self, attribute: str) -> int:
        return int(self.attributes[attribute])


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One message attribute: String and Number in `text`, Binary in `data`."""

    type: str
    text: str = ""
    data: bytes = b""

    @property
    def is_binary(self) -> bool:
        return self.type.startswith("Binary")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent."""

    body: str
    attributes: dict[str, Value] = {}
    trace_header: str = ""
    delay_s: int | None = None
    """None: the queue's."""
    group_id: str = ""
    deduplication_id: str = ""
    sender: str = ""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    message_id: str
    sequence_number: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a receive gives."""

    message_id: str
    receipt: str
    body: str
    attributes: dict[str, Value]
    trace_header: str
    sender: str
    sent_at: float
    first_received_at: float
    receives: int
    group_id: str
    deduplication_id: str
    sequence_number: str
    dead_letter_source: str

    def system_attributes(self) -> dict[str, str]:
        shown = {
            "SenderId": self.sender,
            "SentTimestamp": str(int(self.sent_at * 1000)),
            "ApproximateReceiveCount": str(self.receives),
            "ApproximateFirstReceiveTimestamp": str(int(self.first_received_at * 1000)),
            "MessageGroupId": self.group_id,
            "MessageDeduplicationId": self.deduplication_id,
            "SequenceNumber": self.sequence_number,
            "AWSTraceHeader": self.trace_header,
            "DeadLetterQueueSourceArn": self.dead_letter_source,
        }
        return {name: value for name, value in shown.items() if value}


def digest_body(body: str) -> str:
    """MD5, as SDKs check it."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def digest_attributes(attributes: Mapping[str, Value]) -> str:
    """Developer guide, "Calculating the MD5 message digest for message attributes"; empty for none."""
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        content = value.data if value.is_binary else value.text.encode()
        for piece in (name.encode(), value.type.encode()):
            digest.update(struct.pack("!I", len(piece)) + piece)
        digest.update((b"\x02" if value.is_binary else b"\x01") + struct.pack("!I", len(content)) + content)
    return digest.hexdigest()
