"""Function logs in files: JSON lines below ACCOUNT/FUNCTION/, rotated by size, the oldest dropped.

`write` only appends to memory; one thread encodes and writes in batches. When it cannot keep up, events are dropped,
counted, and the number stands in the log.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import re
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from lambent.model.errors import PlatformError
from lambent.telemetry.function_logs import LogEvent, LogStream, StoredEvent

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 1_048_576
"""What may wait in memory for the writing thread."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,140}")
_EVENT_OVERHEAD_BYTES = 200

_Item = tuple[LogStream, Sequence[LogEvent]]


class _Line(msgspec.Struct):
    timestamp_ms: int
    stream: str
    request_id: str
    kind: str
    message: str


class LogFiles:
    """Implements `LogSink` and `LogReader`."""

    def __init__(self, root: Path, *, file_bytes: int = 16 * 1_048_576, files: int = 4) -> None:
        self._root = root
        self._file_bytes = file_bytes
        self._files = files
        self._waiting: collections.deque[_Item] = collections.deque()
        self._waiting_bytes = 0
        self._dropped: collections.Counter[LogStream] = collections.Counter()
        self.dropped_total = 0
        self._taken = 0
        self._written = 0
        self._condition = threading.Condition()
        self._closed = False
        self._followers: dict[tuple[str, str], set[_Follower]] = {}
        self._loop = asyncio.get_running_loop()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._serve, name="function logs", daemon=True)
        self._thread.start()

    def write(self, stream: LogStream, events: Sequence[LogEvent]) -> None:
        size = sum(len(event.message) + _EVENT_OVERHEAD_BYTES for event in events)
        with self._condition:
            if self._waiting_bytes + size > MAX_WAITING_BYTES:
                self._dropped[stream] += len(events)
                self.dropped_total += len(events)
                return
            self._waiting_bytes += size
            self._waiting.append((stream, events))
            self._taken += 1
            if len(self._waiting) == 1:
                self._condition.notify_all()

    async def flush(self) -> None:
        """Return when everything written before is in the files."""
        await asyncio.to_thread(self._wait_written)

    async def close(self) -> None:
        """Write what waits and stop."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        await asyncio.to_thread(self._thread.join)
        for followers in self._followers.values():
            for follower in followers:
                follower.queue.put_nowait(None)

    async def read(self, account: str, function: str, *, since_ms: int = 0, limit: int = 1000) -> list[StoredEvent]:
        await self.flush()
        return await asyncio.to_thread(self._read, self._folder(account, function), since_ms, limit)

    def follow(self, account: str, function: str) -> AsyncIterator[StoredEvent]:
        followers = self._followers.setdefault((account, function), set())
        follower = _Follower(followers)
        followers.add(follower)
        return follower

    def _folder(self, account: str, function: str) -> Path:
        # The API has checked both; this is the last look before they become a path.
        if not (_SAFE_NAME.fullmatch(account) and _SAFE_NAME.fullmatch(function)):
            raise PlatformError(f"{account}/{function} cannot name a log")
        return self._root / account / function

    def _wait_written(self) -> None:
        with self._condition:
            goal = self._taken
            self._condition.wait_for(lambda: self._written >= goal)

    def _read(self, folder: Path, since_ms: int, limit: int) -> list[StoredEvent]:
        kept: collections.deque[StoredEvent] = collections.deque(maxlen=limit)
        for number in range(self._files - 1, -1, -1):
            with contextlib.suppress(FileNotFoundError), _path(folder, number).open("rb") as file:
                for text in file:
                    with contextlib.suppress(msgspec.DecodeError):
                        line = msgspec.json.decode(text, type=_Line)
                        if line.timestamp_ms >= since_ms:
                            kept.append(StoredEvent(**msgspec.structs.asdict(line)))
        return list(kept)

    # The thread

    def _serve(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                items, self._waiting = self._waiting, collections.deque()
                self._waiting_bytes = 0
                dropped, self._dropped = self._dropped, collections.Counter()
            self._write_items(items, dropped)
            with self._condition:
                self._written += len(items)
                self._condition.notify_all()

    def _write_items(self, items: collections.deque[_Item], dropped: collections.Counter[LogStream]) -> None:
        by_function: dict[tuple[str, str], list[_Line]] = {}
        for stream, events in items:
            lines = by_function.setdefault((stream.account, stream.function), [])
            lines += [_line(stream, event) for event in events]
        for stream, number in dropped.items():
            text = f"[lambent] {number} log events were dropped because the log could not be written fast enough"
            event = LogEvent(timestamp_ms=items[-1][1][0].timestamp_ms, request_id="", message=text, kind="platform")
            by_function.setdefault((stream.account, stream.function), []).append(_line(stream, event))
        for key, lines in by_function.items():
            try:
                self._append(self._folder(*key), lines)
            except OSError as exc:
                log.error("function log not written", extra={"action": "log_failed", "reason": str(exc)})
            if self._followers.get(key):
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._tell, key, lines)

    def _append(self, folder: Path, lines: list[_Line]) -> None:
        data = b"".join([msgspec.json.encode(line) + b"\n" for line in lines])
        path = _path(folder, 0)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
            size = file.tell()
        if size >= self._file_bytes:
            _path(folder, self._files - 1).unlink(missing_ok=True)
            for number in range(self._files - 2, -1, -1):
                with contextlib.suppress(FileNotFoundError):
                    _path(folder, number).rename(_path(folder, number + 1))

    def _tell(self, key: tuple[str, str], lines: list[_Line]) -> None:
        for follower in self._followers.get(key, ()):
            for line in lines:
                follower.queue.put_nowait(StoredEvent(**msgspec.structs.asdict(line)))


class _Follower(AsyncIterator[StoredEvent]):
    def __init__(self, siblings: set[_Follower]) -> None:
        self.queue: asyncio.Queue[StoredEvent | None] = asyncio.Queue()
        self._siblings = siblings

    async def __anext__(self) -> StoredEvent:
        event = await self.queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        self._siblings.discard(self)


def _path(folder: Path, number: int) -> Path:
    return folder / ("current.jsonl" if number == 0 else f"{number}.jsonl")


def _line(stream: LogStream, event: LogEvent) -> _Line:
    message = event.message
    return _Line(
        timestamp_ms=event.timestamp_ms,
        stream=f"[{stream.version}]{stream.environment_id}",
        request_id=event.request_id,
        kind=event.kind,
        message=message if isinstance(message, str) else message.decode("utf-8", "replace"),
    )
