"""Typed reads and writes of functions, versions, aliases, layers, what is provisioned, URLs and policies.

The only writer of their collections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from lambent.model.function import LATEST, Alias, Function, FunctionUrl, LayerVersion, Policy, Provisioned, Version
from lambent.substrate.ports import Conflict, Document, Documents, Write

FUNCTIONS, VERSIONS, ALIASES, LAYERS, PROVISIONED = "functions", "versions", "aliases", "layers", "provisioned"
FUNCTION_URLS, POLICIES = "function_urls", "policies"
ABSENT = 0
"""As `expect`: write only where nothing is."""

Record = TypeVar("Record", Function, Version, Alias, LayerVersion, Provisioned, FunctionUrl, Policy)
Result = TypeVar("Result")

_COLLECTIONS: dict[type, str] = {
    Function: FUNCTIONS,
    Version: VERSIONS,
    Alias: ALIASES,
    LayerVersion: LAYERS,
    Provisioned: PROVISIONED,
    FunctionUrl: FUNCTION_URLS,
    Policy: POLICIES,
}
_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Stored(Generic[Record]):
    """A record and the revision of the document it was read from."""

    value: Record
    revision: int


class Registry:
    """Reads return what is committed; writes are built with `put` and `drop` and committed together."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def function(self, account: str, name: str) -> Stored[Function] | None:
        return _decode(Function, await self._documents.get(FUNCTIONS, f"{account}/{name}"))

    async def version(self, account: str, name: str, version: str) -> Stored[Version] | None:
        return _decode(Version, await self._documents.get(VERSIONS, f"{account}/{name}/{version}"))

    async def alias(self, account: str, name: str, alias: str) -> Stored[Alias] | None:
        return _decode(Alias, await self._documents.get(ALIASES, f"{account}/{name}/{alias}"))

    async def provisioned(self, account: str, name: str, qualifier: str) -> Stored[Provisioned] | None:
        return _decode(Provisioned, await self._documents.get(PROVISIONED, f"{account}/{name}/{qualifier}"))

    async def function_url(self, account: str, name: str, qualifier: str) -> Stored[FunctionUrl] | None:
        return _decode(FunctionUrl, await self._documents.get(FUNCTION_URLS, f"{account}/{name}/{qualifier}"))

    async def function_urls(self, account: str, name: str) -> list[Stored[FunctionUrl]]:
        return await self._list(FunctionUrl, f"{account}/{name}/")

    async def policy(self, account: str, name: str, qualifier: str) -> Stored[Policy] | None:
        return _decode(Policy, await self._documents.get(POLICIES, f"{account}/{name}/{qualifier}"))

    async def policies(self, account: str, name: str) -> list[Stored[Policy]]:
        return await self._list(Policy, f"{account}/{name}/")

    async def layer(self, account: str, name: str, number: int) -> Stored[LayerVersion] | None:
        return _decode(LayerVersion, await self._documents.get(LAYERS, f"{account}/{name}/{number:010}"))

    async def functions(self, account: str) -> list[Stored[Function]]:
        return await self._list(Function, f"{account}/")

    async def versions(self, account: str, name: str = "") -> list[Stored[Version]]:
        """Of one function, or of all: by name, `$LATEST` first, then by number."""
        stored = await self._list(Version, f"{account}/{name}/" if name else f"{account}/")
        return sorted(stored, key=lambda entry: (entry.value.name, _number(entry.value.version)))

    async def aliases(self, account: str, name: str) -> list[Stored[Alias]]:
        return await self._list(Alias, f"{account}/{name}/")

    async def all_provisioned(self, account: str, name: str = "") -> list[Stored[Provisioned]]:
        """Of one function, or of all."""
        return await self._list(Provisioned, f"{account}/{name}/" if name else f"{account}/")

    async def layers(self, account: str, name: str = "") -> list[Stored[LayerVersion]]:
        """Of one layer, or of all: by name and number, deleted ones included."""
        return await self._list(LayerVersion, f"{account}/{name}/" if name else f"{account}/")

    async def all_versions(self) -> list[Stored[Version]]:
        return await self._list(Version, "")

    async def all_layers(self) -> list[Stored[LayerVersion]]:
        return await self._list(LayerVersion, "")

    async def commit(self, *writes: Write) -> None:
        """All or nothing. Raises Conflict."""
        await self._documents.commit(writes)

    async def _list(self, kind: type[Record], prefix: str) -> list[Stored[Record]]:
        documents = await self._documents.list(_COLLECTIONS[kind], prefix=prefix)
        return [Stored(msgspec.json.decode(doc.value, type=kind), doc.revision) for doc in documents]


def put(record: Record, *, expect: int) -> Write:
    """`expect` is the revision that was read, or ABSENT; a record put back unchanged only guards its revision."""
    return Write(
        collection=_COLLECTIONS[type(record)], key=key_of(record), value=msgspec.json.encode(record), expect=expect
    )


def drop(stored: Stored[Record]) -> Write:
    record = stored.value
    return Write(collection=_COLLECTIONS[type(record)], key=key_of(record), value=None, expect=stored.revision)


def key_of(record: Function | Version | Alias | LayerVersion | Provisioned | FunctionUrl | Policy) -> str:
    match record:
        case Function(account=account, name=name):
            return f"{account}/{name}"
        case Version(account=account, name=name, version=version):
            return f"{account}/{name}/{version}"
        case Alias(account=account, function=function, name=name):
            return f"{account}/{function}/{name}"
        case Provisioned(account=account, function=function, qualifier=qualifier):
            return f"{account}/{function}/{qualifier}"
        case FunctionUrl(account=account, function=function, qualifier=qualifier):
            return f"{account}/{function}/{qualifier}"
        case Policy(account=account, function=function, qualifier=qualifier):
            return f"{account}/{function}/{qualifier}"
        case LayerVersion(account=account, name=name, version=number):
            return f"{account}/{name}/{number:010}"


async def repeat(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Run a read-and-commit again when another writer came between. Raises Conflict after the last attempt."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await attempt()
        except Conflict:
            continue
    return await attempt()


def _decode(kind: type[Record], document: Document | None) -> Stored[Record] | None:
    if document is None:
        return None
    return Stored(msgspec.json.decode(document.value, type=kind), document.revision)


def _number(version: str) -> int:
    return 0 if version == LATEST else int(version)


def values(stored: Sequence[Stored[Record]]) -> list[Record]:
    return [entry.value for entry in stored]
