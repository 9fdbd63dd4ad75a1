"""A durable pull consumer, by nats-py."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from lambent.events.mappings.sources.nats.config import Settings, read_settings
from lambent.events.mappings.sources.nats.event import make_message
from lambent.events.mappings.sources.ports import Configuration, Connections, Message, SourceLost

CONNECT_TIMEOUT_S = 10
_POLICIES = {
    "TRIM_HORIZON": DeliverPolicy.ALL,
    "LATEST": DeliverPolicy.NEW,
    "AT_TIMESTAMP": DeliverPolicy.BY_START_TIME,
}
_LOST = (nats.errors.Error, OSError)


async def open_source(configuration: Configuration, connections: Connections) -> NatsSource:
    """Raises SourceLost."""
    source = NatsSource(read_settings(configuration, connections))
    try:
        await source.start()
    except _LOST as exc:
        await source.close()
        raise _lost(exc) from exc
    return source


class NatsSource:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client()
        self._jetstream: Any = None
        self._subscription: Any = None
        self._unsettled: dict[str, Msg] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        settings = self._settings
        identity: dict[str, Any] = {"user_credentials": settings.credentials} if settings.credentials else {}
        if settings.username:
            identity |= {"user": settings.username, "password": settings.password}
        if settings.token:
            identity |= {"token": settings.token}
        await self._client.connect(
            list(settings.servers),
            connect_timeout=CONNECT_TIMEOUT_S,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            allow_reconnect=False,  # the poller opens again, and its owner reads why
            error_cb=_ignore,
            name=settings.durable,
            **identity,
        )
        self._jetstream = self._client.jetstream()
        await self._make_consumer()
        self._subscription = await self._jetstream.pull_subscribe_bind(
            consumer=settings.durable, stream=settings.stream, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        self._renewing = asyncio.create_task(self._renew(), name="renew nats messages")

    async def _make_consumer(self) -> None:
        settings = self._settings
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await self._jetstream.consumer_info(settings.stream, settings.durable)
            return
        configuration = ConsumerConfig(
            durable_name=settings.durable,
            filter_subject=settings.subject or None,
            deliver_policy=_POLICIES[settings.position],
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=settings.ack_wait_s,
            max_deliver=-1,
            max_ack_pending=10_000,
        )
        if settings.position == "AT_TIMESTAMP":
            start = datetime.datetime.fromtimestamp(settings.timestamp, datetime.UTC)
            configuration.opt_start_time = start.isoformat()  # type: ignore[assignment]
        await self._jetstream.add_consumer(settings.stream, configuration)

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        try:
            fetched = await self._subscription.fetch(max_messages, timeout=max(wait_s, 0.01))
        except (nats.errors.TimeoutError, TimeoutError):
            if not self._client.is_connected:
                raise SourceLost("NATS: the connection is lost") from None
            return []
        except _LOST as exc:
            raise _lost(exc) from exc
        messages = [self._read(message) for message in fetched]
        self._unsettled |= {message.id: message.receipt for message in messages}
        return messages

    def _read(self, message: Msg) -> Message:
        metadata = message.metadata
        return make_message(
            arn=self._settings.arn,
            region=self._settings.region,
            stream=metadata.stream,
            sequence=metadata.sequence.stream,
            subject=message.subject,
            at=metadata.timestamp.timestamp(),
            deliveries=metadata.num_delivered or 1,
            headers=message.headers or {},
            data=message.data,
            receipt=message,
        )

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        """`done` is confirmed by the server before this returns."""
        for message in (*done, *again):
            self._unsettled.pop(message.id, None)
        try:
            await asyncio.gather(*(message.receipt.ack_sync(CONNECT_TIMEOUT_S) for message in done))
            for message in again:
                await message.receipt.nak()
            await self._client.flush()
        except (*_LOST, TimeoutError) as exc:
            raise _lost(exc) from exc

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.ack_wait_s / 3)
            for message in list(self._unsettled.values()):
                with contextlib.suppress(*_LOST):  # the next receive tells
                    await message.in_progress()

    async def lag(self) -> Mapping[str, int]:
        """`messages`: not yet delivered; `unsettled`: delivered and not acknowledged."""
        try:
            info = await self._jetstream.consumer_info(self._settings.stream, self._settings.durable)
        except (*_LOST, TimeoutError) as exc:
            raise _lost(exc) from exc
        return {"messages": info.num_pending or 0, "unsettled": info.num_ack_pending or 0}

    async def drop(self) -> None:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await self._jetstream.delete_consumer(self._settings.stream, self._settings.durable)

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        with contextlib.suppress(*_LOST):
            for message in self._unsettled.values():
                await message.nak()
            await self._client.close()


async def _ignore(error: Exception) -> None:
    """nats-py would print it; whoever calls next is told."""


def _lost(exc: BaseException) -> SourceLost:
    return SourceLost(f"NATS: {str(exc) or type(exc).__name__}")
