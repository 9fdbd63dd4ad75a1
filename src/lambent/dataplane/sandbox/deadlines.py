"""The time limits of everything that runs, behind one timer of the loop.

Nearly every invocation ends long before its limit: entering and leaving a dict is cheaper than a timer for each.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadlines:
    """Calls back exactly once what is still here when its time has come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._at: dict[Callable[[], None], float] = {}
        self._next_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, on_time: Callable[[], None], limit_ms: float) -> None:
        """`on_time` names the entry too: one at a time for each callable."""
        at = self._loop.time() + limit_ms / 1000
        self._at[on_time] = at
        if at < self._next_at:
            self._schedule(at)

    def leave(self, on_time: Callable[[], None]) -> None:
        self._at.pop(on_time, None)

    def _schedule(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_at = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        # The loop's clock is cached per turn; a timer may come a moment before its time.
        now = self._loop.time() + 0.0005
        self._timer, self._next_at = None, math.inf
        for on_time in [on_time for on_time, at in self._at.items() if at <= now]:
            del self._at[on_time]
            on_time()
        if self._at:
            at = min(self._at.values())
            if at < self._next_at:
                self._schedule(at)
