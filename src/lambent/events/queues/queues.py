"""Queues, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation
from lambent.events.deliveries import Deliveries
from lambent.events.queues.api import Queues
from lambent.events.queues.bells import Bells
from lambent.events.queues.leftovers import Leftovers
from lambent.events.queues.moves import Moves
from lambent.substrate.ports import Tables


class QueueService:
    """Enters itself in `deliveries` as `sqs`. Started, it goes on with message move tasks, and with removing."""

    def __init__(self, tables: Tables, deliveries: Deliveries, *, now: Callable[[], float] = time.time) -> None:
        self.bells = Bells()
        self._moves = Moves(tables, self.bells, now=now)
        self.leftovers = Leftovers(tables)
        self.queues = Queues(tables, self.bells, self._moves, self.leftovers, now=now)
        self.operations: Mapping[str, Operation] = self.queues.operations()
        deliveries.serve("sqs", self.queues.deliver, self.queues.exists)

    async def start(self) -> None:
        await self._moves.start()
        await self.leftovers.start()

    async def stop(self) -> None:
        await self.leftovers.stop()
        await self._moves.stop()
