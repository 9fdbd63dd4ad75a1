"""What an environment writes to stdout and stderr: one pipe, so that the order of both is kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from collections.abc import Callable

_CHUNK_BYTES = 65_536
MAX_LINE_BYTES = 262_144
"""CloudWatch's limit of one event; a longer line becomes several."""
MAX_BYTES_PER_INVOCATION = 4 * 1_048_576
"""What is kept of one invocation's output; the rest is read, counted and named in a last line."""


class LogPipe:
    """Reads without blocking as data comes and cuts it into lines; `drain` reads what is there right now."""

    def __init__(self, fd: int, emit: Callable[[list[bytes]], None]) -> None:
        """Takes ownership of the read end `fd`. `emit` is called with complete lines without their newline."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._emit = emit
        self._partial = b""
        self._waiting = bytearray(4)
        """How many bytes could be read, as the kernel writes a C int."""
        self._kept_bytes = 0
        self._dropped_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def begin(self) -> None:
        """A new invocation starts: what came before belongs to the one before."""
        if self._kept_bytes or self._partial:
            self.drain()
        self._kept_bytes = 0

    def drain(self) -> None:
        """Emit everything written so far; a last line without newline is a line too. Nothing once it is closed."""
        if self._fd < 0:
            return
        # Nearly always it is empty, which is cheaper to ask for than to be told by a refused read.
        fcntl.ioctl(self._fd, termios.FIONREAD, self._waiting)
        # Two reads empty a pipe of the default size; a thread that goes on writing must not keep us here.
        if any(self._waiting) and self._read():
            self._read()
        if not self._partial and not self._dropped_bytes:
            return
        lines = []
        if self._partial:
            lines.append(self._partial)
            self._partial = b""
        if self._dropped_bytes:
            lines.append(b"[lambent] %d bytes of output were dropped beyond the limit" % self._dropped_bytes)
            self._dropped_bytes = 0
        self._emit(lines)

    def close(self) -> None:
        if self._fd < 0:
            return
        self.drain()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _read(self) -> bool:
        """One read. True when there may be more."""
        try:
            data = os.read(self._fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._fd)
            return False
        room = MAX_BYTES_PER_INVOCATION - self._kept_bytes
        if len(data) > room:
            self._dropped_bytes += len(data) - room
            data = data[:room]
        self._kept_bytes += len(data)
        self._cut(data)
        return len(data) == _CHUNK_BYTES

    def _cut(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) >= MAX_LINE_BYTES:
            lines.append(self._partial)
            self._partial = b""
        if lines:
            self._emit(lines)
