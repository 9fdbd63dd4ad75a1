"""How the node speaks with one environment, whatever runs in it.

Two adapters: `frame_channel` (Python environments, frames over a socketpair) and `runtime_api` (Node and
`provided.*`, the Lambda Runtime API 2018-06-01 over HTTP). The supervisor owns deadlines and processes; a
channel only carries messages and knows nothing of time limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from lambent.dataplane.wire.frames import Call
from lambent.model.limits import STREAMED_RESPONSE_BYTES, SYNC_PAYLOAD_BYTES
from lambent.model.streams import ResponseStream


class Reply(msgspec.Struct, gc=False):
    """`error_type` is empty when the function succeeded; else `payload` is the error document."""

    payload: bytes
    error_type: str = ""


class InitFailed(Exception):
    """The runtime reported that init failed; `payload` is the error document as the contract gives it."""

    def __init__(self, error_type: str, payload: bytes) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.payload = payload


class ChannelClosed(Exception):
    """The environment ended, or broke the protocol, before it answered. `reason` is for the log.

    `by_end`: the other end hung up, so the process ended or is about to. `undelivered`: the environment has seen
    nothing of the invocation.
    """

    def __init__(
        self, reason: str = "the environment ended", *, by_end: bool = False, undelivered: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by_end = by_end
        self.undelivered = undelivered


class TurnOver(ChannelClosed):
    """The time of one of several invocations is over; the environment goes on with the others."""


TakeReply = Callable[[Reply | ChannelClosed], None]


class Intake:
    """Takes the pieces of a streamed answer: into the stream that was given, or together into one answer."""

    def __init__(self, stream: ResponseStream | None) -> None:
        self.stream = stream
        self._whole = bytearray()
        self._limit_bytes = SYNC_PAYLOAD_BYTES if stream is None else STREAMED_RESPONSE_BYTES
        self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        return self.stream is not None and self.stream.is_full

    @property
    def is_flooded(self) -> bool:
        return self.stream is not None and self.stream.is_flooded

    def begin(self, content_type: str) -> None:
        if self.stream is not None:
            self.stream.begin(content_type)

    @property
    def is_too_large(self) -> bool:
        return self._size_bytes > self._limit_bytes

    def take(self, data: bytes) -> None:
        """What goes beyond the limit is dropped."""
        self._size_bytes += len(data)
        if self.is_too_large:
            self._whole.clear()
        elif self.stream is not None:
            self.stream.write(data)
        else:
            self._whole += data

    def finish(self, error_type: str = "", payload: bytes = b"") -> Reply:
        """The answer of the invocation. An error that came before any piece is an ordinary one."""
        if error_type:
            return Reply(payload, error_type)
        if self.is_too_large:
            message = f"Response payload size exceeded maximum allowed payload size ({self._limit_bytes} bytes)."
            error_type = "Function.ResponseSizeTooLarge"
            document = {"errorMessage": message, "errorType": error_type}
            return Reply(msgspec.json.encode(document), error_type)
        return Reply(bytes(self._whole))


class Channel(Protocol):
    concurrency: int
    """How many invocations it takes at a time; known when `wait_ready` has returned."""

    async def wait_ready(self) -> float | None:
        """Wait for the end of init. Returns the init time the runtime measured in ms, None if it cannot tell.

        Raises InitFailed, ChannelClosed.
        """
        ...

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> int:
        """Deliver one invocation; never more than `concurrency` at a time. Returns its number, for `abandon`.

        `take` is called exactly once, after `send` has returned: with the answer, or with why there will be none.
        What is streamed goes to `stream`, and the answer is then empty; without one it is put together. The channel
        does not read on while the stream is full.
        """
        ...

    def abandon(self, number: int) -> None:
        """One of several invocations is over for us: its `take` is called with TurnOver, and its answer is dropped."""
        ...

    def close(self) -> None:
        """Free sockets; a waiting `wait_ready` raises ChannelClosed, a waiting `take` is given one.

        May be called twice.
        """
        ...
