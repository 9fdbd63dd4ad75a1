"""The operations of the SNS wire (API reference, version 2010-03-31)."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.deliveries import Deliveries
from lambent.events.outbox import Outbox
from lambent.events.topics import store
from lambent.events.topics.model import (
    CONFIRMED_BY_THEMSELVES,
    PENDING,
    PROTOCOLS,
    TOPIC_NAME,
    Message,
    Subscription,
    Topic,
)
from lambent.events.topics.publishing import Publisher
from lambent.events.topics.settings import (
    check_subscription_attribute,
    check_topic_attribute,
    dead_letter_queue,
    invalid,
    not_found,
)
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Tables

PAGE = 100
_MAILBOX = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")


class Topics:
    """The operations on topics and subscriptions."""

    def __init__(
        self,
        tables: Tables,
        outbox: Outbox,
        deliveries: Deliveries,
        publisher: Publisher,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._tables = tables
        self._outbox = outbox
        self._deliveries = deliveries
        self._publisher = publisher
        self._now = now
        self._new_id = new_id

    def operations(self) -> Mapping[str, Operation]:
        return {
            "ConfirmSubscription": self.confirm_subscription,
            "CreateTopic": self.create_topic,
            "DeleteTopic": self.delete_topic,
            "GetSubscriptionAttributes": self.get_subscription_attributes,
            "GetTopicAttributes": self.get_topic_attributes,
            "ListSubscriptions": self.list_subscriptions,
            "ListSubscriptionsByTopic": self.list_subscriptions_by_topic,
            "ListTagsForResource": self.list_tags,
            "ListTopics": self.list_topics,
            "Publish": self._publisher.publish,
            "PublishBatch": self._publisher.publish_batch,
            "SetSubscriptionAttributes": self.set_subscription_attributes,
            "SetTopicAttributes": self.set_topic_attributes,
            "Subscribe": self.subscribe,
            "TagResource": self.tag,
            "Unsubscribe": self.unsubscribe,
            "UntagResource": self.untag,
        }

    async def create_topic(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, attributes = parameters["Name"], dict(parameters.get("Attributes", {}))
        is_fifo = name.endswith(".fifo")
        if not TOPIC_NAME.fullmatch(name):
            raise invalid("Topic Name")
        if (attributes.get("FifoTopic") == "true") != is_fifo:
            raise invalid("Fifo Topic names must end with .fifo and must be made with FifoTopic=true")
        for key, value in attributes.items():
            check_topic_attribute(key, value, is_fifo=is_fifo, created=False)
        tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
        arn = f"arn:aws:sns:{context.region}:{context.account}:{name}"
        topic = Topic(
            arn=arn, account=context.account, region=context.region, name=name, attributes=attributes, tags=tags
        )

        def work(connection: Connection) -> None:
            before = store.get_topic(connection, context.account, arn)
            if before is None:
                store.put_topic(connection, topic)
            elif any(before.attributes.get(key) != value for key, value in attributes.items()):
                raise invalid("Attributes Reason: Topic already exists with different attributes")
            elif tags and before.tags != tags:
                raise invalid("Tags Reason: Topic already exists with different tags")

        await self._tables.write(work)
        return {"TopicArn": arn}

    async def delete_topic(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = parameters["TopicArn"]
        await self._tables.write(lambda connection: store.delete_topic(connection, context.account, arn))
        return {}

    async def list_topics(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        after = _read_token(parameters)
        topics = await self._tables.read(
            lambda connection: store.list_topics(connection, context.account, after=after, limit=PAGE + 1)
        )
        return _page("Topics", [{"TopicArn": topic.arn} for topic in topics], [topic.arn for topic in topics])

    async def get_topic_attributes(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["TopicArn"])
        subscriptions = await self._tables.read(
            lambda connection: store.list_subscriptions(connection, context.account, topic=topic.arn)
        )
        confirmed = sum(subscription.confirmed for subscription in subscriptions)
        shown = {
            "TopicArn": topic.arn,
            "Owner": topic.account,
            "DisplayName": "",
            "SubscriptionsConfirmed": str(confirmed),
            "SubscriptionsPending": str(len(subscriptions) - confirmed),
            "SubscriptionsDeleted": "0",
            **topic.attributes,
        }
        if topic.is_fifo:
            shown.setdefault("ContentBasedDeduplication", "false")
        return {"Attributes": shown}

    async def set_topic_attributes(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, value = parameters["AttributeName"], parameters.get("AttributeValue", "")
        topic = await self._topic(context, parameters["TopicArn"])
        check_topic_attribute(name, value, is_fifo=topic.is_fifo, created=True)
        await self._change_topic(
            topic, lambda current: msgspec.structs.replace(current, attributes={**current.attributes, name: value})
        )
        return {}

    async def tag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["ResourceArn"], code="ResourceNotFound")
        added = {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}
        await self._change_topic(
            topic, lambda current: msgspec.structs.replace(current, tags={**current.tags, **added})
        )
        return {}

    async def untag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["ResourceArn"], code="ResourceNotFound")
        dropped = set(parameters["TagKeys"])
        await self._change_topic(
            topic,
            lambda current: msgspec.structs.replace(
                current, tags={key: value for key, value in current.tags.items() if key not in dropped}
            ),
        )
        return {}

    async def list_tags(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["ResourceArn"], code="ResourceNotFound")
        return {"Tags": [{"Key": key, "Value": value} for key, value in topic.tags.items()]}

    async def subscribe(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["TopicArn"])
        protocol, endpoint = parameters["Protocol"], parameters.get("Endpoint", "")
        attributes = dict(parameters.get("Attributes", {}))
        await self._check_endpoint(context, topic, protocol, endpoint)
        for name, value in attributes.items():
            check_subscription_attribute(name, value, attributes, protocol=protocol)
        if attributes.get("RedrivePolicy"):
            await self._deliveries.check(context.account, dead_letter_queue(attributes["RedrivePolicy"]))
        made = Subscription(
            arn=f"{topic.arn}:{self._new_id()}",
            topic=topic.arn,
            account=context.account,
            protocol=protocol,
            endpoint=endpoint,
            token=secrets.token_hex(64),
            attributes={name: value for name, value in attributes.items() if value},
            confirmed=protocol in CONFIRMED_BY_THEMSELVES,
        )
        request = self._ask_to_confirm(made)

        def work(connection: Connection) -> Subscription:
            for other in store.list_subscriptions(connection, context.account, topic=topic.arn):
                if (other.protocol, other.endpoint) == (protocol, endpoint):
                    if any(other.attributes.get(name) != value for name, value in made.attributes.items()):
                        raise invalid("Attributes Reason: Subscription already exists with different attributes")
                    if not other.confirmed:
                        store.send(connection, other.arn, request)
                    return other
            store.put_subscription(connection, made)
            if not made.confirmed:
                store.send(connection, made.arn, request)
            return made

        subscription = await self._tables.write(work)
        if not subscription.confirmed:
            self._outbox.ring(subscription.arn)
        shown = subscription.arn if parameters.get("ReturnSubscriptionArn") else subscription.shown_arn
        return {"SubscriptionArn": "pending confirmation" if shown == PENDING else shown}

    async def confirm_subscription(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["TopicArn"])
        token = parameters["Token"]

        def work(connection: Connection) -> Subscription:
            for subscription in store.list_subscriptions(connection, context.account, topic=topic.arn):
                if secrets.compare_digest(subscription.token.encode(), token.encode()):
                    return _confirm(connection, subscription)
            raise invalid("Token")

        return {"SubscriptionArn": (await self._tables.write(work)).arn}

    async def unsubscribe(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = parameters["SubscriptionArn"]
        if not re.fullmatch(r"arn:aws:sns:[^:]+:[0-9]{12}:[^:]+:[0-9a-f-]{36}", arn):
            raise invalid("SubscriptionArn Reason: not the ARN of a subscription")

        def work(connection: Connection) -> None:
            subscription = store.get_subscription(connection, context.account, arn)
            if subscription is not None:
                store.delete_subscription(connection, subscription)

        await self._tables.write(work)
        return {}

    async def list_subscriptions(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return await self._list_subscriptions(context, parameters, topic="")

    async def list_subscriptions_by_topic(
        self, context: RequestContext, parameters: dict[str, Any]
    ) -> Mapping[str, Any]:
        topic = await self._topic(context, parameters["TopicArn"])
        return await self._list_subscriptions(context, parameters, topic=topic.arn)

    async def get_subscription_attributes(
        self, context: RequestContext, parameters: dict[str, Any]
    ) -> Mapping[str, Any]:
        subscription = await self._subscription(context, parameters["SubscriptionArn"])
        shown = {
            "SubscriptionArn": subscription.arn,
            "TopicArn": subscription.topic,
            "Owner": subscription.account,
            "Protocol": subscription.protocol,
            "Endpoint": subscription.endpoint,
            "PendingConfirmation": "false" if subscription.confirmed else "true",
            "ConfirmationWasAuthenticated": "true" if subscription.protocol in CONFIRMED_BY_THEMSELVES else "false",
            "RawMessageDelivery": "false",
            "SubscriptionPrincipal": f"arn:aws:iam::{subscription.account}:root",
            **subscription.attributes,
        }
        if "FilterPolicy" in subscription.attributes:
            shown.setdefault("FilterPolicyScope", "MessageAttributes")
        return {"Attributes": shown}

    async def set_subscription_attributes(
        self, context: RequestContext, parameters: dict[str, Any]
    ) -> Mapping[str, Any]:
        name, value = parameters["AttributeName"], parameters.get("AttributeValue", "")
        found = await self._subscription(context, parameters["SubscriptionArn"])
        check_subscription_attribute(name, value, found.attributes, protocol=found.protocol)
        if name == "RedrivePolicy" and value:
            await self._deliveries.check(context.account, dead_letter_queue(value))

        def work(connection: Connection) -> None:
            current = store.get_subscription(connection, context.account, found.arn)
            if current is None:
                raise not_found("Subscription")
            attributes = {**current.attributes, name: value}
            kept = {key: text for key, text in attributes.items() if text}
            store.put_subscription(connection, msgspec.structs.replace(current, attributes=kept))

        await self._tables.write(work)
        return {}

    async def exists(self, account: str, arn: str) -> bool:
        return await self._tables.read(lambda connection: store.get_topic(connection, account, arn)) is not None

    async def serve_link(self, request: HttpRequest, _context: RequestContext) -> HttpResponse:
        """The links in messages: `confirm` and `unsubscribe`, opened by whoever has the message."""
        action = request.raw_path.rpartition(b"/")[2].decode("latin-1")
        query = parse_qs(request.query_string.decode("latin-1"))
        arn, token = query.get("SubscriptionArn", [""])[0], query.get("Token", [""])[0]
        account = arn.split(":")[4] if arn.count(":") >= 5 else ""

        def work(connection: Connection) -> str:
            subscription = store.get_subscription(connection, account, arn)
            if subscription is None or not secrets.compare_digest(subscription.token.encode(), token.encode()):
                raise CallerError("NotFound", "This link is no longer good.", status=404)
            if action == "confirm":
                _confirm(connection, subscription)
                return f"You are subscribed to {subscription.topic}."
            store.delete_subscription(connection, subscription)
            return f"You are no longer subscribed to {subscription.topic}."

        if request.method != "GET" or action not in ("confirm", "unsubscribe"):
            raise CallerError("NotFound", "There is nothing here.", status=404)
        said = await self._tables.write(work)
        return HttpResponse(headers=[(b"content-type", b"text/plain; charset=utf-8")], body=f"{said}\n".encode())

    def _ask_to_confirm(self, subscription: Subscription) -> Message:
        text = (
            f"You have chosen to subscribe to the topic {subscription.topic}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message."
        )
        return Message(
            id=self._new_id(),
            topic=subscription.topic,
            at=self._now(),
            bodies={"default": text},
            kind="SubscriptionConfirmation",
        )

    async def _check_endpoint(self, context: RequestContext, topic: Topic, protocol: str, endpoint: str) -> None:
        if protocol not in PROTOCOLS:
            raise invalid(f"Protocol Reason: '{protocol}' is not one of {', '.join(PROTOCOLS)}")
        if topic.is_fifo and protocol != "sqs":
            raise invalid("Protocol Reason: a FIFO topic has queues as subscriptions only")
        if protocol in ("http", "https"):
            parts = urlsplit(endpoint)
            if parts.scheme != protocol or not parts.hostname:
                raise invalid("Endpoint must match the specified protocol")
        elif protocol.startswith("email"):
            if not _MAILBOX.fullmatch(endpoint):
                raise invalid("Email address")
        else:
            if endpoint.split(":")[2:3] != [protocol]:
                raise invalid(f"Endpoint Reason: not the ARN of a target of the protocol {protocol}")
            if endpoint.endswith(".fifo") and not topic.is_fifo:
                raise invalid("Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics")
            try:
                await self._deliveries.check(context.account, endpoint)
            except CallerError as exc:
                raise invalid(f"Endpoint Reason: {exc.message}") from exc

    async def _list_subscriptions(
        self, context: RequestContext, parameters: dict[str, Any], *, topic: str
    ) -> Mapping[str, Any]:
        after = _read_token(parameters)
        found = await self._tables.read(
            lambda connection: store.list_subscriptions(
                connection, context.account, topic=topic, after=after, limit=PAGE + 1
            )
        )
        shown = [
            {
                "SubscriptionArn": subscription.shown_arn,
                "Owner": subscription.account,
                "Protocol": subscription.protocol,
                "Endpoint": subscription.endpoint,
                "TopicArn": subscription.topic,
            }
            for subscription in found
        ]
        return _page("Subscriptions", shown, [subscription.arn for subscription in found])

    async def _topic(self, context: RequestContext, arn: str, *, code: str = "NotFound") -> Topic:
        topic = await self._tables.read(lambda connection: store.get_topic(connection, context.account, arn))
        if topic is None:
            raise not_found("Topic", code)
        return topic

    async def _change_topic(self, topic: Topic, change: Callable[[Topic], Topic]) -> None:
        def work(connection: Connection) -> None:
            current = store.get_topic(connection, topic.account, topic.arn)
            if current is None:
                raise not_found("Topic")
            store.put_topic(connection, change(current))

        await self._tables.write(work)

    async def _subscription(self, context: RequestContext, arn: str) -> Subscription:
        found = await self._tables.read(lambda connection: store.get_subscription(connection, context.account, arn))
        if found is None:
            raise not_found("Subscription")
        return found


def _confirm(connection: Connection, subscription: Subscription) -> Subscription:
    confirmed = msgspec.structs.replace(subscription, confirmed=True)
    store.put_subscription(connection, confirmed)
    return confirmed


def _page(member: str, shown: list[dict[str, Any]], keys: list[str]) -> dict[str, Any]:
    if len(shown) <= PAGE:
        return {member: shown}
    token = base64.urlsafe_b64encode(keys[PAGE - 1].encode()).decode()
    return {member: shown[:PAGE], "NextToken": token}


def _read_token(parameters: dict[str, Any]) -> str:
    try:
        return base64.urlsafe_b64decode(parameters.get("NextToken", "").encode()).decode()
    except ValueError:
        raise invalid("NextToken") from None
