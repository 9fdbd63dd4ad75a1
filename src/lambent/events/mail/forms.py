"""What a function is told of a message that arrived (SES developer guide, "Contents of notifications")."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any, NamedTuple

from lambent.events.mail.rules import Action

_MOST_HEADERS_BYTES = 10_240
_NOT_SCANNED = {"status": "DISABLED"}


class Received(NamedTuple):
    """A message as it came over SMTP."""

    id: str
    at: float
    """Seconds since 1970."""
    sender: str
    """Of the envelope."""
    recipients: list[str]
    """Of the envelope."""
    raw: bytes
    parsed: EmailMessage


def describe_mail(received: Received) -> dict[str, Any]:
    message = received.parsed
    headers, size, truncated = [], 0, False
    for name, value in message.items():
        size += len(name) + len(str(value))
        if size > _MOST_HEADERS_BYTES:
            truncated = True
            break
        headers.append({"name": name, "value": str(value)})
    common: dict[str, Any] = {"returnPath": received.sender}
    for key in ("from", "to", "cc", "replyTo"):
        found = _addresses(message, "reply-to" if key == "replyTo" else key)
        if found:
            common[key] = found
    for key, header in (("date", "date"), ("messageId", "message-id"), ("subject", "subject")):
        if message[header] is not None:
            common[key] = str(message[header])
    return {
        "timestamp": show_time(received.at),
        "source": received.sender,
        "messageId": received.id,
        "destination": received.recipients,
        "headersTruncated": truncated,
        "headers": headers,
        "commonHeaders": common,
    }


def describe_receipt(received: Received, recipients: list[str], action: dict[str, str], now: float) -> dict[str, Any]:
    return {
        "timestamp": show_time(received.at),
        "processingTimeMillis": max(0, int((now - received.at) * 1000)),
        "recipients": recipients,
        "spamVerdict": _NOT_SCANNED,
        "virusVerdict": _NOT_SCANNED,
        "spfVerdict": _NOT_SCANNED,
        "dkimVerdict": _NOT_SCANNED,
        "dmarcVerdict": _NOT_SCANNED,
        "action": action,
    }


def describe_action(action: Action, received: Received) -> dict[str, str]:
    if action.kind == "lambda":
        return {"type": "Lambda", "functionArn": action.target, "invocationType": "Event"}
    if action.kind == "s3":
        key = action.prefix + received.id
        return {"type": "S3", "bucketName": action.target, "objectKeyPrefix": action.prefix, "objectKey": key}
    return {"type": "SNS", "topicArn": action.target, "encoding": action.encoding}


def write_function_event(received: Received, recipients: list[str], action: Action, now: float) -> dict[str, Any]:
    receipt = describe_receipt(received, recipients, describe_action(action, received), now)
    record = {"mail": describe_mail(received), "receipt": receipt}
    return {"Records": [{"eventSource": "aws:ses", "eventVersion": "1.0", "ses": record}]}


def write_notification(received: Received, recipients: list[str], action: Action, now: float) -> dict[str, Any]:
    return {
        "notificationType": "Received",
        "mail": describe_mail(received),
        "receipt": describe_receipt(received, recipients, describe_action(action, received), now),
    }


def show_time(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _addresses(message: EmailMessage, header: str) -> list[str]:
    texts = [str(value) for value in message.get_all(header, [])]
    return [f"{name} <{address}>" if name else address for name, address in getaddresses(texts) if address]
