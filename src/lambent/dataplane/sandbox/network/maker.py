"""The node's end of the process that makes network namespaces; started when needed, and again if it dies."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path

import lambent
from lambent.dataplane.jail import descriptors, netns
from lambent.model.errors import PlatformError

log = logging.getLogger(__name__)

_SOURCE = str(Path(lambent.__file__).parent.parent)
_BOOT = (
    "import json, socket, sys; link = socket.socket(fileno=int(sys.argv[1])); told = json.loads(link.recv(65536)); "
    "sys.path.insert(0, told['source']); from lambent.dataplane.jail.netns_maker import main; main(link, told['user'])"
)
_MESSAGE_BYTES = 4096
_ATTEMPTS = 2
"""A maker that dies under a request is replaced once; the second death is the request's own fault."""


class NamespaceRefused(PlatformError):
    """The kernel refused a network namespace; `step` says which part of it."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message, retry_safe=True)
        self.step = step


class MakerDied(PlatformError):
    """The maker of network namespaces ended under a request."""

    def __init__(self) -> None:
        super().__init__("the maker of network namespaces ended", retry_safe=True)


class NamespaceMaker:
    """A `NamespaceSource` for the root tier."""

    def __init__(self, *, user: bool = False) -> None:
        """`user`: make them in a user namespace of the maker's own; only its own children could enter them."""
        self._user = user
        self._run: _Run | None = None
        self.alive = True
        self.restarts = 0

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._run.process.pid if self._run is not None else 0

    async def make_namespace(self, kind: str) -> list[int]:
        """Its descriptor, then its sockets. Raises NamespaceRefused, MakerDied."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._living().make_namespace(kind)
            except MakerDied:
                if attempt == _ATTEMPTS - 1 or not self.alive:
                    raise
        raise AssertionError("unreachable")

    async def stop(self) -> None:
        self.alive = False
        run, self._run = self._run, None
        if run is not None:
            run.close()
            await asyncio.get_running_loop().run_in_executor(None, run.process.wait)

    def _living(self) -> _Run:
        if not self.alive:
            raise MakerDied
        if self._run is not None and self._run.ended:
            self.restarts += 1
            log.warning(
                "maker of network namespaces died", extra={"action": "maker_died", "pid": self._run.process.pid}
            )
            self._run = None
        if self._run is None:
            self._run = _Run(self._user)
        return self._run


class _Run:
    """One process, from start to end. Requests are answered in order."""

    def __init__(self, user: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers: collections.deque[asyncio.Future[list[int]]] = collections.deque()
        self.ended = False
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = _start_process(theirs)
            except OSError as exc:
                self._link.close()
                raise PlatformError(f"{_executable()} cannot be started: {exc.strerror}", retry_safe=True) from exc
        self._link.send(json.dumps({"source": _SOURCE, "user": user}).encode())
        self._link.setblocking(False)
        self._loop.add_reader(self._link, self._receive)

    async def make_namespace(self, kind: str) -> list[int]:
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers.append(answer)
        try:
            # The pool asks for a handful at most, which always fits into the socket's buffer.
            self._link.send(b"N" + json.dumps({"kind": kind}).encode())
        except OSError:
            self._fail()
        return await answer

    def close(self) -> None:
        self._fail()

    def _receive(self) -> None:
        while not self.ended:
            try:
                message, fds = descriptors.receive(self._link, _MESSAGE_BYTES, netns.MAX_SOCKETS + 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # It was killed with a question of ours unread.
                self._fail()
                return
            except OSError as exc:
                # Of this process: no descriptors left. What was made is gone; say so and go on.
                self._take({"step": "receive", "error": f"network namespace: {exc}"}, [])
                return
            if not message:
                self._fail()
                return
            self._take(json.loads(message[1:]), fds)

    def _take(self, body: dict[str, str], fds: list[int]) -> None:
        answer = self._answers.popleft()
        if answer.done():
            descriptors.close_all(fds)
        elif "error" in body:
            answer.set_exception(NamespaceRefused(body["step"], body["error"]))
        else:
            answer.set_result(fds)

    def _fail(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._loop.remove_reader(self._link)
        self._link.close()
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(MakerDied())
        # It has ended or is about to, now that its link is closed; a thread waits so that no zombie stays.
        self._loop.run_in_executor(None, self.process.wait)


def _start_process(theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [_executable(), "-I", "-S", "-c", _BOOT, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
    )


def _executable() -> str:
    # The interpreter behind a virtual environment: nothing that was installed there is needed.
    return str(getattr(sys, "_base_executable", sys.executable))


def make_once(kind: str, *, user: bool, timeout_s: float = 30.0) -> list[int]:
    """Make one namespace in a process of its own, blocking; for probes. Raises NamespaceRefused, MakerDied."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, contextlib.ExitStack() as started:
        with theirs:
            process = _start_process(theirs)
        started.callback(process.wait)
        started.callback(ours.close)
        ours.settimeout(timeout_s)
        ours.send(json.dumps({"source": _SOURCE, "user": user}).encode())
        try:
            ours.send(b"N" + json.dumps({"kind": kind}).encode())
            message, fds = descriptors.receive(ours, _MESSAGE_BYTES, netns.MAX_SOCKETS + 1)
        except OSError as exc:
            raise MakerDied from exc
    if not message:
        raise MakerDied
    body = json.loads(message[1:])
    if "error" in body:
        raise NamespaceRefused(body["step"], body["error"])
    return fds
