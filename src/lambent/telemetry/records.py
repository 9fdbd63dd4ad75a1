"""One record per invocation, and the counters made of them."""

from __future__ import annotations

import collections
import dataclasses
from typing import Protocol


@dataclasses.dataclass(slots=True, kw_only=True)
class InvocationRecord:
    request_id: str
    account: str
    function: str
    version: str
    environment_id: str
    cold: bool
    init_ms: float | None
    duration_ms: float
    billed_ms: int
    memory_mb: int
    max_memory_mb: int
    error_type: str
    """Empty when the function succeeded."""


class Recorder(Protocol):
    def record(self, record: InvocationRecord) -> None:
        """Must not block: it is on the way of the answer."""
        ...


class CountingRecorder:
    """Counts since the start of the node."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()

    def record(self, record: InvocationRecord) -> None:
        counts = self._counts
        counts["invocations"] += 1
        counts["billed_ms"] += record.billed_ms
        if record.cold:
            counts["cold_starts"] += 1
        if record.error_type:
            counts["errors"] += 1
            if record.error_type == "Sandbox.Timedout":
                counts["timeouts"] += 1

    def count(self, name: str) -> None:
        self._counts[name] += 1

    def snapshot(self) -> dict[str, int]:
        return {name: self._counts[name] for name in sorted({*self._counts, "invocations", "errors", "cold_starts"})}
