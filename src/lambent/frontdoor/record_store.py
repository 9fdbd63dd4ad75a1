"""Records that operations change: each change reads one document and writes it back, if nobody else did meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from lambent.model.errors import CallerError
from lambent.substrate.ports import Conflict, Documents, Write

Record = TypeVar("Record")
Result = TypeVar("Result")
_ATTEMPTS = 8


class RecordStore(Generic[Record]):
    """The records of one collection, each under ACCOUNT/ID."""

    def __init__(
        self, documents: Documents, collection: str, kind: type[Record], missing: Callable[[str], CallerError]
    ) -> None:
        """`missing` is what a caller is told of an id that is not there."""
        self._documents = documents
        self._collection = collection
        self._kind = kind
        self._missing = missing

    async def get(self, account: str, id_: str) -> Record:
        """Raises CallerError `NotFoundException`."""
        return (await self._read(account, id_))[0]

    async def list(self, account: str) -> list[Record]:
        documents = await self._documents.list(self._collection, prefix=f"{account}/")
        return [msgspec.json.decode(document.value, type=self._kind) for document in documents]

    async def add(self, account: str, id_: str, record: Record) -> None:
        """Raises Conflict for an id that is taken."""
        await self._documents.commit([self._write(account, id_, record, expect=0)])

    async def change(
        self,
        account: str,
        id_: str,
        work: Callable[[Record], Result],
        also: Callable[[], Sequence[Write]] = tuple,
    ) -> Result:
        """Run `work` on the record and write what it made of it, together with what `also` names after it has run.

        Raises CallerError, also what `work` raises.
        """
        for _ in range(_ATTEMPTS):
            record, revision = await self._read(account, id_)
            result = work(record)
            try:
                await self._documents.commit([self._write(account, id_, record, expect=revision), *also()])
            except Conflict:
                continue
            return result
        raise CallerError("ConflictException", f"{id_} is being changed by others; try again.", status=409)

    async def remove(self, account: str, id_: str, also: Callable[[Record], Sequence[Write]] = lambda _: ()) -> None:
        record, revision = await self._read(account, id_)
        write = Write(collection=self._collection, key=f"{account}/{id_}", value=None, expect=revision)
        try:
            await self._documents.commit([write, *also(record)])
        except Conflict:
            raise CallerError(
                "ConflictException", f"{id_} is being changed by others; try again.", status=409
            ) from None

    async def _read(self, account: str, id_: str) -> tuple[Record, int]:
        document = await self._documents.get(self._collection, f"{account}/{id_}")
        if document is None:
            raise self._missing(id_)
        return msgspec.json.decode(document.value, type=self._kind), document.revision

    def _write(self, account: str, id_: str, record: Record, *, expect: int) -> Write:
        value = msgspec.json.encode(record)
        return Write(collection=self._collection, key=f"{account}/{id_}", value=value, expect=expect)
