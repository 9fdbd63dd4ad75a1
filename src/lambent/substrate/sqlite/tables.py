"""Tables in one SQLite file: what the event plane of a node on one machine keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Connection, Schema
from lambent.substrate.sqlite import opening
from lambent.substrate.sqlite.reader import Reader
from lambent.substrate.sqlite.writer import Transaction, Writer

T = TypeVar("T")


class SqliteTables:
    """Implements `Tables`. Made by `open_tables`; belongs to the event loop that first writes."""

    def __init__(self, *, lock: int, writing: apsw.Connection, reading: apsw.Connection) -> None:
        self._lock = lock
        self._writer = Writer(writing, self._settle)
        self._reader = Reader(reading)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def write(self, work: Callable[[Connection], T]) -> T:
        """A caller that is cancelled while it waits does not know whether its transaction was made."""
        self._check_open()
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        assert self._loop is running, "the tables belong to another event loop"
        done: asyncio.Future[T] = running.create_future()
        self._writer.submit(Transaction(work=work, done=done))
        return await done

    async def read(self, work: Callable[[Connection], T]) -> T:
        self._check_open()

        def read_snapshot(connection: apsw.Connection) -> T:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("END")

        return await self._reader.ask(read_snapshot)

    async def close(self) -> None:
        """Finish what was submitted and give the file free. May be called twice."""
        if self._closed:
            return
        self._closed = True
        # The reader first: the last connection to close must be the one that may checkpoint.
        await asyncio.to_thread(self._reader.close)
        await asyncio.to_thread(self._writer.close)
        os.close(self._lock)

    def _settle(self, batch: Sequence[Transaction]) -> None:
        """On the writer's thread: take a batch that is done to the event loop."""
        assert self._loop is not None
        # RuntimeError: the loop was closed, so nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_resolve_all, batch)

    def _check_open(self) -> None:
        if self._closed:
            raise PlatformError("The event store is closed.", retry_safe=True)


def open_tables(path: Path, schemas: Sequence[Schema]) -> SqliteTables:
    """Open or create the store at `path`, for this process alone. Raises OperatorError. Blocks while it is checked."""
    lock = opening.lock_store(path)
    try:
        writing = opening.open_writing(path, (), schemas)
        reading = opening.open_reading(path)
    except BaseException:
        os.close(lock)
        raise
    return SqliteTables(lock=lock, writing=writing, reading=reading)


def _resolve_all(batch: Sequence[Transaction]) -> None:
    for transaction in batch:
        transaction.resolve()
