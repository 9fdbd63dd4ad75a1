"""Logs of functions whose home may be another process: read and followed where they are written."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence

import msgspec

from lambent.members.membership import Membership
from lambent.members.transport import Done, MemberGone
from lambent.members.unix_transport import UnixTransport
from lambent.model.errors import PlatformError
from lambent.telemetry.function_logs import LogEvent, LogKind, LogStore, LogStream, QuickInvocation, StoredEvent

log = logging.getLogger(__name__)

NEXT_WAIT_S = 10.0
"""How long a question for the next line waits for one."""
FORGET_S = 60.0
"""A follower that is not asked for so long belongs to a process that is gone."""
_MOST_MISSED = 10_000
_RETRY_S = 0.05

MOST_WAITING_BYTES = 4 * 1_048_576
GATHER_S = 0.05

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


class _Line(msgspec.Struct, array_like=True):
    """A LogEvent whose message is bytes, since what may be either cannot be told apart on its way."""

    timestamp_ms: int
    request_id: str
    message: bytes
    kind: LogKind


class _Append(msgspec.Struct, array_like=True):
    """Lines that another process wrote, for the log's home."""

    stream: LogStream
    lines: list[_Line]


_read_appends = msgspec.msgpack.Decoder(list[_Append]).decode


class HomeLogs:
    """Implements `LogStore`. What functions write is written at their home; lines of logs that every process writes
    are gathered for a moment and sent there."""

    def __init__(self, local: LogStore, membership: Membership, transport: UnixTransport) -> None:
        self._local = local
        self._membership = membership
        self._transport = transport
        self._followed: dict[str, _Followed] = {}
        self._waiting: list[_Append] = []
        self._waiting_bytes = 0
        self._dropped = 0
        transport.serve("logs.append", self._serve_append)
        transport.serve_task("logs.read", self._serve_read)
        transport.serve("logs.follow", self._serve_follow)
        transport.serve_task("logs.next", self._serve_next)
        transport.serve("logs.leave", self._serve_leave)

    def write(self, stream: LogStream, events: Sequence[LogEvent] | QuickInvocation) -> None:
        if isinstance(events, QuickInvocation) or self._home_of(stream) == self._membership.me:
            self._local.write(stream, events)
            return
        lines = [_write_line(event) for event in events]
        size_bytes = sum(len(line.message) for line in lines)
        if self._waiting_bytes + size_bytes > MOST_WAITING_BYTES:
            self._dropped += len(events)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(GATHER_S, self._send)
        self._waiting.append(_Append(stream, lines))
        self._waiting_bytes += size_bytes

    def _send(self) -> None:
        """To the homes as they are now: a process that is replaced is waited for by the transport."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._dropped:
            log.warning("log lines dropped", extra={"action": "log_lines_dropped", "lines": self._dropped})
            self._dropped = 0
        of_home: dict[str, list[_Append]] = {}
        for append in waiting:
            of_home.setdefault(self._home_of(append.stream), []).append(append)
        for home, appends in of_home.items():
            if home == self._membership.me:
                self._write_all(appends)
            else:
                self._transport.submit(home, "logs.append", _encode(appends), self._note_sent)

    def _note_sent(self, answer: bytes | Exception) -> None:
        if isinstance(answer, Exception):
            log.warning("log lines lost", extra={"action": "log_lines_lost", "reason": str(answer)})

    def _serve_append(self, body: bytes, done: Done) -> None:
        self._write_all(_read_appends(body))
        done(b"")

    def _write_all(self, appends: list[_Append]) -> None:
        for append in appends:
            self._local.write(append.stream, [_read_line(line) for line in append.lines])

    def _home_of(self, stream: LogStream) -> str:
        return self._membership.home_of(f"{stream.account}/{stream.function}")

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


def _write_line(event: LogEvent) -> _Line:
    message = event.message if isinstance(event.message, bytes) else event.message.encode()
    return _Line(event.timestamp_ms, event.request_id, message, event.kind)


def _read_line(line: _Line) -> LogEvent:
    return LogEvent(timestamp_ms=line.timestamp_ms, request_id=line.request_id, message=line.message, kind=line.kind)


def _ignore(_answer: bytes | Exception) -> None:
    """A follower that could not be opened shows when it is asked."""
