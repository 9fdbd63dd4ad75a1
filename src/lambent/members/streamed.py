"""Questions whose answers come in pieces: a connection for each, so that the kernel holds back who writes too fast.

    asker     'Q' question
    answerer  'B' content type, once, if the answer has pieces; 'P' piece, ...; 'A' answer or 'E' error, the end

Whoever asks hangs up when nobody reads any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from lambent.members.frames import decode_error, encode_error
from lambent.members.transport import MemberGone
from lambent.model.streams import ResponseStream

Answer = Callable[[bytes, ResponseStream], Awaitable[bytes]]
"""Answers a question; what comes before the answer goes into the stream. Raises CallerError, PlatformError."""

_HEAD = struct.Struct("!cI")
_QUESTION, _BEGIN, _PIECE, _ANSWER, _ERROR = b"Q", b"B", b"P", b"A", b"E"
MAX_FRAME_BYTES = 16 * 1_048_576


class StreamServer:
    """Takes such questions on a socket in a folder that is open to this user alone."""

    def __init__(self, path: str, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        _remove(self._path)
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            _remove(self._path)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            kind, question = await _read(reader)
            if kind == _QUESTION:
                await self._carry_out(question, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The asker is gone, or this member goes: nobody waits for an answer.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry_out(self, question: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = ResponseStream()
        answering = asyncio.ensure_future(self._answer(question, stream))
        hung_up = asyncio.create_task(reader.read(1), name="wait for the asker to hang up")
        hung_up.add_done_callback(lambda _: stream.cancel())
        try:
            await _pump(stream, writer)
            try:
                last = _pack(_ANSWER, await answering)
            except Exception as exc:
                last = _pack(_ERROR, encode_error(exc))
            writer.write(last)
            await writer.drain()
        finally:
            stream.cancel()
            hung_up.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await hung_up
            if not answering.done():
                # Carried out whether or not anybody still asks.
                answering.add_done_callback(lambda done: done.cancelled() or done.exception())


async def ask_streamed(path: str, member: str, question: bytes, stream: ResponseStream) -> bytes:
    """The answer, after its pieces went into `stream`, which is then ended. Raises what the answerer raises."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as exc:
        stream.end()
        raise MemberGone(f"Process {member} of the node is being replaced; try again.", retry_safe=True) from exc
    room = asyncio.Event()
    stream.on_room, stream.on_cancel = room.set, writer.close
    try:
        writer.write(_pack(_QUESTION, question))
        while True:
            kind, body = await _read(reader)
            if kind == _ANSWER:
                return body
            if kind == _ERROR:
                raise decode_error(body)
            if kind == _BEGIN:
                stream.begin(body.decode("latin-1"))
                continue
            stream.write(body)
            while stream.is_full:
                room.clear()
                await room.wait()
    except (asyncio.IncompleteReadError, ConnectionError) as exc:
        raise MemberGone(f"Process {member} of the node ended before it answered; try again.") from exc
    finally:
        stream.end()
        writer.close()


async def _pump(stream: ResponseStream, writer: asyncio.StreamWriter) -> None:
    if not await stream.wait_begun():
        return
    writer.write(_pack(_BEGIN, stream.content_type.encode("latin-1", "replace")))
    while data := await stream.read():
        writer.write(_pack(_PIECE, data))
        await writer.drain()


def _pack(kind: bytes, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body)) + body


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > MAX_FRAME_BYTES:
        raise ConnectionError("the other end sent a frame that is too large")
    return kind, await reader.readexactly(length)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
