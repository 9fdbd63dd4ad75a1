"""Hands committed changes to those who watch: the half of `Documents.watch` that all adapters share."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence

from lambent.substrate.ports import Change


class Watch(AsyncIterator[Change]):
    """One watcher's changes, in commit order; ends when the store closes. For one task at a time."""

    def __init__(self, collections: Iterable[str]) -> None:
        self._collections = frozenset(collections)
        self._changes: deque[Change] = deque()
        self._stirred = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._closed:
                raise StopAsyncIteration
            self._stirred.clear()
            await self._stirred.wait()
        return self._changes.popleft()

    def deliver(self, changes: Sequence[Change]) -> None:
        self._changes.extend(change for change in changes if change.collection in self._collections)
        self._stirred.set()

    @property
    def is_behind(self) -> bool:
        """Whether something delivered has not been taken."""
        return bool(self._changes)

    def close(self) -> None:
        """End the watch once what was delivered has been taken."""
        self._closed = True
        self._stirred.set()


class Watches:
    """Everyone who watches one store. Used on the event loop's thread only."""

    def __init__(self) -> None:
        # Weak, so that a watcher that was merely dropped (a cancelled task, a `break`) is forgotten with its queue.
        self._open: weakref.WeakSet[Watch] = weakref.WeakSet()

    def open(self, collections: Iterable[str]) -> Watch:
        watch = Watch(collections)
        self._open.add(watch)
        return watch

    def publish(self, changes: Sequence[Change]) -> None:
        for watch in self._open:
            watch.deliver(changes)

    def are_behind(self) -> bool:
        return any(watch.is_behind for watch in self._open)

    def close(self) -> None:
        for watch in self._open:
            watch.close()
        self._open.clear()
