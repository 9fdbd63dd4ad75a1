"""Tables that live as long as the process: for tests and throw-away nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Connection, Schema

T = TypeVar("T")


class MemoryTables:
    """Implements `Tables`: SQLite without a file and without threads. A transaction has no await in it."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self._connection = apsw.Connection(":memory:")
        self._closed = False
        for schema in schemas:
            for script in schema.versions:
                self._connection.execute(script).fetchall()

    async def write(self, work: Callable[[Connection], T]) -> T:
        return self._run(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return self._run(work)

    async def close(self) -> None:
        self._closed = True
        self._connection.close()

    def _run(self, work: Callable[[Connection], T]) -> T:
        if self._closed:
            raise PlatformError("The event store is closed.", retry_safe=True)
        try:
            with self._connection:
                result = work(self._connection)
        except apsw.Error as exc:
            raise PlatformError(f"The store could not write: {exc}") from exc
        return result
