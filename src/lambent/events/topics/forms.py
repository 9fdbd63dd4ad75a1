"""A message as each kind of endpoint is sent it (developer guide, "Parsing Amazon SNS message formats")."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.events.topics.model import Message, Subscription, show_attributes


def write_record(message: Message, subscription: Subscription, links: Links) -> bytes:
    """What a function is given."""
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription.arn,
        "Sns": {
            "Type": message.kind,
            "MessageId": message.id,
            "TopicArn": message.topic,
            "Subject": message.subject or None,
            "Message": message.body_for("lambda"),
            "Timestamp": show_time(message.at),
            "SignatureVersion": "1",
            "Signature": "",
            "SigningCertUrl": "",
            "UnsubscribeUrl": links.unsubscribe(subscription),
            "MessageAttributes": show_attributes(message.attributes),
        },
    }
    return msgspec.json.encode({"Records": [record]})


def write_envelope(message: Message, subscription: Subscription, links: Links) -> bytes:
    """What a queue, a URL or a mailbox is given, unless it takes messages raw."""
    envelope: dict[str, Any] = {
        "Type": message.kind,
        "MessageId": message.id,
        "TopicArn": message.topic,
        "Message": message.body_for(subscription.protocol),
        "Timestamp": show_time(message.at),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
    }
    if message.subject:
        envelope["Subject"] = message.subject
    if message.sequence_number:
        envelope["SequenceNumber"] = message.sequence_number
    if message.kind == "Notification":
        envelope["UnsubscribeURL"] = links.unsubscribe(subscription)
    else:
        envelope |= {"Token": subscription.token, "SubscribeURL": links.confirm(subscription)}
    if message.attributes:
        envelope["MessageAttributes"] = show_attributes(message.attributes)
    return msgspec.json.encode(envelope)


def http_headers(message: Message, subscription: Subscription, *, raw: bool) -> dict[str, str]:
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": message.kind,
        "x-amz-sns-message-id": message.id,
        "x-amz-sns-topic-arn": message.topic,
    }
    if message.kind == "Notification":
        headers["x-amz-sns-subscription-arn"] = subscription.arn
    if raw:
        headers["x-amz-sns-rawdelivery"] = "true"
    return headers


def write_mail(message: Message, subscription: Subscription, links: Links, topic_name: str) -> tuple[str, str]:
    """Subject and text."""
    if message.kind != "Notification":
        text = (
            f"You have chosen to subscribe to the topic:\n{message.topic}\n\n"
            f"To confirm this subscription, open this address:\n{links.confirm(subscription)}\n\n"
            "If it was not you, do nothing: you will not be written to again.\n"
        )
        return f"Confirm your subscription to {topic_name}", text
    if subscription.protocol == "email-json":
        return message.subject or topic_name, write_envelope(message, subscription, links).decode()
    text = (
        f"{message.body_for('email')}\n\n--\n"
        f"To stop receiving notifications from this topic, open this address:\n{links.unsubscribe(subscription)}\n"
    )
    return message.subject or topic_name, text


class Links:
    """Addresses at this node that somebody who only has the message can open. `base` is the node's own address."""

    PATH = "/_lambent/topics"

    def __init__(self, base: str) -> None:
        self._base = base

    def confirm(self, subscription: Subscription) -> str:
        return f"{self._base}{self.PATH}/confirm?SubscriptionArn={subscription.arn}&Token={subscription.token}"

    def unsubscribe(self, subscription: Subscription) -> str:
        return f"{self._base}{self.PATH}/unsubscribe?SubscriptionArn={subscription.arn}&Token={subscription.token}"


def show_time(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
