"""Topics from operation to endpoint, on real tables; targets, URLs and mailboxes are fakes that remember."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.events import outbox
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.outgoing import Reply
from lambent.events.topics import store
from lambent.events.topics.settings import RetryPolicy
from lambent.events.topics.topics import TopicService
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Tables
from lambent.substrate.sqlite import open_tables

ACCOUNT, OTHER = "123456789012", "999999999999"
CONTEXT = RequestContext(account=ACCOUNT, region="us-east-1", access_key="k", request_id="r", host="node:8700")
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:orders"
FIFO_QUEUE = f"{QUEUE}.fifo"
DEAD = f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:mail"
URL = "https://shop.example/hook"

ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables([outbox.SCHEMA, store.SCHEMA]),
    "sqlite": lambda folder: open_tables(folder / "events.db", [outbox.SCHEMA, store.SCHEMA]),
}


class World:
    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.now = 1_700_000_000.5
        self.taken: list[Delivery] = []
        self.posted: list[tuple[str, dict[str, str], dict[str, Any] | str]] = []
        self.mailed: list[tuple[str, str, str]] = []
        self.statuses: list[int] = []
        self.failures: list[Exception] = []
        self.targets = {QUEUE, FIFO_QUEUE, DEAD, FUNCTION}
        deliveries = Deliveries()
        for service in ("sqs", "lambda"):
            deliveries.serve(service, self._deliver, self._exists)
        self.deliveries = deliveries
        self.service = TopicService(
            tables, deliveries, self, self._mail, base_url="http://node:8700", now=lambda: self.now
        )

    async def call(self, operation: str, *, account: str = ACCOUNT, **parameters: Any) -> Mapping[str, Any]:
        context = msgspec.structs.replace(CONTEXT, account=account)
        return await self.service.operations[operation](context, parameters)

    async def topic(self, name: str = "orders", **attributes: str) -> str:
        made = await self.call("CreateTopic", Name=name, Attributes=attributes)
        return str(made["TopicArn"])

    async def subscribe(self, topic: str, protocol: str, endpoint: str, **attributes: str) -> str:
        made = await self.call(
            "Subscribe",
            TopicArn=topic,
            Protocol=protocol,
            Endpoint=endpoint,
            Attributes=attributes,
            ReturnSubscriptionArn=True,
        )
        return str(made["SubscriptionArn"])

    async def confirmed(self, topic: str, protocol: str, endpoint: str, **attributes: str) -> str:
        arn = await self.subscribe(topic, protocol, endpoint, **attributes)
        await self.sent(arn)
        await self.open(self.posted[-1][2]["SubscribeURL"] if self.posted else self.link())  # type: ignore[index]
        self.posted.clear()
        self.mailed.clear()
        return arn

    def link(self) -> str:
        return next(word for word in self.mailed[-1][2].split() if word.startswith("http"))

    async def open(self, url: str) -> str:
        parts = urlsplit(url)
        request = HttpRequest(method="GET", raw_path=parts.path.encode(), query_string=parts.query.encode(), headers=[])
        return (await self.service.serve_link(request, CONTEXT)).body.decode()

    async def publish(self, topic: str, message: str = "hello", **parameters: Any) -> Mapping[str, Any]:
        return await self.call("Publish", TopicArn=topic, Message=message, **parameters)

    async def sent(self, *lanes: str) -> None:
        async with asyncio.timeout(10):
            for lane in lanes:
                while await self.service.outbox.count(lane):
                    await asyncio.sleep(0.001)

    async def _deliver(self, delivery: Delivery) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(delivery)

    async def _exists(self, account: str, arn: str) -> bool:
        return arn in self.targets

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        raw = headers.get("x-amz-sns-rawdelivery")
        self.posted.append((url, dict(headers), body.decode() if raw else json.loads(body)))
        return Reply(self.statuses.pop(0) if self.statuses else 200, {}, b"")

    async def _mail(self, recipient: str, subject: str, text: str) -> None:
        self.mailed.append((recipient, subject, text))


@pytest.fixture(params=ADAPTERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    tables = ADAPTERS[request.param](tmp_path)
    world = World(tables)
    await world.service.start()
    yield world
    await world.service.stop()
    await tables.close()


async def test_a_topic_is_made_once_and_found_again(world: World) -> None:
    arn = await world.topic(DisplayName="Orders")
    assert arn == f"arn:aws:sns:us-east-1:{ACCOUNT}:orders"
    assert await world.topic(DisplayName="Orders") == arn
    with pytest.raises(CallerError, match="different attributes"):
        await world.topic(DisplayName="Other")
    assert await world.call("ListTopics") == {"Topics": [{"TopicArn": arn}]}
    attributes = (await world.call("GetTopicAttributes", TopicArn=arn))["Attributes"]
    assert (attributes["DisplayName"], attributes["Owner"], attributes["SubscriptionsConfirmed"]) == (
        "Orders",
        ACCOUNT,
        "0",
    )


async def test_topics_are_listed_in_pages(world: World) -> None:
    for number in range(103):
        await world.topic(f"t{number:03}")
    first = await world.call("ListTopics")
    second = await world.call("ListTopics", NextToken=first["NextToken"])
    names = [topic["TopicArn"].rpartition(":")[2] for topic in [*first["Topics"], *second["Topics"]]]
    assert names == [f"t{number:03}" for number in range(103)]
    assert "NextToken" not in second


async def test_a_function_is_given_a_record(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "lambda", FUNCTION)
    attributes = {
        "kind": {"DataType": "String", "StringValue": "new"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff"},
    }
    published = await world.publish(topic, Subject="An order", MessageAttributes=attributes)
    await world.sent(subscription)
    (delivery,) = world.taken
    (record,) = json.loads(delivery.body)["Records"]
    assert (delivery.target, delivery.source_arn) == (FUNCTION, topic)
    assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", subscription)
    sns = record["Sns"]
    assert (sns["MessageId"], sns["Message"], sns["Subject"]) == (published["MessageId"], "hello", "An order")
    assert sns["Timestamp"] == "2023-11-14T22:13:20.500Z"
    assert sns["MessageAttributes"] == {
        "kind": {"Type": "String", "Value": "new"},
        "raw": {"Type": "Binary", "Value": "/w=="},
    }


async def test_a_queue_is_given_an_envelope_or_the_message_raw(world: World) -> None:
    topic = await world.topic()
    wrapped = await world.subscribe(topic, "sqs", QUEUE)
    raw = await world.subscribe(topic, "sqs", DEAD, RawMessageDelivery="true")
    attributes = {"kind": {"DataType": "String", "StringValue": "new"}}
    await world.publish(topic, MessageAttributes=attributes)
    await world.sent(wrapped, raw)
    first, second = sorted(world.taken, key=lambda delivery: delivery.target != QUEUE)
    envelope = json.loads(first.body)
    assert (envelope["Type"], envelope["Message"], envelope["TopicArn"]) == ("Notification", "hello", topic)
    assert envelope["MessageAttributes"] == {"kind": {"Type": "String", "Value": "new"}}
    assert (second.body, second.message_attributes) == (b"hello", {"kind": "new"})


async def test_a_message_may_be_another_for_each_protocol(world: World) -> None:
    topic = await world.topic()
    to_queue = await world.subscribe(topic, "sqs", QUEUE, RawMessageDelivery="true")
    to_function = await world.subscribe(topic, "lambda", FUNCTION)
    bodies = json.dumps({"default": "all", "sqs": "queues"})
    await world.publish(topic, bodies, MessageStructure="json")
    await world.sent(to_queue, to_function)
    said = {delivery.target: delivery.body for delivery in world.taken}
    assert said[QUEUE] == b"queues"
    assert json.loads(said[FUNCTION])["Records"][0]["Sns"]["Message"] == "all"


async def test_a_url_is_asked_before_it_is_sent_anything(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "https", URL)
    await world.sent(subscription)
    url, headers, body = world.posted.pop()
    assert isinstance(body, dict)
    assert (url, headers["x-amz-sns-message-type"]) == (URL, "SubscriptionConfirmation")
    await world.publish(topic)
    assert await world.call("ListSubscriptionsByTopic", TopicArn=topic) == {
        "Subscriptions": [
            {
                "SubscriptionArn": "PendingConfirmation",
                "Owner": ACCOUNT,
                "Protocol": "https",
                "Endpoint": URL,
                "TopicArn": topic,
            }
        ]
    }
    confirmed = await world.call("ConfirmSubscription", TopicArn=topic, Token=body["Token"])
    assert confirmed == {"SubscriptionArn": subscription}
    await world.publish(topic, "now")
    await world.sent(subscription)
    ((_, headers, body),) = world.posted
    assert isinstance(body, dict)
    assert (body["Type"], body["Message"], headers["x-amz-sns-message-type"]) == ("Notification", "now", "Notification")
    assert headers["x-amz-sns-subscription-arn"] == subscription
    assert body["UnsubscribeURL"].startswith("http://node:8700/_lambent/topics/unsubscribe?")


async def test_a_mailbox_confirms_and_ends_by_links(world: World) -> None:
    topic = await world.topic(DisplayName="Orders")
    subscription = await world.subscribe(topic, "email", "ada@example.com")
    await world.sent(subscription)
    recipient, subject, _ = world.mailed[-1]
    assert (recipient, subject) == ("ada@example.com", "Confirm your subscription to Orders")
    assert await world.open(world.link()) == f"You are subscribed to {topic}.\n"
    await world.publish(topic, "shipped", Subject="News")
    await world.sent(subscription)
    recipient, subject, text = world.mailed[-1]
    assert (subject, text.splitlines()[0]) == ("News", "shipped")
    ends = world.link()
    assert await world.open(ends) == f"You are no longer subscribed to {topic}.\n"
    with pytest.raises(CallerError, match="no longer good"):
        await world.open(ends)
    assert (await world.call("ListSubscriptions"))["Subscriptions"] == []


async def test_a_link_with_another_token_is_no_good(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "email", "ada@example.com")
    await world.sent(subscription)
    for url in (world.link()[:-1] + "x", world.link().partition("&")[0], "http://node/_lambent/topics/confirm"):
        with pytest.raises(CallerError, match="no longer good"):
            await world.open(url)
    with pytest.raises(CallerError, match="Token"):
        await world.call("ConfirmSubscription", TopicArn=topic, Token="x")


async def test_a_subscription_that_is_asked_for_twice_is_one(world: World) -> None:
    topic = await world.topic()
    first = await world.subscribe(topic, "sqs", QUEUE)
    assert await world.subscribe(topic, "sqs", QUEUE) == first
    with pytest.raises(CallerError, match="different attributes"):
        await world.subscribe(topic, "sqs", QUEUE, RawMessageDelivery="true")
    counts = (await world.call("GetTopicAttributes", TopicArn=topic))["Attributes"]
    assert (counts["SubscriptionsConfirmed"], counts["SubscriptionsPending"]) == ("1", "0")


async def test_a_url_that_refuses_sends_the_message_to_the_dead_letters(world: World) -> None:
    topic = await world.topic()
    policy = json.dumps({"deadLetterTargetArn": DEAD})
    subscription = await world.confirmed(topic, "https", URL, RedrivePolicy=policy)
    world.statuses = [403]
    await world.publish(topic)
    await world.sent(subscription)
    (dead,) = world.taken
    assert (dead.target, json.loads(dead.body)["Message"]) == (DEAD, "hello")


async def test_a_url_that_is_down_is_tried_as_its_policy_says(world: World) -> None:
    topic = await world.topic()
    policy = json.dumps({"healthyRetryPolicy": {"numRetries": 2, "numNoDelayRetries": 2}})
    subscription = await world.confirmed(topic, "https", URL, DeliveryPolicy=policy)
    world.statuses = [500, 429, 200]
    await world.publish(topic)
    await world.sent(subscription)
    assert len(world.posted) == 3
    world.posted.clear()
    world.statuses = [500] * 4
    await world.publish(topic)
    await world.sent(subscription)
    assert len(world.posted) == 3


async def test_a_queue_that_is_gone_or_busy(world: World) -> None:
    topic = await world.topic()
    policy = json.dumps({"deadLetterTargetArn": DEAD})
    subscription = await world.subscribe(topic, "sqs", QUEUE, RedrivePolicy=policy)
    world.failures = [PlatformError("full", retry_safe=True)] * 2
    await world.publish(topic, "busy")
    await world.sent(subscription)
    assert world.taken.pop().target == QUEUE
    world.failures = [CallerError("QueueDoesNotExist", "gone")]
    await world.publish(topic, "gone")
    await world.sent(subscription)
    assert [delivery.target for delivery in world.taken] == [DEAD]


async def test_what_was_published_before_the_node_died_is_sent_by_the_next(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "sqs", QUEUE)
    await world.service.stop()
    await world.publish(topic)
    assert world.taken == []
    successor = World(world.tables)
    await successor.service.start()
    await successor.sent(subscription)
    await successor.service.stop()
    assert len(successor.taken) == 1


async def test_a_topic_that_is_deleted_takes_its_subscriptions_and_messages_along(world: World) -> None:
    topic = await world.topic()
    subscription = await world.confirmed(topic, "https", URL, DeliveryPolicy='{"healthyRetryPolicy":{"numRetries":5}}')
    world.statuses = [500]
    await world.publish(topic)
    async with asyncio.timeout(10):
        while not world.posted:
            await asyncio.sleep(0.001)
    await world.call("DeleteTopic", TopicArn=topic)
    assert await world.service.outbox.count(subscription) == 0
    assert (await world.call("ListSubscriptions"))["Subscriptions"] == []
    with pytest.raises(CallerError, match="Topic does not exist") as caught:
        await world.publish(topic)
    assert (caught.value.code, caught.value.status) == ("NotFound", 404)
    await world.call("DeleteTopic", TopicArn=topic)


async def test_a_fifo_topic_numbers_orders_and_deduplicates(world: World) -> None:
    topic = await world.topic("orders.fifo", FifoTopic="true", ContentBasedDeduplication="true")
    subscription = await world.subscribe(topic, "sqs", FIFO_QUEUE, RawMessageDelivery="true")
    world.failures = [PlatformError("busy")] * 2
    first = await world.publish(topic, "1", MessageGroupId="a")
    again = await world.publish(topic, "1", MessageGroupId="a")
    await world.publish(topic, "2", MessageGroupId="a")
    third = await world.publish(topic, "3", MessageGroupId="a", MessageDeduplicationId="x")
    assert first == again
    assert first["SequenceNumber"] < third["SequenceNumber"]
    await world.sent(f"{subscription}|a")
    assert [delivery.body for delivery in world.taken] == [b"1", b"2", b"3"]
    assert world.taken[2].attributes == {"MessageGroupId": "a", "MessageDeduplicationId": "x"}
    world.now += store.DEDUPLICATION_S
    assert (await world.publish(topic, "1", MessageGroupId="a"))["MessageId"] != first["MessageId"]


async def test_a_batch_publishes_what_it_can(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "sqs", QUEUE, RawMessageDelivery="true")
    entries = [{"Id": "a", "Message": "1"}, {"Id": "b", "Message": "2", "Subject": " bad"}, {"Id": "c", "Message": "3"}]
    answer = await world.call("PublishBatch", TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["a", "c"]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("b", "InvalidParameter", True)
    await world.sent(subscription)
    assert sorted(delivery.body for delivery in world.taken) == [b"1", b"3"]


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(number), "Message": "x"} for number in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "Message": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "Message": "x"}], "InvalidBatchEntryId"),
        ([{"Id": "a", "Message": "x" * 262_000}, {"Id": "b", "Message": "x" * 262_000}], "BatchRequestTooLong"),
    ],
)
async def test_a_batch_that_cannot_be(world: World, entries: list[dict[str, str]], code: str) -> None:
    topic = await world.topic()
    with pytest.raises(CallerError) as caught:
        await world.call("PublishBatch", TopicArn=topic, PublishBatchRequestEntries=entries)
    assert caught.value.code == code


async def test_records_of_other_modules_are_published(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "sqs", QUEUE, RawMessageDelivery="true")
    delivery = Delivery(
        account=ACCOUNT, region="us-east-1", target=topic, body=b'{"a":1}', message_attributes={"k": "v"}
    )
    await world.deliveries.check(ACCOUNT, topic)
    await world.deliveries.deliver(delivery)
    await world.sent(subscription)
    assert [(taken.body, taken.message_attributes) for taken in world.taken] == [(b'{"a":1}', {"k": "v"})]
    with pytest.raises(CallerError, match="does not exist"):
        await world.deliveries.deliver(msgspec.structs.replace(delivery, target=topic + "2"))


async def test_an_account_sees_and_reaches_nothing_of_anothers_topics(world: World) -> None:
    topic = await world.topic()
    subscription = await world.subscribe(topic, "sqs", QUEUE)
    assert await world.call("ListTopics", account=OTHER) == {"Topics": []}
    assert await world.call("ListSubscriptions", account=OTHER) == {"Subscriptions": []}
    for operation, parameters in {
        "Publish": {"TopicArn": topic, "Message": "x"},
        "GetTopicAttributes": {"TopicArn": topic},
        "GetSubscriptionAttributes": {"SubscriptionArn": subscription},
        "Subscribe": {"TopicArn": topic, "Protocol": "sqs", "Endpoint": QUEUE},
        "ListTagsForResource": {"ResourceArn": topic},
    }.items():
        with pytest.raises(CallerError, match="does not exist"):
            await world.call(operation, account=OTHER, **parameters)
    for operation, parameters in {
        "DeleteTopic": {"TopicArn": topic},
        "Unsubscribe": {"SubscriptionArn": subscription},
    }.items():
        await world.call(operation, account=OTHER, **parameters)
    assert len((await world.call("ListSubscriptions"))["Subscriptions"]) == 1


async def test_tags_and_attributes_are_changed(world: World) -> None:
    topic = await world.topic()
    await world.call("TagResource", ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    await world.call("UntagResource", ResourceArn=topic, TagKeys=["a"])
    assert await world.call("ListTagsForResource", ResourceArn=topic) == {"Tags": [{"Key": "b", "Value": "2"}]}
    await world.call("SetTopicAttributes", TopicArn=topic, AttributeName="DisplayName", AttributeValue="New")
    assert (await world.call("GetTopicAttributes", TopicArn=topic))["Attributes"]["DisplayName"] == "New"
    subscription = await world.subscribe(topic, "sqs", QUEUE)
    for value in ("true", "false"):
        await world.call(
            "SetSubscriptionAttributes",
            SubscriptionArn=subscription,
            AttributeName="RawMessageDelivery",
            AttributeValue=value,
        )
        shown = await world.call("GetSubscriptionAttributes", SubscriptionArn=subscription)
        assert shown["Attributes"]["RawMessageDelivery"] == value


@pytest.mark.parametrize(
    ("operation", "parameters", "message"),
    [
        ("CreateTopic", {"Name": "a b"}, "Topic Name"),
        ("CreateTopic", {"Name": "a.fifo"}, "FifoTopic=true"),
        ("CreateTopic", {"Name": "a", "Attributes": {"FifoTopic": "true"}}, "must end with .fifo"),
        ("CreateTopic", {"Name": "a", "Attributes": {"KmsMasterKeyId": "k"}}, "no key management"),
        ("CreateTopic", {"Name": "a", "Attributes": {"Nonesuch": "k"}}, "Nonesuch"),
        ("CreateTopic", {"Name": "a", "Attributes": {"ContentBasedDeduplication": "true"}}, "FIFO topics"),
        ("Subscribe", {"Protocol": "sms", "Endpoint": "+49"}, "'sms' is not one of"),
        ("Subscribe", {"Protocol": "http", "Endpoint": URL}, "match the specified protocol"),
        ("Subscribe", {"Protocol": "email", "Endpoint": "ada"}, "Email address"),
        ("Subscribe", {"Protocol": "sqs", "Endpoint": QUEUE + "2"}, "does not exist"),
        ("Subscribe", {"Protocol": "sqs", "Endpoint": FUNCTION}, "protocol sqs"),
        ("Subscribe", {"Protocol": "sqs", "Endpoint": FIFO_QUEUE}, "standard SNS topics"),
        (
            "Subscribe",
            {"Protocol": "lambda", "Endpoint": FUNCTION, "Attributes": {"RawMessageDelivery": "true"}},
            "Raw",
        ),
        (
            "Subscribe",
            {"Protocol": "sqs", "Endpoint": QUEUE, "Attributes": {"RedrivePolicy": "{}"}},
            "deadLetterTargetArn",
        ),
        ("Subscribe", {"Protocol": "sqs", "Endpoint": QUEUE, "Attributes": {"DeliveryPolicy": "{}"}}, "DeliveryPolicy"),
        ("Publish", {"Message": ""}, "Empty message"),
        ("Publish", {"Message": "x" * 262_145}, "too long"),
        ("Publish", {"Message": "x", "Subject": "a\nb"}, "Subject"),
        ("Publish", {"Message": "x", "Subject": "a\rBcc: b"}, "Subject"),
        ("Publish", {"Message": "x", "Subject": "a\0b"}, "Subject"),
        ("Publish", {"Message": "x", "MessageStructure": "json"}, "failed to parse"),
        ("Publish", {"Message": "{}", "MessageStructure": "json"}, "No default entry"),
        ("Publish", {"Message": "x", "MessageDeduplicationId": "d"}, "FIFO topics"),
        ("Publish", {"Message": "x", "MessageAttributes": {"a": {"DataType": "Number"}}}, "'a' must have a value"),
        ("Unsubscribe", {"SubscriptionArn": "x"}, "SubscriptionArn"),
        ("SetTopicAttributes", {"AttributeName": "FifoTopic", "AttributeValue": "true"}, "FifoTopic"),
    ],
)
async def test_what_cannot_be_is_refused(
    world: World, operation: str, parameters: dict[str, Any], message: str
) -> None:
    topic = await world.topic()
    if operation != "CreateTopic":
        parameters = {"TopicArn": topic, **parameters}
    with pytest.raises(CallerError, match=message) as caught:
        await world.call(operation, **parameters)
    assert caught.value.code == "InvalidParameter"
    assert len((await world.call("ListTopics"))["Topics"]) == 1
    assert (await world.call("ListSubscriptions"))["Subscriptions"] == []


def test_the_waits_of_a_retry_policy() -> None:
    policy = RetryPolicy(
        num_retries=7,
        min_delay_target=1,
        max_delay_target=9,
        num_no_delay_retries=1,
        num_min_delay_retries=1,
        num_max_delay_retries=1,
    )
    assert [policy.wait_s(attempts) for attempts in range(1, 9)] == [
        0,
        1,
        1,
        3.6666666666666665,
        6.333333333333333,
        9,
        9,
        None,
    ]
    assert [RetryPolicy().wait_s(attempts) for attempts in range(1, 5)] == [20, 20, 20, None]


async def test_a_subscription_takes_what_its_filter_policy_says(world: World) -> None:
    topic = await world.topic()
    by_attribute = await world.subscribe(topic, "sqs", QUEUE, FilterPolicy='{"kind": ["new", {"prefix": "re"}]}')
    by_body = await world.subscribe(
        topic, "sqs", DEAD, FilterPolicy='{"total": [{"numeric": [">", 100]}]}', FilterPolicyScope="MessageBody"
    )
    kind = {"kind": {"DataType": "String", "StringValue": "returned"}}
    await world.publish(topic, '{"total": 50}', MessageAttributes=kind)
    await world.publish(topic, '{"total": 500}')
    await world.sent(by_attribute, by_body)
    taken = {delivery.target: json.loads(json.loads(delivery.body)["Message"])["total"] for delivery in world.taken}
    assert (taken, len(world.taken)) == ({QUEUE: 50, DEAD: 500}, 2)
    shown = (await world.call("GetSubscriptionAttributes", SubscriptionArn=by_attribute))["Attributes"]
    assert shown["FilterPolicyScope"] == "MessageAttributes"
    with pytest.raises(CallerError) as caught:
        await world.call(
            "SetSubscriptionAttributes",
            SubscriptionArn=by_attribute,
            AttributeName="FilterPolicy",
            AttributeValue='{"kind": "new"}',
        )
    assert caught.value.code == "InvalidParameter"
