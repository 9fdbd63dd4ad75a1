"""What the planes ask of storage. Adapters: `memory` (tests, --ephemeral) and `sqlite` (one machine)."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """`revision` grows by one with each write of the key and starts at 1."""

    key: str
    value: bytes
    revision: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One change of a transaction. `value` None deletes.

    `expect`: None writes whatever is there, 0 only if the key is absent, else only at that revision.
    """

    collection: str
    key: str
    value: bytes | None
    expect: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A committed write as a watcher sees it; `document` is None for a deletion."""

    collection: str
    key: str
    document: Document | None


class Conflict(Exception):
    """A write's `expect` did not hold; nothing of the transaction was written."""

    def __init__(self, collection: str, key: str) -> None:
        super().__init__(f"{collection}/{key} was changed by another writer")
        self.collection = collection
        self.key = key


class Documents(Protocol):
    """Small records under (collection, key), changed by compare-and-set transactions.

    A transaction that `commit` has returned from survives SIGKILL and power loss (durable adapters).
    """

    async def get(self, collection: str, key: str) -> Document | None: ...

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        """Documents whose key starts with `prefix` and sorts (by code point) after `after`, in key order."""
        ...

    async def commit(self, writes: Sequence[Write]) -> None:
        """Write all or nothing. Raises Conflict."""
        ...

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        """Every change committed after this call, in commit order. Start the watch, then read the state."""
        ...

    async def close(self) -> None: ...


class Blobs(Protocol):
    """Immutable bytes named by their SHA-256 (lower-case hex)."""

    async def put(self, data: bytes) -> str:
        """Store and return the digest; durable when it returns. Storing the same bytes twice is cheap."""
        ...

    async def get(self, digest: str) -> bytes:
        """Raises KeyError."""
        ...

    async def delete(self, digest: str) -> None: ...

    def path(self, digest: str) -> Path | None:
        """Where the bytes lie as a file, if they do."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of one module, all named after it. `versions[N-1]` is the script that leads to format N."""

    name: str
    versions: tuple[str, ...]


class Rows(Protocol):
    """What a statement gives: tuples, in order."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    @property
    def get(self) -> Any:
        """All rows, shortened: None for none, one row without its list, one column without its row."""
        ...


class Connection(Protocol):
    """The SQL of SQLite. Statements are complete when `execute` returns; rows are then read."""

    def execute(self, statements: str, bindings: Sequence[Any] | Mapping[str, Any] | None = None, /) -> Rows: ...

    def executemany(
        self, statements: str, sequenceofbindings: Sequence[Sequence[Any]] | Sequence[Mapping[str, Any]], /
    ) -> Rows: ...

    def changes(self) -> int:
        """Rows that the last statement changed."""
        ...

    def last_insert_rowid(self) -> int: ...


class Tables(Protocol):
    """Relational tables with one writer: what the event plane keeps (events, messages, schedules, checkpoints).

    The modules share one database, so that one transaction may span them: an event is done *and* its record lies in a
    queue, or neither.
    """

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction and return its result when that is durable.

        It runs on the writer's thread, within a savepoint: it must be quick and touch nothing but the connection and
        values of its own. One commit serves all that were waiting. What `work` raises undoes its own writes, and is
        raised here. Raises PlatformError for what the store could not do; a full disk is `retry_safe`.
        """
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a consistent snapshot, away from the writer. Sees every write that has returned."""
        ...

    async def close(self) -> None: ...
