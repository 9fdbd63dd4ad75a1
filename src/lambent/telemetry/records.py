"""One record per invocation, and the counters made of them."""

from __future__ import annotations

import collections
import enum
from typing import Protocol

import msgspec

_TIMED_OUT = "Sandbox.Timedout"
_ALWAYS_SHOWN = ("invocations", "errors", "timeouts", "cold_starts", "billed_ms")


class ColdReason(enum.StrEnum):
    """Why an invocation found no environment that was ready for it."""

    FIRST = "first"
    """None that is remembered was there before."""
    SCALED_OUT = "scaled_out"
    """All there were had something to do."""
    EXPIRED = "expired"
    EVICTED = "evicted"
    NEW_CODE = "new_code"
    DIED = "died"
    TEMPLATE_NOT_READY = "template_not_ready"


class InvocationRecord(msgspec.Struct, kw_only=True, gc=False):
    """What one invocation was and cost. Times as its REPORT line has them."""

    request_id: str
    account: str
    function: str
    version: str
    environment_id: str
    cold: bool
    init_ms: float | None
    """None for a warm start."""
    duration_ms: float
    billed_ms: int
    memory_mb: int
    max_memory_mb: int
    error_type: str
    """Empty when the function succeeded."""
    cold_reason: ColdReason | None = None
    """None unless it waited for an environment to start."""

    restore_ms: float | None = None
    """Of a start from a SnapStart template."""

    @property
    def outcome(self) -> str:
        """`success`, `error` or `timeout`."""
        if not self.error_type:
            return "success"
        return "timeout" if self.error_type == _TIMED_OUT else "error"


class Recorder(Protocol):
    def record(self, record: InvocationRecord) -> None:
        """Must not block: it is on the way of the answer."""
        ...


class CountingRecorder:
    """Implements `Recorder`: counts since the start of the node. For the event loop's thread."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()

    def record(self, record: InvocationRecord) -> None:
        counts = self._counts
        counts["invocations"] += 1
        counts["billed_ms"] += record.billed_ms
        if record.cold:
            counts["cold_starts"] += 1
            if record.cold_reason is not None:
                counts[f"cold_{record.cold_reason}"] += 1
        if record.error_type:
            counts["errors"] += 1
            if record.outcome == "timeout":
                counts["timeouts"] += 1

    def count(self, name: str) -> None:
        """Count what has no record: a throttled or refused request."""
        self._counts[name] += 1

    def snapshot(self) -> dict[str, int]:
        """The counts by name; the usual ones even while they are 0."""
        return {name: self._counts[name] for name in sorted({*self._counts, *_ALWAYS_SHOWN})}
