"""The node's end of the egress process: hands it the ways out of environments, and starts it again if it dies."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lambent
from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.dataplane.sandbox.network.resolvers import Resolver, read_resolvers
from lambent.model.errors import PlatformError

log = logging.getLogger(__name__)

_SOURCE = str(Path(lambent.__file__).parent.parent)
_BOOT = "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module({!r}, run_name='__main__')".format(
    "lambent.dataplane.sandbox.network.egress"
)
_MESSAGE_BYTES = 262_144
START_TIMEOUT_S = 30.0
STOP_PATIENCE_S = 5.0
_STEADY_S = 5.0
"""A process that lived this long is replaced at once, one that did not after a pause."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class _WayOut:
    sockets: Sequence[socket.socket]
    policy: EgressPolicy


class Egress:
    """What is handed over stays open here too, so that a new process can be given it again."""

    def __init__(
        self, *, log_level: str = "info", resolvers: Sequence[Resolver] | None = None, nameservers: Path | None = None
    ) -> None:
        """`resolvers` None: those of `nameservers`, /etc/resolv.conf if that is None too, read at `start`."""
        self._log_level = log_level
        self._resolvers = resolvers
        self._nameservers = nameservers or Path("/etc/resolv.conf")
        self._ways: dict[str, _WayOut] = {}
        self._run: _Run | None = None
        self._supervision: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._run.process.pid if self._run is not None else 0

    async def start(self) -> None:
        """Raises PlatformError when the process does not come up."""
        if self._resolvers is None:
            self._resolvers = read_resolvers(self._nameservers)
        run = self._begin()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await run.ready
        except TimeoutError:
            await self.stop()
            raise PlatformError("the egress process did not start", retry_safe=True) from None
        except PlatformError:
            await self.stop()
            raise
        self._supervision = asyncio.create_task(self._supervise(), name="keep the egress process alive")

    async def stop(self) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervision
            self._supervision = None
        run, self._run = self._run, None
        if run is not None:
            await run.stop()

    def add(self, environment_id: str, sockets: Sequence[socket.socket], policy: EgressPolicy) -> None:
        """The sockets stay the caller's, who calls `remove` before closing them."""
        way = self._ways[environment_id] = _WayOut(sockets, policy)
        if self._run is not None:
            self._run.add(environment_id, way)

    def remove(self, environment_id: str) -> None:
        """Ends its connections. Nothing happens when it is not there."""
        if self._ways.pop(environment_id, None) is not None and self._run is not None:
            self._run.remove(environment_id)

    async def traffic(self) -> dict[str, dict[str, int]]:
        """What each environment's gate has seen since this egress process knows it (fields of `gate.Traffic`).

        Raises PlatformError while the process is being replaced.
        """
        if self._run is None:
            raise PlatformError("there is no egress process", retry_safe=True)
        return await self._run.traffic()

    async def wait_ready(self) -> None:
        """Return when the present process serves. Raises PlatformError if it ends first."""
        if self._run is None:
            raise PlatformError("there is no egress process", retry_safe=True)
        await asyncio.shield(self._run.ready)

    def _begin(self) -> _Run:
        assert self._resolvers is not None
        self._run = _Run(self._log_level, self._resolvers)
        for environment_id, way in self._ways.items():
            self._run.add(environment_id, way)
        return self._run

    async def _supervise(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            assert self._run is not None
            started_at = time.monotonic()
            await self._run.wait_ended()
            log.error(
                "egress process died, environments wait for the next",
                extra={"action": "egress_died", "pid": self._run.process.pid, "environments": len(self._ways)},
            )
            if time.monotonic() - started_at >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            self.restarts += 1
            try:
                self._begin()
            except OSError as exc:
                # The run that ended stays; the loop finds it ended and comes back after the next pause.
                log.error("no egress process", extra={"action": "egress_start_failed", "reason": str(exc)})


class _Run:
    """One process, from start to end."""

    def __init__(self, log_level: str, resolvers: Sequence[Resolver]) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._unsent: collections.deque[tuple[bytes, str, Sequence[socket.socket]]] = collections.deque()
        self._told: dict[str, dict[str, int]] = {}
        self._asked: collections.deque[asyncio.Future[dict[str, dict[str, int]]]] = collections.deque()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, _SOURCE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        config = {"log_level": log_level, "resolvers": [list(resolver) for resolver in resolvers]}
        self._link.send(json.dumps(config).encode())
        self._link.setblocking(False)
        self._loop.add_reader(self._link, self._receive)

    def add(self, environment_id: str, way: _WayOut) -> None:
        body = {"id": environment_id, "policy": way.policy.encode()}
        self._send(b"A" + json.dumps(body).encode(), environment_id, way.sockets)

    def remove(self, environment_id: str) -> None:
        # Its descriptors are about to be closed, so what still waits must not be sent any more.
        self._unsent = collections.deque(item for item in self._unsent if item[1] != environment_id)
        self._send(b"R" + json.dumps({"id": environment_id}).encode(), environment_id, ())

    async def traffic(self) -> dict[str, dict[str, int]]:
        if self._ended.is_set():
            raise PlatformError("the egress process ended", retry_safe=True)
        answer: asyncio.Future[dict[str, dict[str, int]]] = self._loop.create_future()
        self._asked.append(answer)
        self._send(b"Q{}", "", ())
        return await answer

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def stop(self) -> None:
        self._fail("was stopped")
        wait = self._loop.run_in_executor(None, self.process.wait)
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await asyncio.shield(wait)
        except TimeoutError:
            self.process.kill()
            await wait

    def _send(self, message: bytes, environment_id: str, sockets: Sequence[socket.socket]) -> None:
        if self._ended.is_set():
            return
        self._unsent.append((message, environment_id, sockets))
        if len(self._unsent) == 1:
            self._send_rest()

    def _send_rest(self) -> None:
        while self._unsent:
            message, _, sockets = self._unsent[0]
            try:
                socket.send_fds(self._link, [message], [item.fileno() for item in sockets])
            except BlockingIOError:
                self._loop.add_writer(self._link, self._send_rest)
                return
            except OSError as exc:
                self._fail(str(exc))
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._link)

    def _receive(self) -> None:
        while not self._ended.is_set():
            try:
                message = self._link.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as exc:
                self._fail(str(exc))
                return
            if not message:
                self._fail("it ended")
                return
            self._take(message[:1], json.loads(message[1:]))

    def _take(self, kind: bytes, body: dict[str, Any]) -> None:
        if kind == b"Y":
            self.ready.set_result(None)
        elif kind == b"T" and body:
            self._told.update(body)
        elif kind == b"T":
            told, self._told = self._told, {}
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(told)

    def _fail(self, reason: str) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._loop.remove_reader(self._link)
        self._loop.remove_writer(self._link)
        self._link.close()
        self._unsent.clear()
        error = PlatformError(f"the egress process: {reason}", retry_safe=True)
        _set_exception(self.ready, error)
        while self._asked:
            _set_exception(self._asked.popleft(), error)
        # It has ended or is about to, now that its link is closed; a thread waits so that no zombie stays.
        self._loop.run_in_executor(None, self.process.wait)


def _set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # Nobody may be waiting for it.
        future.exception()
