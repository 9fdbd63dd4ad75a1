"""Publishing: from what a caller or another module says to messages in the outboxes of the subscriptions."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.events.deliveries import Delivery
from lambent.events.outbox import Outbox
from lambent.events.topics import filters, store
from lambent.events.topics.model import Attribute, Message, Topic
from lambent.events.topics.settings import invalid, not_found
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Tables

MOST_BYTES = 262_144
MOST_ENTRIES = 10
LONGEST_SUBJECT = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_DEDUPLICATION = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")


class Publisher:
    """Publish and PublishBatch, and the way into topics for the rest of the event plane (`deliver`)."""

    def __init__(
        self,
        tables: Tables,
        outbox: Outbox,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._tables = tables
        self._outbox = outbox
        self._now = now
        self._new_id = new_id

    async def publish(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = parameters.get("TopicArn") or parameters.get("TargetArn")
        if not arn:
            raise invalid("TopicArn or TargetArn Reason: no value for required parameter; there are no phone numbers")
        topic = await self._find(context.account, arn)
        message = await self._publish(topic, self._read_message(topic, parameters, context.trace_id))
        numbered = {"SequenceNumber": message.sequence_number} if message.sequence_number else {}
        return {"MessageId": message.id, **numbered}

    async def publish_batch(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        topic = await self._find(context.account, parameters["TopicArn"])
        entries = parameters["PublishBatchRequestEntries"]
        _check_batch(entries)
        successful: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            try:
                message = await self._publish(topic, self._read_message(topic, entry, context.trace_id))
            except CallerError as exc:
                failed.append({"Id": entry["Id"], "Code": exc.code, "Message": exc.message, "SenderFault": True})
                continue
            numbered = {"SequenceNumber": message.sequence_number} if message.sequence_number else {}
            successful.append({"Id": entry["Id"], "MessageId": message.id, **numbered})
        return {"Successful": successful, "Failed": failed}

    async def deliver(self, delivery: Delivery) -> None:
        """A record from elsewhere in the event plane is published."""
        topic = await self._find(delivery.account, delivery.target)
        attributes = {
            name: Attribute(type=delivery.attribute_types.get(name, "String"), value=value)
            for name, value in delivery.message_attributes.items()
        }
        body = delivery.body.decode("utf-8", "replace")
        message = Message(
            id=self._new_id(),
            topic=topic.arn,
            at=self._now(),
            bodies={"default": body},
            subject=delivery.attributes.get("Subject", ""),
            attributes=attributes,
            group_id=delivery.attributes.get("MessageGroupId", "") if topic.is_fifo else "",
            deduplication_id=delivery.attributes.get("MessageDeduplicationId") or _digest(body),
            trace_id=delivery.trace_id,
            lineage=delivery.lineage,
        )
        if topic.is_fifo and not message.group_id:
            raise invalid("The MessageGroupId parameter is required for FIFO topics")
        await self._publish(topic, message)

    async def _find(self, account: str, arn: str) -> Topic:
        topic = await self._tables.read(lambda connection: store.get_topic(connection, account, arn))
        if topic is None:
            raise not_found("Topic")
        return topic

    async def _publish(self, topic: Topic, message: Message) -> Message:
        published, lanes = await self._tables.write(
            lambda connection: store.publish(connection, topic, message, filters.takes)
        )
        for lane in lanes:
            self._outbox.ring(lane)
        return published

    def _read_message(self, topic: Topic, parameters: dict[str, Any], trace_id: str) -> Message:
        bodies = _read_bodies(parameters)
        subject = parameters.get("Subject", "")
        if len(subject) > LONGEST_SUBJECT or _CONTROL.search(subject) or subject != subject.strip():
            raise invalid("Subject")
        attributes = _read_attributes(parameters.get("MessageAttributes", {}))
        size = len(parameters["Message"].encode()) + sum(
            len(name) + len(entry.type) + len(entry.value) for name, entry in attributes.items()
        )
        if size > MOST_BYTES:
            raise invalid("Message too long")
        group, deduplication = parameters.get("MessageGroupId", ""), parameters.get("MessageDeduplicationId", "")
        if topic.is_fifo:
            if not _DEDUPLICATION.fullmatch(group):
                raise invalid("The MessageGroupId parameter is required for FIFO topics")
            if not deduplication and topic.attributes.get("ContentBasedDeduplication") == "true":
                deduplication = _digest(bodies["default"])
            if not _DEDUPLICATION.fullmatch(deduplication):
                raise invalid(
                    "The topic should either have ContentBasedDeduplication enabled or "
                    "MessageDeduplicationId provided explicitly"
                )
        elif deduplication:
            raise invalid("MessageDeduplicationId Reason: it is for FIFO topics")
        return Message(
            id=self._new_id(),
            topic=topic.arn,
            at=self._now(),
            bodies=bodies,
            subject=subject,
            attributes=attributes,
            group_id=group if topic.is_fifo else "",
            deduplication_id=deduplication,
            trace_id=trace_id,
        )


def _read_bodies(parameters: dict[str, Any]) -> dict[str, str]:
    text = parameters["Message"]
    if not text:
        raise invalid("Empty message")
    structure = parameters.get("MessageStructure", "")
    if not structure:
        return {"default": text}
    if structure != "json":
        raise invalid("MessageStructure Reason: it must be json")
    try:
        document = msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:
        raise invalid("Message Structure - JSON message body failed to parse") from exc
    if not isinstance(document, dict) or not isinstance(document.get("default"), str):
        raise invalid("Message Structure - No default entry in JSON message body")
    return {protocol: body for protocol, body in document.items() if isinstance(body, str)}


def _read_attributes(given: dict[str, dict[str, Any]]) -> dict[str, Attribute]:
    read = {}
    for name, entry in given.items():
        kind = entry.get("DataType", "")
        if "BinaryValue" in entry and kind.startswith("Binary"):
            value = base64.b64encode(entry["BinaryValue"]).decode()
        elif "StringValue" in entry and kind.partition(".")[0] in ("String", "Number"):
            value = entry["StringValue"]
        else:
            raise invalid(f"The message attribute '{name}' must have a value of its type, String, Number or Binary")
        if not value:
            raise CallerError("ParameterValueInvalid", f"The message attribute '{name}' must not be empty.")
        read[name] = Attribute(type=kind, value=value)
    return read


def _check_batch(entries: list[dict[str, Any]]) -> None:
    identities = [entry["Id"] for entry in entries]
    if not entries:
        raise CallerError("EmptyBatchRequest", "The batch request doesn't contain any entries.")
    if len(entries) > MOST_ENTRIES:
        raise CallerError(
            "TooManyEntriesInBatchRequest", f"The batch request contains more than {MOST_ENTRIES} entries."
        )
    if len(set(identities)) < len(identities):
        raise CallerError("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
    if not all(_ENTRY_ID.fullmatch(identity) for identity in identities):
        raise CallerError("InvalidBatchEntryId", "The Id of a batch entry may have letters, digits, - and _ only.")
    if sum(len(entry["Message"].encode()) for entry in entries) > MOST_BYTES:
        raise CallerError("BatchRequestTooLong", f"The batch is longer than {MOST_BYTES} bytes.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
