# The parent of a node of several processes: starts them, starts them again when they die, and stops them.
#
# Rule 1: it holds what must outlive any one of them: the data folder's lock, the listening socket, the ledger. So a
#         connection that waits to be accepted is not reset when a process dies; another one takes it.
# Rule 2: it serves nothing and parses nothing; there is little in it that could die.
# Rule 3: all drain before any ends: an invocation that one process has accepted may have its home in another.
# Rule 4: a process that dies before the node served for the first time ends the start; later it is replaced.
from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lambent.dataplane.dispatch.ledger import Ledger, make_table
from lambent.dataplane.sandbox import cgroups
from lambent.model.errors import OperatorError
from lambent.node.assemble import PROFILE, announce
from lambent.node.config import Settings
from lambent.node.folder import DataFolder
from lambent.node.processes.backoff import Backoff
from lambent.node.processes.boot import DRAIN, DRAINED, FINISH, NOW, READY, Boot, send_boot
from lambent.node.processes.member import process_id
from lambent.node.server import bind
from lambent.node.tier import choose_confinement
from lambent.telemetry.logging import set_up_logging

log = logging.getLogger(__name__)

END_PATIENCE_S = 20.0
"""Beyond the drain time, for taking environments down; a process that needs more is killed."""
NOW_PATIENCE_S = 10.0


def run_many(settings: Settings) -> int:
    """Run a node of several processes until it is told to stop. Returns the exit status."""
    set_up_logging(settings.log_level)
    try:
        return asyncio.run(_run(settings))
    except OperatorError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1


async def _run(settings: Settings) -> int:
    with contextlib.ExitStack() as stack:
        folder = DataFolder(Path(settings.data_dir))
        stack.callback(folder.close)
        listener = bind(settings.host, settings.port)
        stack.callback(listener.close)
        confine = choose_confinement(settings.isolation)
        limits = _Limits(folder)
        limits.sweep_all()
        stack.callback(limits.sweep_all)
        ledger_fd = make_table(settings.processes)
        stack.callback(os.close, ledger_fd)
        wake_fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(settings.processes)]
        for fd in wake_fds:
            stack.callback(os.close, fd)
        boots = [
            Boot(
                settings=settings,
                confine=confine,
                index=index,
                count=settings.processes,
                supervisor_pid=os.getpid(),
                listener_fd=listener.fileno(),
                lock_fd=folder.lock,
                ledger_fd=ledger_fd,
                wake_fds=wake_fds,
            )
            for index in range(settings.processes)
        ]
        ledger = Ledger(ledger_fd, wake_fds, 0)
        supervisor = Supervisor(settings, boots, ledger, limits.sweep, listener)
        return await supervisor.run(lambda: announce(settings, confine, folder.path / PROFILE, listener))


class _Limits:
    """The control groups of processes that are dead. A node that starts removes those of all its predecessors."""

    def __init__(self, folder: DataFolder) -> None:
        self._node_id = folder.node_id
        self._driver = cgroups.discover()

    def sweep(self, index: int) -> None:
        if self._driver is not None:
            self._driver.sweep(process_id(self._node_id, index))

    def sweep_all(self) -> None:
        if self._driver is not None:
            self._driver.sweep_processes(self._node_id)


class _Process:
    """One process from its start to its end."""

    def __init__(
        self, boot: Boot, on_word: Callable[[_Process, bytes], None], on_end: Callable[[_Process], None]
    ) -> None:
        self.index = boot.index
        self.is_ready = self.is_drained = False
        self.began_at = time.monotonic()
        self._on_word = on_word
        self._on_end = on_end
        self._link, theirs = socket.socketpair()
        command = [sys.executable, "-m", "lambent.node.processes.member"]
        self._process = subprocess.Popen(
            [*command, boot.settings.data_dir, str(boot.index), str(theirs.fileno())],
            pass_fds=[theirs.fileno(), *boot.fds],
            stdin=subprocess.DEVNULL,
            # A terminal's Ctrl-C is for the supervisor, which says what it means.
            start_new_session=True,
        )
        theirs.close()
        self.pid = self._process.pid
        # OSError: it is dead already, and its descriptor says so.
        with contextlib.suppress(OSError):
            send_boot(self._link, boot)
        self._link.setblocking(False)
        self._pidfd = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._take_end)
        loop.add_reader(self._link.fileno(), self._take_words)

    @property
    def status(self) -> int | None:
        return self._process.returncode

    def tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._link.send(word)

    def kill(self) -> None:
        self._process.kill()

    def _take_words(self) -> None:
        try:
            words = self._link.recv(64)
        except OSError:
            words = b""
        if not words:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
        for at in range(len(words)):
            self._on_word(self, words[at : at + 1])

    def _take_end(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        loop.remove_reader(self._link.fileno())
        self._process.wait()
        os.close(self._pidfd)
        self._link.close()
        self._on_end(self)


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        boots: list[Boot],
        ledger: Ledger,
        sweep: Callable[[int], None],
        listener: socket.socket,
    ) -> None:
        self._settings = settings
        self._boots = boots
        self._ledger = ledger
        self._sweep = sweep
        self._listener = listener
        self._living: dict[int, _Process] = {}
        self._backoffs = [Backoff() for _ in boots]
        self._restarts: dict[int, asyncio.TimerHandle] = {}
        self._has_served = False
        self._stops = 0
        self._failed = False
        self._ended = asyncio.Event()
        self._killing: asyncio.TimerHandle | None = None
        self._announce: Callable[[], None] = lambda: None

    async def run(self, announce: Callable[[], None]) -> int:
        """Until a signal has stopped it. Returns the exit status."""
        self._announce = announce
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fail)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        for boot in self._boots:
            self._start(boot.index)
        await self._ended.wait()
        if self._killing is not None:
            self._killing.cancel()
        return 1 if self._failed else 0

    def _start(self, index: int) -> None:
        self._restarts.pop(index, None)
        # From the main thread: its end is what the kernel takes for the end of the parent.
        try:
            self._living[index] = _Process(self._boots[index], self._take_word, self._take_end)
        except OSError as exc:
            if not self._has_served:
                raise OperatorError(f"A node process cannot be started: {exc}") from exc
            log.exception("process not started", extra={"action": "process_not_started", "index": index})
            self._start_later(index, self._backoffs[index].delay_s(0.0))

    def _take_word(self, process: _Process, word: bytes) -> None:
        if word == READY:
            process.is_ready = True
            self._note_ready(process)
        elif word == DRAINED:
            process.is_drained = True
            self._finish_if_drained(process)

    def _note_ready(self, process: _Process) -> None:
        if self._has_served:
            log.info(
                "process replaced", extra={"action": "process_replaced", "index": process.index, "pid": process.pid}
            )
        elif len(self._living) == len(self._boots) and all(living.is_ready for living in self._living.values()):
            self._has_served = True
            self._announce()

    def _take_end(self, process: _Process) -> None:
        del self._living[process.index]
        # Who waits in line there waits no more; its slots are free when its environments are gone.
        self._ledger.forget(process.index, keep_taken=True)
        self._sweep(process.index)
        self._ledger.forget(process.index)
        if self._stops or self._failed:
            self._go_on_ending()
            return
        if not self._has_served:
            # It has said itself what was wrong.
            self._failed = True
            for living in self._living.values():
                living.kill()
            self._go_on_ending()
            return
        delay_s = self._backoffs[process.index].delay_s(time.monotonic() - process.began_at)
        log.error(
            "process died",
            extra={
                "action": "process_died",
                "index": process.index,
                "pid": process.pid,
                "status": process.status,
                "restart_s": delay_s,
            },
        )
        self._start_later(process.index, delay_s)

    def _start_later(self, index: int, delay_s: float) -> None:
        self._restarts[index] = asyncio.get_running_loop().call_later(delay_s, self._start, index)

    def _stop(self) -> None:
        self._stops += 1
        self._listener.close()
        for timer in self._restarts.values():
            timer.cancel()
        self._restarts.clear()
        for process in self._living.values():
            process.tell(DRAIN if self._stops == 1 else NOW)
        patience_s = self._settings.drain_timeout_seconds + END_PATIENCE_S if self._stops == 1 else NOW_PATIENCE_S
        if self._killing is not None:
            self._killing.cancel()
        self._killing = asyncio.get_running_loop().call_later(patience_s, self._kill)
        self._go_on_ending()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A supervisor that is wrong about its processes must not go on: end the node, loudly."""
        loop.default_exception_handler(context)
        self._failed = True
        for process in self._living.values():
            process.kill()
        self._ended.set()

    def _kill(self) -> None:
        for process in self._living.values():
            log.error("process killed", extra={"action": "process_killed", "index": process.index})
            process.kill()

    def _finish_if_drained(self, process: _Process) -> None:
        if not self._stops:
            # Stopped by somebody else: it ends and is replaced.
            process.tell(FINISH)
        self._go_on_ending()

    def _go_on_ending(self) -> None:
        if not (self._stops or self._failed):
            return
        if not self._living:
            self._ended.set()
        elif all(process.is_drained for process in self._living.values()):
            for process in self._living.values():
                process.tell(FINISH)
