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


TakeReply = Callable[[Reply | ChannelClosed], None]


class Channel(Protocol):
    async def wait_ready(self) -> float | None:
        """Wait for the end of init. Returns the init time the runtime measured in ms, None if it cannot tell.

        Raises InitFailed, ChannelClosed.
        """
        ...

    def send(self, call: Call, take: TakeReply) -> None:
        """Deliver one invocation. One at a time.

        `take` is called exactly once, after `send` has returned: with the answer, or with why there will be none.
        """
        ...

    def close(self) -> None:
        """Free sockets; a waiting `wait_ready` raises ChannelClosed, a waiting `take` is given one.

        May be called twice.
        """
        ...
