"""Message move tasks: taking dead letters back to where they came from, or elsewhere, at a bounded rate.

A task is on disk and goes on after a restart. Each step moves some messages and counts them in one transaction.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec

from lambent.events.queues import store
from lambent.events.queues.bells import Bells
from lambent.events.queues.model import Queue
from lambent.model.errors import PlatformError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Schema, Tables

log = logging.getLogger(__name__)

STEP = 50
UNBOUNDED_PER_S = 500
STEP_S = 0.1
STUCK_S = 5.0
SHOWN = 10
RUNNING, COMPLETED, CANCELLED, FAILED = "RUNNING", "COMPLETED", "CANCELLED", "FAILED"
SCHEMA = Schema(
    name="queues_moves",
    versions=(
        """
        CREATE TABLE queues_moves (
            id TEXT PRIMARY KEY, source TEXT NOT NULL, status TEXT NOT NULL, started_at REAL NOT NULL,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX queues_moves_by_source ON queues_moves (source, started_at);
        """,
    ),
)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    source: str
    """ARN."""
    destination: str = ""
    """ARN; empty: each message to the queue it came from."""
    per_second: int = 0
    """0: as many as Lambent sees fit."""
    status: str = RUNNING
    moved: int = 0
    to_move: int = 0
    started_at: float
    failure: str = ""

    @property
    def handle(self) -> str:
        return base64.b64encode(msgspec.json.encode({"taskId": self.id, "sourceArn": self.source})).decode()


class Moves:
    def __init__(self, tables: Tables, bells: Bells, *, now: Callable[[], float] = time.time) -> None:
        self._tables = tables
        self._bells = bells
        self._now = now
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Go on with what was running when the node stopped."""
        query = "SELECT record FROM queues_moves WHERE status = ?"
        rows = await self._tables.read(lambda connection: list(connection.execute(query, (RUNNING,))))
        for (record,) in rows:
            self._begin(msgspec.msgpack.decode(record, type=Move).id)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def begin(self, source: Queue, destination: str, per_second: int) -> Move | None:
        """None when one is running for the queue already."""

        def work(connection: Connection) -> Move | None:
            running = connection.execute(
                "SELECT 1 FROM queues_moves WHERE source = ? AND status = ?", (source.arn, RUNNING)
            )
            if running.get is not None:
                return None
            move = Move(
                id=new_request_id(),
                source=source.arn,
                destination=destination,
                per_second=per_second,
                to_move=store.count(connection, source, self._now()).visible,
                started_at=self._now(),
            )
            _write(connection, move)
            return move

        move = await self._tables.write(work)
        if move is not None:
            self._begin(move.id)
        return move

    async def cancel(self, identity: str, account: str) -> Move | None:
        """None when there is no such task, or it is over."""

        def work(connection: Connection) -> Move | None:
            move = _read(connection, identity)
            if move is None or move.source.split(":")[4] != account or move.status != RUNNING:
                return None
            _write(connection, msgspec.structs.replace(move, status=CANCELLED))
            return move

        return await self._tables.write(work)

    async def list_latest(self, source: str, limit: int) -> list[Move]:
        """The latest first."""
        query = "SELECT record FROM queues_moves WHERE source = ? ORDER BY started_at DESC LIMIT ?"
        rows = await self._tables.read(lambda connection: tuple(connection.execute(query, (source, limit))))
        return [msgspec.msgpack.decode(record, type=Move) for (record,) in rows]

    def _begin(self, identity: str) -> None:
        task = self._tasks[identity] = asyncio.create_task(self._run(identity), name=f"move messages {identity}")
        task.add_done_callback(lambda _: self._tasks.pop(identity, None))

    async def _run(self, identity: str) -> None:
        while True:
            try:
                move, rung = await self._tables.write(lambda connection: self._step(connection, identity))
            except PlatformError as exc:
                log.warning("messages wait to be moved", extra={"action": "move_waits", "reason": str(exc)})
                await asyncio.sleep(STUCK_S)
                continue
            for queue in rung:
                self._bells.ring(queue)
            if move is None or move.status != RUNNING:
                return
            await asyncio.sleep(max(STEP_S, len(rung) / (move.per_second or UNBOUNDED_PER_S)))

    def _step(self, connection: Connection, identity: str) -> tuple[Move | None, list[int]]:
        """The task as it is then, and the queue of each message that was moved."""
        move = _read(connection, identity)
        if move is None or move.status != RUNNING:
            return move, []
        source = store.get_queue_by_arn(connection, move.source)
        if source is None:
            return _write(connection, msgspec.structs.replace(move, status=FAILED, failure="The queue is gone.")), []
        rung: list[int] = []
        now = self._now()
        most = min(STEP, move.per_second) if move.per_second else STEP
        for number in store.find_visible(connection, source, most, now):
            target = store.get_queue_by_arn(connection, move.destination or store.get_origin(connection, number))
            if target is None or target.account != source.account or target.is_fifo != source.is_fifo:
                failure = "The queue that a message came from is gone." if not move.destination else "No destination."
                return _write(connection, msgspec.structs.replace(move, status=FAILED, failure=failure)), rung
            store.move(connection, number, source, target, now)
            rung.append(target.id)
        changed = msgspec.structs.replace(move, moved=move.moved + len(rung))
        if not rung or changed.moved >= move.to_move:
            changed = msgspec.structs.replace(changed, status=COMPLETED)
        return _write(connection, changed), rung


def _write(connection: Connection, move: Move) -> Move:
    values = (move.id, move.source, move.status, move.started_at, msgspec.msgpack.encode(move))
    connection.execute("INSERT OR REPLACE INTO queues_moves VALUES (?, ?, ?, ?, ?)", values)
    return move


def _read(connection: Connection, identity: str) -> Move | None:
    found = connection.execute("SELECT record FROM queues_moves WHERE id = ?", (identity,)).get
    return msgspec.msgpack.decode(found, type=Move) if found is not None else None


def read_handle(handle: str) -> str:
    """The id of the task; empty for what is no handle."""
    with contextlib.suppress(ValueError):
        document = msgspec.json.decode(base64.b64decode(handle, validate=True), type=dict[str, str])
        return document.get("taskId", "")
    return ""
