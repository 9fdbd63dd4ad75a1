"""One way for a record to reach whatever an ARN names: a function, a queue, a topic or a bus.

Destinations, dead letters, rules, schedules, topics and notifications of buckets all hand over here, so that a new kind
of target is a new line in one table, and a sender needs to know nothing of what it sends to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from lambent.model.errors import CallerError


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    """On whose behalf; a target of another account is refused."""
    region: str
    target: str
    """The ARN of a function (qualified or not), queue, topic or event bus."""
    body: bytes
    """JSON text."""
    source_arn: str = ""
    """Who sends: the ARN of a function, rule, schedule, topic or bucket."""
    attributes: dict[str, str] = {}
    """What a kind of target understands: MessageGroupId, MessageDeduplicationId, Source, DetailType, Subject."""
    message_attributes: dict[str, str] = {}
    """Attributes of the message, for queues and topics: RequestID, ErrorCode, ErrorMessage of a dead letter."""
    attribute_types: dict[str, str] = {}
    """Of those message attributes that are no String: Number, String.Array, or Binary, which is in base64."""
    trace_id: str = ""
    """The value of X-Amzn-Trace-Id, passed on so that a trace is one across the hop."""
    lineage: str = ""
    """Of the detection of recursive loops; passed on untouched."""


Deliver = Callable[[Delivery], Awaitable[None]]
"""Returns when the record is durable at the target. Raises CallerError (never again) and PlatformError (later)."""

Exists = Callable[[str, str], Awaitable[bool]]
"""(account, ARN): whether there is such a target."""

_KINDS = {"lambda": "function", "sqs": "queue", "sns": "topic", "events": "event bus"}


class _Kind(NamedTuple):
    deliver: Deliver
    exists: Exists


class Deliveries:
    """The table of the kinds of targets. Each module of the event plane enters itself when it is built."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def serve(self, service: str, deliver: Deliver, exists: Exists) -> None:
        """`service` as it stands in the ARNs: lambda, sqs, sns or events."""
        assert service in _KINDS and service not in self._kinds, service
        self._kinds[service] = _Kind(deliver, exists)

    async def deliver(self, delivery: Delivery) -> None:
        """Raises CallerError when the target is not one or is another account's, and what its kind raises."""
        await self._kind(delivery.account, delivery.target).deliver(delivery)

    async def check(self, account: str, target: str) -> None:
        """Raises CallerError `InvalidParameterValueException` unless the account has such a target."""
        if not await self._kind(account, target).exists(account, target):
            kind = _KINDS[target.split(":")[2]]
            raise CallerError("InvalidParameterValueException", f"The {kind} {target} does not exist.")

    def _kind(self, account: str, target: str) -> _Kind:
        parts = target.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[5]:
            raise CallerError("InvalidParameterValueException", f"'{target}' is not the ARN of a target.")
        kind = self._kinds.get(parts[2])
        if kind is None:
            served = ", ".join(f"{_KINDS[name]} ({name})" for name in sorted(self._kinds))
            raise CallerError(
                "InvalidParameterValueException",
                f"The target {target} is of a kind that cannot be delivered to; there are: {served}.",
            )
        if parts[4] != account:
            raise CallerError("InvalidParameterValueException", f"The target {target} belongs to another account.")
        return kind
