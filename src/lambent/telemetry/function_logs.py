"""The ports behind which the logs of functions lie: files for now, a store later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec

from lambent.telemetry.platform_lines import end_line, report_line, start_line
from lambent.telemetry.records import InvocationRecord

LogKind = Literal["platform", "function"]
"""Who wrote a line: a function cannot write the platform's lines, only imitate their text."""


class LogStream(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where lines come from: one execution environment of one version."""

    account: str
    function: str
    version: str
    environment_id: str


class LogEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line as it is written, without its newline."""

    timestamp_ms: int
    request_id: str
    """Empty for what was written outside of an invocation."""
    message: bytes | str
    kind: LogKind


class QuickInvocation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """START, END and REPORT in one, of an invocation that was soon over, went well and wrote nothing itself.

    Most are like that, and on their way an event costs as much as the invocation's other bookkeeping together.
    """

    record: InvocationRecord
    started_ms: int
    ended_ms: int

    def events(self) -> list[LogEvent]:
        record = self.record
        lines = (
            (self.started_ms, start_line(record.request_id, record.version)),
            (self.ended_ms, end_line(record.request_id)),
            (self.ended_ms, report_line(record, "")),
        )
        return [
            LogEvent(timestamp_ms=at_ms, request_id=record.request_id, message=line, kind="platform")
            for at_ms, line in lines
        ]


class LogSink(Protocol):
    def write(self, stream: LogStream, events: Sequence[LogEvent] | QuickInvocation) -> None:
        """Take the events in order. Never blocks and never raises; the sequence must not be changed afterwards."""
        ...


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line as it was stored. `sequence` grows along a function's log, over restarts too."""

    sequence: int
    timestamp_ms: int
    stream: str
    """`[VERSION]ENVIRONMENT_ID`; empty for a line about the log itself."""
    request_id: str
    kind: LogKind
    message: str


class LogReader(Protocol):
    async def read(self, account: str, function: str, *, since_ms: int = 0, limit: int = 1_000) -> list[StoredEvent]:
        """The newest `limit` events not older than `since_ms`, oldest first; all that was written before the call."""
        ...

    def follow(self, account: str, function: str) -> AsyncIterator[StoredEvent]:
        """Every event stored after this call.

        Follow, then read, then skip what has a `sequence` already seen: nothing is missed and nothing comes twice.
        """
        ...


class LogStore(LogSink, LogReader, Protocol):
    """Both; what is written is read wherever it was written."""
