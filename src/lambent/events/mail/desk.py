"""The mail desk: whom mail is received for, and carrying out the rules for what arrived.

A message is accepted from its sender when everything that its rules ask for is durable. What could not be done is
answered with "try again later", and the sender does.
"""

from __future__ import annotations

import base64
import email
import email.policy
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.mail import forms, rules, store
from lambent.events.mail.forms import Received
from lambent.events.mail.rules import Action, RuleSet
from lambent.model.identifiers import new_hex
from lambent.substrate.ports import Tables

MOST_IN_A_NOTIFICATION = 153_600
"""SES developer guide: a message with its content is published up to 150 KB."""

PutObject = Callable[[str, str, str, bytes], Awaitable[None]]
"""(account, bucket, key, bytes). Returns when it is durable. Raises CallerError when there is no such bucket."""


class Bounced(Exception):
    """A rule refuses the message; the text is the SMTP reply."""


class Envelope(NamedTuple):
    sender: str
    recipients: Sequence[str]
    raw: bytes
    encrypted: bool


class MailDesk:
    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        put_object: PutObject,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_hex,
    ) -> None:
        self._tables = tables
        self._deliveries = deliveries
        self._put_object = put_object
        self._now = now
        self._new_id = new_id

    async def receives(self, address: str, *, encrypted: bool) -> bool:
        """Whether a rule of any account is for an address: mail for others is never taken, so nothing is relayed."""
        for rule_set in await self._tables.read(store.list_active):
            if rules.choose(rule_set, [address], encrypted=encrypted):
                return True
        return False

    async def take(self, envelope: Envelope) -> str:
        """The id under which it was taken. Raises Bounced, CallerError and PlatformError (try again later)."""
        parsed = email.message_from_bytes(envelope.raw, policy=email.policy.default)
        received = Received(
            id=self._new_id(),
            at=self._now(),
            sender=envelope.sender,
            recipients=list(envelope.recipients),
            raw=envelope.raw,
            parsed=parsed,
        )
        for rule_set in await self._tables.read(store.list_active):
            for rule, recipients in rules.choose(rule_set, envelope.recipients, encrypted=envelope.encrypted):
                for action in rule.actions:
                    received = await self._act(rule_set, action, received, recipients)
        return received.id

    async def _act(self, rule_set: RuleSet, action: Action, received: Received, recipients: list[str]) -> Received:
        if action.kind == "add-header":
            return received._replace(raw=f"{action.header}: {action.text}\r\n".encode() + received.raw)
        if action.kind == "bounce":
            raise Bounced(f"{action.smtp_code} {action.text}")
        if action.kind == "lambda":
            document = forms.write_function_event(received, recipients, action, self._now())
            await self._deliver(rule_set, action.target, document)
        elif action.kind == "s3":
            await self._put_object(rule_set.account, action.target, action.prefix + received.id, received.raw)
        elif action.kind == "sns":
            if len(received.raw) > MOST_IN_A_NOTIFICATION:
                raise Bounced("552 The message is larger than 150 KB")
            document = forms.write_notification(received, recipients, action, self._now())
            await self._deliver(rule_set, action.target, document | {"content": _content(action, received)})
        if action.topic:
            document = forms.write_notification(received, recipients, action, self._now())
            await self._deliver(rule_set, action.topic, document)
        return received

    async def _deliver(self, rule_set: RuleSet, target: str, document: dict[str, object]) -> None:
        await self._deliveries.deliver(
            Delivery(
                account=rule_set.account,
                region=rule_set.region,
                target=target,
                body=msgspec.json.encode(document),
                source_arn=f"arn:aws:ses:{rule_set.region}:{rule_set.account}:receipt-rule-set/{rule_set.name}",
                attributes={"Subject": "Amazon SES Email Receipt Notification"},
            )
        )


def _content(action: Action, received: Received) -> str:
    if action.encoding == "Base64":
        return base64.b64encode(received.raw).decode()
    return received.raw.decode("utf-8", "replace")
