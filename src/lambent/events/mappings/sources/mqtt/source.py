"""A persistent session, by aiomqtt. The broker keeps what comes while nobody is connected and what nobody acknowledged.

A message is acknowledged once it is handled. MQTT has no word for "again" within a connection, so a message that failed
is handed out anew from memory, and by the broker when the connection is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Sequence
from typing import Any

import aiomqtt

from lambent.events.mappings.sources.inbox import Inbox
from lambent.events.mappings.sources.mqtt.config import Settings, read_settings
from lambent.events.mappings.sources.mqtt.event import make_message
from lambent.events.mappings.sources.ports import Configuration, Connections, Message, SourceLost

TIMEOUT_S = 10


async def open_source(configuration: Configuration, connections: Connections) -> MqttSource:
    """Raises SourceLost."""
    source = MqttSource(read_settings(configuration, connections))
    try:
        await source.start()
    except (aiomqtt.MqttError, OSError) as exc:
        await source.close()
        raise SourceLost(f"MQTT: {exc}") from exc
    return source


class MqttSource:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._inbox = Inbox()
        self._numbers = itertools.count(1)
        self._client = self._make_client(settings.session, keep=True)
        self._reading: asyncio.Task[None] | None = None

    def _make_client(self, session: str, *, keep: bool) -> aiomqtt.Client:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ca or None) if settings.tls else None
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            identifier=session,
            clean_session=not keep,
            username=settings.username or None,
            password=settings.password or None,
            tls_context=context,
            timeout=TIMEOUT_S,
        )
        # aiomqtt has no setting for it: without it, paho acknowledges what nobody has handled yet.
        self._paho(client).manual_ack_set(True)
        return client

    @staticmethod
    def _paho(client: aiomqtt.Client) -> Any:
        return client._client

    async def start(self) -> None:
        await self._stack.enter_async_context(self._client)
        self._reading = asyncio.create_task(self._read(), name="read mqtt")
        await self._client.subscribe(self._settings.topic, qos=1)

    async def _read(self) -> None:
        try:
            async for message in self._client.messages:
                await self._inbox.put(self._shape(message))
        except aiomqtt.MqttError as exc:
            await self._inbox.fail(SourceLost(f"MQTT: {exc}"))

    def _shape(self, message: aiomqtt.Message) -> Message:
        payload: Any = message.payload
        data = payload if isinstance(payload, bytes) else str(payload if payload is not None else "").encode()
        return make_message(
            arn=self._settings.arn,
            region=self._settings.region,
            number=next(self._numbers),
            topic=str(message.topic),
            qos=message.qos,
            retain=message.retain,
            at=time.time(),
            data=data,
            receipt=(message.mid, message.qos),
        )

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        return await self._inbox.receive(max_messages, wait_s)

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        await self._inbox.put_back(again)
        for message in done:
            number, qos = message.receipt
            if qos:
                self._paho(self._client).ack(number, qos)

    async def drop(self) -> None:
        """A session that begins clean forgets the one that was kept."""
        await self.close()
        async with self._make_client(self._settings.session, keep=False):
            pass

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        with contextlib.suppress(aiomqtt.MqttError):
            await self._stack.aclose()
