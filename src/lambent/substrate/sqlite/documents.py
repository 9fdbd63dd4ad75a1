"""Documents in one SQLite file: what a node on one machine keeps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Change, Conflict, Document, Write
from lambent.substrate.sqlite import opening
from lambent.substrate.sqlite.reader import Reader
from lambent.substrate.sqlite.sql import load_migrations, load_queries
from lambent.substrate.sqlite.writer import Transaction, Writer
from lambent.substrate.watches import Watches


class SqliteDocuments:
    """Implements `Documents`. Made by `open_documents`; belongs to the event loop that first commits or watches."""

    def __init__(self, path: Path, *, lock: int, writing: apsw.Connection, reading: apsw.Connection) -> None:
        self.path = path
        self._lock = lock
        self._queries = load_queries()
        self._writer = Writer(writing, self._settle)
        self._reader = Reader(reading)
        self._watches = Watches()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def get(self, collection: str, key: str) -> Document | None:
        self._check_open()
        query, place = self._queries["get_document"], {"collection": collection, "key": key}
        row: Any = await self._reader.ask(lambda connection: connection.execute(query, place).fetchone())
        return Document(key, row[0], row[1]) if row is not None else None

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        self._check_open()
        query = self._queries["list_documents"]
        bounds = {
            "collection": collection,
            "start": prefix,
            "after": after,
            "stop": end_of_prefix(prefix),
            "limit": -1 if limit is None else limit,
        }
        rows: list[Any] = await self._reader.ask(lambda connection: connection.execute(query, bounds).fetchall())
        return [Document(*row) for row in rows]

    async def commit(self, writes: Sequence[Write]) -> None:
        """Raises Conflict, and PlatformError when the disk did not take it.

        A caller that is cancelled while it waits does not know whether the writes were made.
        """
        self._check_open()
        if not writes:
            return
        done = self._own_loop().create_future()
        self._writer.submit(Transaction(work=functools.partial(_write, tuple(writes), self._queries), done=done))
        await done

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        self._check_open()
        self._own_loop()
        return self._watches.open(collections)

    async def close(self) -> None:
        """Finish what was submitted, end the watches and give the file free. May be called twice."""
        if self._closed:
            return
        self._closed = True
        # The reader first: the last connection to close must be the one that may checkpoint.
        await asyncio.to_thread(self._reader.close)
        await asyncio.to_thread(self._writer.close)
        os.close(self._lock)
        self._watches.close()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            raise RuntimeError("the document store belongs to another event loop")
        return running

    def _check_open(self) -> None:
        if self._closed:
            raise PlatformError("The document store is closed.", retry_safe=True)

    def _settle(self, batch: Sequence[Transaction]) -> None:
        """On the writer's thread: take a batch that is done to the event loop."""
        assert self._loop is not None
        # RuntimeError: the loop was closed, so nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._announce, batch)

    def _announce(self, batch: Sequence[Transaction]) -> None:
        # Watchers before committers: who sees a commit return may rely on the change being on its way.
        changes = [change for transaction in batch for change in transaction.result or ()]
        if changes:
            self._watches.publish(changes)
        for transaction in batch:
            transaction.resolve()


def open_documents(path: Path) -> SqliteDocuments:
    """Open or create the store at `path`, for this process alone. Raises OperatorError. Blocks while it is checked."""
    lock = opening.lock_store(path)
    try:
        writing = opening.open_writing(path, load_migrations())
        reading = opening.open_reading(path)
    except BaseException:
        os.close(lock)
        raise
    return SqliteDocuments(path, lock=lock, writing=writing, reading=reading)


def end_of_prefix(prefix: str) -> str | None:
    """The least text that sorts after everything that starts with `prefix`; None when there is none."""
    head = prefix.rstrip("\U0010ffff")
    if not head:
        return None
    following = ord(head[-1]) + 1
    # Surrogates are no text: the code point after U+D7FF is U+E000.
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)


def _write(writes: Sequence[Write], queries: Mapping[str, str], connection: apsw.Connection) -> list[Change]:
    """On the writer's thread. Raises Conflict."""
    changes: list[Change] = []
    try:
        for write in writes:
            _apply(write, queries, connection, changes)
    except (TypeError, ValueError, OverflowError) as exc:
        raise PlatformError(f"The store could not write: {exc}") from exc
    return changes


def _apply(write: Write, queries: Mapping[str, str], connection: apsw.Connection, changes: list[Change]) -> None:
    place = {"collection": write.collection, "key": write.key}
    revision = connection.execute(queries["get_revision"], place).get or 0
    if write.expect is not None and write.expect != revision:
        raise Conflict(write.collection, write.key)
    if write.value is None:
        if revision:
            connection.execute(queries["delete_document"], place)
            changes.append(Change(collection=write.collection, key=write.key, document=None))
        return
    document = Document(write.key, bytes(write.value), revision + 1)
    connection.execute(queries["put_document"], {**place, "value": document.value, "revision": document.revision})
    changes.append(Change(collection=write.collection, key=write.key, document=document))
