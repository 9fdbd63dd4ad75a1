"""Queues by their operations, on real tables with a virtual clock."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lambent.awsapi.context import RequestContext
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.queues import moves, store
from lambent.events.queues.queues import QueueService
from lambent.model.errors import CallerError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Connection, Tables
from lambent.substrate.sqlite import open_tables

ACCOUNT, OTHER = "123456789012", "999999999999"
CONTEXT = RequestContext(account=ACCOUNT, region="us-east-1", access_key="k", request_id="r", host="node:8700")
SCHEMAS = [store.SCHEMA, moves.SCHEMA]
ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables(SCHEMAS),
    "sqlite": lambda folder: open_tables(folder / "events.db", SCHEMAS),
}
FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


class World:
    def __init__(self, tables: Tables, now: float = 1_700_000_000.0) -> None:
        self.tables = tables
        self.now = now
        self.deliveries = Deliveries()
        self.service = QueueService(tables, self.deliveries, now=lambda: self.now)

    async def call(self, operation: str, *, account: str = ACCOUNT, **parameters: Any) -> Mapping[str, Any]:
        context = msgspec.structs.replace(CONTEXT, account=account)
        return await self.service.operations[operation](context, parameters)

    async def queue(self, name: str = "orders", **attributes: str) -> str:
        return str((await self.call("CreateQueue", QueueName=name, Attributes=attributes))["QueueUrl"])

    async def send(self, url: str, body: str = "hello", **parameters: Any) -> Mapping[str, Any]:
        return await self.call("SendMessage", QueueUrl=url, MessageBody=body, **parameters)

    async def receive(self, url: str, most: int = 10, **parameters: Any) -> list[Any]:
        answer = await self.call(
            "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=most, AttributeNames=["All"], **parameters
        )
        return list(answer.get("Messages", []))

    async def bodies(self, url: str, most: int = 10, **parameters: Any) -> list[str]:
        return [message["Body"] for message in await self.receive(url, most, **parameters)]

    async def delete(self, url: str, receipt: str) -> None:
        await self.call("DeleteMessage", QueueUrl=url, ReceiptHandle=receipt)

    async def counts(self, url: str) -> list[int]:
        """Visible, in flight, delayed."""
        answer = await self.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
        names = ("", "NotVisible", "Delayed")
        return [int(answer["Attributes"][f"ApproximateNumberOfMessages{name}"]) for name in names]

    async def dead_letters(self, name: str = "orders", most: int = 2, **attributes: str) -> tuple[str, str]:
        """A queue and the queue of its dead letters."""
        suffix = ".fifo" if name.endswith(".fifo") else ""
        dead = await self.queue(f"dead{suffix}", **attributes)
        policy = {"deadLetterTargetArn": arn(f"dead{suffix}"), "maxReceiveCount": most}
        return await self.queue(name, RedrivePolicy=json.dumps(policy), **attributes), dead


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


@pytest.fixture(params=ADAPTERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    tables = ADAPTERS[request.param](tmp_path)
    world = World(tables)
    await world.service.start()
    yield world
    await world.service.stop()
    await tables.close()


async def test_a_message_is_received_deleted_and_gone(world: World) -> None:
    url = await world.queue()
    assert url == f"http://node:8700/{ACCOUNT}/orders"
    sent = await world.send(url, "one")
    (message,) = await world.receive(url)
    assert (message["Body"], message["MessageId"]) == ("one", sent["MessageId"])
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == "f97c5d29941bfb1b2fdab0874906ab82"
    assert message["Attributes"] == {
        "SenderId": ACCOUNT,
        "SentTimestamp": "1700000000000",
        "ApproximateReceiveCount": "1",
        "ApproximateFirstReceiveTimestamp": "1700000000000",
    }
    await world.delete(url, message["ReceiptHandle"])
    world.now += 100
    assert await world.receive(url) == []


async def test_a_message_in_flight_comes_again_after_its_visibility_timeout(world: World) -> None:
    url = await world.queue(VisibilityTimeout="10")
    await world.send(url)
    (first,) = await world.receive(url)
    world.now += 9.9
    assert await world.receive(url) == []
    assert await world.counts(url) == [0, 1, 0]
    world.now += 0.1
    (second,) = await world.receive(url)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["Attributes"]["ApproximateFirstReceiveTimestamp"] == "1700000000000"
    await world.delete(url, first["ReceiptHandle"])
    world.now += 10
    assert len(await world.receive(url)) == 1, "a receipt dies with the next receive"


async def test_visibility_is_changed_while_in_flight_only(world: World) -> None:
    url = await world.queue(VisibilityTimeout="10")
    await world.send(url)
    (message,) = await world.receive(url)
    change = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    await world.call("ChangeMessageVisibility", VisibilityTimeout=100, **change)
    world.now += 50
    assert await world.receive(url) == []
    await world.call("ChangeMessageVisibility", VisibilityTimeout=0, **change)
    assert len(await world.receive(url, VisibilityTimeout=0)) == 1
    with pytest.raises(CallerError) as caught:
        await world.call("ChangeMessageVisibility", VisibilityTimeout=1, **change)
    assert caught.value.code == "MessageNotInflight"


async def test_delays_of_a_queue_and_of_a_message(world: World) -> None:
    url = await world.queue(DelaySeconds="5")
    await world.send(url, "queue's")
    await world.send(url, "own", DelaySeconds=2)
    await world.send(url, "none", DelaySeconds=0)
    assert await world.counts(url) == [1, 0, 2]
    assert await world.bodies(url) == ["none"]
    world.now += 2
    assert await world.bodies(url) == ["own"]
    world.now += 3
    assert await world.bodies(url) == ["queue's"]


async def test_messages_are_kept_for_the_retention_period(world: World) -> None:
    url = await world.queue(MessageRetentionPeriod="60")
    await world.send(url, "old")
    world.now += 30
    await world.send(url, "new")
    world.now += 30
    assert await world.counts(url) == [1, 0, 0]
    assert await world.bodies(url) == ["new"]
    await world.call("SetQueueAttributes", QueueUrl=url, Attributes={"MessageRetentionPeriod": "120"})
    world.now += 60
    assert await world.bodies(url) == ["new"]


async def test_a_waiting_receive_is_woken_by_what_is_sent(world: World) -> None:
    url = await world.queue()
    waiting = [asyncio.ensure_future(world.bodies(url, 1, WaitTimeSeconds=20)) for _ in range(3)]
    await asyncio.sleep(0.01)
    await world.send(url, "one")
    await world.send(url, "two")
    async with asyncio.timeout(10):
        done, left = await asyncio.wait(waiting[:2])
        assert sorted(body for task in done for body in task.result()) == ["one", "two"]
    assert not left
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_receive_that_is_broken_off_takes_nothing_and_wakes_the_next(world: World) -> None:
    url = await world.queue()
    first = asyncio.ensure_future(world.bodies(url, WaitTimeSeconds=20))
    second = asyncio.ensure_future(world.bodies(url, WaitTimeSeconds=20))
    await asyncio.sleep(0.01)
    world.service.bells.ring(1)
    first.cancel()
    await world.send(url, "one")
    async with asyncio.timeout(10):
        assert await second == ["one"]


async def test_a_receive_waits_for_a_message_that_becomes_visible_by_itself(tmp_path: Path) -> None:
    tables = MemoryTables(SCHEMAS)
    service = QueueService(tables, Deliveries())
    world = World(tables)
    world.service.operations = service.operations
    url = await world.queue()
    await world.send(url, "late", DelaySeconds=1)
    async with asyncio.timeout(10):
        assert await world.bodies(url, WaitTimeSeconds=5) == ["late"]


async def test_message_attributes_come_back_with_the_digest_that_sdks_check(world: World) -> None:
    url = await world.queue()
    attributes = {
        "kind": {"DataType": "String", "StringValue": "new"},
        "kind.of": {"DataType": "Number.int", "StringValue": "-1.5e3"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = await world.send(url, MessageAttributes=attributes)
    for wanted, expected in {
        "All": attributes,
        "kind.*": {"kind": attributes["kind"], "kind.of": attributes["kind.of"]},
        "raw": {"raw": attributes["raw"]},
    }.items():
        (message,) = await world.receive(url, MessageAttributeNames=[wanted], VisibilityTimeout=0)
        assert message["MessageAttributes"] == expected
        assert (message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]) is (wanted == "All")
    (message,) = await world.receive(url)
    assert "MessageAttributes" not in message


async def test_a_trace_header_travels_with_its_message(world: World) -> None:
    url = await world.queue()
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-0-0"}}
    assert "MD5OfMessageSystemAttributes" in await world.send(url, MessageSystemAttributes=header)
    (message,) = await world.receive(url)
    assert message["Attributes"]["AWSTraceHeader"] == "Root=1-0-0"


async def test_a_message_received_too_often_is_a_dead_letter(world: World) -> None:
    url, dead = await world.dead_letters()
    await world.send(url, "poison")
    await world.send(url, "good")
    for _ in range(2):
        assert sorted(await world.bodies(url, VisibilityTimeout=1)) == ["good", "poison"]
        world.now += 1
    assert await world.bodies(url) == []
    letters = await world.receive(dead)
    assert sorted(letter["Body"] for letter in letters) == ["good", "poison"]
    assert letters[0]["Attributes"]["DeadLetterQueueSourceArn"] == arn("orders")
    assert letters[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    assert (await world.call("ListDeadLetterSourceQueues", QueueUrl=dead))["queueUrls"] == [url]


async def test_dead_letters_are_taken_back_to_where_they_came_from(world: World) -> None:
    url, dead = await world.dead_letters(most=1)
    for number in range(120):
        await world.send(url, str(number))
    while await world.receive(url, VisibilityTimeout=0):
        pass
    assert (await world.counts(dead))[0] == 120
    handle = (await world.call("StartMessageMoveTask", SourceArn=arn("dead")))["TaskHandle"]
    with pytest.raises(CallerError, match="already a task running"):
        await world.call("StartMessageMoveTask", SourceArn=arn("dead"))
    async with asyncio.timeout(10):
        while (task := (await world.call("ListMessageMoveTasks", SourceArn=arn("dead")))["Results"][0])[
            "Status"
        ] == "RUNNING":
            await asyncio.sleep(0.01)
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 120)
    assert (await world.counts(url), await world.counts(dead)) == ([120, 0, 0], [0, 0, 0])
    with pytest.raises(CallerError, match="no such task"):
        await world.call("CancelMessageMoveTask", TaskHandle=handle)


async def test_a_move_goes_on_after_a_restart_and_ends_when_it_is_cancelled(world: World) -> None:
    url, dead = await world.dead_letters(most=1)
    for number in range(10):
        await world.send(url, str(number))
    while await world.receive(url, VisibilityTimeout=0):
        pass
    started = await world.call("StartMessageMoveTask", SourceArn=arn("dead"), MaxNumberOfMessagesPerSecond=1)
    await world.service.stop()
    successor = World(world.tables)
    await successor.service.start()
    async with asyncio.timeout(10):
        while not (await successor.counts(url))[0]:
            await asyncio.sleep(0.01)
    await successor.call("CancelMessageMoveTask", TaskHandle=started["TaskHandle"])
    (task,) = (await successor.call("ListMessageMoveTasks", SourceArn=arn("dead")))["Results"]
    assert task["Status"] == "CANCELLED"
    await successor.service.stop()
    assert sum(await successor.counts(url)) + sum(await successor.counts(dead)) == 10


async def test_a_fifo_queue_keeps_the_order_within_each_group(world: World) -> None:
    url = await world.queue("orders.fifo", **FIFO)
    for number in range(6):
        await world.send(url, str(number), MessageGroupId="ab"[number % 2])
    messages = await world.receive(url, 4)
    assert [message["Body"] for message in messages] == ["0", "2", "4", "1"]
    assert await world.bodies(url) == [], "both groups are in flight"
    for message in messages[:3]:
        await world.delete(url, message["ReceiptHandle"])
    assert await world.bodies(url) == []
    await world.delete(url, messages[3]["ReceiptHandle"])
    assert await world.bodies(url) == ["3", "5"]
    numbers = [message["Attributes"]["SequenceNumber"] for message in messages]
    assert sorted(numbers) == sorted(set(numbers))


async def test_a_group_whose_messages_come_again_begins_with_the_first(world: World) -> None:
    url = await world.queue("orders.fifo", VisibilityTimeout="10", **FIFO)
    for number in range(3):
        await world.send(url, str(number), MessageGroupId="a")
    first, *_ = await world.receive(url, 3)
    await world.call("ChangeMessageVisibility", QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    assert await world.bodies(url) == [], "others of the group are still in flight"
    world.now += 10
    assert await world.bodies(url) == ["0", "1", "2"]


async def test_what_is_repeated_within_five_minutes_is_sent_once(world: World) -> None:
    url = await world.queue("orders.fifo", **FIFO)
    first = await world.send(url, "one", MessageGroupId="a")
    assert await world.send(url, "one", MessageGroupId="b") == first
    other = await world.send(url, "one", MessageGroupId="a", MessageDeduplicationId="own")
    assert other["MessageId"] != first["MessageId"]
    world.now += store.DEDUPLICATION_S
    assert (await world.send(url, "one", MessageGroupId="a"))["MessageId"] != first["MessageId"]
    scoped = await world.queue("scoped.fifo", DeduplicationScope="messageGroup", **FIFO)
    sent = [await world.send(scoped, "one", MessageGroupId=group) for group in "aab"]
    assert sent[0] == sent[1] != sent[2]


async def test_dead_letters_of_a_fifo_queue_free_their_group(world: World) -> None:
    url, dead = await world.dead_letters("orders.fifo", most=1, **FIFO)
    await world.send(url, "poison", MessageGroupId="a")
    await world.send(url, "good", MessageGroupId="a")
    assert await world.bodies(url, 1, VisibilityTimeout=5) == ["poison"]
    world.now += 5
    assert await world.bodies(url, 1) == ["good"]
    assert await world.bodies(dead) == ["poison"]


async def test_batches_do_what_can_be_done(world: World) -> None:
    url = await world.queue()
    entries = [
        {"Id": "a", "MessageBody": "1"},
        {"Id": "b", "MessageBody": "\x00"},
        {"Id": "c", "MessageBody": "3", "DelaySeconds": 1000},
    ]
    answer = await world.call("SendMessageBatch", QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["a"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [
        ("b", "InvalidMessageContents"),
        ("c", "InvalidParameterValue"),
    ]
    (message,) = await world.receive(url)
    receipts = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "x"}]
    changes = [{**entry, "VisibilityTimeout": 5} for entry in receipts]
    for operation, given in {"ChangeMessageVisibilityBatch": changes, "DeleteMessageBatch": receipts}.items():
        answer = await world.call(operation, QueueUrl=url, Entries=given)
        assert answer["Successful"] == [{"Id": "a"}]
        assert [entry["Code"] for entry in answer["Failed"]] == ["ReceiptHandleIsInvalid"]
    assert await world.counts(url) == [0, 0, 0]


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(number), "MessageBody": "x"} for number in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "InvalidBatchEntryId"),
        ([{"Id": str(number), "MessageBody": "x" * 600_000} for number in range(2)], "BatchRequestTooLong"),
    ],
)
async def test_a_batch_that_cannot_be(world: World, entries: list[dict[str, str]], code: str) -> None:
    url = await world.queue()
    with pytest.raises(CallerError) as caught:
        await world.call("SendMessageBatch", QueueUrl=url, Entries=entries)
    assert caught.value.code == code
    assert caught.value.headers["x-amzn-query-error"] == f"AWS.SimpleQueueService.{code};Sender"


async def test_a_queue_is_purged_once_a_minute(world: World) -> None:
    url = await world.queue()
    await world.send(url)
    await world.call("PurgeQueue", QueueUrl=url)
    assert await world.counts(url) == [0, 0, 0]
    with pytest.raises(CallerError) as caught:
        await world.call("PurgeQueue", QueueUrl=url)
    assert caught.value.code == "PurgeQueueInProgress"
    world.now += 60
    await world.call("PurgeQueue", QueueUrl=url)


async def test_queues_are_made_once_listed_tagged_and_deleted(world: World) -> None:
    for name in ("a1", "a2", "b1"):
        await world.queue(name)
    assert await world.queue("a1") == f"http://node:8700/{ACCOUNT}/a1"
    with pytest.raises(CallerError) as caught:
        await world.queue("a1", DelaySeconds="1")
    assert caught.value.code == "QueueNameExists"
    first = await world.call("ListQueues", QueueNamePrefix="a", MaxResults=1)
    second = await world.call("ListQueues", QueueNamePrefix="a", MaxResults=1, NextToken=first["NextToken"])
    names = [url.rpartition("/")[2] for url in first["QueueUrls"] + second["QueueUrls"]]
    assert (names, "NextToken" in second) == (["a1", "a2"], False)
    url = (await world.call("GetQueueUrl", QueueName="a1"))["QueueUrl"]
    await world.call("TagQueue", QueueUrl=url, Tags={"a": "1", "b": "2"})
    await world.call("UntagQueue", QueueUrl=url, TagKeys=["a"])
    assert await world.call("ListQueueTags", QueueUrl=url) == {"Tags": {"b": "2"}}
    await world.send(url)
    await world.call("DeleteQueue", QueueUrl=url)
    with pytest.raises(CallerError, match="does not exist") as caught:
        await world.receive(url)
    assert caught.value.headers["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert await world.counts(await world.queue("a1")) == [0, 0, 0]


async def test_an_account_sees_and_reaches_nothing_of_anothers_queues(world: World) -> None:
    url = await world.queue()
    await world.send(url)
    (message,) = await world.receive(url, VisibilityTimeout=0)
    assert await world.call("ListQueues", account=OTHER) == {}
    calls: dict[str, dict[str, Any]] = {
        "ReceiveMessage": {},
        "SendMessage": {"MessageBody": "x"},
        "DeleteMessage": {"ReceiptHandle": message["ReceiptHandle"]},
        "GetQueueAttributes": {"AttributeNames": ["All"]},
        "SetQueueAttributes": {"Attributes": {"DelaySeconds": "1"}},
        "PurgeQueue": {},
        "DeleteQueue": {},
        "ListQueueTags": {},
    }
    for operation, parameters in calls.items():
        with pytest.raises(CallerError) as caught:
            await world.call(operation, account=OTHER, QueueUrl=url, **parameters)
        assert caught.value.code == "QueueDoesNotExist"
    with pytest.raises(CallerError):
        await world.call("GetQueueUrl", account=OTHER, QueueName="orders", QueueOwnerAWSAccountId=ACCOUNT)
    mine = await world.call("CreateQueue", account=OTHER, QueueName="orders")
    with pytest.raises(CallerError) as caught:
        await world.call(
            "DeleteMessage", account=OTHER, QueueUrl=mine["QueueUrl"], ReceiptHandle=message["ReceiptHandle"]
        )
    assert caught.value.code == "ReceiptHandleIsInvalid"
    assert len(await world.receive(url)) == 1


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("CreateQueue", {"QueueName": "a b"}, "InvalidParameterValue"),
        ("CreateQueue", {"QueueName": "a.fifo"}, "InvalidParameterValue"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"FifoQueue": "true"}}, "InvalidAttributeName"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"Nonesuch": "1"}}, "InvalidAttributeName"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"DelaySeconds": "901"}}, "InvalidAttributeValue"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"DelaySeconds": "one"}}, "InvalidAttributeValue"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"KmsMasterKeyId": "k"}}, "UnsupportedOperation"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"RedrivePolicy": "{"}}, "InvalidAttributeValue"),
        ("CreateQueue", {"QueueName": "a", "Attributes": {"RedrivePolicy": "{}"}}, "InvalidParameterValue"),
        (
            "CreateQueue",
            {
                "QueueName": "a",
                "Attributes": {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn("none"), "maxReceiveCount": 1})},
            },
            "InvalidParameterValue",
        ),
        ("SendMessage", {"MessageBody": ""}, "MissingParameter"),
        ("SendMessage", {"MessageBody": "\ufffe"}, "InvalidMessageContents"),
        ("SendMessage", {"MessageBody": "x" * 1_048_577}, "InvalidParameterValue"),
        ("SendMessage", {"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ("SendMessage", {"MessageBody": "x", "MessageDeduplicationId": "d"}, "InvalidParameterValue"),
        (
            "SendMessage",
            {"MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Float"}}},
            "InvalidParameterValue",
        ),
        (
            "SendMessage",
            {"MessageBody": "x", "MessageAttributes": {"aws.a": {"DataType": "String", "StringValue": "1"}}},
            "InvalidParameterValue",
        ),
        (
            "SendMessage",
            {"MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "x"}}},
            "InvalidParameterValue",
        ),
        ("ReceiveMessage", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("ReceiveMessage", {"WaitTimeSeconds": 21}, "InvalidParameterValue"),
        ("DeleteMessage", {"ReceiptHandle": "x"}, "ReceiptHandleIsInvalid"),
        ("DeleteMessage", {"ReceiptHandle": "ff-1-0"}, "ReceiptHandleIsInvalid"),
        ("ChangeMessageVisibility", {"ReceiptHandle": "1-1-0", "VisibilityTimeout": 43_201}, "InvalidParameterValue"),
        ("StartMessageMoveTask", {"SourceArn": arn("orders")}, "InvalidParameterValue"),
        ("StartMessageMoveTask", {"SourceArn": arn("none")}, "ResourceNotFoundException"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, operation: str, parameters: dict[str, Any], code: str) -> None:
    url = await world.queue()
    with pytest.raises(CallerError) as caught:
        await world.call(operation, **{"QueueUrl": url, **parameters})
    assert caught.value.code == code
    assert await world.counts(url) == [0, 0, 0]
    assert len((await world.call("ListQueues"))["QueueUrls"]) == 1


async def test_a_dead_letter_queue_may_refuse_its_sources(world: World) -> None:
    await world.queue(
        "dead", RedriveAllowPolicy=json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn("a")]})
    )
    policy = json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": "3"})
    await world.queue("a", RedrivePolicy=policy)
    with pytest.raises(CallerError, match="RedriveAllowPolicy"):
        await world.queue("b", RedrivePolicy=policy)


async def test_permissions_are_statements_of_the_policy(world: World) -> None:
    url = await world.queue()
    given: dict[str, Any] = {"QueueUrl": url, "Label": "partners", "AWSAccountIds": [OTHER], "Actions": ["SendMessage"]}
    await world.call("AddPermission", **given)
    attributes = (await world.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"]))["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert (statement["Sid"], statement["Action"], statement["Resource"]) == (
        "partners",
        ["SQS:SendMessage"],
        arn("orders"),
    )
    with pytest.raises(CallerError, match="Already exists"):
        await world.call("AddPermission", **given)
    await world.call("RemovePermission", QueueUrl=url, Label="partners")
    assert await world.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"]) == {}
    with pytest.raises(CallerError, match="can't find label"):
        await world.call("RemovePermission", QueueUrl=url, Label="partners")


async def test_an_attribute_that_does_not_exist_cannot_be_asked_for(world: World) -> None:
    url = await world.queue()
    with pytest.raises(CallerError) as caught:
        await world.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["Nonesuch"])
    assert caught.value.code == "InvalidAttributeName"


async def test_records_of_other_modules_are_sent(world: World) -> None:
    url, fifo = await world.queue(), await world.queue("orders.fifo", **FIFO)
    for name in ("orders", "orders.fifo"):
        await world.deliveries.check(ACCOUNT, arn(name))
        await world.deliveries.deliver(
            Delivery(
                account=ACCOUNT,
                region="us-east-1",
                target=arn(name),
                body=b'{"a":1}',
                message_attributes={"ErrorCode": "200"},
                trace_id="Root=1-0-0",
                lineage="a:1",
            )
        )
    (message,) = await world.receive(url, MessageAttributeNames=["All"])
    assert message["MessageAttributes"] == {"ErrorCode": {"DataType": "String", "StringValue": "200"}}
    assert message["Attributes"]["AWSTraceHeader"] == "Root=1-0-0;Lineage=a:1"
    assert await world.bodies(fifo) == ['{"a":1}']
    with pytest.raises(CallerError, match="does not exist"):
        await world.deliveries.check(ACCOUNT, arn("none"))


async def test_what_is_in_flight_stays_so_over_a_restart(tmp_path: Path) -> None:
    tables = open_tables(tmp_path / "events.db", SCHEMAS)
    world = World(tables)
    url = await world.queue(VisibilityTimeout="30")
    await world.send(url)
    (message,) = await world.receive(url)
    await tables.close()
    tables = open_tables(tmp_path / "events.db", SCHEMAS)
    world = World(tables, world.now + 29)
    assert await world.receive(url) == []
    await world.delete(url, message["ReceiptHandle"])
    world.now += 100
    assert await world.receive(url) == []
    await tables.close()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["standard", "fifo"])
async def test_any_course_of_events_agrees_with_a_simple_model(seed: int, kind: str) -> None:
    """No message is lost, none is in flight twice, none comes back after its deletion, and groups keep their order."""
    choose = random.Random(seed)
    world = World(MemoryTables(SCHEMAS))
    url = (
        await world.queue("q.fifo", VisibilityTimeout="10", **FIFO)
        if kind == "fifo"
        else await world.queue(VisibilityTimeout="10")
    )
    groups: dict[str, list[str]] = {}
    held: dict[str, tuple[str, float]] = {}
    """Body: receipt and until when it is in flight."""
    sent, deleted = 0, set()
    for _ in range(600):
        action = choose.choice(["send", "send", "receive", "receive", "delete", "wait", "visibility"])
        held = {body: (receipt, until) for body, (receipt, until) in held.items() if until > world.now}
        if action == "send":
            group, body = choose.choice("abc"), str(sent)
            sent += 1
            groups.setdefault(group, []).append(body)
            await world.send(url, body, **({"MessageGroupId": group} if kind == "fifo" else {}))
        elif action == "receive":
            busy = {group for group, bodies in groups.items() if set(bodies) & held.keys()}
            got: dict[str, list[str]] = {}
            for message in await world.receive(url, choose.randint(1, 10)):
                body = message["Body"]
                group = next(group for group, bodies in groups.items() if body in bodies)
                assert body not in held
                assert body not in deleted
                assert kind == "standard" or group not in busy
                got.setdefault(group, []).append(body)
                held[body] = (message["ReceiptHandle"], world.now + 10)
            if kind == "fifo":
                for group, bodies in got.items():
                    left = [body for body in groups[group] if body not in deleted]
                    assert bodies == left[: len(bodies)]
        elif action == "delete" and held:
            body = choose.choice(sorted(held))
            await world.delete(url, held.pop(body)[0])
            deleted.add(body)
        elif action == "visibility" and held:
            body = choose.choice(sorted(held))
            receipt, seconds = held[body][0], choose.choice([0, 5, 20])
            await world.call("ChangeMessageVisibility", QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=seconds)
            held[body] = (receipt, world.now + seconds)
        elif action == "wait":
            world.now += choose.choice([1, 4, 11])
    while sum(await world.counts(url)):
        world.now += 30
        for message in await world.receive(url):
            deleted.add(message["Body"])
            await world.delete(url, message["ReceiptHandle"])
    assert deleted == {str(number) for number in range(sent)}


async def test_what_is_sent_while_a_receive_looks_is_not_missed(world: World) -> None:
    """The bell rings after the look at the queue, and before anybody waits for it."""
    url, read = await world.queue(), world.tables.read

    async def read_then_send(work: Callable[[Connection], Any]) -> Any:
        world.tables.read = read  # type: ignore[method-assign]
        looked = await read(work)
        await world.send(url, "meanwhile")
        return looked

    queue = await read(lambda connection: store.get_queue(connection, ACCOUNT, "orders"))
    assert queue is not None
    world.tables.read = read_then_send  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        taken = await world.service.queues.take(queue, most=1, visibility_s=30, wait_s=3600)
    assert [message.body for message in taken] == ["meanwhile"]


async def test_whoever_waits_for_dead_letters_is_woken_when_one_comes(world: World) -> None:
    url, dead = await world.dead_letters(most=1)
    await world.send(url, "poison")
    await world.receive(url)
    world.now += 31
    waiting = asyncio.ensure_future(world.bodies(dead, WaitTimeSeconds=20))
    await asyncio.sleep(0.05)
    assert await world.receive(url) == []
    async with asyncio.timeout(10):
        assert await waiting == ["poison"]


async def test_dead_letters_are_kept_as_long_as_their_own_queue_says(world: World) -> None:
    dead = await world.queue("dead", MessageRetentionPeriod="1209600")
    policy = json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1})
    url = await world.queue("short", MessageRetentionPeriod="3600", RedrivePolicy=policy)
    await world.send(url)
    await world.receive(url)
    world.now += 31
    assert await world.receive(url) == []
    world.now += 4000
    assert await world.counts(dead) == [1, 0, 0]


async def test_more_than_is_swept_at_once_does_not_outlive_its_retention(world: World) -> None:
    url = await world.queue("orders.fifo", MessageRetentionPeriod="60", **FIFO)
    for number in range(store.SWEEP + 20):
        await world.send(url, str(number), MessageGroupId="g")
    world.now += 61
    assert await world.receive(url) == []


async def test_what_nobody_receives_is_removed_as_more_is_sent(world: World) -> None:
    url = await world.queue(MessageRetentionPeriod="60")
    for _ in range(20):
        await world.send(url)
    world.now += 61
    await world.send(url)
    query = "SELECT count(*) FROM queues_messages"
    assert await world.tables.read(lambda connection: connection.execute(query).get) == 1


async def test_delayed_messages_are_not_in_flight(world: World) -> None:
    url = await world.queue()
    await world.send(url, DelaySeconds=900)
    queue = await world.tables.read(lambda connection: store.get_queue(connection, ACCOUNT, "orders"))
    assert queue is not None
    assert await world.tables.read(lambda connection: store.count_in_flight(connection, queue, world.now, 10)) == 0


async def test_a_receive_that_hides_nothing_gives_no_message_twice(world: World) -> None:
    url, dead = await world.dead_letters(most=2)
    await world.send(url, "old")
    for _ in range(2):
        await world.receive(url, VisibilityTimeout=0)
    await world.send(url, "new")
    assert await world.bodies(url, VisibilityTimeout=0) == ["new"]
    assert (await world.counts(url), await world.counts(dead)) == ([1, 0, 0], [1, 0, 0])


async def test_an_attribute_may_rely_on_one_that_was_set_before(world: World) -> None:
    url = await world.queue("orders.fifo", DeduplicationScope="messageGroup", **FIFO)
    await world.call("SetQueueAttributes", QueueUrl=url, Attributes={"FifoThroughputLimit": "perMessageGroupId"})
    with pytest.raises(CallerError, match="needs DeduplicationScope"):
        await world.call("SetQueueAttributes", QueueUrl=url, Attributes={"DeduplicationScope": "queue"})


async def test_the_attributes_of_a_batch_count(world: World) -> None:
    attributes = {"k": {"DataType": "String", "StringValue": "x" * 600_000}}
    entries = [{"Id": one, "MessageBody": "b", "MessageAttributes": attributes} for one in ("a", "b")]
    with pytest.raises(CallerError) as refused:
        await world.call("SendMessageBatch", QueueUrl=await world.queue(), Entries=entries)
    assert refused.value.code == "BatchRequestTooLong"
