"""The channel of a Python environment: frames over one end of a Unix socket pair."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from typing import cast

from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Intake, Reply, TakeReply, TurnOver
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.model.streams import ResponseStream

MAX_BODY_BYTES = 6_291_556 + 1_048_576
"""The largest response and a generous error type; a longer frame is an attack and ends the channel."""

_NUMBERS = 65_536
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


class _Turn:
    """One invocation between its delivery and its answer."""

    __slots__ = ("intake", "is_held", "stream", "take")

    def __init__(self, take: TakeReply | None, stream: ResponseStream | None) -> None:
        self.take = take
        """None once it was abandoned: its answer is dropped."""
        self.stream = stream
        self.intake: Intake | None = None
        """Of an answer that comes in pieces."""
        self.is_held = False
        """The child was asked to stop, since the reader is behind."""


class FrameChannel(asyncio.Protocol):
    """Implements `Channel`. A frame out of turn closes it: the child may be hostile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, most: int = 1) -> None:
        """`most`: how many invocations at a time the child may say that it takes."""
        self._loop = loop
        self._most = most
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._ready: asyncio.Future[float | None] = loop.create_future()
        self._turns: dict[int, _Turn] = {}
        """By number; the only one is 0 where there is one at a time."""
        self._next_number = 0
        self.concurrency = 1
        self._closed: ChannelClosed | None = None

    @classmethod
    async def open(cls, control: socket.socket, *, most: int = 1) -> FrameChannel:
        """Takes ownership of the node's end of the pair."""
        loop = asyncio.get_running_loop()
        control.setblocking(False)
        _, channel = await loop.create_unix_connection(lambda: cls(loop, most=most), sock=control)
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

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> int:
        if self._closed is not None or self._transport is None:
            closed = self._closed or ChannelClosed()
            self._loop.call_soon(take, ChannelClosed(closed.reason, by_end=closed.by_end, undelivered=True))
            return 0
        if stream is not None:
            call = call._replace(streamed=True)
        if self.concurrency == 1:
            self._turns[0] = _Turn(take, stream)
            self._transport.write(frames.encode_call(call))
            return 0
        number = self._find_number()
        self._turns[number] = _Turn(take, stream)
        self._transport.write(frames.encode_call(call, number))
        return number

    def abandon(self, number: int) -> None:
        turn = self._turns.get(number)
        if turn is None or turn.take is None:
            return
        take, turn.take, turn.stream, turn.intake = turn.take, None, None, None
        self._tell(frames.ABORT, number)
        self._loop.call_soon(take, TurnOver("its time is over"))

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
        if kind in _ANSWERS or kind in _PIECES:
            number = 0
            if self.concurrency > 1:
                if len(body) < frames.NUMBER.size:
                    self._fail(ChannelClosed("the environment sent a frame without a number"))
                    return
                number = frames.NUMBER.unpack_from(body)[0]
                body = body[frames.NUMBER.size :]
            turn = self._turns.get(number)
            if turn is None:
                self._fail(ChannelClosed("the environment answered without having been asked"))
            elif kind in _PIECES:
                self._take_piece(number, turn, kind, body)
            else:
                del self._turns[number]
                self._take_answer(turn, kind, body)
        elif self._ready.done():
            self._fail(ChannelClosed("the environment reported its start twice"))
        elif kind == frames.READY:
            self._take_ready(body)
        elif kind == frames.FAILED:
            self._ready.set_exception(InitFailed(*frames.decode_error(body)))
        else:
            step, _, reason = body.partition(b"\0")
            self._fail(StepFailed(step.decode("utf-8", "replace"), reason.decode("utf-8", "replace")))

    def _take_ready(self, body: bytes) -> None:
        told = _read_ready(body)
        concurrency = told.get("concurrency", 1)
        if isinstance(concurrency, int) and 1 < concurrency <= self._most:
            self.concurrency = concurrency
        init_ms = told.get("init_ms")
        self._ready.set_result(float(init_ms) if isinstance(init_ms, int | float) else None)

    def _take_answer(self, turn: _Turn, kind: bytes, body: bytes) -> None:
        if turn.take is None:
            return
        error_type, payload = ("", body) if kind == frames.RESULT else frames.decode_error(body)
        turn.take(Reply(payload, error_type) if turn.intake is None else turn.intake.finish(error_type, payload))

    def _take_piece(self, number: int, turn: _Turn, kind: bytes, body: bytes) -> None:
        if turn.take is None:
            return
        if (kind == frames.BEGIN) != (turn.intake is None):
            self._fail(ChannelClosed("the environment sent a piece of no answer"))
            return
        if turn.intake is None:
            turn.intake = Intake(turn.stream)
            if turn.stream is not None:
                turn.stream.on_room = functools.partial(self._read_on, number, turn)
                turn.stream.on_cancel = functools.partial(self._tell, frames.CANCEL, number)
            turn.intake.begin(body.decode("latin-1"))
            return
        turn.intake.take(body)
        if not turn.intake.is_full or self._transport is None:
            return
        if self.concurrency == 1:
            self._transport.pause_reading()
        elif not turn.is_held:
            turn.is_held = True
            self._tell(frames.HOLD, number)
        elif turn.intake.is_flooded:
            self._fail(ChannelClosed("the environment went on writing to a reader who is behind"))

    def _read_on(self, number: int, turn: _Turn) -> None:
        if self._closed is not None or self._transport is None:
            return
        if self.concurrency == 1:
            self._transport.resume_reading()
        elif turn.is_held and self._turns.get(number) is turn:
            turn.is_held = False
            self._tell(frames.RELEASE, number)

    def _tell(self, kind: bytes, number: int) -> None:
        if self._closed is not None or self._transport is None:
            return
        if self.concurrency == 1:
            self._transport.write(frames.encode(kind, b""))
        elif number in self._turns:
            self._transport.write(frames.encode_numbered(kind, number, b""))

    def _find_number(self) -> int:
        """One that is not taken; not the one that was used last, of which something may still be under way."""
        while self._next_number in self._turns:
            self._next_number = (self._next_number + 1) % _NUMBERS
        number = self._next_number
        self._next_number = (number + 1) % _NUMBERS
        return number

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
        turns, self._turns = self._turns, {}
        for turn in turns.values():
            if turn.take is not None:
                # Later: whoever closes it is in the middle of something.
                self._loop.call_soon(turn.take, reason)


def _read_ready(body: bytes) -> dict[str, object]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
