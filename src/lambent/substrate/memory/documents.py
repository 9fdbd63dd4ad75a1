"""Documents in memory: the fake that tests and throw-away nodes use, under the same contract suite as SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from lambent.substrate.ports import Change, Conflict, Document, Write
from lambent.substrate.watches import Watches


class MemoryDocuments:
    """Implements `Documents`."""

    def __init__(self) -> None:
        self._documents: dict[str, dict[str, Document]] = {}
        self._watches = Watches()

    async def get(self, collection: str, key: str) -> Document | None:
        return self._documents.get(collection, {}).get(key)

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        documents = self._documents.get(collection, {})
        keys = sorted(key for key in documents if key.startswith(prefix) and key > after)
        return [documents[key] for key in keys[:limit]]

    async def commit(self, writes: Sequence[Write]) -> None:
        for write in writes:
            self._check(write)
        self._watches.publish([self._apply(write) for write in writes])

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        return self._watches.open(collections)

    async def close(self) -> None:
        self._watches.close()

    def _check(self, write: Write) -> None:
        if write.expect is None:
            return
        present = self._documents.get(write.collection, {}).get(write.key)
        if write.expect != (present.revision if present else 0):
            raise Conflict(write.collection, write.key)

    def _apply(self, write: Write) -> Change:
        documents = self._documents.setdefault(write.collection, {})
        present = documents.pop(write.key, None)
        if write.value is None:
            return Change(collection=write.collection, key=write.key, document=None)
        revision = present.revision + 1 if present else 1
        document = documents[write.key] = Document(write.key, write.value, revision)
        return Change(collection=write.collection, key=write.key, document=document)
