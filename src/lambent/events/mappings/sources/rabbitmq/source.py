"""A consumer with a bounded prefetch, by aio-pika."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import Any

import aio_pika
import aio_pika.exceptions
from aio_pika.abc import AbstractIncomingMessage

from lambent.events.mappings.sources.inbox import Inbox
from lambent.events.mappings.sources.ports import Configuration, Connections, Message, SourceLost
from lambent.events.mappings.sources.rabbitmq.config import Settings, read_settings
from lambent.events.mappings.sources.rabbitmq.event import make_event

TIMEOUT_S = 10
_LOST = (aio_pika.exceptions.AMQPError, OSError, RuntimeError, TimeoutError)
_PROPERTIES = {
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
    "headers": "headers",
    "deliveryMode": "delivery_mode",
    "priority": "priority",
    "correlationId": "correlation_id",
    "replyTo": "reply_to",
    "expiration": "expiration",
    "messageId": "message_id",
    "timestamp": "timestamp",
    "type": "type",
    "userId": "user_id",
    "appId": "app_id",
    "clusterId": "cluster_id",
}


async def open_source(configuration: Configuration, connections: Connections) -> RabbitMqSource:
    """Raises SourceLost, also where the queue is not there."""
    source = RabbitMqSource(read_settings(configuration, connections))
    try:
        await source.start()
    except _LOST as exc:
        await source.close()
        raise _lost(exc) from exc
    return source


class RabbitMqSource:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inbox = Inbox()
        self._numbers = itertools.count(1)
        self._connection: Any = None
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        # Not the "robust" connection: it takes up again what is half done, and the poller opens anew and says why.
        self._connection = await aio_pika.connect(self._settings.url, timeout=TIMEOUT_S)
        self._connection.close_callbacks.add(self._hear_end)
        channel = await self._connection.channel()
        channel.close_callbacks.add(self._hear_end)
        await channel.set_qos(prefetch_count=self._settings.prefetch)
        queue = await channel.declare_queue(self._settings.queue, passive=True)
        await queue.consume(self._take)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            await self._inbox.put(self._read(message))
        except (AttributeError, TypeError, ValueError) as exc:  # aio-pika would log it and forget the message
            await self._inbox.fail(SourceLost(f"RabbitMQ sent a message that cannot be read: {exc}"))

    def _read(self, message: AbstractIncomingMessage) -> Message:
        properties: dict[str, Any] = {ours: getattr(message, theirs) for ours, theirs in _PROPERTIES.items()}
        mode = properties["deliveryMode"]
        properties["deliveryMode"] = None if mode is None else int(mode)
        if properties["expiration"] is not None:  # AMQP's own are text, in milliseconds
            properties["expiration"] = str(round(float(properties["expiration"]) * 1000))
        event = make_event(
            queue=self._settings.queue,
            virtual_host=self._settings.virtual_host,
            properties=properties,
            redelivered=bool(message.redelivered),
            data=message.body,
        )
        sent = properties["timestamp"]
        return Message(
            id=f"{message.message_id or ''}:{next(self._numbers)}",
            event=event,
            data=message.body,
            at=sent.timestamp() if sent is not None else time.time(),
            receipt=message,
        )

    def _hear_end(self, _sender: object, reason: BaseException | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._inbox.fail(_lost(reason or ConnectionError("closed"))))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        return await self._inbox.receive(max_messages, wait_s)

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        """`again` goes back to the queue, where a dead-letter policy or a quorum queue's delivery limit counts it."""
        try:
            for message in done:
                await message.receipt.ack()
            for message in again:
                await message.receipt.nack(requeue=True)
        except _LOST as exc:
            raise _lost(exc) from exc

    async def drop(self) -> None:
        """The queue is its owner's, and a consumer ends with its connection."""

    async def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*_LOST):
                await self._connection.close()
        if self._telling:
            await asyncio.gather(*self._telling, return_exceptions=True)


def _lost(exc: BaseException) -> SourceLost:
    return SourceLost(f"RabbitMQ: {str(exc) or type(exc).__name__}")
