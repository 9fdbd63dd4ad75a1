"""The thread that reads, on a connection of its own that cannot write."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from lambent.model.errors import PlatformError

T = TypeVar("T")

_Question = tuple[Callable[[apsw.Connection], Any], asyncio.Future[Any]]


class Reader:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lambent store reader", daemon=True)
        self._thread.start()

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """Run `question` on the reader's thread. Raises what it raises; PlatformError for what SQLite raises."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((question, done))
        return await done

    def close(self) -> None:
        """Answer what was asked, then close the connection. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            question, done = asked
            answer: object = None
            error: Exception | None = None
            try:
                answer = question(self._connection)
            # A thread that others wait for: the error belongs to the one who asked.
            except Exception as exc:
                error = exc
                if isinstance(exc, apsw.Error):
                    error = PlatformError(f"The store could not read: {exc}", retry_safe=True)
                    error.__cause__ = exc
            # RuntimeError: the loop was closed, so nobody waits any more.
            with contextlib.suppress(RuntimeError):
                done.get_loop().call_soon_threadsafe(_resolve, done, answer, error)
        self._connection.close()


def _resolve(done: asyncio.Future[Any], answer: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(answer)
