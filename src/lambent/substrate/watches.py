"""Those who follow changes, shared by all document adapters of one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from lambent.substrate.ports import Change


class Watches:
    def __init__(self) -> None:
        self._open: set[_Watch] = set()

    def open(self, collections: Sequence[str]) -> AsyncIterator[Change]:
        """Follows from now on, even before the first `anext`."""
        watch = _Watch(frozenset(collections), self)
        self._open.add(watch)
        return watch

    def publish(self, changes: Sequence[Change]) -> None:
        for watch in self._open:
            for change in changes:
                if change.collection in watch.collections:
                    watch.queue.put_nowait(change)

    def forget(self, watch: _Watch) -> None:
        self._open.discard(watch)

    def close(self) -> None:
        for watch in list(self._open):
            watch.queue.put_nowait(None)
        self._open.clear()


class _Watch(AsyncIterator[Change]):
    def __init__(self, collections: frozenset[str], watches: Watches) -> None:
        self.collections = collections
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._watches = watches

    async def __anext__(self) -> Change:
        try:
            change = await self.queue.get()
        except asyncio.CancelledError:
            self._watches.forget(self)
            raise
        if change is None:
            raise StopAsyncIteration
        return change
