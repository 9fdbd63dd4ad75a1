"""Logs of functions whose home may be another process: read and followed where they are written."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator

import msgspec

from lambent.members.membership import Membership
from lambent.members.transport import Done, MemberGone
from lambent.members.unix_transport import UnixTransport
from lambent.model.errors import PlatformError
from lambent.telemetry.function_logs import LogReader, StoredEvent

NEXT_WAIT_S = 10.0
"""How long a question for the next line waits for one."""
FORGET_S = 60.0
"""A follower that is not asked for so long belongs to a process that is gone."""
_MOST_MISSED = 10_000
_RETRY_S = 0.05

_encode = msgspec.msgpack.Encoder().encode
_read_events = msgspec.msgpack.Decoder(list[StoredEvent]).decode


class _Read(msgspec.Struct, array_like=True):
    account: str
    function: str
    since_ms: int
    limit: int


class _Follow(msgspec.Struct, array_like=True):
    id: str
    account: str
    function: str


class HomeLogs:
    """Implements `LogReader`."""

    def __init__(self, local: LogReader, membership: Membership, transport: UnixTransport) -> None:
        self._local = local
        self._membership = membership
        self._transport = transport
        self._followed: dict[str, _Followed] = {}
        transport.serve_task("logs.read", self._serve_read)
        transport.serve("logs.follow", self._serve_follow)
        transport.serve_task("logs.next", self._serve_next)
        transport.serve("logs.leave", self._serve_leave)

    async def read(self, account: str, function: str, *, since_ms: int = 0, limit: int = 1_000) -> list[StoredEvent]:
        home = self._membership.home_of(f"{account}/{function}")
        if home != self._membership.me:
            try:
                question = _encode(_Read(account, function, since_ms, limit))
                return _read_events(await self._transport.ask(home, "logs.read", question, patience_s=0.0))
            except MemberGone:
                # What it wrote lies in files that all can read.
                pass
        return await self._local.read(account, function, since_ms=since_ms, limit=limit)

    def follow(self, account: str, function: str) -> AsyncIterator[StoredEvent]:
        home = self._membership.home_of(f"{account}/{function}")
        if home == self._membership.me:
            return self._local.follow(account, function)
        return _RemoteFollower(self, self._transport, home, account, function)

    async def _serve_read(self, body: bytes) -> bytes:
        asked = msgspec.msgpack.decode(body, type=_Read)
        return _encode(
            await self._local.read(asked.account, asked.function, since_ms=asked.since_ms, limit=asked.limit)
        )

    def _serve_follow(self, body: bytes, done: Done) -> None:
        asked = msgspec.msgpack.decode(body, type=_Follow)
        followed = _Followed(self._local.follow(asked.account, asked.function))
        self._followed[asked.id] = followed
        self._watch(asked.id, followed)
        done(b"")

    async def _serve_next(self, body: bytes) -> bytes:
        """The next line, or none yet."""
        name = body.decode()
        followed = self._followed.get(name)
        if followed is None:
            raise MemberGone("This log is not followed here.", retry_safe=True)
        self._watch(name, followed)
        try:
            async with asyncio.timeout(NEXT_WAIT_S):
                return _encode([await anext(followed.events)])
        except (TimeoutError, StopAsyncIteration):
            return _encode([])

    def _serve_leave(self, body: bytes, done: Done) -> None:
        followed = self._followed.pop(body.decode(), None)
        if followed is not None and followed.timer is not None:
            followed.timer.cancel()
        done(b"")

    def _watch(self, name: str, followed: _Followed) -> None:
        if followed.timer is not None:
            followed.timer.cancel()
        followed.timer = asyncio.get_running_loop().call_later(FORGET_S, self._followed.pop, name, None)


class _Followed:
    """A follower kept for another process."""

    def __init__(self, events: AsyncIterator[StoredEvent]) -> None:
        self.events = events
        self.timer: asyncio.TimerHandle | None = None


class _RemoteFollower(AsyncIterator[StoredEvent]):
    """Follows over a replacement of the home: what was written meanwhile is read from the files."""

    def __init__(self, logs: HomeLogs, transport: UnixTransport, home: str, account: str, function: str) -> None:
        self._logs = logs
        self._transport = transport
        self._home = home
        self._key = (account, function)
        self._since_ms = int(time.time() * 1000)
        self._last_sequence = 0
        self._missed: list[StoredEvent] = []
        # At once, before what the caller asks next: questions are taken in order.
        self._id = self._open()

    def __del__(self) -> None:
        # RuntimeError: the loop was closed, and the other process notices by itself.
        with contextlib.suppress(RuntimeError):
            self._transport.submit(self._home, "logs.leave", self._id.encode(), _ignore, patience_s=0.0)

    async def __anext__(self) -> StoredEvent:
        while True:
            if self._missed:
                event = self._missed.pop(0)
            elif (found := await self._ask()) is not None:
                event = found
            else:
                continue
            if event.sequence > self._last_sequence:
                self._last_sequence, self._since_ms = event.sequence, event.timestamp_ms
                return event

    async def _ask(self) -> StoredEvent | None:
        try:
            events = _read_events(await self._transport.ask(self._home, "logs.next", self._id.encode()))
        except PlatformError:
            await self._begin_again()
            return None
        return events[0] if events else None

    async def _begin_again(self) -> None:
        self._id = self._open()
        self._missed = await self._logs.read(*self._key, since_ms=self._since_ms, limit=_MOST_MISSED)
        await asyncio.sleep(_RETRY_S)

    def _open(self) -> str:
        name = uuid.uuid4().hex
        self._transport.submit(self._home, "logs.follow", _encode(_Follow(name, *self._key)), _ignore)
        return name


def _ignore(_answer: bytes | Exception) -> None:
    """A follower that could not be opened shows when it is asked."""
