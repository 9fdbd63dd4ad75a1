# How many of an account's shared slots are taken, counted over all processes of a machine.
#
# A table in memory that all map: a row for each account, with a count and a ticket for each process.
#
# Rule 1: a process writes its own columns only, and only under the lock; so the sum is exact at every moment of it.
# Rule 2: the lock is the kernel's (POSIX, by process): a process that is killed in the middle gives it back.
# Rule 3: what a dead process held counts until its environments are gone; then `forget` clears its columns.
# Rule 4: a ticket is the place in line of a process's first waiter. Nobody takes a slot while a lower ticket waits.
from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Sequence

ROWS = 1_024
_WORD = 8
_NEXT_TICKET = 0
_HEAD_WORDS = 1


class Ledger:
    """The table as one process sees it. Used on the event loop's thread only."""

    def __init__(self, fd: int, wake_fds: Sequence[int], index: int) -> None:
        """`wake_fds`: an eventfd of each process, by index. The descriptors stay the caller's."""
        self._fd = fd
        self._wake_fds = wake_fds
        self._index = index
        self._count = len(wake_fds)
        self._width = 1 + 2 * self._count
        self._words = memoryview(mmap.mmap(fd, table_bytes(self._count))).cast("q")
        self._depth = 0
        self._rows: dict[str, int] = {}
        self._on_room: list[Callable[[], None]] = []

    @property
    def wake_fd(self) -> int:
        return self._wake_fds[self._index]

    def __enter__(self) -> None:
        if not self._depth:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def open_row(self, account: str) -> int:
        """Raises OverflowError when there are too many accounts."""
        row = self._rows.get(account)
        if row is None:
            with self:
                row = self._rows[account] = self._find_row(int(account))
        return row

    def on_room(self, callback: Callable[[], None]) -> None:
        """Called when another process made room for one that waits here."""
        self._on_room.append(callback)

    def take_wake(self) -> None:
        """The eventfd is readable."""
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            return
        for callback in self._on_room:
            callback()

    def set_taken(self, row: int, taken: int) -> None:
        self._words[self._column(row, self._index)] = taken

    def taken_elsewhere(self, row: int) -> int:
        first = self._column(row, 0)
        return sum(self._words[first : first + self._count]) - self._words[first + self._index]

    def new_ticket(self) -> int:
        ticket = self._words[_NEXT_TICKET] + 1
        self._words[_NEXT_TICKET] = ticket
        return ticket

    def set_ticket(self, row: int, ticket: int) -> None:
        """0: nobody waits here."""
        self._words[self._column(row, self._count + self._index)] = ticket

    def first_elsewhere(self, row: int) -> int:
        """The lowest ticket of the others, 0 when none of them waits."""
        first = self._first_waiting(row)
        return first[0] if first else 0

    def wake_first(self, row: int) -> None:
        """Let the one whose turn it is look again."""
        first = self._first_waiting(row)
        if first:
            os.eventfd_write(self._wake_fds[first[1]], 1)

    def forget(self, index: int, *, keep_taken: bool = False) -> None:
        """The process is dead. Until its environments are dead too, what it has taken is kept."""
        with self:
            for row in range(ROWS):
                if not self._words[self._start(row)]:
                    break
                self._words[self._column(row, self._count + index)] = 0
                if not keep_taken:
                    self._words[self._column(row, index)] = 0
        for other, fd in enumerate(self._wake_fds):
            if other != index:
                os.eventfd_write(fd, 1)

    def _first_waiting(self, row: int) -> tuple[int, int] | None:
        first = self._column(row, self._count)
        tickets = self._words[first : first + self._count]
        return min(
            ((ticket, index) for index, ticket in enumerate(tickets) if ticket and index != self._index), default=None
        )

    def _find_row(self, number: int) -> int:
        for row in range(ROWS):
            word = self._start(row)
            if self._words[word] == 0:
                self._words[word] = number
            if self._words[word] == number:
                return row
        raise OverflowError(f"more than {ROWS} accounts")

    def _start(self, row: int) -> int:
        return _HEAD_WORDS + row * self._width

    def _column(self, row: int, column: int) -> int:
        return self._start(row) + 1 + column


def table_bytes(processes: int) -> int:
    return _WORD * (_HEAD_WORDS + ROWS * (1 + 2 * processes))


def make_table(processes: int) -> int:
    """A new, empty table; its descriptor."""
    fd = os.memfd_create("lambent-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, table_bytes(processes))
    return fd
