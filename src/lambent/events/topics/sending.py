"""Taking a message from the outbox to a subscription's endpoint, and what becomes of one that does not get there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from lambent.events import outbox
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.outbox import Parcel
from lambent.events.outgoing import Outgoing
from lambent.events.topics import forms, store
from lambent.events.topics.forms import Links
from lambent.events.topics.model import CONFIRMED_BY_THEMSELVES, Message, Subscription
from lambent.events.topics.settings import dead_letter_queue, read_retry_policy
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.ports import Tables

log = logging.getLogger(__name__)

HTTP_TIMEOUT_S = 15.0
SendMail = Callable[[str, str, str], Awaitable[None]]
"""(recipient, subject, text). Raises CallerError when mail can never be sent there, PlatformError to try again."""


class Sender:
    """`send` and `give_up` of the topics' outbox."""

    def __init__(
        self, tables: Tables, deliveries: Deliveries, outgoing: Outgoing, send_mail: SendMail, links: Links
    ) -> None:
        self._tables = tables
        self._deliveries = deliveries
        self._outgoing = outgoing
        self._send_mail = send_mail
        self._links = links
        self._senders: Mapping[str, Callable[[Message, Subscription], Awaitable[None]]] = {
            "lambda": self._to_function,
            "sqs": self._to_queue,
            "http": self._to_url,
            "https": self._to_url,
            "email": self._to_mailbox,
            "email-json": self._to_mailbox,
        }

    async def send(self, parcel: Parcel) -> None:
        subscription = await self._find(parcel)
        if subscription is not None:
            await self._senders[subscription.protocol](_decode(parcel), subscription)

    async def give_up(self, parcel: Parcel, reason: str) -> None:
        """To the subscription's dead-letter queue; without one the message is gone, and the log says so."""
        subscription = await self._find(parcel)
        if subscription is None:
            return
        message = _decode(parcel)
        said = {
            "action": "message_dropped",
            "subscription": subscription.arn,
            "message_id": message.id,
            "reason": reason,
        }
        policy = subscription.attributes.get("RedrivePolicy")
        if not policy or message.kind != "Notification":
            log.warning("message dropped", extra=said)
            return
        try:
            await self._deliveries.deliver(self._address_queue(message, subscription, dead_letter_queue(policy)))
        except CallerError as exc:
            log.warning("message dropped, and so its dead letter", extra={**said, "dead_letter": exc.message})

    async def next_wait(self, parcel: Parcel) -> float | None:
        """Developer guide, "Amazon SNS message delivery retries"."""
        subscription = await self._find(parcel)
        if subscription is None:
            return None
        if subscription.protocol.startswith("email"):
            return wait_for_mail_s(parcel.attempts)
        if subscription.protocol in CONFIRMED_BY_THEMSELVES:
            return wait_for_own_s(parcel.attempts)
        policy = subscription.attributes.get("DeliveryPolicy") or await self._policy_of_topic(subscription)
        return read_retry_policy(policy or "{}").wait_s(parcel.attempts)

    async def _find(self, parcel: Parcel) -> Subscription | None:
        arn = parcel.lane.partition(outbox.SEPARATOR)[0]
        account = arn.split(":")[4]
        return await self._tables.read(lambda connection: store.get_subscription(connection, account, arn))

    async def _policy_of_topic(self, subscription: Subscription) -> str:
        account, arn = subscription.account, subscription.topic
        topic = await self._tables.read(lambda connection: store.get_topic(connection, account, arn))
        return topic.attributes.get("DeliveryPolicy", "") if topic is not None else ""

    async def _to_function(self, message: Message, subscription: Subscription) -> None:
        await self._deliveries.deliver(
            Delivery(
                account=subscription.account,
                region=message.topic.split(":")[3],
                target=subscription.endpoint,
                body=forms.write_record(message, subscription, self._links),
                source_arn=message.topic,
                trace_id=message.trace_id,
                lineage=message.lineage,
            )
        )

    async def _to_queue(self, message: Message, subscription: Subscription) -> None:
        await self._deliveries.deliver(self._address_queue(message, subscription, subscription.endpoint))

    def _address_queue(self, message: Message, subscription: Subscription, queue: str) -> Delivery:
        raw = subscription.attributes.get("RawMessageDelivery") == "true"
        body = message.body_for("sqs").encode() if raw else forms.write_envelope(message, subscription, self._links)
        attributes = message.attributes if raw else {}
        fifo = {"MessageGroupId": message.group_id, "MessageDeduplicationId": message.deduplication_id}
        return Delivery(
            account=subscription.account,
            region=message.topic.split(":")[3],
            target=queue,
            body=body,
            source_arn=message.topic,
            attributes={name: value for name, value in fifo.items() if value},
            message_attributes={name: entry.value for name, entry in attributes.items()},
            attribute_types={name: entry.type for name, entry in attributes.items() if entry.type != "String"},
            trace_id=message.trace_id,
            lineage=message.lineage,
        )

    async def _to_url(self, message: Message, subscription: Subscription) -> None:
        raw = subscription.attributes.get("RawMessageDelivery") == "true" and message.kind == "Notification"
        reply = await self._outgoing.post(
            subscription.endpoint,
            forms.http_headers(message, subscription, raw=raw),
            message.body_for(subscription.protocol).encode()
            if raw
            else forms.write_envelope(message, subscription, self._links),
            timeout_s=HTTP_TIMEOUT_S,
        )
        if 200 <= reply.status < 300:
            return
        # A client's error other than "too many" and "timed out" would be the same the next time.
        if 400 <= reply.status < 500 and reply.status not in (408, 429):
            raise CallerError("EndpointRefused", f"The endpoint answered {reply.status}.")
        raise PlatformError(f"The endpoint answered {reply.status}.", retry_safe=True)

    async def _to_mailbox(self, message: Message, subscription: Subscription) -> None:
        name = await self._display_name(subscription)
        subject, text = forms.write_mail(message, subscription, self._links, name)
        await self._send_mail(subscription.endpoint, subject, text)

    async def _display_name(self, subscription: Subscription) -> str:
        account, arn = subscription.account, subscription.topic
        topic = await self._tables.read(lambda connection: store.get_topic(connection, account, arn))
        return (topic.attributes.get("DisplayName") if topic is not None else "") or arn.rpartition(":")[2]


def wait_for_own_s(attempts: int) -> float | None:
    """Functions and queues: three at once, two a second apart, ten up to 20 s apart, then every 20 s for 23 days."""
    if attempts <= 3:
        return 0.0
    if attempts <= 5:
        return 1.0
    if attempts <= 15:
        return min(20.0, 1.5 ** (attempts - 6) + 1)
    return 20.0 if attempts < 100_015 else None


def wait_for_mail_s(attempts: int) -> float | None:
    """Two 10 s apart, ten up to 10 minutes apart, 38 every 10 minutes: 50 in more than six hours."""
    if attempts <= 2:
        return 10.0
    if attempts <= 12:
        return min(600.0, 10 * 1.5 ** (attempts - 2))
    return 600.0 if attempts < 50 else None


def _decode(parcel: Parcel) -> Message:
    return msgspec.msgpack.decode(parcel.body, type=Message)
