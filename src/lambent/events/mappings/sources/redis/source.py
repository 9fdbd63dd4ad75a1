"""A consumer of a group, by redis-py.

Redis has no word for "give it to me again", so an entry that failed stays pending with us and is handed out anew from
memory; after a restart our own pending entries come first, and those of consumers that died are claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from lambent.events.mappings.sources.ports import Configuration, Connections, Message, SourceLost
from lambent.events.mappings.sources.redis.config import Settings, read_settings
from lambent.events.mappings.sources.redis.event import make_message

TIMEOUT_S = 10
_PAGE = 1000
_LOST = (redis.exceptions.RedisError, OSError)


async def open_source(configuration: Configuration, connections: Connections) -> RedisSource:
    """Raises SourceLost."""
    source = RedisSource(read_settings(configuration, connections))
    try:
        await source.start()
    except _LOST as exc:
        await source.close()
        raise _lost(exc) from exc
    return source


class RedisSource:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = redis.asyncio.Redis.from_url(
            settings.url, socket_connect_timeout=TIMEOUT_S, health_check_interval=30
        )
        self._again: deque[Message] = deque()
        self._turn = False

    async def start(self) -> None:
        settings = self._settings
        try:
            await self._client.xgroup_create(settings.key, settings.group, id=settings.start, mkstream=True)
        except redis.exceptions.ResponseError as exc:
            if "BUSYGROUP" not in str(exc):
                raise
        await self._take_own()
        await self._claim()

    async def _take_own(self) -> None:
        """What this consumer was given before and never acknowledged."""
        after = "0"
        while True:
            entries = await self._read_group(after, _PAGE, None)
            if not entries:
                return
            after = entries[-1][0].decode()
            self._again.extend(self._read(entry) for entry in entries if entry[1])

    async def _claim(self) -> None:
        start: Any = "0-0"
        while True:
            answer = await self._client.xautoclaim(
                self._settings.key,
                self._settings.group,
                self._settings.consumer,
                min_idle_time=round(self._settings.claim_after_s * 1000),
                start_id=start,
                count=_PAGE,
            )
            known = {message.id for message in self._again}
            claimed = [self._read(entry) for entry in answer[1] if entry[1]]
            self._again.extend(message for message in claimed if message.id not in known)
            start = answer[0]
            if start in (b"0-0", "0-0"):
                return

    async def _read_group(self, after: str, count: int, block_ms: int | None) -> list[tuple[bytes, Any]]:
        settings = self._settings
        found = await self._client.xreadgroup(
            settings.group, settings.consumer, {settings.key: after}, count=count, block=block_ms
        )
        if isinstance(found, dict):
            return [entry for page in found.values() for entries in page for entry in entries]
        return [entry for _, entries in found or () for entry in entries]

    def _read(self, entry: tuple[bytes, Mapping[bytes, bytes]]) -> Message:
        settings = self._settings
        return make_message(
            arn=settings.arn, region=settings.region, key=settings.key, entry_id=entry[0].decode(), fields=entry[1]
        )

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        # New ones and those that failed by turns, so that neither waits for the other.
        self._turn = not self._turn
        if self._again and self._turn:
            return self._take_again(max_messages)
        wait_ms = None if self._again else max(round(wait_s * 1000), 1)
        reading = asyncio.ensure_future(self._read_group(">", max_messages, wait_ms))
        try:
            entries = await asyncio.shield(reading)
        except asyncio.CancelledError:
            # What the server gives to a call that nobody waits for any more is ours all the same.
            reading.add_done_callback(self._keep)
            raise
        except _LOST as exc:
            raise _lost(exc) from exc
        return [self._read(entry) for entry in entries] or self._take_again(max_messages)

    def _keep(self, reading: asyncio.Future[list[tuple[bytes, Any]]]) -> None:
        if not reading.cancelled() and reading.exception() is None:
            self._again.extend(self._read(entry) for entry in reading.result())

    def _take_again(self, max_messages: int) -> Sequence[Message]:
        return [self._again.popleft() for _ in range(min(max_messages, len(self._again)))]

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        self._again.extend(again)
        if not done:
            return
        try:
            await self._client.xack(self._settings.key, self._settings.group, *(message.id for message in done))
        except _LOST as exc:
            raise _lost(exc) from exc

    async def lag(self) -> Mapping[str, int]:
        """`unsettled`: given to consumers of the group and not acknowledged."""
        try:
            pending = await self._client.xpending(self._settings.key, self._settings.group)
        except _LOST as exc:
            raise _lost(exc) from exc
        return {"unsettled": int(pending["pending"])}

    async def drop(self) -> None:
        """A group that the operator named is not ours to remove."""
        if self._settings.group == self._settings.consumer:
            await self._client.xgroup_destroy(self._settings.key, self._settings.group)

    async def close(self) -> None:
        with contextlib.suppress(*_LOST):
            await self._client.aclose()


def _lost(exc: BaseException) -> SourceLost:
    return SourceLost(f"Redis: {str(exc) or type(exc).__name__}")
