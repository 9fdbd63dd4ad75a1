"""A response on its way from a function to whoever reads it, while the function still writes.

One writer (the channel of an environment) and one reader (the edge). Neither waits for the other in a task of its own:
the writer is told when to stop and when to go on, so that no more than HELD_BYTES wait here, whatever the size.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

HELD_BYTES = 262_144
"""What may wait for the reader before the writer is asked to stop."""


FLOOD_BYTES = 4 * 1_048_576
"""What a writer that was asked to stop may still have had under way, and more."""


def _nothing() -> None: ...


class ResponseStream:
    """`content_type` is what the runtime named, empty for none; known once `begun`."""

    def __init__(self) -> None:
        self.content_type = ""
        self.on_room: Callable[[], None] = _nothing
        """The writer's: called when it may go on after `is_full`."""
        self.on_cancel: Callable[[], None] = _nothing
        """The writer's: called once when nobody reads any more."""
        self.size_bytes = 0
        """Written so far."""
        self.begun = False
        self.cancelled = False
        self._pieces: collections.deque[bytes] = collections.deque()
        self._held_bytes = 0
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        return self._held_bytes >= HELD_BYTES

    @property
    def is_flooded(self) -> bool:
        return self._held_bytes >= FLOOD_BYTES

    def begin(self, content_type: str) -> None:
        self.begun = True
        self.content_type = content_type
        self._wake()

    def write(self, data: bytes) -> None:
        """What comes after the reader has left is dropped."""
        self.size_bytes += len(data)
        if self.cancelled or not data:
            return
        self._pieces.append(data)
        self._held_bytes += len(data)
        self._wake()

    def end(self) -> None:
        """Nothing more will be written, for whatever reason: the outcome of the invocation tells which."""
        self._ended = True
        self.on_room = self.on_cancel = _nothing
        self._wake()

    def cancel(self) -> None:
        """The reader has left. May be called at any time."""
        if self.cancelled or self._ended:
            return
        self.cancelled = True
        self._pieces.clear()
        self._held_bytes = 0
        on_cancel, self.on_cancel = self.on_cancel, _nothing
        on_cancel()
        self.on_room()

    async def wait_begun(self) -> bool:
        """Until the function has begun to answer. False when it ended without having streamed anything."""
        while not self.begun and not self._ended:
            await self._wait()
        return self.begun

    async def read(self) -> bytes:
        """All that waits, once there is some; empty at the end."""
        while not self._pieces and not self._ended:
            await self._wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        was_full = self.is_full
        self._held_bytes = 0
        if was_full:
            self.on_room()
        return data

    async def _wait(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
