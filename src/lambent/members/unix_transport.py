# Questions between processes of one machine, over Unix sockets in a closed folder: one kept connection each way.
#
# Rule 1: a question whose connection ends before its answer fails; whether it was carried out is not known.
# Rule 2: a question that could not be sent waits for the member to come back, as long as it has patience.
# Rule 3: what was taken in is carried out, whether or not the asker still lives.
from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from lambent.members.frames import (
    ANSWER,
    ERROR,
    QUESTION,
    BrokenFrame,
    FrameReader,
    decode_error,
    encode_error,
    pack,
    pack_question,
    split_question,
)
from lambent.members.transport import PATIENCE_S, Done, Handler, MemberGone
from lambent.model.errors import CallerError, PlatformError

log = logging.getLogger(__name__)

RETRY_S = 0.05
"""Between attempts to reach a member that is not there."""
_BACKLOG = 64


class UnixTransport:
    """Implements `Transport`, and takes what others ask this member."""

    def __init__(self, folder: Path, me: str) -> None:
        """`folder` is open to this user alone. Its sockets are named by descriptor: a path has 108 bytes at most."""
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._me = me
        self._handlers: dict[str, Handler] = {}
        self._early: dict[str, list[tuple[bytes, Done]]] = {}
        self._lines: dict[str, _Line] = {}
        self._server: asyncio.Server | None = None
        self._served: set[_Served] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take questions; those of a kind that has no handler yet wait for it."""
        path = self.path_of(self._me)
        _remove(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _Served(self), sock=listener)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            _remove(self.path_of(self._me))
        for served in list(self._served):
            served.close()
        for line in self._lines.values():
            await line.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        os.close(self._folder_fd)

    def path_of(self, member: str) -> str:
        return f"/proc/self/fd/{self._folder_fd}/{member}.sock"

    def streams_path_of(self, member: str) -> str:
        """Of `streamed.StreamServer`."""
        return f"/proc/self/fd/{self._folder_fd}/{member}.streams.sock"

    def serve(self, kind: str, handler: Handler) -> None:
        self._handlers[kind] = handler
        for body, done in self._early.pop(kind, []):
            self._handle(handler, body, done)

    def serve_task(self, kind: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """`serve` for what has to wait for something."""

        async def carry_out(body: bytes, done: Done) -> None:
            try:
                answer = await handler(body)
            except Exception as exc:
                done(exc)
            else:
                done(answer)

        def begin(body: bytes, done: Done) -> None:
            task = asyncio.get_running_loop().create_task(carry_out(body, done), name=f"answer {kind}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.serve(kind, begin)

    def submit(self, member: str, kind: str, body: bytes, done: Done, *, patience_s: float = PATIENCE_S) -> None:
        line = self._lines.get(member)
        if line is None:
            line = self._lines[member] = _Line(member, self.path_of(member))
        line.submit(kind, body, done, patience_s)

    async def ask(self, member: str, kind: str, body: bytes, *, patience_s: float = PATIENCE_S) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.submit(member, kind, body, functools.partial(_settle, answer), patience_s=patience_s)
        return await answer

    def take(self, kind: str, body: bytes, done: Done) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            self._early.setdefault(kind, []).append((body, done))
        else:
            self._handle(handler, body, done)

    def adopt(self, served: _Served) -> None:
        self._served.add(served)

    def forget(self, served: _Served) -> None:
        self._served.discard(served)

    @staticmethod
    def _handle(handler: Handler, body: bytes, done: Done) -> None:
        try:
            handler(body, done)
        except Exception as exc:
            done(exc)


class _Served(asyncio.Protocol):
    """A connection on which another member asks."""

    def __init__(self, transport: UnixTransport) -> None:
        self._owner = transport
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.adopt(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame, number, body in self._reader.feed(data):
                if frame != QUESTION:
                    raise BrokenFrame
                kind, question = split_question(body)
                self._owner.take(kind, question, functools.partial(self._answer, number))
        except (BrokenFrame, UnicodeDecodeError, IndexError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.forget(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _answer(self, number: int, answer: bytes | Exception) -> None:
        if not isinstance(answer, bytes) and not isinstance(answer, (CallerError, PlatformError)):
            log.error("question failed", extra={"action": "question_failed"}, exc_info=answer)
        if self._transport is None:
            return
        if isinstance(answer, bytes):
            self._transport.write(pack(ANSWER, number, answer))
        else:
            self._transport.write(pack(ERROR, number, encode_error(answer)))


class _Line:
    """This member's way to another: a connection while there is one, and what waits for the next."""

    def __init__(self, member: str, path: str) -> None:
        self._member = member
        self._path = path
        self._asking: _Asking | None = None
        self._waiting: list[tuple[str, bytes, Done, float]] = []
        self._connecting: asyncio.Task[None] | None = None

    def submit(self, kind: str, body: bytes, done: Done, patience_s: float) -> None:
        if self._asking is not None:
            self._asking.send(kind, body, done)
            return
        loop = asyncio.get_running_loop()
        self._waiting.append((kind, body, done, loop.time() + patience_s))
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect(), name=f"connect to member {self._member}")

    def lose(self, asking: _Asking) -> None:
        if self._asking is asking:
            self._asking = None

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        self._expire(float("inf"))
        if self._asking is not None:
            self._asking.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                try:
                    _, asking = await loop.create_unix_connection(lambda: _Asking(self, self._member), self._path)
                except OSError:
                    self._expire(loop.time())
                    await asyncio.sleep(RETRY_S)
                    continue
                self._asking = asking
                waiting, self._waiting = self._waiting, []
                for kind, body, done, _ in waiting:
                    asking.send(kind, body, done)
        finally:
            self._connecting = None

    def _expire(self, now: float) -> None:
        expired = [waiting for waiting in self._waiting if waiting[3] <= now]
        self._waiting = [waiting for waiting in self._waiting if waiting[3] > now]
        for _, _, done, _ in expired:
            done(MemberGone(f"Process {self._member} of the node is being replaced; try again.", retry_safe=True))


class _Asking(asyncio.Protocol):
    """A connection on which this member asks."""

    def __init__(self, line: _Line, member: str) -> None:
        self._line = line
        self._member = member
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._asked: dict[int, Done] = {}
        self._number = 0
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, kind: str, body: bytes, done: Done) -> None:
        if self._transport is None or self._lost:
            asyncio.get_running_loop().call_soon(done, self._gone())
            return
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._asked[self._number] = done
        self._transport.write(pack_question(self._number, kind, body))

    def data_received(self, data: bytes) -> None:
        try:
            for frame, number, body in self._reader.feed(data):
                done = self._asked.pop(number, None)
                if frame == QUESTION or done is None:
                    raise BrokenFrame
                done(body if frame == ANSWER else decode_error(body))
        except BrokenFrame:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._line.lose(self)
        asked, self._asked = self._asked, {}
        for done in asked.values():
            done(self._gone())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _gone(self) -> MemberGone:
        return MemberGone(f"Process {self._member} of the node ended before it answered; try again.")


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _settle(answer: asyncio.Future[bytes], result: bytes | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
