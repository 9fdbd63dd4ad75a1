"""Schedules, put together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation
from lambent.events.deliveries import Deliveries
from lambent.events.handover import HandOvers
from lambent.events.schedules import store
from lambent.events.schedules.api import Schedules
from lambent.events.schedules.firing import Firing
from lambent.events.schedules.timers import Missed, Timers
from lambent.substrate.ports import Tables


class ScheduleService:
    """Start it before `timers`, which fire what it has entered there."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        timers: Timers,
        *,
        missed: Missed = Missed.ONCE,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.hand_overs = HandOvers(store.BOX, tables, deliveries, now=now, jitter=jitter)
        timers.enter(store.BOX, Firing(missed=missed, jitter=jitter).fire, self.hand_overs.ring)
        self.operations: Mapping[str, Operation] = Schedules(tables, timers.wake, now=now).operations()

    async def start(self) -> None:
        await self.hand_overs.start()

    async def stop(self) -> None:
        await self.hand_overs.stop()
