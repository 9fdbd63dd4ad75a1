# The one writer.
#
# Rule 1: only this thread writes or checkpoints; two connections doing so is how SQLite's WAL was once corrupted.
# Rule 2: one COMMIT, and so one sync, serves every transaction that was queued while the last one ran.
# Rule 3: each transaction is a savepoint, so that a conflict or a value SQLite cannot take undoes only its own writes.
# Rule 4: nobody hears of a success, and no watcher of a change, before COMMIT has returned.
# Rule 5: after a failed sync nothing more is written: the kernel may have dropped what it could not sync.
from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from lambent.model.errors import PlatformError

_BATCH_TRANSACTIONS = 256
_FATAL = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})

Work = Callable[[apsw.Connection], Any]


@dataclasses.dataclass(slots=True, kw_only=True)
class Transaction:
    """`result` or `error` is set by the writer; `done` is resolved on the event loop, by whoever is settled with."""

    work: Work
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def resolve(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class Writer:
    """A thread with the writing connection. `settle` is called on it with each batch that is done."""

    def __init__(self, connection: apsw.Connection, settle: Callable[[Sequence[Transaction]], None]) -> None:
        self._connection = connection
        self._settle = settle
        self._queue: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name="lambent store writer", daemon=True)
        self._thread.start()

    def submit(self, transaction: Transaction) -> None:
        self._queue.put(transaction)

    def close(self) -> None:
        """Commit what was submitted, then close the connection. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take_batch()
            if batch:
                self._commit(batch)
                self._settle(batch)
        self._connection.close()

    def _take_batch(self) -> tuple[list[Transaction], bool]:
        batch: list[Transaction] = []
        first = self._queue.get()
        with contextlib.suppress(queue.Empty):
            while first is not None:
                batch.append(first)
                if len(batch) == _BATCH_TRANSACTIONS:
                    return batch, False
                first = self._queue.get_nowait()
            return batch, True
        return batch, False

    def _commit(self, batch: Sequence[Transaction]) -> None:
        if self._broken:
            self._fail(batch, PlatformError(self._broken, retry_safe=True))
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for transaction in batch:
                self._do_apart(transaction)
            self._connection.execute("COMMIT")
        # A thread that others wait for: whatever went wrong is theirs to hear, and the next batch is tried.
        except Exception as exc:
            self._undo_all()
            self._fail(batch, self._explain(exc))

    def _do_apart(self, transaction: Transaction) -> None:
        self._connection.execute("SAVEPOINT one")
        try:
            transaction.result = transaction.work(self._connection)
        except Exception as exc:
            # Some errors (a full disk) end the whole transaction by themselves: then all of the batch has failed.
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO one")
            transaction.error = self._explain(exc) if isinstance(exc, apsw.Error) else exc
        self._connection.execute("RELEASE one")

    def _undo_all(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._connection.execute("ROLLBACK")

    def _explain(self, exc: Exception) -> PlatformError:
        if isinstance(exc, apsw.FullError):
            error = PlatformError("The store's disk is full; nothing was written.", retry_safe=True)
        elif isinstance(exc, apsw.IOError) and getattr(exc, "extendedresult", 0) in _FATAL:
            self._broken = "The store's disk failed to sync; check the disk and restart the node."
            error = PlatformError(self._broken)
        else:
            error = PlatformError(f"The store could not write: {exc}")
        error.__cause__ = exc
        return error

    @staticmethod
    def _fail(batch: Sequence[Transaction], error: PlatformError) -> None:
        # What one of them was refused for within an undone batch may have come of writes that were undone too.
        for transaction in batch:
            transaction.result, transaction.error = None, error
