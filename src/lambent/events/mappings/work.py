"""What the pollers of both kinds share: the function's side of a mapping, and waiting that ends when they stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from lambent.events.deliveries import Deliver
from lambent.events.mappings.model import Mapping
from lambent.events.mappings.sources.ports import Message, Record, SourceKind, Values
from lambent.events.patterns import Filters, compile_filters
from lambent.model.invocation import Outcome
from lambent.substrate.ports import Tables

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item", Message, Record)

OK = "OK"
FUNCTION_FAILED = "PROBLEM: Function call failed"
LONG_POLL_S = 20.0
REPORTS = "ReportBatchItemFailures"

Invoke = Callable[[Mapping, bytes, str], Awaitable[Outcome]]
"""Run the mapping's function once, with a trace id or none. Raises CallerError (a throttle, no such function) and
PlatformError."""

IsLoop = Callable[[Mapping, str], Awaitable[bool]]
"""Whether a message with this trace id has gone round through the mapping's function too often."""

Report = Callable[[str], Awaitable[None]]
"""Tell the mapping's owner what came of the last records."""

Sleep = Callable[[float], Coroutine[Any, Any, None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a poller works with for one mapping, until `stopping` is set."""

    mapping: Mapping
    kind: SourceKind
    tables: Tables
    invoke: Invoke
    is_loop: IsLoop
    deliver: Deliver
    report: Report
    now: Callable[[], float]
    sleep: Sleep
    stopping: asyncio.Event
    filters: Filters = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        criteria = self.mapping.values.get("FilterCriteria") or {}
        patterns = [entry.get("Pattern", "") for entry in criteria.get("Filters") or ()]
        object.__setattr__(self, "filters", compile_filters(patterns, self.kind.data_key))

    @property
    def batch_size(self) -> int:
        return int(self.mapping.values["BatchSize"])

    @property
    def window_s(self) -> float:
        return float(self.mapping.values.get("MaximumBatchingWindowInSeconds") or 0)

    @property
    def reports_failures(self) -> bool:
        return REPORTS in (self.mapping.values.get("FunctionResponseTypes") or ())

    def sift(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Those that pass the filters, and those that do not."""
        kept: list[Item] = []
        dropped: list[Item] = []
        for item in items:
            (kept if self.filters.passes(item.event, item.data) else dropped).append(item)
        return kept, dropped

    def payload(self, items: Sequence[Message | Record], extra: Values | None = None) -> bytes:
        event = self.kind.shape(self.mapping.configuration, [item.event for item in items])
        return msgspec.json.encode({**event, **extra} if extra else event)

    async def unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result, or None when the poller is to stop first; then `work` is cancelled."""
        if self.stopping.is_set():
            work.close()
            return None
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def pause(self, wait_s: float) -> None:
        await self.unless_stopping(self.sleep(wait_s))
