"""Documents that live as long as the process: for tests and throw-away nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Change, Conflict, Document, Write
from lambent.substrate.watches import Watches


class MemoryDocuments:
    """Implements `Documents`. A commit has no await in it, so that the event loop alone makes it atomic."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, Document]] = {}
        self._watches = Watches()
        self._closed = False

    async def get(self, collection: str, key: str) -> Document | None:
        self._check_open()
        return self._collections.get(collection, {}).get(key)

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        self._check_open()
        documents = self._collections.get(collection, {})
        keys = sorted(key for key in documents if key.startswith(prefix) and key > after)
        return [documents[key] for key in keys[:limit]]

    async def commit(self, writes: Sequence[Write]) -> None:
        self._check_open()
        staged: dict[tuple[str, str], Document | None] = {}
        changes = []
        for write in writes:
            place = (write.collection, write.key)
            known = self._collections.get(write.collection, {}).get(write.key)
            before = staged.get(place, known)
            revision = before.revision if before is not None else 0
            if write.expect is not None and write.expect != revision:
                raise Conflict(write.collection, write.key)
            if write.value is None and before is None:
                continue
            after = None if write.value is None else Document(write.key, bytes(write.value), revision + 1)
            staged[place] = after
            changes.append(Change(collection=write.collection, key=write.key, document=after))
        for (collection, key), document in staged.items():
            self._place(collection, key, document)
        self._watches.publish(changes)

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        self._check_open()
        return self._watches.open(collections)

    async def close(self) -> None:
        self._closed = True
        self._watches.close()

    def _place(self, collection: str, key: str, document: Document | None) -> None:
        documents = self._collections.setdefault(collection, {})
        if document is None:
            documents.pop(key, None)
        else:
            documents[key] = document

    def _check_open(self) -> None:
        if self._closed:
            raise PlatformError("The document store is closed.", retry_safe=True)
