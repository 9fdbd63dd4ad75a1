"""The port behind which the logs of functions lie: files for now, a store later."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogStream:
    account: str
    function: str
    version: str
    environment_id: str


@dataclasses.dataclass(slots=True, kw_only=True)
class LogEvent:
    timestamp_ms: int
    request_id: str
    """Empty for what was written outside of an invocation."""
    message: bytes | str
    kind: str
    """`platform` or `function`: a function cannot write the platform's lines, only imitate their text."""


class LogSink(Protocol):
    def write(self, stream: LogStream, events: Sequence[LogEvent]) -> None:
        """Takes the events in order. Never blocks."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    timestamp_ms: int
    stream: str
    request_id: str
    kind: str
    message: str


class LogReader(Protocol):
    async def read(self, account: str, function: str, *, since_ms: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The last `limit` events not older than `since_ms`, oldest first."""
        ...

    def follow(self, account: str, function: str) -> AsyncIterator[StoredEvent]:
        """Every event written after this call."""
        ...
