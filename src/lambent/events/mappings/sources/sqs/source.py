"""A queue as the pollers see it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from lambent.awsapi.context import Operation
from lambent.events.mappings.sources.ports import (
    Configuration,
    Connections,
    Message,
    QueueSource,
    SourceKind,
    SourceLost,
)
from lambent.events.mappings.sources.sqs import config
from lambent.events.mappings.sources.sqs.calls import Calls, OwnCalls
from lambent.events.mappings.sources.sqs.event import read_message, shape

MOST_AT_ONCE = 10
"""Of messages in one call, by the contract."""
MAX_WAIT_S = 20


class SqsSource:
    """Messages that are to come again are left alone: their visibility timeout brings them, as on AWS."""

    def __init__(self, calls: Calls, queue_url: str, *, arn: str, region: str) -> None:
        self._calls = calls
        self._queue_url = queue_url
        self._arn = arn
        self._region = region

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        answer = await self._calls.call(
            "ReceiveMessage",
            {
                "QueueUrl": self._queue_url,
                "MaxNumberOfMessages": min(max_messages, MOST_AT_ONCE),
                "WaitTimeSeconds": min(MAX_WAIT_S, max(0, math.ceil(wait_s))),
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            },
        )
        return [read_message(received, self._arn, self._region) for received in answer.get("Messages") or ()]

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        chunks = [done[at : at + MOST_AT_ONCE] for at in range(0, len(done), MOST_AT_ONCE)]
        await asyncio.gather(*(self._delete(chunk) for chunk in chunks))

    async def drop(self) -> None:
        """A queue knows nothing of who reads it."""

    async def close(self) -> None:
        await self._calls.close()

    async def _delete(self, messages: Sequence[Message]) -> None:
        entries = [{"Id": str(at), "ReceiptHandle": message.receipt} for at, message in enumerate(messages)]
        answer = await self._calls.call("DeleteMessageBatch", {"QueueUrl": self._queue_url, "Entries": entries})
        failed = [entry.get("Message") or entry.get("Code") for entry in answer.get("Failed") or ()]
        if failed:
            raise SourceLost(f"{len(failed)} messages were not deleted: {failed[0]}")


def sqs_kind(operations: Mapping[str, Operation], exists: config.Exists) -> SourceKind:
    """`operations` of the node's own queues (looked up when called) and whether one of them exists."""

    async def open_source(configuration: Configuration, connections: Connections) -> QueueSource:
        external = config.read_external(configuration, connections)
        arn = configuration.source_arn
        calls: Calls
        if external is None:
            calls = OwnCalls(operations, account=configuration.account, region=configuration.region)
        else:
            from lambent.events.mappings.sources.sqs.http_calls import HttpCalls  # noqa: PLC0415 - a client is memory

            calls = HttpCalls(external)
        try:
            found = await calls.call("GetQueueUrl", {"QueueName": arn.rpartition(":")[2]})
        except BaseException:
            await calls.close()
            raise
        return SqsSource(calls, found["QueueUrl"], arn=arn, region=arn.split(":")[3])

    return SourceKind(
        name="sqs",
        style="queue",
        claims=config.claims,
        rules=config.rules,
        check=config.make_check(exists),
        open=open_source,
        shape=shape,
        data_key="body",
    )
