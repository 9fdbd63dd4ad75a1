"""Parcels on their way: each is tried until it has arrived or has run out, whatever dies in between.

A sender puts a parcel into its own transaction (`put`) and rings (`ring`) once that is durable. Parcels travel in
lanes: one for each target, so that a target that is slow or gone delays nobody else's parcels. Lanes share a bounded
number of attempts, taken in turn. Nothing is held in memory but the lanes that have something waiting.

A parcel that arrived is deleted after it arrived: one that was under way when the node died is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.ports import Connection, Schema, Tables

log = logging.getLogger(__name__)

SCHEMA = Schema(
    name="outbox",
    versions=(
        """
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY,
            box TEXT NOT NULL, lane TEXT NOT NULL, due_at REAL NOT NULL,
            put_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL
        ) STRICT;
        CREATE INDEX outbox_by_lane ON outbox (box, lane, due_at, id);
        """,
    ),
)

MAX_ATTEMPTS_AT_ONCE = 64
MAX_OF_A_LANE = 8
KEPT_S = 60.0
"""Until it is tried again to put away a parcel that ran out."""
STUCK_S = 5.0
"""Until a lane goes on whose store failed."""
LONGEST_WAIT_S = 86_400.0
"""Nobody lets a parcel wait for longer: one that is due later was put before the clock was set back, and is due."""
SEPARATOR = "|"
"""Between a target and what tells several of its lanes apart."""
_FETCH = 32


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    lane: str
    body: bytes
    attempts: int
    """Those that failed."""
    put_at: float
    """Seconds since 1970."""


Send = Callable[[Parcel], Awaitable[None]]
"""Raises CallerError when it makes no sense to try again; whatever else it raises is tried again."""

NextWait = Callable[[Parcel], Awaitable[float | None]]
"""Seconds until the next attempt of a parcel that just failed; None when it has run out."""

GiveUp = Callable[[Parcel, str], Awaitable[None]]
"""What becomes of a parcel that ran out or cannot be sent, with the reason; it is deleted when this returns."""


def put(connection: Connection, box: str, lane: str, body: bytes, *, now: float, delay_s: float = 0.0) -> None:
    """Within the sender's transaction. `box` names the outbox, `lane` the target. Ring afterwards."""
    connection.execute(
        "INSERT INTO outbox (box, lane, due_at, put_at, body) VALUES (?, ?, ?, ?, ?)",
        (box, lane, now + delay_s, now, body),
    )


def drop_lanes(connection: Connection, box: str, target: str) -> None:
    """Within a transaction: a target is gone, and so is what was on its way there, in its lane and those below it."""
    below = target + SEPARATOR
    query = "DELETE FROM outbox WHERE box = ? AND (lane = ? OR (lane >= ? AND lane < ?))"
    connection.execute(query, (box, target, below, target + chr(ord(SEPARATOR) + 1)))


class Outbox:
    """One per kind of sender, named `box`. Lanes for which `is_ordered` holds send one parcel after the other."""

    def __init__(
        self,
        box: str,
        tables: Tables,
        send: Send,
        *,
        next_wait: NextWait,
        give_up: GiveUp,
        is_ordered: Callable[[str], bool] = lambda _lane: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._box = box
        self._tables = tables
        self._send = send
        self._next_wait = next_wait
        self._give_up = give_up
        self._is_ordered = is_ordered
        self._now = now
        self._slots = asyncio.Semaphore(MAX_ATTEMPTS_AT_ONCE)
        self._lanes: dict[str, _Lane] = {}
        self._stopping = False

    async def start(self) -> None:
        """Take up what was under way when the node last stopped."""
        for lane in await self._tables.read(self._read_lanes):
            self.ring(lane)

    async def stop(self) -> None:
        """Attempts under way are broken off; the next start makes them again."""
        self._stopping = True
        tasks = [lane.task for lane in self._lanes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ring(self, lane: str) -> None:
        """There is something new in a lane, and it is durable."""
        if self._stopping:
            return
        running = self._lanes.get(lane)
        if running is None:
            running = self._lanes[lane] = _Lane()
            running.task = asyncio.create_task(self._run(lane, running), name=f"outbox {self._box} {lane}")
        running.bell.set()

    async def count(self, lane: str) -> int:
        """Parcels of a lane that have not arrived."""
        query = "SELECT count(*) FROM outbox WHERE box = ? AND lane = ?"
        found: int = await self._tables.read(lambda connection: connection.execute(query, (self._box, lane)).get)
        return found

    def _read_lanes(self, connection: Connection) -> list[str]:
        # One step of the index for each lane, however many parcels there are.
        query = "SELECT min(lane) FROM outbox WHERE box = ? AND lane > ?"
        lanes: list[str] = []
        lane = connection.execute(query, (self._box, "")).get
        while lane is not None:
            lanes.append(lane)
            lane = connection.execute(query, (self._box, lane)).get
        return lanes

    async def _run(self, name: str, lane: _Lane) -> None:
        """Until the lane is empty."""
        try:
            while not await self._step(name, lane):
                pass
        finally:
            del self._lanes[name]

    async def _step(self, name: str, lane: _Lane) -> bool:
        """Send what is due, or wait for it. Whether the lane is empty."""
        lane.bell.clear()
        try:
            parcels, next_due_at = await self._fetch(name)
            if parcels:
                await self._send_all(parcels, at_once=1 if self._is_ordered(name) else MAX_OF_A_LANE)
                return False
        except PlatformError as exc:
            # A full disk, say: what has arrived may be sent again, but nothing is lost and the lane goes on.
            log.error("outbox", extra={"action": "outbox_stuck", "box": self._box, "lane": name, "reason": str(exc)})
            next_due_at = self._now() + STUCK_S
        if next_due_at is None:
            return not lane.bell.is_set()
        await lane.wait_bell(max(0.0, next_due_at - self._now()))
        return False

    async def _fetch(self, lane: str) -> tuple[list[Parcel], float | None]:
        """What is due now, and when the next will be."""
        now, ordered = self._now(), self._is_ordered(lane)
        # In order means by number: a parcel that waits for its next attempt holds up those behind it.
        order = "id" if ordered else "due_at, id"
        query = f"""
            SELECT id, body, attempts, put_at, due_at FROM outbox WHERE box = ? AND lane = ?
            ORDER BY {order} LIMIT {1 if ordered else _FETCH}
        """  # noqa: S608 - of two constants
        rows = await self._tables.read(lambda connection: list(connection.execute(query, (self._box, lane))))
        due = [
            Parcel(id=number, lane=lane, body=body, attempts=attempts, put_at=put_at)
            for number, body, attempts, put_at, due_at in rows
            if due_at <= now or due_at > now + LONGEST_WAIT_S
        ]
        return due, rows[0][4] if rows else None

    async def _send_all(self, parcels: list[Parcel], *, at_once: int) -> None:
        own = asyncio.Semaphore(at_once)

        async def send_one(parcel: Parcel) -> None:
            async with own, self._slots:
                await self._try(parcel)

        results = await asyncio.gather(*(send_one(parcel) for parcel in parcels), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _try(self, parcel: Parcel) -> None:
        try:
            await self._send(parcel)
        except CallerError as exc:
            await self._end(parcel, exc.message)
            return
        # Anything may be wrong with a target; the parcel is what must not be lost by it.
        except Exception as exc:
            failed = msgspec.structs.replace(parcel, attempts=parcel.attempts + 1)
            wait_s = await self._next_wait(failed)
            if wait_s is None:
                await self._end(failed, str(exc) or type(exc).__name__)
            else:
                await self._postpone(failed, wait_s)
            return
        await self._delete(parcel)

    async def _end(self, parcel: Parcel, reason: str) -> None:
        try:
            await self._give_up(parcel, reason)
        except Exception as exc:
            log.warning(
                "a parcel that ran out could not be put away, and is kept",
                extra={"action": "parcel_kept", "box": self._box, "lane": parcel.lane, "reason": str(exc)},
            )
            await self._postpone(parcel, KEPT_S)
            return
        await self._delete(parcel)

    async def _postpone(self, parcel: Parcel, wait_s: float) -> None:
        values = (self._now() + wait_s, parcel.attempts, parcel.id)
        query = "UPDATE outbox SET due_at = ?, attempts = ? WHERE id = ?"
        await self._tables.write(lambda connection: connection.execute(query, values).get)

    async def _delete(self, parcel: Parcel) -> None:
        await self._tables.write(
            lambda connection: connection.execute("DELETE FROM outbox WHERE id = ?", (parcel.id,)).get
        )


class _Lane:
    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.bell = asyncio.Event()

    async def wait_bell(self, at_most_s: float) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self.bell.wait()
        except TimeoutError:
            return
