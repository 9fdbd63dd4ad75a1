"""Documents in one SQLite file: WAL, synchronous=FULL, one writing connection, group commit.

apsw and not the standard library's module, because it brings its own SQLite: versions before 3.51.3 can corrupt a WAL
database that two connections write or checkpoint at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from lambent.model.errors import OperatorError, PlatformError
from lambent.substrate.ports import Change, Conflict, Document, Write
from lambent.substrate.watches import Watches

_Result = TypeVar("_Result")
_LAST_CHARACTER = "\U0010ffff"
_NO_LIMIT = -1


def _read_statements() -> dict[str, str]:
    text = resources.files(__package__).joinpath("documents.sql").read_text()
    blocks = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


_SQL = _read_statements()


def open_documents(path: Path) -> SqliteDocuments:
    """Open or create the file. Raises OperatorError when it is of a newer version, damaged or not usable."""
    try:
        connection = apsw.Connection(str(path))
        _configure(connection, path)
        _check(connection, path)
        _migrate(connection, path)
    except (apsw.Error, OSError) as exc:
        raise OperatorError(
            f"The database {path} cannot be opened: {exc}. Check its permissions and the disk."
        ) from exc
    return SqliteDocuments(connection)


def _configure(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(5_000)
    for pragma, wanted in (("journal_mode=WAL", "wal"), ("synchronous=FULL", None), ("foreign_keys=ON", None)):
        got = connection.pragma(*pragma.split("="))
        if wanted is not None and got != wanted:
            raise OperatorError(f"The file system of {path} does not carry SQLite's WAL mode; use a local disk.")
    if connection.pragma("synchronous") != 2:
        raise OperatorError(f"SQLite did not accept synchronous=FULL for {path}; data would not be durable.")


def _check(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("quick_check") != "ok":
        raise OperatorError(f"The database {path} is damaged; restore the data folder from a backup.")


def _migrate(connection: apsw.Connection, path: Path) -> None:
    folder = resources.files(__package__).joinpath("migrations")
    scripts = sorted(item for item in (entry.name for entry in folder.iterdir()) if item.endswith(".sql"))
    version = connection.pragma("user_version")
    if version > len(scripts):
        raise OperatorError(
            f"The data folder of {path} was written by a newer Lambent (schema {version}, this one knows "
            f"{len(scripts)}); start it with that version."
        )
    for number, name in enumerate(scripts[version:], version + 1):
        with connection:
            connection.execute(folder.joinpath(name).read_text())
            connection.pragma("user_version", number)


_Committed = list[Change] | Exception
"""What became of a transaction."""


class _Transaction:
    def __init__(self, writes: Sequence[Write], done: Callable[[_Committed], None]) -> None:
        self.writes = writes
        self.done = done


class SqliteDocuments:
    """Implements `Documents`. Every statement runs on one thread; transactions that wait share one COMMIT."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._work: queue.SimpleQueue[_Transaction | Callable[[], None] | None] = queue.SimpleQueue()
        self._watches = Watches()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="sqlite", daemon=True)
        self._thread.start()

    async def get(self, collection: str, key: str) -> Document | None:
        def read() -> Document | None:
            row = self._connection.execute(_SQL["get"], (collection, key)).fetchone()
            return Document(key, *row) if row else None

        return await self._run(read)

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        bounds = (collection, prefix, prefix + _LAST_CHARACTER, after, _NO_LIMIT if limit is None else limit)
        return await self._run(lambda: [Document(*row) for row in self._connection.execute(_SQL["list"], bounds)])

    async def commit(self, writes: Sequence[Write]) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def settle(result: _Committed) -> None:
            # Published on the loop in the order of commits, before whoever committed goes on.
            if not isinstance(result, Exception):
                self._watches.publish(result)
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(None)

        self._put(_Transaction(writes, lambda result: loop.call_soon_threadsafe(settle, result)))
        # Shielded: a caller that goes away must not leave a settled future unread.
        await asyncio.shield(answer)

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        return self._watches.open(collections)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def _put(self, work: _Transaction | Callable[[], None]) -> None:
        if self._closed:
            raise PlatformError("The database is closed.", retry_safe=True)
        self._work.put(work)

    async def _run(self, read: Callable[[], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Result] = loop.create_future()

        def work() -> None:
            try:
                result = read()
            except Exception as exc:
                loop.call_soon_threadsafe(_set_unless_done, answer.set_exception, answer, _translate(exc))
            else:
                loop.call_soon_threadsafe(_set_unless_done, answer.set_result, answer, result)

        self._put(work)
        return await answer

    # The thread

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            batch: collections.deque[_Transaction] = collections.deque()
            while isinstance(work, _Transaction):
                batch.append(work)
                work = self._take_waiting()
            if batch:
                self._commit_batch(batch)
            if work is _NOTHING:
                continue
            if work is None:
                self._connection.close()
                return
            assert callable(work)
            work()

    def _take_waiting(self) -> Any:
        try:
            return self._work.get_nowait()
        except queue.Empty:
            return _NOTHING

    def _commit_batch(self, batch: Sequence[_Transaction]) -> None:
        results: collections.deque[_Committed] = collections.deque()
        try:
            with self._connection:
                for transaction in batch:
                    results.append(self._apply(transaction.writes))
        except Exception as exc:
            # The COMMIT itself failed, so nothing of the batch is there, whatever each was told so far.
            results = collections.deque([_translate(exc)] * len(batch))
        for transaction, result in zip(batch, results, strict=True):
            transaction.done(result)

    def _apply(self, writes: Sequence[Write]) -> _Committed:
        """In a savepoint of its own (apsw nests them), so that a conflict undoes only this transaction."""
        try:
            with self._connection:
                return [self._apply_one(write) for write in writes]
        except Conflict as conflict:
            return conflict

    def _apply_one(self, write: Write) -> Change:
        if write.expect is not None:
            row = self._connection.execute(_SQL["get"], (write.collection, write.key)).fetchone()
            if write.expect != (row[1] if row else 0):
                raise Conflict(write.collection, write.key)
        if write.value is None:
            self._connection.execute(_SQL["delete"], (write.collection, write.key))
            return Change(collection=write.collection, key=write.key, document=None)
        cursor = self._connection.execute(_SQL["put"], (write.collection, write.key, write.value))
        ((revision,),) = cursor.fetchall()
        document = Document(write.key, write.value, cast(int, revision))
        return Change(collection=write.collection, key=write.key, document=document)


_NOTHING = object()


def _set_unless_done(set_result: Callable[[Any], None], answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        with contextlib.suppress(asyncio.InvalidStateError):
            set_result(value)


def _translate(exc: Exception) -> Exception:
    if isinstance(exc, apsw.FullError):
        return PlatformError("The disk of the data folder is full; nothing was written.", retry_safe=True)
    if isinstance(exc, apsw.Error):
        return PlatformError(f"The database failed: {exc}", retry_safe=True)
    return exc
