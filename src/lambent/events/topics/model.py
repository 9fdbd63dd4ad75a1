"""Topics and subscriptions, as they are kept."""

from __future__ import annotations

import re
from typing import Any

import msgspec

TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}|[A-Za-z0-9_-]{1,251}\.fifo")
PENDING = "PendingConfirmation"
PROTOCOLS = ("lambda", "sqs", "http", "https", "email", "email-json")
CONFIRMED_BY_THEMSELVES = ("lambda", "sqs")
"""Targets of the account itself; the others are asked first."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    arn: str
    account: str
    region: str
    name: str
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}

    @property
    def is_fifo(self) -> bool:
        return self.name.endswith(".fifo")


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    arn: str
    topic: str
    """The topic's ARN."""
    account: str
    protocol: str
    endpoint: str
    token: str
    """What confirms it, and what ends it from an e-mail."""
    attributes: dict[str, str] = {}
    confirmed: bool = False

    @property
    def shown_arn(self) -> str:
        return self.arn if self.confirmed else PENDING


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """One message attribute: `type` is String, String.Array, Number or Binary (base64 in `value`)."""

    type: str
    value: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What was published, as each subscription is sent it."""

    id: str
    topic: str
    at: float
    """Seconds since 1970."""
    bodies: dict[str, str]
    """By protocol; `default` is for all others."""
    subject: str = ""
    attributes: dict[str, Attribute] = {}
    group_id: str = ""
    deduplication_id: str = ""
    sequence_number: str = ""
    trace_id: str = ""
    lineage: str = ""
    kind: str = "Notification"
    """`SubscriptionConfirmation` while a subscription is asked for."""

    def body_for(self, protocol: str) -> str:
        return self.bodies.get(protocol, self.bodies["default"])


def show_attributes(attributes: dict[str, Attribute]) -> dict[str, Any]:
    return {name: {"Type": attribute.type, "Value": attribute.value} for name, attribute in attributes.items()}
