"""Mail that arrives over SMTP, from a real client at a real server, with the rules of real operations."""

from __future__ import annotations

import asyncio
import email.policy
import json
import smtplib
from collections.abc import AsyncIterator, Callable, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lambent.awsapi.context import RequestContext
from lambent.events import outbox
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.mail import rules, store
from lambent.events.mail.api import MailOperations
from lambent.events.mail.desk import MailDesk
from lambent.events.mail.sending import MailRoom
from lambent.events.mail.smtp import SmtpReceiver
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Tables
from lambent.substrate.sqlite import open_tables

ACCOUNT, OTHER = "123456789012", "999999999999"
CONTEXT = RequestContext(account=ACCOUNT, region="us-east-1", access_key="k", request_id="r")
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:orders"
TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:arrived"
ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables([outbox.SCHEMA, store.SCHEMA]),
    "sqlite": lambda folder: open_tables(folder / "events.db", [outbox.SCHEMA, store.SCHEMA]),
}


class World:
    def __init__(self, tables: Tables) -> None:
        self.taken: list[Delivery] = []
        self.objects: dict[tuple[str, str, str], bytes] = {}
        self.failures: list[Exception] = []
        deliveries = Deliveries()
        for service in ("lambda", "sns"):
            deliveries.serve(service, self._deliver, self._exists)
        room = MailRoom(tables, None, sender="node@localhost")
        self.operations = MailOperations(tables, room, deliveries).operations()
        desk = MailDesk(tables, deliveries, self._put_object)
        self.receiver = SmtpReceiver(desk, host="127.0.0.1", port=0, hostname="mx.example.com", max_bytes=100_000)

    async def call(self, operation: str, *, account: str = ACCOUNT, **parameters: Any) -> Mapping[str, Any]:
        return await self.operations[operation](msgspec.structs.replace(CONTEXT, account=account), parameters)

    async def rule(
        self, *actions: dict[str, Any], recipients: tuple[str, ...] = ("orders@example.com",), **more: Any
    ) -> None:
        """The active set's next rule, before those that it has."""
        if not await self.call("DescribeActiveReceiptRuleSet"):
            await self.call("CreateReceiptRuleSet", RuleSetName="main")
            await self.call("SetActiveReceiptRuleSet", RuleSetName="main")
        name = more.pop("Name", "rule")
        rule = {"Name": name, "Enabled": True, "Recipients": list(recipients), "Actions": list(actions), **more}
        await self.call("CreateReceiptRule", RuleSetName="main", Rule=rule)

    async def send(
        self, *recipients: str, raw: bytes = b"", sender: str = "ada@example.org"
    ) -> tuple[int, bytes] | dict[str, tuple[int, bytes]]:
        """What the server says in the end: of the message, or of each recipient that was refused."""
        return await asyncio.to_thread(self._send, recipients or ("orders@example.com",), raw or message(), sender)

    def _send(self, recipients: tuple[str, ...], raw: bytes, sender: str) -> Any:
        with smtplib.SMTP("127.0.0.1", self.receiver.port, timeout=10) as session:
            session.ehlo()
            session.mail(sender)
            answers = {recipient: session.rcpt(recipient) for recipient in recipients}
            if any(code != 250 for code, _ in answers.values()):
                return {recipient: answer for recipient, answer in answers.items() if answer[0] != 250}
            return session.data(raw)

    async def _deliver(self, delivery: Delivery) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(delivery)

    async def _exists(self, account: str, arn: str) -> bool:
        return arn in (FUNCTION, TOPIC)

    async def _put_object(self, account: str, bucket: str, key: str, data: bytes) -> None:
        self.objects[account, bucket, key] = data


def message(**headers: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Ada <ada@example.org>", "orders@example.com", "An order: Überraschung"
    for name, value in headers.items():
        made[name] = value
    made.set_content("One of each, please.\n.\nA line with a dot.")
    return made.as_bytes(policy=email.policy.SMTP)


@pytest.fixture(params=ADAPTERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    tables = ADAPTERS[request.param](tmp_path)
    world = World(tables)
    await world.receiver.start()
    yield world
    await world.receiver.stop()
    await tables.close()


TO_FUNCTION = {"LambdaAction": {"FunctionArn": FUNCTION, "InvocationType": "Event"}}


async def test_a_function_is_told_of_a_message(world: World) -> None:
    await world.rule(TO_FUNCTION)
    answer = await world.send()
    assert isinstance(answer, tuple)
    code, text = answer
    assert code == 250
    (delivery,) = world.taken
    (record,) = json.loads(delivery.body)["Records"]
    assert (delivery.target, record["eventSource"], record["eventVersion"]) == (FUNCTION, "aws:ses", "1.0")
    mail, receipt = record["ses"]["mail"], record["ses"]["receipt"]
    assert text.decode().split()[-1] == mail["messageId"]
    assert (mail["source"], mail["destination"]) == ("ada@example.org", ["orders@example.com"])
    assert mail["commonHeaders"] == {
        "returnPath": "ada@example.org",
        "from": ["Ada <ada@example.org>"],
        "to": ["orders@example.com"],
        "subject": "An order: Überraschung",
    }
    assert {"name": "Subject", "value": "An order: Überraschung"} in mail["headers"]
    assert receipt["recipients"] == ["orders@example.com"]
    assert receipt["action"] == {"type": "Lambda", "functionArn": FUNCTION, "invocationType": "Event"}
    assert receipt["spamVerdict"] == {"status": "DISABLED"}


async def test_nothing_is_relayed(world: World) -> None:
    await world.rule(TO_FUNCTION)
    refused = await world.send("orders@example.com", "bob@elsewhere.org", "other@example.com")
    assert isinstance(refused, dict)
    assert {address: answer[0] for address, answer in refused.items()} == {
        "bob@elsewhere.org": 550,
        "other@example.com": 550,
    }
    assert world.taken == []


async def test_without_rules_nothing_is_received(world: World) -> None:
    refused = await world.send()
    assert isinstance(refused, dict)
    await world.rule(TO_FUNCTION, Enabled=False)
    assert isinstance(await world.send(), dict)
    await world.call("SetActiveReceiptRuleSet")
    assert isinstance(await world.send(), dict)


async def test_the_message_as_it_came_lies_in_a_bucket_with_what_rules_put_in_front(world: World) -> None:
    await world.rule(
        {"AddHeaderAction": {"HeaderName": "X-Seen", "HeaderValue": "yes"}},
        {"S3Action": {"BucketName": "mail", "ObjectKeyPrefix": "in/"}},
        TO_FUNCTION,
    )
    answer = await world.send()
    assert isinstance(answer, tuple)
    _, text = answer
    identity = text.decode().split()[-1]
    stored = world.objects[ACCOUNT, "mail", f"in/{identity}"]
    assert stored.startswith(b"X-Seen: yes\r\nFrom: Ada <ada@example.org>\r\n")
    assert stored.endswith(b"One of each, please.\r\n.\r\nA line with a dot.\r\n")


async def test_a_topic_is_told_with_the_content(world: World) -> None:
    await world.rule({"SNSAction": {"TopicArn": TOPIC, "Encoding": "UTF-8"}})
    await world.send()
    (delivery,) = world.taken
    told = json.loads(delivery.body)
    assert (delivery.target, told["notificationType"]) == (TOPIC, "Received")
    assert "One of each, please." in told["content"]


async def test_rules_act_in_order_until_one_says_stop(world: World) -> None:
    await world.rule(TO_FUNCTION, Name="last", recipients=("example.com",))
    await world.rule({"SNSAction": {"TopicArn": TOPIC}}, {"StopAction": {"Scope": "RuleSet"}}, Name="first")
    await world.send()
    assert [delivery.target for delivery in world.taken] == [TOPIC]
    await world.send("other@example.com")
    assert [delivery.target for delivery in world.taken] == [TOPIC, FUNCTION]


async def test_a_rule_bounces(world: World) -> None:
    await world.rule({"BounceAction": {"SmtpReplyCode": "550", "Message": "We moved", "Sender": "a@example.com"}})
    assert await world.send() == (550, b"We moved")


async def test_what_could_not_be_handed_over_is_to_be_sent_again(world: World) -> None:
    await world.rule(TO_FUNCTION)
    world.failures = [PlatformError("full", retry_safe=True)]
    answer = await world.send()
    assert isinstance(answer, tuple)
    assert answer[0] == 451
    answer = await world.send()
    assert isinstance(answer, tuple)
    assert answer[0] == 250
    world.failures = [CallerError("ResourceNotFoundException", "the function is gone")]
    answer = await world.send()
    assert isinstance(answer, tuple)
    assert answer[0] == 554


async def test_a_message_that_is_too_large_is_refused(world: World) -> None:
    await world.rule(TO_FUNCTION)
    answer = await world.send(raw=message() + b"x\r\n" * 40_000)
    assert isinstance(answer, tuple)
    assert answer[0] == 552
    assert world.taken == []


async def test_a_rule_that_requires_encryption_takes_nothing_that_came_without(world: World) -> None:
    await world.rule(TO_FUNCTION, TlsPolicy="Require")
    assert isinstance(await world.send(), dict)


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"no headers at all", b"\xff\xfe\r\n\r\nbytes", b"Subject: =?bad?=\r\n\r\n"]
)
async def test_odd_messages_are_received_like_others(world: World, raw: bytes) -> None:
    await world.rule(TO_FUNCTION)
    answer = await world.send(raw=raw, sender="")
    assert isinstance(answer, tuple)
    assert answer[0] == 250
    assert len(world.taken) == 1


async def test_mail_for_an_address_belongs_to_the_account_that_named_it_first(world: World) -> None:
    await world.rule(TO_FUNCTION, recipients=("example.com",))
    await world.call("CreateReceiptRuleSet", RuleSetName="theirs", account=OTHER)
    for recipient in ("example.com", "orders@example.com", "EXAMPLE.com"):
        rule = {"Name": "r", "Recipients": [recipient]}
        with pytest.raises(CallerError, match="another account"):
            await world.call("CreateReceiptRule", RuleSetName="theirs", Rule=rule, account=OTHER)
    assert (await world.call("ListReceiptRuleSets", account=OTHER))["RuleSets"][0]["Name"] == "theirs"
    with pytest.raises(CallerError, match="does not exist"):
        await world.call("DescribeReceiptRuleSet", RuleSetName="main", account=OTHER)


async def test_rules_are_described_changed_and_deleted(world: World) -> None:
    await world.rule(TO_FUNCTION)
    rule = {"Name": "rule", "Recipients": [".example.com"], "Actions": [], "Enabled": False, "TlsPolicy": "Require"}
    await world.call("UpdateReceiptRule", RuleSetName="main", Rule=rule)
    shown = (await world.call("DescribeReceiptRule", RuleSetName="main", RuleName="rule"))["Rule"]
    assert shown == {**rule, "ScanEnabled": False}
    with pytest.raises(CallerError, match="active rule set"):
        await world.call("DeleteReceiptRuleSet", RuleSetName="main")
    await world.call("DeleteReceiptRule", RuleSetName="main", RuleName="rule")
    await world.call("SetActiveReceiptRuleSet")
    await world.call("DeleteReceiptRuleSet", RuleSetName="main")
    assert await world.call("ListReceiptRuleSets") == {"RuleSets": []}


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"Recipients": []}, "InvalidParameterValue"),
        ({"Recipients": ["a b@example.com"]}, "InvalidParameterValue"),
        ({"Name": "a b"}, "InvalidParameterValue"),
        ({"Actions": [{"LambdaAction": {"FunctionArn": FUNCTION + "2"}}]}, "InvalidLambdaFunction"),
        ({"Actions": [{"SNSAction": {"TopicArn": TOPIC + "2"}}]}, "InvalidSnsTopic"),
        (
            {"Actions": [{"LambdaAction": {"FunctionArn": FUNCTION, "InvocationType": "RequestResponse"}}]},
            "InvalidParameterValue",
        ),
        ({"Actions": [{"WorkmailAction": {"OrganizationArn": "x"}}]}, "InvalidParameterValue"),
        ({"Actions": [{"AddHeaderAction": {"HeaderName": "X", "HeaderValue": "a\r\nb"}}]}, "InvalidParameterValue"),
        (
            {"Actions": [{"BounceAction": {"SmtpReplyCode": "250", "Message": "x", "Sender": "a@b.c"}}]},
            "InvalidParameterValue",
        ),
        ({"Actions": [{}]}, "InvalidParameterValue"),
    ],
)
async def test_rules_that_cannot_be_are_refused(world: World, rule: dict[str, Any], code: str) -> None:
    await world.call("CreateReceiptRuleSet", RuleSetName="main")
    with pytest.raises(CallerError) as caught:
        await world.call("CreateReceiptRule", RuleSetName="main", Rule={"Name": "r", "Recipients": ["a@b.c"], **rule})
    assert caught.value.code == code
    assert (await world.call("DescribeReceiptRuleSet", RuleSetName="main"))["Rules"] == []


async def test_a_port_that_is_taken_is_one_line_for_the_operator(world: World) -> None:
    second = SmtpReceiver(
        world.receiver._handler._desk, host="127.0.0.1", port=world.receiver.port, hostname="x", max_bytes=1
    )
    with pytest.raises(OperatorError, match=r"choose another mail\.port"):
        await second.start()


@pytest.mark.parametrize(
    ("recipient", "address", "holds"),
    [
        ("orders@example.com", "Orders@Example.com", True),
        ("orders@example.com", "orders+2026@example.com", True),
        ("orders@example.com", "reorders@example.com", False),
        ("example.com", "any@example.com", True),
        ("example.com", "any@sub.example.com", False),
        (".example.com", "any@sub.example.com", True),
        (".example.com", "any@example.com", False),
        ("example.com", "any@notexample.com", False),
        (".example.com", "any@notexample.com", False),
    ],
)
def test_which_addresses_a_recipient_names(recipient: str, address: str, holds: bool) -> None:
    assert rules.matches(recipient, address) is holds
