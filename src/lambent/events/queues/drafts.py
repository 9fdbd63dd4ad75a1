"""Messages between the wire and the store: what may be sent, and how what was received is shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lambent.events.queues.model import Draft, Message, Queue, Value, digest_attributes, digest_body
from lambent.model.errors import CallerError

MOST_ATTRIBUTES = 10
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATTRIBUTE_NAME = re.compile(r"(?!\.)(?!.*\.\.)(?!(?i:aws|amazon)\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_ATTRIBUTE_TYPE = re.compile(r"(String|Number|Binary)(\..{1,250})?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")


def read_draft(given: Mapping[str, Any], queue: Queue, *, sender: str, trace_id: str = "") -> Draft:
    """Of SendMessage's parameters, or of an entry of a batch. Raises CallerError."""
    body = given["MessageBody"]
    if not body:
        raise _invalid(
            "MessageBody", "", "The request must contain the parameter MessageBody.", code="MissingParameter"
        )
    if found := _UNWRITABLE.search(body):
        raise CallerError(
            "InvalidMessageContents",
            f"Invalid binary character '#x{ord(found[0]):X}' was found in the message body, the set of allowed "
            "characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
        )
    attributes = _read_attributes(given.get("MessageAttributes", {}))
    size = len(body.encode()) + sum(
        len(name) + len(value.type) + len(value.text.encode()) + len(value.data) for name, value in attributes.items()
    )
    limit = queue.seconds("MaximumMessageSize")
    if size > limit:
        raise CallerError(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.",
        )
    delay_s = given.get("DelaySeconds")
    if delay_s is not None and not 0 <= delay_s <= 900:
        raise _invalid("DelaySeconds", delay_s, "DelaySeconds must be >= 0 and <= 900.")
    group, deduplication = given.get("MessageGroupId", ""), given.get("MessageDeduplicationId", "")
    if queue.is_fifo:
        if delay_s:
            raise _invalid(
                "DelaySeconds", delay_s, "The request include parameter that is not valid for this queue type."
            )
        if not group:
            raise CallerError("MissingParameter", "The request must contain the parameter MessageGroupId.")
        if not deduplication:
            if queue.attributes.get("ContentBasedDeduplication") != "true":
                raise CallerError(
                    "InvalidParameterValue",
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
                    "explicitly",
                )
            deduplication = hashlib.sha256(body.encode()).hexdigest()
        delay_s = None
    elif deduplication:
        raise _invalid(
            "MessageDeduplicationId",
            deduplication,
            "The request includes a parameter that is not valid for this queue type.",
        )
    for name, value in (("MessageGroupId", group), ("MessageDeduplicationId", deduplication)):
        if value and not _IDENTIFIER.fullmatch(value):
            raise _invalid(name, value, f"{name} can only include alphanumeric and punctuation characters. 1 to 128.")
    return Draft(
        body=body,
        attributes=attributes,
        trace_header=_read_trace(given.get("MessageSystemAttributes", {})) or trace_id,
        delay_s=delay_s,
        group_id=group if queue.is_fifo else "",
        deduplication_id=deduplication,
        sender=sender,
    )


def measure(given: Mapping[str, Any]) -> int:
    """Bytes of an entry of a batch, attributes and all."""
    size = len(given["MessageBody"].encode())
    for name, entry in given.get("MessageAttributes", {}).items():
        texts = name + entry.get("DataType", "") + entry.get("StringValue", "")
        size += len(texts.encode()) + len(entry.get("BinaryValue", b""))
    return size


def show_message(message: Message, names: set[str], wanted: Iterable[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": digest_body(message.body),
        "Body": message.body,
    }
    system = message.system_attributes()
    chosen = system if "All" in names else {name: value for name, value in system.items() if name in names}
    if chosen:
        shown["Attributes"] = chosen
    attributes = {
        name: value for name, value in message.attributes.items() if any(_selects(one, name) for one in wanted)
    }
    if attributes:
        shown["MD5OfMessageAttributes"] = digest_attributes(attributes)
        shown["MessageAttributes"] = {
            name: {
                "DataType": value.type,
                **({"BinaryValue": value.data} if value.is_binary else {"StringValue": value.text}),
            }
            for name, value in attributes.items()
        }
    return shown


def _selects(wanted: str, name: str) -> bool:
    if wanted in ("All", ".*"):
        return True
    return name.startswith(wanted[:-2]) if wanted.endswith(".*") else wanted == name


def _read_attributes(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Value]:
    if len(given) > MOST_ATTRIBUTES:
        raise _invalid("MessageAttributes", len(given), f"Number of message attributes exceeds {MOST_ATTRIBUTES}.")
    read = {}
    for name, entry in given.items():
        kind = entry.get("DataType", "")
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise _invalid("MessageAttributes", name, "The message attribute name is not valid.")
        if not _ATTRIBUTE_TYPE.fullmatch(kind):
            raise _invalid(
                "MessageAttributes",
                kind,
                f"The message attribute '{name}' has an invalid message attribute type, the set of supported type "
                "prefixes is Binary, Number, and String.",
            )
        value = (
            Value(type=kind, data=entry.get("BinaryValue", b""))
            if kind.startswith("Binary")
            else Value(type=kind, text=entry.get("StringValue", ""))
        )
        if not value.text and not value.data:
            raise _invalid(
                "MessageAttributes",
                name,
                f"The message attribute '{name}' must contain non-empty message attribute value.",
            )
        if kind.startswith("Number") and not _NUMBER.fullmatch(value.text):
            raise _invalid(
                "MessageAttributes", value.text, f"Can't cast the value of message attribute '{name}' to a number."
            )
        read[name] = value
    return read


def _read_trace(given: Mapping[str, Mapping[str, Any]]) -> str:
    unknown = given.keys() - {"AWSTraceHeader"}
    if unknown:
        raise _invalid("MessageSystemAttributes", sorted(unknown)[0], "The one that can be set is AWSTraceHeader.")
    text = given.get("AWSTraceHeader", {}).get("StringValue", "")
    return str(text)


def _invalid(name: str, value: object, reason: str, *, code: str = "InvalidParameterValue") -> CallerError:
    return CallerError(
        code, f"Value {value} for parameter {name} is invalid. Reason: {reason}" if value != "" else reason
    )
