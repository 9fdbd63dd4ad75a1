"""Attributes of queues: which there are, and what they may be (API reference, SetQueueAttributes)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.events.queues.model import Redrive
from lambent.model.errors import CallerError

QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
RANGES = {
    "DelaySeconds": (0, 900),
    "MaximumMessageSize": (1024, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, 43_200),
}
_OF_FIFO = {
    "ContentBasedDeduplication": ("true", "false"),
    "DeduplicationScope": ("messageGroup", "queue"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
    "FifoQueue": ("true",),
}
_TEXTS = ("Policy", "RedrivePolicy", "RedriveAllowPolicy")
_UNSERVED = {
    "KmsMasterKeyId": "Lambent has no key management service; its data folder lies on your own disk",
    "KmsDataKeyReusePeriodSeconds": "Lambent has no key management service; its data folder lies on your own disk",
}


NAMES = frozenset(
    {
        *RANGES,
        *_OF_FIFO,
        *_TEXTS,
        *_UNSERVED,
        "All",
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "CreatedTimestamp",
        "LastModifiedTimestamp",
        "QueueArn",
        "SqsManagedSseEnabled",
    }
)
"""What GetQueueAttributes may be asked for."""
MOST_ACTIONS = 7
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,80}")


def add_statement(policy: str, label: str, accounts: list[str], actions: list[str], arn: str) -> str:
    """The policy with what AddPermission adds. Raises CallerError."""
    if not _LABEL.fullmatch(label):
        raise CallerError("InvalidParameterValue", f"Value {label} for parameter Label is invalid.")
    if not accounts or not all(re.fullmatch(r"[0-9]{12}", account) for account in accounts):
        raise CallerError("InvalidParameterValue", "AWSAccountIds must be ids of 12 digits.")
    if not 0 < len(actions) <= MOST_ACTIONS:
        raise CallerError(
            "OverLimit", f"{len(actions)} Actions were given, 1 to {MOST_ACTIONS} are allowed.", status=403
        )
    document: dict[str, Any] = {"Version": "2012-10-17", "Id": f"{arn}/default", "Statement": []}
    if policy:
        document = read_object("Policy", policy)
    if any(statement.get("Sid") == label for statement in document.get("Statement", [])):
        raise CallerError(
            "InvalidParameterValue", f"Value {label} for parameter Label is invalid. Reason: Already exists."
        )
    principals = [f"arn:aws:iam::{account}:root" for account in accounts]
    added = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principals},
        "Action": [f"SQS:{action}" for action in actions],
        "Resource": arn,
    }
    return msgspec.json.encode({**document, "Statement": [*document.get("Statement", []), added]}).decode()


def remove_statement(policy: str, label: str) -> str:
    """The policy without what AddPermission had added; empty when nothing is left. Raises CallerError."""
    document = read_object("Policy", policy) if policy else {}
    statements = document.get("Statement", [])
    left = [statement for statement in statements if statement.get("Sid") != label]
    if len(left) == len(statements):
        raise CallerError(
            "InvalidParameterValue", f"Value {label} for parameter Label is invalid. Reason: can't find label."
        )
    return msgspec.json.encode({**document, "Statement": left}).decode() if left else ""


def check_attributes(attributes: Mapping[str, str], *, is_fifo: bool) -> None:
    """Raises CallerError `InvalidAttributeName`, `InvalidAttributeValue`, `UnsupportedOperation`."""
    for name, value in attributes.items():
        _check_attribute(name, value, is_fifo=is_fifo)


def check_together(attributes: Mapping[str, str]) -> None:
    """What a queue would have then. Raises CallerError `InvalidAttributeValue`."""
    if (
        attributes.get("FifoThroughputLimit") == "perMessageGroupId"
        and attributes.get("DeduplicationScope") != "messageGroup"
    ):
        raise _bad_value("FifoThroughputLimit", "perMessageGroupId needs DeduplicationScope messageGroup")


def _check_attribute(name: str, value: str, *, is_fifo: bool) -> None:
    if name in RANGES:
        low, high = RANGES[name]
        if not (value.isascii() and value.isdigit() and len(value) < 12 and low <= int(value) <= high):
            raise _bad_value(name, f"it must be {low} to {high}")
    elif name in _OF_FIFO and is_fifo:
        if value not in _OF_FIFO[name]:
            raise _bad_value(name, f"it must be {' or '.join(_OF_FIFO[name])}")
    elif name == "SqsManagedSseEnabled":
        if value not in ("true", "false"):
            raise _bad_value(name, "it must be true or false")
    elif name in _UNSERVED:
        if value:
            raise CallerError("UnsupportedOperation", f"{name} is not supported: {_UNSERVED[name]}.")
    elif name in _TEXTS:
        if value:
            read_object(name, value)
    else:
        raise CallerError("InvalidAttributeName", f"Unknown Attribute {name}.")


def read_redrive(policy: str) -> Redrive:
    """Raises CallerError `InvalidParameterValue`."""
    document = read_object("RedrivePolicy", policy)
    target, count = document.get("deadLetterTargetArn"), document.get("maxReceiveCount")
    number = int(count) if isinstance(count, int) or (isinstance(count, str) and count.isdigit()) else 0
    if not isinstance(target, str) or not target.startswith("arn:aws:sqs:") or not 1 <= number <= 1000:
        raise CallerError(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: it must have deadLetterTargetArn, the ARN "
            "of a queue, and maxReceiveCount, 1 to 1000.",
        )
    return Redrive(target=target, most_receives=number)


def allows_source(policy: str, source: str) -> bool:
    """Whether a dead-letter queue's RedriveAllowPolicy lets a queue use it; without one it does."""
    if not policy:
        return True
    document = read_object("RedriveAllowPolicy", policy)
    permission = document.get("redrivePermission", "allowAll")
    if permission == "byQueue":
        return source in document.get("sourceQueueArns", [])
    return bool(permission == "allowAll")


def read_object(name: str, value: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        raise _bad_value(name, "it must be a JSON object") from None
    if not isinstance(document, dict):
        raise _bad_value(name, "it must be a JSON object")
    return document


def _bad_value(name: str, reason: str) -> CallerError:
    return CallerError("InvalidAttributeValue", f"Invalid value for the parameter {name}. Reason: {reason}.")
