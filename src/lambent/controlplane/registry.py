"""The records of functions, typed; all writes are compare-and-set transactions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from lambent.model.errors import CallerError
from lambent.model.function import Alias, Function, LayerVersion, Version
from lambent.substrate.ports import Conflict, Documents, Write

Record = Function | Version | Alias | LayerVersion
_Kind = TypeVar("_Kind", Function, Version, Alias, LayerVersion)

_COLLECTIONS: dict[type, str] = {
    Function: "functions",
    Version: "versions",
    Alias: "aliases",
    LayerVersion: "layers",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Stored(Generic[_Kind]):
    value: _Kind
    revision: int


def key_of(record: Record) -> str:
    if isinstance(record, Function):
        return f"{record.account}/{record.name}"
    if isinstance(record, Version):
        return f"{record.account}/{record.name}/{record.version}"
    if isinstance(record, Alias):
        return f"{record.account}/{record.function}/{record.name}"
    return f"{record.account}/{record.name}/{record.version:010d}"


def put(record: Record, *, expect: int | None = None) -> Write:
    """`expect` as in `substrate.Write`: the revision it was read at, 0 for a new record."""
    return Write(
        collection=_COLLECTIONS[type(record)], key=key_of(record), value=msgspec.json.encode(record), expect=expect
    )


def remove(record: Record, *, expect: int | None = None) -> Write:
    return Write(collection=_COLLECTIONS[type(record)], key=key_of(record), value=None, expect=expect)


class Registry:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def find(self, kind: type[_Kind], *key: str) -> Stored[_Kind] | None:
        document = await self._documents.get(_COLLECTIONS[kind], "/".join(key))
        if document is None:
            return None
        return Stored(msgspec.json.decode(document.value, type=kind), document.revision)

    async def list(self, kind: type[_Kind], *prefix: str) -> Sequence[Stored[_Kind]]:
        """All records whose key starts with these parts, in key order."""
        start = "/".join((*prefix, ""))
        documents = await self._documents.list(_COLLECTIONS[kind], prefix=start if prefix else "")
        return [Stored(msgspec.json.decode(item.value, type=kind), item.revision) for item in documents]

    async def commit(self, *writes: Write, resource: str) -> None:
        """Raises CallerError `ResourceConflictException` when another request changed one of the records."""
        try:
            await self._documents.commit(writes)
        except Conflict as conflict:
            raise CallerError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource: " + resource,
                status=409,
            ) from conflict
