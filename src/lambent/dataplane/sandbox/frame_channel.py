"""The channel of a Python environment: frames over one end of a Unix socket pair."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import cast

from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Intake, Reply, TakeReply
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.model.streams import ResponseStream

MAX_BODY_BYTES = 6_291_556 + 1_048_576
"""The largest response and a generous error type; a longer frame is an attack and ends the channel."""

_ANSWERS = (frames.RESULT, frames.ERROR)
_PIECES = (frames.BEGIN, frames.PIECE)
_TO_NODE = frozenset(
    (frames.READY, frames.FAILED, frames.RESULT, frames.ERROR, frames.STEP, frames.BEGIN, frames.PIECE)
)


class StepFailed(ChannelClosed):
    """Confinement failed at `step`; the child ended itself before any user code."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"confinement step {step} failed: {reason}")
        self.step = step
        self.cause = reason


class FrameChannel(asyncio.Protocol):
    """Implements `Channel`. A frame out of turn closes it: the child may be hostile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._ready: asyncio.Future[float | None] = loop.create_future()
        self._take_reply: TakeReply | None = None
        self._stream: ResponseStream | None = None
        self._intake: Intake | None = None
        """Of an answer that comes in pieces."""
        self._closed: ChannelClosed | None = None

    @classmethod
    async def open(cls, control: socket.socket) -> FrameChannel:
        """Takes ownership of the node's end of the pair."""
        loop = asyncio.get_running_loop()
        control.setblocking(False)
        _, channel = await loop.create_unix_connection(lambda: cls(loop), sock=control)
        return channel

    async def wait_ready(self) -> float | None:
        return await self._ready

    async def wait_launched(self) -> None:
        """Wait until the child has executed another program, which hangs up. Raises StepFailed."""
        try:
            await self._ready
        except ChannelClosed as closed:
            if not closed.by_end:
                raise

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> None:
        if self._closed is not None or self._transport is None:
            closed = self._closed or ChannelClosed()
            self._loop.call_soon(take, ChannelClosed(closed.reason, by_end=closed.by_end, undelivered=True))
            return
        self._take_reply = take
        self._stream = stream
        self._transport.write(frames.encode_call(call if stream is None else call._replace(streamed=True)))

    def close(self) -> None:
        self._fail(ChannelClosed("the node closed it"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        if not buffer and len(data) >= frames.HEAD.size:
            # Nearly always: one whole frame in one piece, which needs no copy.
            kind, length = frames.HEAD.unpack_from(data)
            if length == len(data) - frames.HEAD.size and kind in _TO_NODE:
                self._take(kind, data[frames.HEAD.size :])
                return
        buffer += data
        while len(buffer) >= frames.HEAD.size:
            kind, length = frames.HEAD.unpack_from(buffer)
            if kind not in _TO_NODE or length > MAX_BODY_BYTES:
                self._fail(ChannelClosed("the environment sent a frame that the protocol does not have"))
                return
            end = frames.HEAD.size + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[frames.HEAD.size : end])
            del buffer[:end]
            self._take(kind, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ChannelClosed(by_end=True))

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind in _ANSWERS:
            take, self._take_reply = self._take_reply, None
            error_type, payload = ("", body) if kind == frames.RESULT else frames.decode_error(body)
            if take is None:
                self._fail(ChannelClosed("the environment answered without having been asked"))
            elif self._intake is None:
                take(Reply(payload, error_type))
            else:
                intake, self._intake = self._intake, None
                take(intake.finish(error_type, payload))
        elif kind in _PIECES:
            self._take_piece(kind, body)
        elif self._ready.done():
            self._fail(ChannelClosed("the environment reported its start twice"))
        elif kind == frames.READY:
            self._ready.set_result(_init_ms(body))
        elif kind == frames.FAILED:
            self._ready.set_exception(InitFailed(*frames.decode_error(body)))
        else:
            step, _, reason = body.partition(b"\0")
            self._fail(StepFailed(step.decode("utf-8", "replace"), reason.decode("utf-8", "replace")))

    def _take_piece(self, kind: bytes, body: bytes) -> None:
        if self._take_reply is None or (kind == frames.BEGIN) != (self._intake is None):
            self._fail(ChannelClosed("the environment sent a piece of no answer"))
            return
        if self._intake is None:
            self._intake = Intake(self._stream)
            if self._stream is not None:
                self._stream.on_room, self._stream.on_cancel = self._read_on, self._tell_cancelled
            self._intake.begin(body.decode("latin-1"))
            return
        self._intake.take(body)
        if self._intake.is_full and self._transport is not None:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._closed is None and self._transport is not None:
            self._transport.resume_reading()

    def _tell_cancelled(self) -> None:
        if self._closed is None and self._transport is not None:
            self._transport.write(frames.encode(frames.CANCEL, b""))

    def _fail(self, reason: ChannelClosed) -> None:
        if self._closed is not None:
            return
        self._closed = reason
        if self._transport is not None:
            self._transport.abort()
        if not self._ready.done():
            self._ready.set_exception(reason)
        # A start that nobody waits for any more must not be reported as a lost exception.
        if not self._ready.cancelled():
            self._ready.exception()
        take, self._take_reply = self._take_reply, None
        if take is not None:
            # Later: whoever closes it is in the middle of something.
            self._loop.call_soon(take, reason)


def _init_ms(body: bytes) -> float | None:
    try:
        value = json.loads(body)["init_ms"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None
