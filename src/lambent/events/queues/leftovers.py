"""The removal of what purged and deleted queues left over: slice by slice, so that no other writer waits for long.

What is left over is on disk and seen by nobody; the removal goes on after a restart.
"""

from __future__ import annotations

import asyncio
import logging

from lambent.events.queues import store
from lambent.model.errors import PlatformError
from lambent.substrate.ports import Tables

log = logging.getLogger(__name__)

STUCK_S = 5.0


class Leftovers:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._bell.set()
        self._task = asyncio.create_task(self._run(), name="leftovers of queues")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """There is something to remove, and that is durable."""
        self._bell.set()

    async def clear(self) -> None:
        """Until nothing is left over. Raises PlatformError."""
        while await self._tables.write(store.clear):
            pass

    async def _run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                await self.clear()
            except PlatformError as exc:
                log.warning("leftovers wait", extra={"action": "leftovers_wait", "reason": str(exc)})
                await asyncio.sleep(STUCK_S)
                self._bell.set()
