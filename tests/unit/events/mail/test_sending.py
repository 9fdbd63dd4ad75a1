"""Mail that is sent: to a real SMTP server, and to files."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from lambent.awsapi.context import RequestContext
from lambent.events import outbox
from lambent.events.deliveries import Deliveries
from lambent.events.mail import store
from lambent.events.mail.api import MailOperations
from lambent.events.mail.sending import LANE, RETRIED_FOR_S, MailRoom, Relay
from lambent.model.errors import CallerError, OperatorError
from lambent.node.mail_relay import MailFiles, SmtpRelay
from lambent.substrate.memory import MemoryTables

CONTEXT = RequestContext(account="123456789012", region="us-east-1", access_key="k", request_id="r")


class Postbox:
    """A mail server that keeps what it takes; `answers` are given first."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.answers: list[str] = []
        self.port = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.answers:
            return self.answers.pop(0)
        self.envelopes.append(envelope)
        return "250 OK"

    def messages(self) -> list[EmailMessage]:
        parse = email.message_from_bytes
        return [parse(envelope.original_content, policy=email.policy.default) for envelope in self.envelopes]


@pytest.fixture
async def postbox() -> AsyncIterator[Postbox]:
    box = Postbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, hostname="mx"), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    yield box
    server.close()
    await server.wait_closed()


class World:
    def __init__(self, relay: Relay | None) -> None:
        self.now = 1_700_000_000.0
        tables = MemoryTables([outbox.SCHEMA, store.SCHEMA])
        self.room = MailRoom(tables, relay, sender="node@example.com", now=lambda: self.now)
        self.operations = MailOperations(tables, self.room, Deliveries()).operations()

    async def call(self, operation: str, **parameters: Any) -> str:
        return str((await self.operations[operation](CONTEXT, parameters))["MessageId"])

    async def sent(self, *, later_s: float = 0.0) -> None:
        async with asyncio.timeout(10):
            while await self.room.outbox.count(LANE):
                self.now += later_s
                self.room.outbox.ring(LANE)
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(postbox: Postbox) -> AsyncIterator[World]:
    world = World(SmtpRelay(f"smtp://127.0.0.1:{postbox.port}"))
    await world.room.start()
    yield world
    await world.room.stop()


LETTER = {
    "Source": "Shop <shop@example.com>",
    "Destination": {"ToAddresses": ["Ada <ada@example.org>"], "BccAddresses": ["boss@example.com"]},
    "Message": {
        "Subject": {"Data": "Welcome, Ägidius"},
        "Body": {"Text": {"Data": "Hello."}, "Html": {"Data": "<b>Hello.</b>"}},
    },
}


async def test_a_letter_is_received_by_a_real_server(world: World, postbox: Postbox) -> None:
    identity = await world.call("SendEmail", **LETTER)
    await world.sent()
    (envelope,) = postbox.envelopes
    (received,) = postbox.messages()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("shop@example.com", ["ada@example.org", "boss@example.com"])
    assert (received["subject"], received["from"], received["to"]) == (
        "Welcome, Ägidius",
        "Shop <shop@example.com>",
        "Ada <ada@example.org>",
    )
    assert received["message-id"] == f"<{identity}@example.com>"
    assert "boss" not in received.as_string()
    body = received.get_body(("plain",))
    assert body is not None
    assert body.get_content().split() == ["Hello."]


async def test_a_raw_message_goes_to_its_own_recipients_and_hides_the_blind_ones(
    world: World, postbox: Postbox
) -> None:
    raw = b"From: a@example.com\r\nTo: b@example.org\r\nBcc: c@example.org\r\nSubject: raw\r\n\r\nHi\r\n"
    await world.call("SendRawEmail", RawMessage={"Data": raw})
    await world.sent()
    (envelope,) = postbox.envelopes
    assert envelope.rcpt_tos == ["b@example.org", "c@example.org"]
    assert b"c@example.org" not in envelope.original_content


async def test_a_relay_that_is_busy_is_asked_again(world: World, postbox: Postbox) -> None:
    postbox.answers = ["451 busy", "421 later"]
    await world.call("SendEmail", **LETTER)
    await world.sent(later_s=10)
    assert len(postbox.envelopes) == 1


async def test_what_a_relay_refuses_is_dropped_and_said(
    world: World, postbox: Postbox, caplog: pytest.LogCaptureFixture
) -> None:
    postbox.answers = ["554 no"]
    await world.call("SendEmail", **LETTER)
    await world.sent()
    assert postbox.envelopes == []
    assert "mail could not be sent" in caplog.text


async def test_mail_is_tried_for_fourteen_hours(caplog: pytest.LogCaptureFixture) -> None:
    world = World(SmtpRelay("smtp://127.0.0.1:1"))
    await world.call("SendEmail", **LETTER)
    began = world.now
    await world.sent(later_s=600)
    assert world.now - began > RETRIED_FOR_S
    assert "mail could not be sent" in caplog.text
    await world.room.stop()


async def test_a_relay_with_a_password_is_never_told_it_in_the_clear(postbox: Postbox) -> None:
    relay = SmtpRelay(f"smtp://me:secret@127.0.0.1:{postbox.port}")
    with pytest.raises(Exception, match="STARTTLS"):
        await relay("a@example.com", ["b@example.org"], b"\r\nHi\r\n")
    assert postbox.envelopes == []


async def test_topics_write_with_the_address_of_the_node(world: World, postbox: Postbox) -> None:
    await world.room.write_to("ada@example.org", "Subject", "Text")
    await world.sent()
    (received,) = postbox.messages()
    assert (received["from"], received["to"], received.get_content().strip()) == (
        "node@example.com",
        "ada@example.org",
        "Text",
    )


async def test_without_a_relay_mail_is_refused_at_once() -> None:
    with pytest.raises(CallerError, match=r"no mail\.relay") as caught:
        await World(None).call("SendEmail", **LETTER)
    assert caught.value.code == "MessageRejected"


async def test_a_node_for_trying_out_writes_mail_to_files(tmp_path: Path) -> None:
    world = World(MailFiles(tmp_path / "mail"))
    await world.call("SendEmail", **LETTER)
    await world.sent()
    (file,) = (tmp_path / "mail").iterdir()
    assert file.suffix == ".eml"
    lines = file.read_bytes().split(b"\r\n")
    assert lines[:2] == [b"X-Envelope-From: shop@example.com", b"X-Envelope-To: ada@example.org, boss@example.com"]
    await world.room.stop()


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("SendEmail", {**LETTER, "Source": "shop\r\nBcc: x@example.com"}),
        ("SendEmail", {**LETTER, "Source": "nobody"}),
        ("SendEmail", {**LETTER, "Destination": {}}),
        ("SendEmail", {**LETTER, "Destination": {"ToAddresses": ["a@example.com\r\nBcc: b@example.com"]}}),
        ("SendEmail", {**LETTER, "Destination": {"ToAddresses": [f"a{n}@example.com" for n in range(51)]}}),
        ("SendEmail", {**LETTER, "Message": {"Subject": {"Data": "a\r\nBcc: x@y.z"}, "Body": {"Text": {"Data": ""}}}}),
        ("SendEmail", {**LETTER, "Message": {"Subject": {"Data": "a"}, "Body": {}}}),
        ("SendRawEmail", {"RawMessage": {"Data": b""}}),
        ("SendRawEmail", {"RawMessage": {"Data": b"From: a@example.com\r\n\r\n"}}),
        ("SendRawEmail", {"RawMessage": {"Data": b"x" * 10_485_761}}),
    ],
)
async def test_letters_that_cannot_be_are_refused(world: World, operation: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(CallerError) as caught:
        await world.call(operation, **parameters)
    assert caught.value.code == "InvalidParameterValue"
    assert await world.room.outbox.count(LANE) == 0


@pytest.mark.parametrize("url", ["", "mail.example.com", "http://mail.example.com", "smtp://"])
def test_a_relay_that_is_none_is_one_line_for_the_operator(url: str) -> None:
    with pytest.raises(OperatorError, match=r"mail\.relay must look like"):
        SmtpRelay(url)
