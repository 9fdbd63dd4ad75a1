"""Due times on disk, and the loop that waits for the next of them.

A timer that fires writes, in one transaction, its next due time and what it hands over: each due time is fired once,
whatever dies and whichever way the clock jumps. Nothing is held in memory for a timer that waits.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from lambent.events.schedules.expressions import Expression
from lambent.model.errors import PlatformError
from lambent.substrate.ports import Connection, Schema, Tables

log = logging.getLogger(__name__)

SCHEMA = Schema(
    name="timers",
    versions=(
        """
        CREATE TABLE timers (
            kind TEXT NOT NULL, owner TEXT NOT NULL, due_at REAL NOT NULL, PRIMARY KEY (kind, owner)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX timers_by_due ON timers (due_at);
        """,
    ),
)

LONGEST_WAIT_S = 30.0
"""A wait does not see the clock being set: after a jump forward, what is due is noticed within this."""
LATE_S = 60.0
"""A run later than this was missed: the precision that the contract promises."""
STUCK_S = 60.0
"""Until a timer is tried again that could not be fired."""
_BATCH = 200


class Missed(enum.Enum):
    """What becomes of the due times that passed while the node was down."""

    ONCE = "once"
    ALL = "all"
    SKIP = "skip"


class Run(NamedTuple):
    """What to do about a timer that is due."""

    fires: bool
    next_due_at: float | None


Fire = Callable[[Connection, str, float, float], list[str]]
"""(connection, owner, due at, now): within the transaction, hand over and set the next due time. The lanes to ring."""


def plan_run(expression: Expression, due_at: float, now: float, missed: Missed) -> Run:
    if missed is Missed.ALL:
        return Run(True, expression.next_after(due_at))
    fires = missed is Missed.ONCE or now - due_at <= LATE_S
    return Run(fires, expression.next_after(max(now, due_at)))


def set_timer(connection: Connection, kind: str, owner: str, due_at: float | None) -> None:
    """Within a transaction; call `wake` once it is durable. None clears it."""
    if due_at is None:
        connection.execute("DELETE FROM timers WHERE kind = ? AND owner = ?", (kind, owner))
        return
    connection.execute("INSERT OR REPLACE INTO timers (kind, owner, due_at) VALUES (?, ?, ?)", (kind, owner, due_at))


class Timers:
    """Runs while the node does. `enter` the kinds before `start`."""

    def __init__(self, tables: Tables, *, now: Callable[[], float] = time.time) -> None:
        self._tables = tables
        self._now = now
        self._kinds: dict[str, tuple[Fire, Callable[[str], None]]] = {}
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def enter(self, kind: str, fire: Fire, ring: Callable[[str], None]) -> None:
        """`ring` is called with each lane of what was handed over, once it is durable."""
        self._kinds[kind] = (fire, ring)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="timers")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """A due time has changed."""
        self._bell.set()

    async def fire_due(self) -> float | None:
        """Fire what is due. When the next will be, in seconds since 1970."""
        while True:
            rung, more = await self._tables.write(self._fire_batch)
            for kind, lane in rung:
                self._kinds[kind][1](lane)
            if not more:
                break
        next_due_at: float | None = await self._tables.read(
            lambda connection: connection.execute("SELECT min(due_at) FROM timers").get
        )
        return next_due_at

    def _fire_batch(self, connection: Connection) -> tuple[list[tuple[str, str]], bool]:
        now = self._now()
        query = "SELECT kind, owner, due_at FROM timers WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        due = list(connection.execute(query, (now, _BATCH)))
        rung = []
        for kind, owner, due_at in due:
            try:
                lanes = self._kinds[kind][0](connection, owner, due_at, now)
            except (ValueError, KeyError, TypeError) as exc:
                # One record that cannot be read, a zone that is gone, say, stops no other.
                log.error("timers", extra={"action": "timer_postponed", "owner": owner, "reason": str(exc)})
                set_timer(connection, kind, owner, now + STUCK_S)
                continue
            rung += [(kind, lane) for lane in lanes]
        return rung, len(due) == _BATCH

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                next_due_at = await self.fire_due()
            except PlatformError as exc:
                log.error("timers", extra={"action": "timers_stuck", "reason": str(exc)})
                next_due_at = None
            wait_s = LONGEST_WAIT_S if next_due_at is None else min(LONGEST_WAIT_S, max(0.0, next_due_at - self._now()))
            try:
                async with asyncio.timeout(wait_s):
                    await self._bell.wait()
            except TimeoutError:
                continue
