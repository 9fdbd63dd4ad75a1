"""The node's end of one zygote: start it, ask it for environments, hear how they end."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lambent
from lambent.dataplane.wire.spec import EnvironmentSpec
from lambent.model.errors import PlatformError

log = logging.getLogger(__name__)

_SOURCE = str(Path(lambent.__file__).parent.parent)
_BOOT = (
    "import json, socket, sys; link = socket.socket(fileno=int(sys.argv[1])); told = json.loads(link.recv(65536)); "
    "sys.path.insert(0, told['source']); from lambent.dataplane.runtime.zygote import main; "
    "main(link, told['config'])"
)
_MESSAGE_BYTES = 256 * 1024
STOP_PATIENCE_S = 5.0
"""A zygote that has not ended this long after its link was closed is killed."""


class ZygoteFailed(PlatformError):
    """The zygote could not start, or ended; no environment can be made from it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_safe=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ZygotePlan:
    """What a zygote is made of; the fields are those of `runtime.zygote.ZygoteConfig`."""

    executable: str
    confine: str
    python: bool
    base: str
    prefixes: Sequence[str]
    store: str
    runtime: list[str]


class Spawned:
    """One forked environment as its zygote reports it."""

    __slots__ = ("exited", "pid", "pidfd", "slot_fds")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = 0
        """As this process sees it; 0 when it was gone before it could be looked up."""
        self.slot_fds: list[int] = []
        """Of a slot, once `pidfd` is there: its namespaces, the descriptor to tell that it is joined, its sockets."""
        self.pidfd: asyncio.Future[int] = loop.create_future()
        """Becomes ours to close. Raises ZygoteFailed."""
        self.exited: asyncio.Future[int | None] = loop.create_future()
        """The runtime's wait status; None when nobody can tell it."""


class ZygoteLink:
    """A running zygote. Start it with `start`; afterwards every call is immediate or awaits its answer."""

    def __init__(self, plan: ZygotePlan, link: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._link = link
        self._process = process
        self._pidfd = -1
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._spawned: dict[str, Spawned] = {}
        self._namespaces: collections.deque[asyncio.Future[list[int]]] = collections.deque()
        self._unsent: collections.deque[tuple[bytes, Sequence[int]]] = collections.deque()
        self.alive = True
        self.pid = 0
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def start(cls, plan: ZygotePlan, *, timeout_s: float = 30.0) -> ZygoteLink:
        """Raises ZygoteFailed, naming the step that failed."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            with theirs:
                process = _start_process(plan, ours, theirs)
            ours.setblocking(False)
            link = cls(plan, ours, process)
            on_failure.pop_all()
        link._loop.add_reader(ours, link._receive)
        try:
            async with asyncio.timeout(timeout_s):
                await link._ready
        except TimeoutError:
            await link.stop()
            raise ZygoteFailed(f"the zygote of {plan.executable} did not start in {timeout_s:.0f} s") from None
        except ZygoteFailed:
            await link.stop()
            raise
        return link

    def spawn(self, spec: EnvironmentSpec, fds: Sequence[tuple[str, int]], *, waits: bool = False) -> Spawned:
        """Ask for an environment, with `waits` for a shell. The descriptors are sent as copies and stay the caller's.

        Raises ZygoteFailed when the zygote is gone.
        """
        if not self.alive:
            raise ZygoteFailed("the zygote has ended")
        spawned = self._spawned[spec.environment_id] = Spawned(self._loop)
        variables_fd = _write_variables(spec)
        try:
            body = {"spec": _without_variables(spec), "fds": [*(name for name, _ in fds), "variables"]}
            self._send(b"W" if waits else b"S", body, [*(fd for _, fd in fds), variables_fd])
        finally:
            os.close(variables_fd)
        return spawned

    def make_anchor(self, anchor_id: str) -> Spawned:
        """The first process of a pid namespace for a SnapStart template and its environments."""
        if not self.alive:
            raise ZygoteFailed("the zygote has ended")
        spawned = self._spawned[anchor_id] = Spawned(self._loop)
        self._send(b"A", {"id": anchor_id})
        return spawned

    def make_slot(self, spec: EnvironmentSpec, network: str, fds: Sequence[tuple[str, int]]) -> Spawned:
        """A place for an environment of a template; what is spawned is its init. Descriptors as with `spawn`."""
        if not self.alive:
            raise ZygoteFailed("the zygote has ended")
        spawned = self._spawned[spec.environment_id] = Spawned(self._loop)
        body = {"spec": _without_variables(spec), "network": network, "fds": [name for name, _ in fds]}
        self._send(b"L", body, [fd for _, fd in fds])
        return spawned

    async def make_namespace(self, kind: str) -> list[int]:
        """A network namespace made inside this zygote's user namespace: its descriptor, then its listeners."""
        if not self.alive:
            raise ZygoteFailed("the zygote has ended")
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._namespaces.append(answer)
        self._send(b"N", {"kind": kind})
        return await answer

    def resident_mb(self) -> int:
        with contextlib.suppress(OSError, IndexError, ValueError):
            text = Path(f"/proc/{self.pid}/status").read_text()
            return int(text.split("VmRSS:")[1].split()[0]) // 1024
        return 0

    async def stop(self) -> None:
        """End the zygote, and in a pid namespace all its environments; return when it is gone."""
        self._fail("the zygote was stopped")
        await self._wait_process()

    def kill(self) -> None:
        """As `stop`, at once and without waiting for anything."""
        with contextlib.suppress(OSError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._fail("the zygote was killed")

    def _send(self, kind: bytes, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        message = kind + json.dumps(body).encode()
        if not self._unsent:
            try:
                socket.send_fds(self._link, [message], fds)
                return
            except BlockingIOError:
                self._loop.add_writer(self._link, self._send_rest)
            except OSError as exc:
                self._fail(f"the zygote is gone: {exc}")
                return
        # The caller may close its descriptors as soon as we return.
        self._unsent.append((message, [os.dup(fd) for fd in fds]))

    def _send_rest(self) -> None:
        while self._unsent:
            message, fds = self._unsent[0]
            try:
                socket.send_fds(self._link, [message], fds)
            except BlockingIOError:
                return
            except OSError as exc:
                self._fail(f"the zygote is gone: {exc}")
                return
            self._unsent.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._link)

    def _receive(self) -> None:
        while self.alive:
            try:
                message, fds, _, _ = socket.recv_fds(self._link, _MESSAGE_BYTES, 16)
            except BlockingIOError:
                return
            except OSError as exc:
                self._fail(f"the zygote is gone: {exc}")
                return
            if not message:
                self._fail("the zygote ended")
                return
            self._take(message[:1], json.loads(message[1:]), fds)

    def _take(self, kind: bytes, body: dict[str, Any], fds: list[int]) -> None:
        if kind == b"P":
            spawned = self._spawned[body["id"]]
            spawned.pid = _pid_of(fds[0])
            spawned.slot_fds = fds[1:]
            spawned.pidfd.set_result(fds[0])
        elif kind == b"X":
            ended = self._spawned.pop(body["id"], None)
            # The maker of a slot that failed has said so already; one that died has not.
            if ended is not None:
                _set_exception(ended.pidfd, ZygoteFailed("it ended before it was made"))
                ended.exited.set_result(body["status"])
        elif kind == b"E":
            spawned = self._spawned.pop(body["id"])
            _set_exception(spawned.pidfd, ZygoteFailed("fork failed: " + body["reason"]))
            spawned.exited.set_result(None)
        elif kind == b"M":
            self._take_namespace(body, fds)
        elif kind == b"Z":
            self._pidfd = fds[0]
            self.pid = body["pid"]
        elif kind == b"R":
            self._ready.set_result(None)
        elif kind == b"B":
            self._fail("{step}: {reason}".format(**body))

    def _take_namespace(self, body: dict[str, Any], fds: list[int]) -> None:
        answer = self._namespaces.popleft()
        if answer.done():
            _close_all(fds)
        elif "error" in body:
            answer.set_exception(ZygoteFailed(body["error"]))
        else:
            answer.set_result(fds)

    def _fail(self, reason: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._link)
        self._loop.remove_writer(self._link)
        self._link.close()
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        error = ZygoteFailed(reason)
        if not self._ready.done():
            self._ready.set_exception(error)
        for answer in self._namespaces:
            _set_exception(answer, error)
        for spawned in self._spawned.values():
            _set_exception(spawned.pidfd, error)
            if not spawned.exited.done():
                spawned.exited.set_result(None)
        self._spawned.clear()
        self.ended.set_result(None)

    async def _wait_process(self) -> None:
        # The process that was started has ended long ago, unless the zygote is that very process.
        await self._loop.run_in_executor(None, self._process.wait)
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd < 0:
            return
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await wait_pidfd(pidfd)
        except TimeoutError:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await wait_pidfd(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - WNOHANG
        os.close(pidfd)


async def wait_pidfd(pidfd: int) -> None:
    """Return when the process behind a pidfd has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)


def _start_process(plan: ZygotePlan, ours: socket.socket, theirs: socket.socket) -> subprocess.Popen[bytes]:
    config = {
        "confine": plan.confine,
        "python": plan.python,
        "base": plan.base,
        "prefixes": list(plan.prefixes),
        "store": plan.store,
        "runtime": plan.runtime,
    }
    # -I and -S: nothing of the operator's environment or site-packages gets in, and the start is 25 ms shorter.
    command = [plan.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno())]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except OSError as exc:
        raise ZygoteFailed(f"{plan.executable} cannot be started: {exc.strerror}") from exc
    ours.send(json.dumps({"source": _SOURCE, "config": config}).encode())
    return process


def _pid_of(pidfd: int) -> int:
    """The pid as this process sees it; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
            if line.startswith("Pid:"):
                return max(0, int(line.split()[1]))
    return 0


def _set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _without_variables(spec: EnvironmentSpec) -> dict[str, Any]:
    # What a zygote has once read stays in its memory, and every later environment begins with a copy of that.
    return spec._replace(environment={})._asdict()


def _write_variables(spec: EnvironmentSpec) -> int:
    """The function's variables as a file in memory, which the child alone reads. The descriptor is the caller's."""
    fd = os.memfd_create("variables")
    try:
        os.write(fd, json.dumps(spec.environment).encode())
    except BaseException:
        os.close(fd)
        raise
    return fd
