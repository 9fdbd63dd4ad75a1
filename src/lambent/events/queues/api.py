"""The operations of the SQS wire (API reference, 2012-11-05, AWS JSON protocol)."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.events.deliveries import Delivery
from lambent.events.queues import store
from lambent.events.queues.bells import Bells
from lambent.events.queues.drafts import measure, read_draft, show_message
from lambent.events.queues.leftovers import Leftovers
from lambent.events.queues.model import DEFAULTS, Draft, Message, Queue, Sent, Value, digest_attributes, digest_body
from lambent.events.queues.moves import Moves, read_handle
from lambent.events.queues.settings import (
    NAMES,
    QUEUE_NAME,
    add_statement,
    allows_source,
    check_attributes,
    check_together,
    read_redrive,
    remove_statement,
)
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables

MOST_IN_A_BATCH = 10
MOST_IN_FLIGHT = 120_000
MOST_BYTES = 1_048_576
PAGE = 1000
PURGE_PAUSE_S = 60.0
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_OLD_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
    "QueueNameExists": "QueueAlreadyExists",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
}
"""What the query protocol called them; SDKs of before go by these."""


class Queues:
    """The operations, and the way into queues for the rest of the event plane (`deliver`)."""

    def __init__(
        self,
        tables: Tables,
        bells: Bells,
        moves: Moves,
        leftovers: Leftovers,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._bells = bells
        self._moves = moves
        self._leftovers = leftovers
        self._now = now
        self._purged: dict[int, float] = {}

    def operations(self) -> Mapping[str, Operation]:
        served: dict[str, Operation] = {
            "AddPermission": self.add_permission,
            "CancelMessageMoveTask": self.cancel_move,
            "ChangeMessageVisibility": self.change_visibility,
            "ChangeMessageVisibilityBatch": self.change_visibility_batch,
            "CreateQueue": self.create,
            "DeleteMessage": self.delete_message,
            "DeleteMessageBatch": self.delete_message_batch,
            "DeleteQueue": self.delete,
            "GetQueueAttributes": self.get_attributes,
            "GetQueueUrl": self.get_url,
            "ListDeadLetterSourceQueues": self.list_sources,
            "ListMessageMoveTasks": self.list_moves,
            "ListQueueTags": self.list_tags,
            "ListQueues": self.list_queues,
            "PurgeQueue": self.purge,
            "ReceiveMessage": self.receive,
            "RemovePermission": self.remove_permission,
            "SendMessage": self.send,
            "SendMessageBatch": self.send_batch,
            "SetQueueAttributes": self.set_attributes,
            "StartMessageMoveTask": self.start_move,
            "TagQueue": self.tag,
            "UntagQueue": self.untag,
        }
        return {name: _with_old_codes(operation) for name, operation in served.items()}

    async def create(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, given = parameters["QueueName"], dict(parameters.get("Attributes", {}))
        if not QUEUE_NAME.fullmatch(name):
            raise CallerError(
                "InvalidParameterValue",
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            )
        is_fifo = name.endswith(".fifo")
        if is_fifo and given.get("FifoQueue") != "true":
            raise CallerError(
                "InvalidParameterValue", "The name of a FIFO queue ends with .fifo, and FifoQueue is true."
            )
        check_attributes(given, is_fifo=is_fifo)
        check_together(given)
        now = self._now()
        queue = Queue(
            id=0,
            account=context.account,
            region=context.region,
            name=name,
            attributes={**DEFAULTS, **{key: value for key, value in given.items() if value}},
            tags=dict(parameters.get("tags", {})),
            created_at=now,
            modified_at=now,
        )

        def work(connection: Connection) -> None:
            before = store.get_queue(connection, context.account, name)
            if before is None:
                store.create_queue(connection, _with_redrive(connection, queue))
            elif any(before.attributes.get(key, "") != value for key, value in given.items()):
                raise CallerError(
                    "QueueNameExists",
                    "A queue already exists with the same name and a different value for an attribute",
                )

        await self._tables.write(work)
        return {"QueueUrl": _url(context, queue)}

    async def delete(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        await self._tables.write(lambda connection: store.delete_queue(connection, queue))
        self._leftovers.wake()
        return {}

    async def get_url(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        owner = parameters.get("QueueOwnerAWSAccountId") or context.account
        name = parameters["QueueName"]
        queue = None
        if owner == context.account:
            queue = await self._tables.read(lambda connection: store.get_queue(connection, owner, name))
        if queue is None:
            raise store.no_queue()
        return {"QueueUrl": _url(context, queue)}

    async def list_queues(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        limit, after, prefix = _read_page(parameters), _read_token(parameters), parameters.get("QueueNamePrefix", "")
        found = await self._tables.read(
            lambda connection: store.list_queues(
                connection, context.account, prefix=prefix, after=after, limit=limit + 1
            )
        )
        return _page("QueueUrls", context, found, limit)

    async def list_sources(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, limit, after = await self._queue(context, parameters), _read_page(parameters), _read_token(parameters)
        found = await self._tables.read(
            lambda connection: store.list_sources(connection, queue, after=after, limit=limit + 1)
        )
        return {"queueUrls": [], **_page("queueUrls", context, found, limit)}

    async def get_attributes(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, names = await self._queue(context, parameters), set(parameters.get("AttributeNames", ()))
        for name in sorted(names - NAMES):
            raise CallerError("InvalidAttributeName", f"Unknown Attribute {name}.")
        shown = {
            **queue.attributes,
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(int(queue.created_at)),
            "LastModifiedTimestamp": str(int(queue.modified_at)),
            "SqsManagedSseEnabled": queue.attributes.get("SqsManagedSseEnabled", "false"),
        }
        if queue.is_fifo:
            shown = {"ContentBasedDeduplication": "false", "DeduplicationScope": "queue"} | shown
            shown.setdefault("FifoThroughputLimit", "perQueue")
        if "All" in names or any(name.startswith("ApproximateNumber") for name in names):
            now = self._now()
            counts = await self._tables.read(lambda connection: store.count(connection, queue, now))
            shown["ApproximateNumberOfMessages"] = str(counts.visible)
            shown["ApproximateNumberOfMessagesNotVisible"] = str(counts.in_flight)
            shown["ApproximateNumberOfMessagesDelayed"] = str(counts.delayed)
        chosen = shown if "All" in names else {name: value for name, value in shown.items() if name in names}
        return {"Attributes": chosen} if chosen else {}

    async def set_attributes(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, given = await self._queue(context, parameters), parameters["Attributes"]
        check_attributes(given, is_fifo=queue.is_fifo)

        def work(connection: Connection) -> None:
            current = store.get_queue(connection, queue.account, queue.name)
            if current is None:
                raise store.no_queue()
            attributes = {key: value for key, value in {**current.attributes, **given}.items() if value}
            check_together(attributes)
            changed = msgspec.structs.replace(current, attributes=attributes, modified_at=self._now())
            changed = _with_redrive(connection, changed)
            store.put_queue(connection, changed)

        await self._tables.write(work)
        return {}

    async def add_permission(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        label, accounts, actions = parameters["Label"], parameters["AWSAccountIds"], parameters["Actions"]
        await self._change_policy(queue, lambda policy: add_statement(policy, label, accounts, actions, queue.arn))
        return {}

    async def remove_permission(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        await self._change_policy(queue, lambda policy: remove_statement(policy, parameters["Label"]))
        return {}

    async def tag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        await self._change_tags(context, parameters, lambda tags: {**tags, **parameters["Tags"]})
        return {}

    async def untag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        dropped = set(parameters["TagKeys"])
        await self._change_tags(
            context, parameters, lambda tags: {key: value for key, value in tags.items() if key not in dropped}
        )
        return {}

    async def list_tags(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        return {"Tags": queue.tags} if queue.tags else {}

    async def purge(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, now = await self._queue(context, parameters), self._now()
        if now < self._purged.get(queue.id, 0.0) + PURGE_PAUSE_S:
            raise CallerError(
                "PurgeQueueInProgress", f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds."
            )
        await self._tables.write(lambda connection: store.purge(connection, queue))
        self._purged[queue.id] = now
        self._leftovers.wake()
        return {}

    async def send(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        draft = read_draft(parameters, queue, sender=context.principal or context.account, trace_id=context.trace_id)
        sent = await self._send(queue, draft)
        return _show_sent(draft, sent, parameters)

    async def send_batch(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, entries = await self._queue(context, parameters), _read_entries(parameters)
        size = sum(measure(entry) for entry in entries)
        if size > MOST_BYTES:
            raise CallerError(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {MOST_BYTES} bytes. You have sent {size} bytes.",
            )
        successful: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        drafts: list[tuple[str, Draft]] = []
        entries_by_id = {entry["Id"]: entry for entry in entries}
        for entry in entries:
            try:
                drafts.append(
                    (
                        entry["Id"],
                        read_draft(
                            entry, queue, sender=context.principal or context.account, trace_id=context.trace_id
                        ),
                    )
                )
            except CallerError as exc:
                failed.append(_failure(entry["Id"], exc.code, exc.message))
        now = self._now()
        all_sent = await self._tables.write(
            lambda connection: [store.send(connection, queue, draft, now) for _, draft in drafts]
        )
        for (identity, draft), sent in zip(drafts, all_sent, strict=True):
            self._bells.ring(queue.id)
            successful.append({"Id": identity, **_show_sent(draft, sent, entries_by_id[identity])})
        return {"Successful": successful, "Failed": failed}

    async def receive(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue(context, parameters)
        most = parameters.get("MaxNumberOfMessages", 1)
        visibility_s = parameters.get("VisibilityTimeout", queue.seconds("VisibilityTimeout"))
        wait_s = parameters.get("WaitTimeSeconds", queue.seconds("ReceiveMessageWaitTimeSeconds"))
        _check_range("MaxNumberOfMessages", most, 1, MOST_IN_A_BATCH)
        _check_range("VisibilityTimeout", visibility_s, 0, 43_200)
        _check_range("WaitTimeSeconds", wait_s, 0, 20)
        messages = await self.take(queue, most=most, visibility_s=visibility_s, wait_s=wait_s)
        names = set(parameters.get("AttributeNames", ())) | set(parameters.get("MessageSystemAttributeNames", ()))
        wanted = parameters.get("MessageAttributeNames", ())
        return {"Messages": [show_message(message, names, wanted) for message in messages]} if messages else {}

    async def take(self, queue: Queue, *, most: int, visibility_s: float, wait_s: float) -> list[Message]:
        """As soon as there are any; empty after `wait_s`. Durable: a kill does not make them visible before their time.

        Raises CallerError `QueueDoesNotExist` when the queue is deleted meanwhile, `OverLimit`.
        """
        until = time.monotonic() + wait_s
        while True:
            rung = self._bells.rung(queue.id)
            ready, due_at = await self._tables.read(lambda connection: self._look(connection, queue))
            if ready:
                now = self._now()
                messages, buried_in = await self._tables.write(
                    lambda connection, now=now: store.receive(  # type: ignore[misc]
                        connection, queue, most=most, visibility_s=visibility_s, now=now
                    )
                )
                for target in buried_in:
                    self._bells.ring(target)
                if messages:
                    # There may be more than this one took.
                    self._bells.ring(queue.id)
                    return list(messages)
                if queue.is_fifo and await self._tables.read(
                    lambda connection, now=now: store.has_expired(connection, queue, now)  # type: ignore[misc]
                ):
                    # What is old lies before what is not, within a group.
                    while await self._tables.write(
                        lambda connection, now=now: store.expire(connection, queue, now)  # type: ignore[misc]
                    ):
                        pass
                    continue
            left_s = until - time.monotonic()
            if left_s <= 0:
                return []
            due_s = due_at - self._now() if due_at is not None else left_s
            await self._bells.wait(queue.id, max(0.001, min(left_s, due_s)), since=rung)

    async def delete_message(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, receipt = await self._queue(context, parameters), parameters["ReceiptHandle"]
        _check_receipt(queue, receipt)
        await self._tables.write(lambda connection: store.delete(connection, queue, receipt, self._now()))
        self._freed(queue)
        return {}

    async def delete_message_batch(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, entries = await self._queue(context, parameters), _read_entries(parameters)

        def work(connection: Connection) -> dict[str, Any]:
            successful, failed = [], []
            for entry in entries:
                try:
                    store.delete(connection, queue, entry["ReceiptHandle"], self._now())
                except ValueError:
                    failed.append(_failure(entry["Id"], "ReceiptHandleIsInvalid", _BAD_RECEIPT))
                else:
                    successful.append({"Id": entry["Id"]})
            return {"Successful": successful, "Failed": failed}

        answer = await self._tables.write(work)
        self._freed(queue)
        return answer

    async def change_visibility(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, receipt = await self._queue(context, parameters), parameters["ReceiptHandle"]
        timeout_s = parameters["VisibilityTimeout"]
        _check_range("VisibilityTimeout", timeout_s, 0, 43_200)
        _check_receipt(queue, receipt)
        changed = await self._tables.write(
            lambda connection: store.change_visibility(connection, queue, receipt, timeout_s, self._now())
        )
        if not changed:
            raise CallerError("MessageNotInflight", "The message referred to isn't in flight.")
        self._freed(queue)
        return {}

    async def change_visibility_batch(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue, entries = await self._queue(context, parameters), _read_entries(parameters)

        def work(connection: Connection) -> dict[str, Any]:
            successful, failed = [], []
            for entry in entries:
                identity, timeout_s = entry["Id"], entry.get("VisibilityTimeout", queue.seconds("VisibilityTimeout"))
                try:
                    _check_range("VisibilityTimeout", timeout_s, 0, 43_200)
                    _check_receipt(queue, entry["ReceiptHandle"])
                except CallerError as exc:
                    failed.append(_failure(identity, exc.code, exc.message))
                    continue
                if store.change_visibility(connection, queue, entry["ReceiptHandle"], timeout_s, self._now()):
                    successful.append({"Id": identity})
                else:
                    failed.append(_failure(identity, "MessageNotInflight", "The message isn't in flight."))
            return {"Successful": successful, "Failed": failed}

        answer = await self._tables.write(work)
        self._freed(queue)
        return answer

    async def start_move(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        source, destination = parameters["SourceArn"], parameters.get("DestinationArn", "")
        per_second = parameters.get("MaxNumberOfMessagesPerSecond", 0)
        if "MaxNumberOfMessagesPerSecond" in parameters:
            _check_range("MaxNumberOfMessagesPerSecond", per_second, 1, 500)
        queue = await self._queue_of_arn(context, source)
        if destination:
            await self._queue_of_arn(context, destination)
        sources = await self._tables.read(lambda connection: store.list_sources(connection, queue, limit=1))
        if not sources:
            raise CallerError("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        move = await self._moves.begin(queue, destination, per_second)
        if move is None:
            raise CallerError(
                "UnsupportedOperation", "There is already a task running. Only one active task is allowed."
            )
        return {"TaskHandle": move.handle}

    async def list_moves(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        queue = await self._queue_of_arn(context, parameters["SourceArn"])
        limit = parameters.get("MaxResults", 1)
        _check_range("MaxResults", limit, 1, 10)
        shown = []
        for move in await self._moves.list_latest(queue.arn, limit):
            entry = {
                "Status": move.status,
                "SourceArn": move.source,
                "DestinationArn": move.destination or None,
                "MaxNumberOfMessagesPerSecond": move.per_second or None,
                "ApproximateNumberOfMessagesMoved": move.moved,
                "ApproximateNumberOfMessagesToMove": move.to_move,
                "FailureReason": move.failure or None,
                "StartedTimestamp": int(move.started_at * 1000),
                "TaskHandle": move.handle if move.status == "RUNNING" else None,
            }
            shown.append({key: value for key, value in entry.items() if value is not None})
        return {"Results": shown}

    async def cancel_move(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        move = await self._moves.cancel(read_handle(parameters["TaskHandle"]), context.account)
        if move is None:
            raise CallerError("ResourceNotFoundException", "There is no such task that is running.", status=404)
        return {"ApproximateNumberOfMessagesMoved": move.moved}

    async def deliver(self, delivery: Delivery) -> None:
        """A record from elsewhere in the event plane is sent."""
        types = delivery.attribute_types
        attributes = {
            name: _read_value(types.get(name, "String"), value) for name, value in delivery.message_attributes.items()
        }

        def work(connection: Connection) -> int:
            queue = store.get_queue_by_arn(connection, delivery.target)
            if queue is None:
                raise store.no_queue()
            body = delivery.body.decode("utf-8", "replace")
            group = delivery.attributes.get("MessageGroupId", "") if queue.is_fifo else ""
            draft = Draft(
                body=body,
                attributes=attributes,
                trace_header=with_lineage(delivery),
                group_id=group or ("default" if queue.is_fifo else ""),
                deduplication_id=delivery.attributes.get("MessageDeduplicationId") or digest_body(body),
                sender=delivery.source_arn or delivery.account,
            )
            store.send(connection, queue, draft, self._now())
            return queue.id

        self._bells.ring(await self._tables.write(work))

    async def exists(self, account: str, arn: str) -> bool:
        found = await self._tables.read(lambda connection: store.get_queue_by_arn(connection, arn))
        return found is not None and found.account == account

    async def _send(self, queue: Queue, draft: Draft) -> Sent:
        sent = await self._tables.write(lambda connection: store.send(connection, queue, draft, self._now()))
        self._bells.ring(queue.id)
        return sent

    def _look(self, connection: Connection, queue: Queue) -> tuple[bool, float | None]:
        now = self._now()
        if store.get_queue(connection, queue.account, queue.name) is None:
            raise store.no_queue()
        ready = store.has_ready(connection, queue, now)
        if ready and store.count_in_flight(connection, queue, now, MOST_IN_FLIGHT) >= MOST_IN_FLIGHT:
            raise CallerError("OverLimit", f"The maximum number of in flight messages is reached: {MOST_IN_FLIGHT}.")
        return ready, store.next_due_at(connection, queue, now)

    def _freed(self, queue: Queue) -> None:
        """A group may be ready now, or a message visible."""
        self._bells.ring(queue.id)

    async def _change_policy(self, queue: Queue, change: Callable[[str], str]) -> None:
        def work(connection: Connection) -> None:
            current = store.get_queue(connection, queue.account, queue.name)
            if current is None:
                raise store.no_queue()
            attributes = {**current.attributes, "Policy": change(current.attributes.get("Policy", ""))}
            kept = {key: value for key, value in attributes.items() if value}
            store.put_queue(connection, msgspec.structs.replace(current, attributes=kept, modified_at=self._now()))

        await self._tables.write(work)

    async def _change_tags(
        self, context: RequestContext, parameters: dict[str, Any], change: Callable[[dict[str, str]], dict[str, str]]
    ) -> None:
        queue = await self._queue(context, parameters)

        def work(connection: Connection) -> None:
            current = store.get_queue(connection, queue.account, queue.name)
            if current is None:
                raise store.no_queue()
            store.put_queue(connection, msgspec.structs.replace(current, tags=change(current.tags)))

        await self._tables.write(work)

    async def _queue(self, context: RequestContext, parameters: dict[str, Any]) -> Queue:
        account, name = _read_url(parameters["QueueUrl"], context)
        queue = None
        if account == context.account:
            queue = await self._tables.read(lambda connection: store.get_queue(connection, account, name))
        if queue is None:
            raise store.no_queue()
        return queue

    async def _queue_of_arn(self, context: RequestContext, arn: str) -> Queue:
        queue = await self._tables.read(lambda connection: store.get_queue_by_arn(connection, arn))
        if queue is None or queue.account != context.account or queue.arn != arn:
            raise CallerError(
                "ResourceNotFoundException", f"The resource that you specified for {arn} doesn't exist.", status=404
            )
        return queue


_BAD_RECEIPT = "The input receipt handle is invalid."


def with_lineage(delivery: Delivery) -> str:
    """The trace header of a message, which carries what the detection of loops knows."""
    if not delivery.lineage or "Lineage=" in delivery.trace_id:
        return delivery.trace_id
    return f"{delivery.trace_id};Lineage={delivery.lineage}" if delivery.trace_id else f"Lineage={delivery.lineage}"


def _with_redrive(connection: Connection, queue: Queue) -> Queue:
    policy = queue.attributes.get("RedrivePolicy", "")
    if not policy:
        return msgspec.structs.replace(queue, redrive=None)
    redrive = read_redrive(policy)
    target = store.get_queue_by_arn(connection, redrive.target)
    if target is None or target.account != queue.account:
        raise CallerError(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.",
        )
    if target.is_fifo != queue.is_fifo or target.name == queue.name:
        raise CallerError(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead-letter queue must be another queue "
            "of the same type as the source.",
        )
    if not allows_source(target.attributes.get("RedriveAllowPolicy", ""), queue.arn):
        raise CallerError(
            "InvalidParameterValue",
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: Dead-letter queue does not allow it "
            "(RedriveAllowPolicy).",
        )
    return msgspec.structs.replace(queue, redrive=redrive)


def _with_old_codes(operation: Operation) -> Operation:
    async def call(context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return await operation(context, parameters)
        except CallerError as exc:
            if exc.code in _OLD_CODES:
                exc.headers = {**exc.headers, "x-amzn-query-error": f"{_OLD_CODES[exc.code]};Sender"}
            raise

    return call


def _url(context: RequestContext, queue: Queue) -> str:
    return f"http://{context.host or 'localhost'}/{queue.account}/{queue.name}"


def _read_url(url: str, context: RequestContext) -> tuple[str, str]:
    """Account and name: of a URL, whatever its host, or of a bare name."""
    parts = [part for part in urlsplit(url).path.split("/") if part]
    if len(parts) == 1:
        return context.account, parts[0]
    if len(parts) < 2:
        raise CallerError("InvalidAddress", f"The address {url} is not valid for this endpoint.", status=404)
    return parts[-2], parts[-1]


def _read_entries(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = parameters["Entries"]
    identities = [entry["Id"] for entry in entries]
    if not entries:
        raise CallerError("EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > MOST_IN_A_BATCH:
        raise CallerError(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {MOST_IN_A_BATCH}. You have sent {len(entries)}.",
        )
    if not all(_ENTRY_ID.fullmatch(identity) for identity in identities):
        raise CallerError(
            "InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 "
            "letters long.",
        )
    if len(set(identities)) < len(identities):
        repeated = next(identity for identity in identities if identities.count(identity) > 1)
        raise CallerError("BatchEntryIdsNotDistinct", f"Id {repeated} repeated.")
    return entries


def _show_sent(draft: Draft, sent: Sent, given: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"MD5OfMessageBody": digest_body(draft.body), "MessageId": sent.message_id}
    if draft.attributes:
        shown["MD5OfMessageAttributes"] = digest_attributes(draft.attributes)
    if given.get("MessageSystemAttributes"):
        traced = {"AWSTraceHeader": Value(type="String", text=draft.trace_header)}
        shown["MD5OfMessageSystemAttributes"] = digest_attributes(traced)
    if sent.sequence_number:
        shown["SequenceNumber"] = sent.sequence_number
    return shown


def _failure(identity: str, code: str, message: str) -> dict[str, Any]:
    return {"Id": identity, "Code": code, "Message": message, "SenderFault": True}


def _check_receipt(queue: Queue, receipt: str) -> None:
    try:
        store.read_receipt(queue, receipt)
    except ValueError:
        raise CallerError("ReceiptHandleIsInvalid", _BAD_RECEIPT) from None


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise CallerError(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {low} and {high}, if provided.",
        )


def _read_page(parameters: dict[str, Any]) -> int:
    limit: int = parameters.get("MaxResults", PAGE)
    _check_range("MaxResults", limit, 1, PAGE)
    return limit


def _read_token(parameters: dict[str, Any]) -> str:
    try:
        return base64.urlsafe_b64decode(parameters.get("NextToken", "").encode()).decode()
    except ValueError:
        raise CallerError("InvalidParameterValue", "NextToken is not one that was given out.") from None


def _read_value(kind: str, value: str) -> Value:
    """As deliveries have it."""
    if kind.startswith("Binary"):
        return Value(type=kind, data=base64.b64decode(value))
    return Value(type=kind, text=value)


def _page(member: str, context: RequestContext, found: list[Queue], limit: int) -> dict[str, Any]:
    urls = [_url(context, queue) for queue in found[:limit]]
    page: dict[str, Any] = {member: urls} if urls else {}
    if len(found) > limit:
        page["NextToken"] = base64.urlsafe_b64encode(found[limit - 1].name.encode()).decode()
    return page
