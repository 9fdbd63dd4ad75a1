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
from collections.abc import Callable, Mapping, Sequence

import apsw

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Change, Conflict, Document, Write

_BATCH_TRANSACTIONS = 256
_FATAL = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


@dataclasses.dataclass(slots=True, kw_only=True)
class Transaction:
    """`outcome` and `changes` are set by the writer; `done` is resolved on the event loop."""

    writes: Sequence[Write]
    done: asyncio.Future[None]
    outcome: Conflict | PlatformError | None = None
    changes: list[Change] = dataclasses.field(default_factory=list)


class Writer:
    """A thread with the writing connection. `settle` is called on it with each batch that is done."""

    def __init__(
        self,
        connection: apsw.Connection,
        queries: Mapping[str, str],
        settle: Callable[[Sequence[Transaction]], None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._settle = settle
        self._queue: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name="lambent documents writer", daemon=True)
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
                self._apply_apart(transaction)
            self._connection.execute("COMMIT")
        # A thread that others wait for: whatever went wrong is theirs to hear, and the next batch is tried.
        except Exception as exc:
            self._undo_all()
            self._fail(batch, self._explain(exc))

    def _apply_apart(self, transaction: Transaction) -> None:
        self._connection.execute("SAVEPOINT one")
        try:
            for write in transaction.writes:
                self._apply(write, transaction.changes)
        except Exception as exc:
            # Some errors (a full disk) end the whole transaction by themselves: then all of the batch has failed.
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO one")
            transaction.outcome = exc if isinstance(exc, Conflict) else self._explain(exc)
            transaction.changes.clear()
        self._connection.execute("RELEASE one")

    def _apply(self, write: Write, changes: list[Change]) -> None:
        place = {"collection": write.collection, "key": write.key}
        revision = self._connection.execute(self._queries["get_revision"], place).get or 0
        if write.expect is not None and write.expect != revision:
            raise Conflict(write.collection, write.key)
        if write.value is None:
            if revision:
                self._connection.execute(self._queries["delete_document"], place)
                changes.append(Change(collection=write.collection, key=write.key, document=None))
            return
        document = Document(write.key, bytes(write.value), revision + 1)
        self._connection.execute(
            self._queries["put_document"], {**place, "value": document.value, "revision": document.revision}
        )
        changes.append(Change(collection=write.collection, key=write.key, document=document))

    def _undo_all(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._connection.execute("ROLLBACK")

    def _explain(self, exc: Exception) -> PlatformError:
        if isinstance(exc, apsw.FullError):
            error = PlatformError("The document store's disk is full; nothing was written.", retry_safe=True)
        elif isinstance(exc, apsw.IOError) and getattr(exc, "extendedresult", 0) in _FATAL:
            self._broken = "The document store's disk failed to sync; check the disk and restart the node."
            error = PlatformError(self._broken)
        else:
            error = PlatformError(f"The document store could not write: {exc}")
        error.__cause__ = exc
        return error

    @staticmethod
    def _fail(batch: Sequence[Transaction], error: PlatformError) -> None:
        # A conflict found within an undone batch may have been with writes that were undone too.
        for transaction in batch:
            transaction.outcome = error
            transaction.changes.clear()
