"""Those who read a function's log as it grows."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Sequence

from lambent.telemetry.function_logs import StoredEvent

MAX_WAITING_BYTES = 8 * 1_048_576
"""What may wait for one follower; beyond it lines are left out and their number is told."""
_EVENT_BYTES = 300


class Follower(AsyncIterator[StoredEvent]):
    """One reader's events; ends when the log closes. For one task at a time."""

    def __init__(self, account: str, function: str, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.key = (account, function)
        self.loop = asyncio.get_running_loop()
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[StoredEvent] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._dropped_sequence = 0
        self._stirred = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> StoredEvent:
        while not self._waiting and not self._dropped:
            if self._closed:
                raise StopAsyncIteration
            self._stirred.clear()
            await self._stirred.wait()
        if not self._waiting:
            return self._tell_dropped()
        event = self._waiting.popleft()
        self._waiting_bytes -= len(event.message) + _EVENT_BYTES
        return event

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        """On the event loop's thread."""
        for event in events:
            size = len(event.message) + _EVENT_BYTES
            # Once something was left out, all is until the reader has caught up: the gap is told where it is.
            if self._dropped or self._waiting_bytes + size > self._max_waiting_bytes:
                self._dropped += 1
                self._dropped_sequence = event.sequence
                continue
            self._waiting.append(event)
            self._waiting_bytes += size
        self._stirred.set()

    def close(self) -> None:
        """End once what was delivered has been taken."""
        self._closed = True
        self._stirred.set()

    def _tell_dropped(self) -> StoredEvent:
        message = f"[lambent] {self._dropped} log lines were left out here: they came faster than they were read"
        self._dropped = 0
        return StoredEvent(
            sequence=self._dropped_sequence,
            timestamp_ms=time.time_ns() // 1_000_000,
            stream="",
            request_id="",
            kind="platform",
            message=message,
        )


class Followers:
    """All followers; told of events from any thread."""

    def __init__(self) -> None:
        # Weak, so that a follower that was merely dropped (a client went away) is forgotten with its queue.
        self._open: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._lock = threading.Lock()

    def open(self, account: str, function: str) -> Follower:
        follower = Follower(account, function)
        with self._lock:
            self._open.add(follower)
        return follower

    def any(self) -> bool:
        return len(self._open) > 0

    def publish(self, account: str, function: str, events: Sequence[StoredEvent]) -> None:
        for follower in self._list():
            # RuntimeError: that loop was closed, so nobody reads any more.
            if follower.key == (account, function):
                with contextlib.suppress(RuntimeError):
                    follower.loop.call_soon_threadsafe(follower.deliver, events)

    def close(self) -> None:
        for follower in self._list():
            with contextlib.suppress(RuntimeError):
                follower.loop.call_soon_threadsafe(follower.close)

    def _list(self) -> list[Follower]:
        with self._lock:
            return list(self._open)
