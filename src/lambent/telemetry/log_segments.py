"""The log of one function as files of limited size: NUMBER.jsonl, the highest number is written to.

A full file is never renamed: a reader may hold it while the next one is begun.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".jsonl"
_BLOCK_BYTES = 262_144
_CLOCK_SLACK_MS = 60_000
"""File times come from a coarser clock than events', and clocks are set."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """How much is kept of each function's log. Raises ValueError for limits that cannot hold a file."""

    file_bytes: int = 16 * 1_048_576
    files: int = 4
    total_bytes: int = 64 * 1_048_576

    def __post_init__(self) -> None:
        if self.file_bytes < 1 or self.files < 1:
            raise ValueError("file_bytes and files must be at least 1")
        if self.total_bytes < self.file_bytes:
            raise ValueError("total_bytes must be at least file_bytes")


class SegmentWriter:
    """Appends to the log in `folder`, which exists. After an OSError make a new one: it looks at the files anew."""

    def __init__(self, folder: Path, limits: LogLimits) -> None:
        self._folder = folder
        self._limits = limits
        numbers = segment_numbers(folder)
        self._number = numbers[-1] if numbers else 1
        self._full = deque((number, segment_path(folder, number).stat().st_size) for number in numbers[:-1])
        self._size = 0
        self._torn = False
        if numbers:
            self._resume()

    def append(self, lines: Sequence[bytes]) -> None:
        """Write whole lines, each with its newline. Raises OSError; then some of them may have been written."""
        chunk: list[bytes] = []
        size = self._size
        for line in lines:
            if size and size + len(line) > self._limits.file_bytes:
                self._write(chunk)
                self._begin_next()
                chunk, size = [], 0
            chunk.append(line)
            size += len(line)
        self._write(chunk)

    def _resume(self) -> None:
        """A line that a kill cut short must not swallow the next one."""
        with segment_path(self._folder, self._number).open("rb") as file:
            self._size = file.seek(0, os.SEEK_END)
            if self._size:
                file.seek(-1, os.SEEK_END)
                self._torn = file.read(1) != b"\n"

    def _write(self, chunk: Sequence[bytes]) -> None:
        if not chunk:
            return
        data = b"".join(chunk)
        if self._torn:
            data = b"\n" + data
        # Opened for each batch: a function that goes quiet holds no descriptor.
        fd = os.open(segment_path(self._folder, self._number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(data)
        self._torn = False
        self._size += len(data)

    def _begin_next(self) -> None:
        self._full.append((self._number, self._size))
        self._number += 1
        self._size = 0
        room = self._limits.total_bytes - self._limits.file_bytes
        while self._full and (len(self._full) >= self._limits.files or sum(size for _, size in self._full) > room):
            number, _ = self._full.popleft()
            segment_path(self._folder, number).unlink(missing_ok=True)


def read_backwards(folder: Path, *, since_ms: int = 0) -> Iterator[bytes]:
    """The lines of a log without newlines, newest first. Files last written well before `since_ms` are left out."""
    for number in reversed(segment_numbers(folder)):
        try:
            file = segment_path(folder, number).open("rb")
        except FileNotFoundError:
            # Dropped by rotation since the folder was listed; so were all older ones.
            return
        with file:
            if os.fstat(file.fileno()).st_mtime_ns // 1_000_000 < since_ms - _CLOCK_SLACK_MS:
                return
            yield from _lines_backwards(file)


def segment_numbers(folder: Path) -> list[int]:
    """Ascending; empty when there is no log."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_SUFFIX}"


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    position = file.seek(0, os.SEEK_END)
    rest = b""
    while position:
        start = max(0, position - _BLOCK_BYTES)
        file.seek(start)
        rest, *lines = (file.read(position - start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        position = start
    if rest:
        yield rest
