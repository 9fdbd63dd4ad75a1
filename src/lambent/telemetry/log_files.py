# Function logs in files: ROOT/ACCOUNT/FUNCTION/NUMBER.jsonl.
#
# Rule 1: `write` is on the path of every invocation: it appends to a list under a lock that nobody holds for long.
#         All encoding and all files belong to one thread.
# Rule 2: memory is bounded. What does not fit is dropped, counted, and told in the log at the place of the gap:
#         once something was dropped, everything is until the thread has taken what waits.
# Rule 3: the thread outlives every error; lines it could not write are counted and told like dropped ones.
from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from lambent.telemetry.function_logs import LogEvent, LogStream, QuickInvocation, StoredEvent
from lambent.telemetry.log_followers import Followers
from lambent.telemetry.log_lines import LineEncoder, decode_line
from lambent.telemetry.log_segments import LogLimits, SegmentWriter, read_backwards

log = logging.getLogger(__name__)

_EVENT_BYTES = 300
"""What one event costs in memory besides its message."""
_QUICK_LINES = 3
_QUICK_BYTES = 1_000
_BATCH_S = 0.05
"""How long lines are gathered before they are written together."""
_MAX_NAME_BYTES = 200

_Key = tuple[str, str]
"""Account, function."""
_Item = tuple[LogStream, Sequence[LogEvent] | QuickInvocation]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """Events since the start; `dropped` are those that never came into a file."""

    accepted: int
    written: int
    dropped: int


@dataclasses.dataclass(slots=True)
class _Batch:
    items: list[_Item] = dataclasses.field(default_factory=list)
    size_bytes: int = 0
    dropped: Counter[_Key] = dataclasses.field(default_factory=Counter)
    waiters: list[asyncio.Future[None]] = dataclasses.field(default_factory=list)
    last: bool = False


class LogFiles:
    """Implements `LogSink` and `LogReader`. Only the owner of the files may read them: functions log secrets."""

    def __init__(self, root: Path, *, limits: LogLimits | None = None, max_waiting_bytes: int = 32 * 1_048_576) -> None:
        self._root = root
        self._limits = limits or LogLimits()
        self._max_waiting_bytes = max_waiting_bytes
        self._lock = threading.Lock()
        self._stirred = threading.Condition(self._lock)
        self._hurry = threading.Event()
        self._waiting = _Batch()
        self._awake = False
        self._closed = False
        self._followers = Followers()
        self._accepted = 0
        self._dropped = 0
        # From here on only the thread's.
        self._written = 0
        self._lost: Counter[_Key] = Counter()
        self._segments: dict[_Key, SegmentWriter] = {}
        self._encoder = LineEncoder()
        # Microseconds since 1970: beyond every number of an earlier run, as no log grows a line each microsecond.
        self._sequence = time.time_ns() // 1_000
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="lambent function logs", daemon=True)
        self._thread.start()

    def write(self, stream: LogStream, events: Sequence[LogEvent] | QuickInvocation) -> None:
        if isinstance(events, QuickInvocation):
            count, size_bytes = _QUICK_LINES, _QUICK_BYTES
        else:
            count, size_bytes = len(events), 0
            for event in events:
                size_bytes += len(event.message) + _EVENT_BYTES
        with self._lock:
            waiting = self._waiting
            if waiting.dropped or self._closed or waiting.size_bytes + size_bytes > self._max_waiting_bytes:
                waiting.dropped[stream.account, stream.function] += count
                self._dropped += count
            else:
                waiting.items.append((stream, events))
                waiting.size_bytes += size_bytes
                self._accepted += count
            if not self._awake:
                self._awake = True
                self._stirred.notify()

    async def flush(self) -> None:
        """Return when everything accepted before is in the files (or was counted as dropped)."""
        written = asyncio.get_running_loop().create_future()
        with self._stirred:
            if self._closed:
                return
            self._hasten(written)
        await written

    async def close(self) -> None:
        """Write what was accepted, end the followers and stop the thread. May be called twice."""
        with self._stirred:
            self._closed = self._waiting.last = True
            self._hasten()
        await asyncio.to_thread(self._thread.join)
        self._followers.close()

    async def read(self, account: str, function: str, *, since_ms: int = 0, limit: int = 1_000) -> list[StoredEvent]:
        await self.flush()
        return await asyncio.to_thread(self._read, self._folder((account, function)), since_ms, limit)

    def follow(self, account: str, function: str) -> AsyncIterator[StoredEvent]:
        return self._followers.open(account, function)

    def statistics(self) -> LogStatistics:
        return LogStatistics(accepted=self._accepted, written=self._written, dropped=self._dropped)

    def _hasten(self, *waiters: asyncio.Future[None]) -> None:
        self._waiting.waiters += waiters
        self._awake = True
        self._hurry.set()
        self._stirred.notify()

    def _read(self, folder: Path, since_ms: int, limit: int) -> list[StoredEvent]:
        events: list[StoredEvent] = []
        for line in read_backwards(folder, since_ms=since_ms):
            if len(events) >= limit:
                break
            # A line that a kill cut short is no line.
            with contextlib.suppress(msgspec.DecodeError):
                events += [event for event in reversed(decode_line(line)) if event.timestamp_ms >= since_ms]
        events.reverse()
        return events[-limit:]

    def _folder(self, key: _Key) -> Path:
        return self._root / file_name(key[0]) / file_name(key[1])

    # What follows runs on the thread.

    def _run(self) -> None:
        last = False
        while not last:
            batch = self._take()
            last = batch.last
            self._write_batch(batch)
            for waiter in batch.waiters:
                # RuntimeError: that loop was closed, so nobody waits any more.
                with contextlib.suppress(RuntimeError):
                    waiter.get_loop().call_soon_threadsafe(_resolve, waiter)

    def _take(self) -> _Batch:
        with self._stirred:
            self._stirred.wait_for(lambda: self._awake)
        self._hurry.wait(_BATCH_S)
        with self._stirred:
            batch, self._waiting = self._waiting, _Batch()
            self._awake = False
            self._hurry.clear()
        return batch

    def _write_batch(self, batch: _Batch) -> None:
        by_function: dict[_Key, list[_Item]] = {}
        for item in batch.items:
            stream = item[0]
            by_function.setdefault((stream.account, stream.function), []).append(item)
        # A function with nothing but a gap to tell is told of too.
        for key in by_function.keys() | batch.dropped.keys():
            self._write_events(key, by_function.get(key, []), gap=batch.dropped[key])

    def _write_events(self, key: _Key, items: Sequence[_Item], *, gap: int) -> None:
        lost = self._lost.pop(key, 0)
        count = sum(_QUICK_LINES if isinstance(events, QuickInvocation) else len(events) for _, events in items)
        try:
            stored: list[StoredEvent] = []
            if lost or gap or self._followers.any():
                stored += [self._tell_gap(lost)] if lost else []
                stored += [
                    self._store(stream, event)
                    for stream, events in items
                    for event in (events.events() if isinstance(events, QuickInvocation) else events)
                ]
                stored += [self._tell_gap(gap)] if gap else []
                lines = [self._encoder.encode_stored(event) for event in stored]
            else:
                lines = self._encode_at_once(items)
            self._append(key, lines)
        # Rule 3: a log that cannot be written must not end the others.
        except Exception as exc:
            self._segments.pop(key, None)
            self._lost[key] = lost + count + gap
            with self._stirred:
                self._dropped += count
            log.error(
                "function log not written",
                extra={
                    "action": "function_log_not_written",
                    "function": key[1],
                    "lines": count,
                    "error": str(exc),
                },
            )
        else:
            self._written += count
            self._followers.publish(*key, stored)

    def _encode_at_once(self, items: Sequence[_Item]) -> list[bytes]:
        """The same events as by `_store`, where nobody follows."""
        lines: list[bytes] = []
        for stream, events in items:
            if isinstance(events, QuickInvocation):
                lines.append(self._encoder.encode_quick(stream, events, self._sequence + 1))
                self._sequence += _QUICK_LINES
            else:
                lines += [self._encoder.encode_event(stream, event, self._next_sequence()) for event in events]
        return lines

    def _store(self, stream: LogStream, event: LogEvent) -> StoredEvent:
        message = event.message
        return StoredEvent(
            sequence=self._next_sequence(),
            timestamp_ms=event.timestamp_ms,
            stream=f"[{stream.version}]{stream.environment_id}",
            request_id=event.request_id,
            kind=event.kind,
            message=message if isinstance(message, str) else message.decode("utf-8", "replace"),
        )

    def _tell_gap(self, lines: int) -> StoredEvent:
        return StoredEvent(
            sequence=self._next_sequence(),
            timestamp_ms=time.time_ns() // 1_000_000,
            stream="",
            request_id="",
            kind="platform",
            message=f"[lambent] {lines} log lines were dropped here: they could not be written (fast enough)",
        )

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def _append(self, key: _Key, lines: list[bytes]) -> None:
        try:
            self._open_segments(key).append(lines)
        except FileNotFoundError:
            # Somebody removed the folder: begin it again.
            self._segments.pop(key, None)
            self._open_segments(key).append(lines)

    def _open_segments(self, key: _Key) -> SegmentWriter:
        segments = self._segments.get(key)
        if segments is None:
            folder = self._folder(key)
            # One by one: `parents=True` would make all but the last readable by others.
            for part in (self._root, folder.parent, folder):
                part.mkdir(mode=0o700, exist_ok=True)
            segments = self._segments[key] = SegmentWriter(folder, self._limits)
        return segments


def file_name(name: str) -> str:
    """A name that is one plain part of a path, different for different names; valid function names stay as they are."""
    quoted = quote(name, safe="", errors="replace").replace(".", "%2E")
    if not quoted or len(quoted) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        quoted = f"{quoted[: _MAX_NAME_BYTES // 2]}%-{digest}"
    return quoted


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
