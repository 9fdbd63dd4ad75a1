# Environments that wait without code, confined as far as that goes without a version, so that the sandbox is not on the
# path of a cold start.
#
# Rule 1: a shell belongs to no tenant until it is taken, and is taken once.
# Rule 2: one that ended while it waited is never handed out.
# Rule 3: a runtime gets shells after its first use, not before.
# Rule 4: they are made one at a time, some time after a start, and none while the node is full or drains.
from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import select
import signal
import socket
import uuid
from collections.abc import Callable, Sequence

from lambent.dataplane.sandbox.leases import Limits, LimitsLease, NetworkLease, Networks
from lambent.dataplane.sandbox.zygote_link import Spawned, ZygoteFailed, ZygoteLink
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.spec import EnvironmentSpec
from lambent.model.errors import PlatformError

log = logging.getLogger(__name__)

NETWORK = "outgoing"
"""What nearly every function has; one with another network starts without a shell."""

REFILL_DELAY_S = 0.05
"""The start that took a shell needs the processors first."""

PATIENCE_S = 10.0
"""A shell that is not ready, or does not listen, after this long is given up."""

_MAX_REASON_BYTES = 65_536


class ShellLost(Exception):
    """The shell ended before it could be used; nothing of a tenant was in it."""


class Shell:
    """One that waits. Whoever takes it owns what it holds, and gives it back with `stop` or after the environment."""

    def __init__(
        self,
        environment_id: str,
        zygote: ZygoteLink,
        spawned: Spawned,
        *,
        control: socket.socket,
        log_fd: int,
        network: NetworkLease,
        limits: LimitsLease | None,
        release: Callable[[], None],
    ) -> None:
        self.id = environment_id
        self.zygote = zygote
        self.spawned = spawned
        self.control = control
        self.log_fd = log_fd
        self.network = network
        self.limits = limits
        self.release = release
        """Gives back network and limits."""

    @property
    def alive(self) -> bool:
        """Asked of the kernel: the zygote's report of an end may still be on its way."""
        if self.spawned.exited.done() or not self.zygote.alive or not self.spawned.pidfd.done():
            return False
        poll = select.poll()
        poll.register(self.spawned.pidfd.result(), select.POLLIN)
        return not poll.poll(0)

    async def wait_ready(self) -> None:
        """Until it waits. Raises PlatformError, naming the step that failed."""
        kind, body = await self._receive()
        if kind != frames.WAITING:
            raise PlatformError(body.decode("utf-8", "replace").replace("\0", ": "), retry_safe=True)
        # Its report is on another way than the zygote's, and what takes the shell needs the pidfd.
        await asyncio.shield(self.spawned.pidfd)

    async def use(self, spec: EnvironmentSpec, fds: Sequence[tuple[str, int]]) -> None:
        """Tell it what it is to be, and return when it has heard so. Raises ShellLost: it has done nothing of it."""
        body = json.dumps({"spec": spec._asdict(), "fds": [name for name, _ in fds]}).encode()
        message = frames.encode(frames.USE, body)
        try:
            sent = socket.send_fds(self.control, [message], [fd for _, fd in fds])
            if sent != len(message):
                raise ShellLost("its spec is larger than the socket takes at once")
            async with asyncio.timeout(PATIENCE_S):
                kind, body = await self._receive()
        except (OSError, PlatformError) as exc:
            # Killed after it was looked at, or before it could listen.
            raise ShellLost(str(exc) or "it did not listen") from exc
        if kind != frames.TAKEN:
            raise ShellLost(body.decode("utf-8", "replace").replace("\0", ": "))

    async def _receive(self) -> tuple[bytes, bytes]:
        """One frame and nothing of the next, which the channel is to read."""
        kind, length = frames.HEAD.unpack(await self._read(frames.HEAD.size))
        return kind, await self._read(min(length, _MAX_REASON_BYTES))

    async def _read(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < count:
            more = await loop.sock_recv(self.control, count - len(data))
            if not more:
                raise PlatformError("it ended", retry_safe=True)
            data += more
        return data

    async def stop(self) -> None:
        """Kill it, wait for the end and give everything back."""
        with contextlib.suppress(ZygoteFailed):
            pidfd = await self.spawned.pidfd
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        await self.spawned.exited
        with contextlib.suppress(ZygoteFailed):
            os.close(await self.spawned.pidfd)
        self.control.close()
        os.close(self.log_fd)
        self.release()


class Shells:
    """Keeps `count` shells ready for each runtime that is in use."""

    def __init__(
        self,
        *,
        count: int,
        confine: str,
        networks: Networks,
        limits: Limits | None,
        has_room: Callable[[], bool],
    ) -> None:
        self._count = count
        self._confine = confine
        self._networks = networks
        self._limits = limits
        self._has_room = has_room
        self._ready: dict[str, list[Shell]] = {}
        self._links: dict[str, ZygoteLink] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._draining = False

    def take(self, runtime: str, zygote: ZygoteLink, network: str) -> Shell | None:
        """A shell that lives, the caller's from now on; None: start without."""
        if network != NETWORK:
            return None
        self._links[runtime] = zygote
        self._fill_later()
        ready = self._ready.get(runtime, [])
        while ready:
            shell = ready.pop(0)
            if shell.zygote is zygote and shell.alive:
                return shell
            self._end(shell)
        return None

    def statistics(self) -> dict[str, int]:
        """How many wait, by runtime."""
        return {runtime: len(ready) for runtime, ready in self._ready.items()}

    def waiting(self) -> int:
        return sum(len(ready) for ready in self._ready.values())

    def drain(self) -> None:
        """Make no more."""
        self._draining = True
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """End all that wait; those that were taken are their takers'."""
        self.drain()
        if self._filling is not None:
            self._filling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._filling
        for ready in self._ready.values():
            for shell in ready:
                self._end(shell)
        self._ready.clear()
        while self._ending:
            await asyncio.wait(self._ending)

    def _fill_later(self) -> None:
        if self._timer is None and not self._draining:
            self._timer = asyncio.get_running_loop().call_later(REFILL_DELAY_S, self._fill_up)

    def _fill_up(self) -> None:
        self._timer = None
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill(), name="make shells")

    async def _fill(self) -> None:
        while (runtime := self._find_short()) is not None:
            try:
                shell = await self._make(self._links[runtime])
            except (PlatformError, OSError) as exc:
                # The next start tries again; until then a machine that refuses is left in peace.
                log.warning(
                    "no shell could be made",
                    extra={"action": "shell_failed", "runtime": runtime, "reason": str(exc)},
                )
                return
            self._ready.setdefault(runtime, []).append(shell)
            shell.spawned.exited.add_done_callback(functools.partial(self._note_end, shell))

    def _find_short(self) -> str | None:
        """The runtime that lacks most."""
        if self._draining or not self._has_room():
            return None
        living = [runtime for runtime, zygote in self._links.items() if zygote.alive]
        shortest = min(living, key=lambda runtime: len(self._ready.get(runtime, ())), default=None)
        if shortest is None or len(self._ready.get(shortest, ())) >= self._count:
            return None
        return shortest

    async def _make(self, zygote: ZygoteLink) -> Shell:
        environment_id = uuid.uuid4().hex
        with contextlib.ExitStack() as owned:
            source = zygote if self._confine == "user" else None
            network = await self._networks.acquire(NETWORK, environment_id=environment_id, source=source)
            owned.callback(network.release)
            limits = None
            if self._limits is not None:
                limits = self._limits.make(environment_id)
                owned.callback(limits.release)
            shell = self._spawn(environment_id, zygote, network, limits, owned)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await shell.wait_ready()
        except BaseException as exc:
            await shell.stop()
            if isinstance(exc, TimeoutError):
                raise PlatformError(f"it was not ready after {PATIENCE_S:.0f} s", retry_safe=True) from exc
            raise
        return shell

    def _spawn(
        self,
        environment_id: str,
        zygote: ZygoteLink,
        network: NetworkLease,
        limits: LimitsLease | None,
        owned: contextlib.ExitStack,
    ) -> Shell:
        with contextlib.ExitStack() as sent:
            groups = [] if limits is None else limits.procs_fds()
            for fd in groups:
                sent.callback(os.close, fd)
            ours, theirs = socket.socketpair()
            sent.callback(theirs.close)
            ours.setblocking(False)
            log_read, log_write = os.pipe()
            sent.callback(os.close, log_write)
            fds = [("control", theirs.fileno()), ("log", log_write), ("network", network.fd)]
            fds += [("cgroup", fd) for fd in groups]
            try:
                spawned = zygote.spawn(_specify(environment_id, self._confine), fds, waits=True)
            except BaseException:
                ours.close()
                os.close(log_read)
                raise
        return Shell(
            environment_id,
            zygote,
            spawned,
            control=ours,
            log_fd=log_read,
            network=network,
            limits=limits,
            release=owned.pop_all().close,
        )

    def _note_end(self, shell: Shell, _: asyncio.Future[int | None]) -> None:
        for ready in self._ready.values():
            if shell in ready:
                ready.remove(shell)
                log.warning("a shell ended while it waited", extra={"action": "shell_lost", "environment": shell.id})
                self._end(shell)

    def _end(self, shell: Shell) -> None:
        task = asyncio.create_task(shell.stop(), name=f"end shell {shell.id}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _specify(environment_id: str, confine: str) -> EnvironmentSpec:
    """What the first half of confinement reads, and nothing of a version."""
    return EnvironmentSpec(
        environment_id=environment_id,
        runtime="",
        handler="",
        code="",
        layers="",
        environment={},
        memory_mb=0,
        ephemeral_mb=0,
        uid=-1,
        log_format="",
        log_level="",
        confine=confine,
        network="pooled",
        function="",
        version="",
        cgroup=False,
        task_root="",
        landlock=True,
    )
