"""Child processes that never outlive the test run, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534


class ComponentMissing(Exception):
    """The component is not on this machine; the message says how to get it."""


class ComponentDidNotStart(Exception):
    """What the component wrote before it ended, or while it was waited for."""


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens at the port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, listed.read_text().split()):
                yield child
                yield from _descendants(child)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Component:
    """One server. A subclass says what to run and when it is ready; its data stay in `folder` over a restart."""

    patience_s = 60.0
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environ(self) -> Mapping[str, str]:
        return {}

    def user(self) -> int | None:
        """The uid to run as, None for our own."""
        return None

    def ready(self) -> bool:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    def start(self) -> None:
        """Returns when it serves. Raises ComponentMissing, ComponentDidNotStart.

        From a thread that lasts: the kernel ends the component with the thread that started it.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environ()},
                user=self.user(),
                group=self.user(),
                extra_groups=[] if self.user() is not None else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the test run starts these before it has threads of its own
            )
        self._wait(self.ready)

    def _wait(self, ready: Callable[[], bool]) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + self.patience_s
        while not ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                raise ComponentDidNotStart(f"{type(self).__name__}: {self.log.read_text(errors='replace')[-4000:]}")
            # Servers of others tell nobody that they are ready; asking is all that works for each of them.
            time.sleep(0.05)

    def stop(self) -> None:
        self._end(self.stop_signal)

    def kill(self) -> None:
        """As a power cut would: nothing is flushed, nobody is told."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and says nothing more, as a server on a stuck disk."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        children = list(_descendants(process.pid))
        if how is signal.SIGKILL:
            for pid in (process.pid, *children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
        else:
            process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in children:  # a server's child may have a session of its own, as PostgreSQL's do
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        try:
            self.start()
            yield self
        finally:
            self.stop()
