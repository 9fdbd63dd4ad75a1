"""Sending mail: accepted when it is durable, then handed to the relay until that has taken it."""

from __future__ import annotations

import email.policy
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from email.utils import format_datetime, localtime

import msgspec

from lambent.events import outbox
from lambent.events.mail.rules import ADDRESS
from lambent.events.outbox import Outbox, Parcel
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Tables

log = logging.getLogger(__name__)

BOX = "mail"
LANE = "relay"
RETRIED_FOR_S = 14 * 3600
"""SES developer guide: a message is tried for up to 14 hours."""

Relay = Callable[[str, Sequence[str], bytes], Awaitable[None]]
"""(envelope's sender, recipients, message). Raises CallerError when it will never be taken, PlatformError for later."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    account: str
    sender: str
    recipients: tuple[str, ...]
    raw: bytes


class MailRoom:
    def __init__(
        self,
        tables: Tables,
        relay: Relay | None,
        *,
        sender: str,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        """`sender` is who writes when the node itself does (topics). Without a relay nothing is accepted."""
        self._tables = tables
        self._relay = relay
        self._sender = sender
        self._now = now
        self._new_id = new_id
        self.outbox = Outbox(BOX, tables, self._send, next_wait=self._next_wait, give_up=self._give_up, now=now)

    async def start(self) -> None:
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()

    async def post(self, account: str, sender: str, recipients: Sequence[str], message: EmailMessage) -> str:
        """The message's id, once it is durable. Raises CallerError."""
        for header, value in (("Date", format_datetime(localtime())), ("MIME-Version", "1.0")):
            if header not in message:
                message[header] = value
        identity = self._new_id()
        if "Message-ID" not in message:
            message["Message-ID"] = f"<{identity}@{sender.rpartition('@')[2]}>"
        return await self.post_raw(account, sender, recipients, message.as_bytes(policy=email.policy.SMTP), identity)

    async def post_raw(
        self, account: str, sender: str, recipients: Sequence[str], raw: bytes, identity: str = ""
    ) -> str:
        if self._relay is None:
            raise CallerError("MessageRejected", "This node sends no mail: its operator has named no mail.relay.")
        for address in (sender, *recipients):
            if not ADDRESS.fullmatch(address):
                raise CallerError("InvalidParameterValue", f"'{address[:200]}' is not the address of a mailbox.")
        mail = Mail(
            id=identity or self._new_id(), account=account, sender=sender, recipients=tuple(recipients), raw=raw
        )
        body, now = msgspec.msgpack.encode(mail), self._now()
        await self._tables.write(lambda connection: outbox.put(connection, BOX, LANE, body, now=now))
        self.outbox.ring(LANE)
        return mail.id

    async def write_to(self, recipient: str, subject: str, text: str) -> None:
        """From the node itself: what topics send to mailboxes."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, recipient, subject
        message.set_content(text)
        await self.post("", self._sender, [recipient], message)

    async def _send(self, parcel: Parcel) -> None:
        mail = msgspec.msgpack.decode(parcel.body, type=Mail)
        if self._relay is None:
            raise PlatformError("there is no relay any more", retry_safe=True)
        await self._relay(mail.sender, mail.recipients, mail.raw)

    async def _next_wait(self, parcel: Parcel) -> float | None:
        if self._now() - parcel.put_at > RETRIED_FOR_S:
            return None
        return min(1800.0, 5.0 * float(2 ** min(parcel.attempts - 1, 10)))

    async def _give_up(self, parcel: Parcel, reason: str) -> None:
        mail = msgspec.msgpack.decode(parcel.body, type=Mail)
        log.error(
            "mail could not be sent",
            extra={"action": "mail_dropped", "account": mail.account, "mail": mail.id, "reason": reason},
        )
