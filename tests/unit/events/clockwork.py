"""Buses and schedules on one store, with a virtual clock and a queue that notes what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.events import outbox
from lambent.events.buses import store as buses
from lambent.events.buses.buses import BusService
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.schedules import store as schedules
from lambent.events.schedules import timers
from lambent.events.schedules.schedules import ScheduleService
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Tables
from lambent.substrate.sqlite import open_tables

ACCOUNT, REGION = "123456789012", "us-east-1"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:work"
DEAD = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"
CONTEXT = RequestContext(account=ACCOUNT, region=REGION, access_key="key", request_id="request")
SCHEMAS = [outbox.SCHEMA, timers.SCHEMA, schedules.SCHEMA, buses.SCHEMA]
ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda _folder: MemoryTables(SCHEMAS),
    "sqlite": lambda folder: open_tables(folder / "events.db", SCHEMAS),
}


class Clockwork:
    def __init__(self, tables: Tables, *, now: float = 1_800_000_000.0, missed: str = "once") -> None:
        self.tables = tables
        self.now = now
        self.failures: dict[str, Exception] = {}
        self.received: asyncio.Queue[Delivery] = asyncio.Queue()
        self.deliveries = Deliveries()
        self.deliveries.serve("sqs", self._receive, self._exists)
        self.timers = timers.Timers(tables, now=lambda: self.now)
        chosen = timers.Missed(missed)
        self.buses = BusService(
            tables, self.deliveries, self.timers, missed=chosen, now=lambda: self.now, jitter=lambda: 0.5
        )
        self.schedules = ScheduleService(
            tables, self.deliveries, self.timers, missed=chosen, now=lambda: self.now, jitter=lambda: 0.5
        )

    async def start(self) -> None:
        await self.buses.start()
        await self.schedules.start()

    async def stop(self) -> None:
        await self.buses.stop()
        await self.schedules.stop()

    async def bus(self, name: str, **parameters: Any) -> dict[str, Any]:
        return dict(await self.buses.operations[name](CONTEXT, parameters))

    async def scheduler(self, name: str, **parameters: Any) -> dict[str, Any]:
        return dict(await self.schedules.operations[name](CONTEXT, parameters))

    async def next_received(self) -> Delivery:
        async with asyncio.timeout(10):
            return await self.received.get()

    async def _receive(self, delivery: Delivery) -> None:
        if delivery.target in self.failures:
            raise self.failures[delivery.target]
        self.received.put_nowait(delivery)

    async def _exists(self, _account: str, arn: str) -> bool:
        return arn in (QUEUE, DEAD)
