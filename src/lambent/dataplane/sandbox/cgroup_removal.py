"""Emptying and removing groups. One can only be removed when nobody is left in it, which takes the kernel a moment."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import signal
import time
from collections.abc import Sequence

from lambent.dataplane.sandbox.cgroup_files import Files, read_again, read_pids
from lambent.dataplane.sandbox.cgroup_versions import Flavour

log = logging.getLogger(__name__)

REMOVE_PATIENCE_S = 5.0
_RETRY_FIRST_S, _RETRY_LAST_S = 0.001, 0.25


def kill_group(groups: Sequence[str], flavour: Flavour, files: Files) -> None:
    """SIGKILL to all that is in the groups, without waiting for it to end."""
    if flavour.kill_file:
        for group in groups:
            with contextlib.suppress(OSError):
                files.write(f"{group}/{flavour.kill_file}", "1")
        return
    # Forking must stop first, or a fork bomb could stay ahead of the signals.
    for group in groups:
        with contextlib.suppress(OSError):
            files.write(f"{group}/pids.max", "0")
    for pid in {pid for group in groups for pid in read_pids(group)}:
        with contextlib.suppress(ProcessLookupError):
            files.kill(pid, signal.SIGKILL)


def remove_now(groups: Sequence[str], files: Files) -> list[str]:
    """Those that are still busy."""
    busy = []
    for group in groups:
        try:
            files.remove(group)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            busy.append(group)
    return busy


def remove_waiting(groups: Sequence[str], flavour: Flavour, files: Files) -> None:
    give_up_at = time.monotonic() + REMOVE_PATIENCE_S
    delay_s = _RETRY_FIRST_S
    left = remove_now(groups, files)
    while left and time.monotonic() < give_up_at:
        watch = _EmptyWatch.open(left[0], flavour)
        if watch is None:
            time.sleep(delay_s)
        else:
            watch.wait(delay_s)
            watch.close()
        delay_s = min(delay_s * 2, _RETRY_LAST_S)
        # Again and again: a process that was entering the group when it was killed is only seen now.
        kill_group(left, flavour, files)
        left = remove_now(left, files)
    if left:
        log.error("cgroup cannot be removed", extra={"action": "cgroup_stuck", "groups": left})


class Removal:
    """Removes busy groups as soon as they are empty: told by the kernel (version 2) or by trying (version 1)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        groups: Sequence[str],
        flavour: Flavour,
        files: Files,
        register: set[Removal],
    ) -> None:
        self._loop = loop
        self._groups = list(groups)
        self._files = files
        self._register = register
        self._delay_s = _RETRY_FIRST_S
        self._give_up_at = loop.time() + REMOVE_PATIENCE_S
        self._watch = _EmptyWatch.open(self._groups[0], flavour)
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), self._try)
        self._timer = loop.call_later(self._delay_s, self._try_again)

    def cancel(self) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        self._register.discard(self)

    def _try_again(self) -> None:
        self._try()
        if not self._groups:
            return
        if self._loop.time() > self._give_up_at:
            log.error("cgroup cannot be removed", extra={"action": "cgroup_stuck", "groups": self._groups})
            self.cancel()
            return
        self._delay_s = min(self._delay_s * 2, _RETRY_LAST_S)
        self._timer = self._loop.call_later(self._delay_s, self._try_again)

    def _try(self) -> None:
        if self._watch is not None:
            self._watch.take()
        self._groups = remove_now(self._groups, self._files)
        if not self._groups:
            self.cancel()


class _EmptyWatch:
    """Readable when a group has become empty. An epoll within the loop's, which itself cannot wait for POLLPRI."""

    def __init__(self, events_fd: int, epoll: select.epoll) -> None:
        self._events_fd = events_fd
        self._epoll = epoll

    @classmethod
    def open(cls, group: str, flavour: Flavour) -> _EmptyWatch | None:
        """None where the kernel gives no notice."""
        if not flavour.events_file:
            return None
        with contextlib.ExitStack() as owned:
            try:
                events_fd = os.open(f"{group}/{flavour.events_file}", os.O_RDONLY | os.O_CLOEXEC)
                owned.callback(os.close, events_fd)
                epoll = select.epoll()
                owned.callback(epoll.close)
                epoll.register(events_fd, select.EPOLLPRI)
            except OSError:
                return None
            owned.pop_all()
        watch = cls(events_fd, epoll)
        # The kernel tells of changes since the last reading.
        watch.take()
        return watch

    def fileno(self) -> int:
        return self._epoll.fileno()

    def take(self) -> None:
        read_again(self._events_fd)

    def wait(self, timeout_s: float) -> None:
        self._epoll.poll(timeout_s)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._events_fd)
