"""What the front door serves, held in memory and kept current by watching documents: in every process of a node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from lambent.substrate.follower import Follower
from lambent.substrate.ports import Change, Documents

Record = TypeVar("Record")


class Followed(Generic[Record]):
    """The records of one collection by their keys. `start` returns when all are read."""

    def __init__(
        self,
        documents: Documents,
        collection: str,
        kind: type[Record],
        *,
        on_change: Callable[[str, Record | None, Record | None], None] | None = None,
    ) -> None:
        """`on_change` is told (key, before, after)."""
        self._documents = documents
        self._collection = collection
        self._decode: Any = msgspec.json.Decoder(kind).decode
        self._on_change = on_change
        self._records: dict[str, Record] = {}
        self._follower = Follower(self._follow, f"follow {collection}")

    @property
    def all(self) -> Mapping[str, Record]:
        return self._records

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    async def start(self) -> None:
        await self._follower.start()

    async def stop(self) -> None:
        await self._follower.stop()

    async def _follow(self, loaded: asyncio.Event) -> None:
        # The watch first: what is written while the rest is read comes by it.
        changes = self._documents.watch(self._collection)
        for document in await self._documents.list(self._collection):
            self._apply(Change(collection=self._collection, key=document.key, document=document))
        loaded.set()
        async for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        before = self._records.pop(change.key, None)
        after: Record | None = None
        if change.document is not None:
            after = self._records[change.key] = self._decode(change.document.value)
        if self._on_change is not None:
            self._on_change(change.key, before, after)
