"""Who waits for a queue is woken one by one: the first when something comes, the next when that one found enough."""

from __future__ import annotations

import asyncio
from collections import deque


class Bells:
    def __init__(self) -> None:
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        self._rung: dict[int, int] = {}

    def rung(self, queue: int) -> int:
        """How often the bell has rung. Ask before looking, and give it to `wait`."""
        return self._rung.get(queue, 0)

    def ring(self, queue: int) -> None:
        """Wake the one that has waited longest."""
        self._rung[queue] = self.rung(queue) + 1
        waiting = self._waiting.get(queue)
        while waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(None)
                return

    async def wait(self, queue: int, at_most_s: float, *, since: int) -> None:
        """Until the bell has rung since, or the time is over."""
        # It may have rung between the look at the queue and now, when nobody was here to hear it.
        if self.rung(queue) != since:
            return
        waiting = self._waiting.setdefault(queue, deque())
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(heard)
        try:
            async with asyncio.timeout(at_most_s):
                await heard
        except TimeoutError:
            return
        except asyncio.CancelledError:
            # Rung for one that is no longer there: the next must hear it.
            if heard.done() and not heard.cancelled():
                self.ring(queue)
            raise
        finally:
            if not heard.done():
                heard.cancel()
            if heard in waiting:
                waiting.remove(heard)
            if not waiting:
                self._waiting.pop(queue, None)
