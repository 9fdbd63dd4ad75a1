"""Quotas, counted exactly: a plan's key never gets more requests in a period than the plan gives it.

Requests are counted in memory, and written down ahead in blocks: after a crash those of the last block count as served,
so that nobody gets more than the quota, and a key loses at most a block. Blocks shrink towards the end of a quota.
One process of a node counts; the others ask it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import msgspec

from lambent.frontdoor.rest_apis.usage_model import KEPT_DAYS, USAGE, Members, Usage, period_begins_at
from lambent.substrate.ports import Documents, Write

BLOCK = 64
_LAST_SHARE = 16


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """One request of a key under a plan."""

    account: str
    plan_id: str
    key_id: str
    quota: Members | None

    @property
    def place(self) -> str:
        return f"{self.account}/{self.plan_id}/{self.key_id}"


class TakeQuota(Protocol):
    async def __call__(self, asked: Asked) -> bool:
        """Count one more request; False when the quota is used up. Raises PlatformError."""
        ...


class Quotas:
    """Implements `TakeQuota` where the state is owned."""

    def __init__(self, documents: Documents, today: Callable[[], date] = lambda: datetime.now(UTC).date()) -> None:
        self._documents = documents
        self._today = today
        self._counters: dict[str, _Counter] = {}

    async def take(self, asked: Asked) -> bool:
        return await (await self._open(asked.place)).take(asked.quota, self._today())

    async def read(self, account: str, plan_id: str, key_id: str) -> Usage:
        """What was served, exactly."""
        counter = await self._open(f"{account}/{plan_id}/{key_id}")
        return Usage(days=dict(counter.served), granted=dict(counter.granted))

    async def grant(self, asked: Asked, remaining: int) -> None:
        """So many more requests in this period, whatever was used."""
        await (await self._open(asked.place)).grant(asked.quota or {}, self._today(), remaining)

    async def stop(self) -> None:
        """Write down what was served: nothing of a block is lost by an orderly end."""
        for counter in self._counters.values():
            await counter.settle()

    async def _open(self, place: str) -> _Counter:
        counter = self._counters.get(place)
        if counter is None:
            document = await self._documents.get(USAGE, place)
            usage = msgspec.json.decode(document.value, type=Usage) if document is not None else Usage()
            # Another may have opened it while this one read.
            counter = self._counters.setdefault(place, _Counter(self._documents, place, usage))
        return counter


class _Counter:
    def __init__(self, documents: Documents, place: str, usage: Usage) -> None:
        self._documents = documents
        self._place = place
        self.served = usage.days
        self.granted = usage.granted
        self._written = dict(usage.days)
        self._lock = asyncio.Lock()

    async def take(self, quota: Members | None, today: date) -> bool:
        day = today.isoformat()
        while True:
            left = self._count_left(quota, today)
            if left is not None and left <= 0:
                return False
            if self.served.get(day, 0) < self._written.get(day, 0):
                self.served[day] = self.served.get(day, 0) + 1
                return True
            async with self._lock:
                # Whoever waited finds the block that the first has written down.
                if self.served.get(day, 0) >= self._written.get(day, 0):
                    block = BLOCK if left is None else max(1, min(BLOCK, left // _LAST_SHARE))
                    await self._write(day, self.served.get(day, 0) + block)

    async def grant(self, quota: Members, today: date, remaining: int) -> None:
        async with self._lock:
            begin = period_begins_at(quota, today).isoformat()
            self.granted[begin] = remaining - (quota.get("limit", 0) - self._count_used(quota, today))
            await self._write(today.isoformat(), self._written.get(today.isoformat(), 0))

    async def settle(self) -> None:
        if self._written != self.served:
            self._written = dict(self.served)
            await self._commit()

    def _count_left(self, quota: Members | None, today: date) -> int | None:
        if quota is None:
            return None
        begin = period_begins_at(quota, today).isoformat()
        return int(quota["limit"]) + self.granted.get(begin, 0) - self._count_used(quota, today)

    def _count_used(self, quota: Members, today: date) -> int:
        begin = period_begins_at(quota, today).isoformat()
        return sum(count for day, count in self.served.items() if day >= begin)

    async def _write(self, day: str, count: int) -> None:
        oldest = (date.fromisoformat(day) - timedelta(days=KEPT_DAYS)).isoformat()
        for known in (self.served, self._written, self.granted):
            for old in [kept for kept in known if kept < oldest]:
                del known[old]
        before = self._written
        self._written = {**self.served, **({day: count} if count else {})}
        try:
            await self._commit()
        except BaseException:
            self._written = before
            raise

    async def _commit(self) -> None:
        value = msgspec.json.encode(Usage(days=self._written, granted=self.granted))
        await self._documents.commit([Write(collection=USAGE, key=self._place, value=value)])
