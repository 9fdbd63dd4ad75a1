"""One SnapStart template: an initialised process that waits, and what it shares with the environments forked from it.

anchor     the first process of a pid namespace, trusted; holds it open while anything lives in it
template   an environment of its own in that namespace; may be ended, to give its memory back, before its forks
slots      each fork's namespaces, made by the zygote inside the anchor's pid namespace
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable

from lambent.dataplane.jail.slot import NAMESPACES
from lambent.dataplane.sandbox import inspection
from lambent.dataplane.sandbox.environment import Environment, Gauge
from lambent.dataplane.sandbox.inspection import Findings
from lambent.dataplane.sandbox.launcher import Launcher, stream_name
from lambent.dataplane.sandbox.states import State
from lambent.dataplane.sandbox.zygote_link import Spawned
from lambent.model.errors import PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Target

REFILL_DELAY_S = 0.05
"""Not at once: the start that took a place needs the processors for the next few milliseconds."""
PARALLEL_FORKS = 8
"""The template forks one after the other; whoever waited in its queue would wait within the time limit of a restore."""
LEFTOVER_PATIENCE_S = (0.001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_EXPECTED_PROCESSES = 2
"""An init and the runtime."""


class Frame:
    """The pid namespace and the uid that a template and its environments have in common."""

    def __init__(self, launcher: Launcher, anchor: Spawned, uid: int) -> None:
        self.uid = uid
        self._launcher = launcher
        self._anchor = anchor
        self._users = 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.commands = ours
        self._theirs: socket.socket | None = theirs
        self.ended: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, launcher: Launcher, version: Version) -> Frame:
        """Raises CallerError for a runtime that is missing, PlatformError."""
        zygote = await launcher.zygotes.get(version.runtime)
        anchor = zygote.make_anchor(uuid.uuid4().hex)
        await anchor.pidfd
        return cls(launcher, anchor, launcher.uids.take())

    @property
    def anchor_fd(self) -> int:
        return self._anchor.pidfd.result()

    @property
    def anchor_pid(self) -> int:
        return self._anchor.pid

    @property
    def commands_fd(self) -> int:
        assert self._theirs is not None
        return self._theirs.fileno()

    def close_theirs(self) -> None:
        """The template has its copy: its end is seen when it ends."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def keep(self) -> None:
        self._users += 1

    def leave(self) -> None:
        """The last who leaves ends the pid namespace."""
        self._users -= 1
        if not self._users:
            self.ended = asyncio.get_running_loop().create_task(self._end(), name="end a template's pid namespace")

    async def _end(self) -> None:
        self.close_theirs()
        self.commands.close()
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.anchor_fd, signal.SIGKILL)
        await self._anchor.exited
        os.close(self.anchor_fd)
        self._launcher.uids.give_back(self.uid)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Place:
    """What one environment will live in. Given to an environment, or discarded."""

    environment_id: str
    network: str
    spawned: Spawned
    gauge: Gauge
    told: list[tuple[str, int]]
    """Descriptors for the template."""
    resources: contextlib.ExitStack
    """To be given back when the environment has ended."""
    sent: contextlib.ExitStack
    """To be closed when the template has been told."""

    def discard(self) -> None:
        self.sent.close()
        _discard(self.spawned)
        self.resources.close()


class Template:
    """Use `start`, then `restore` as often as wanted, then `stop`."""

    def __init__(self, launcher: Launcher, target: Target, frame: Frame, environment: Environment) -> None:
        self.version = target.version
        self.environment = environment
        self.frame = frame
        self.used_at = time.monotonic()
        self.memory_mb = 0
        self.turns = asyncio.Semaphore(PARALLEL_FORKS)
        self._launcher = launcher
        self._left = False
        self._spare: asyncio.Task[_Place] | None = None

    @classmethod
    async def start(
        cls, launcher: Launcher, target: Target, limit_ms: float, note: Callable[[Environment], None]
    ) -> tuple[Template, Findings]:
        """`note` is told of the environment before its init. Raises InitFailed, Ended, CallerError, PlatformError."""
        frame = await Frame.open(launcher, target.version)
        try:
            environment = await launcher.start_cold(target, frame=frame)
        except BaseException:
            frame.leave()
            raise
        frame.close_theirs()
        template = cls(launcher, target, frame, environment)
        try:
            note(environment)
            await environment.wait_ready(limit_ms)
            pid = inspection.child_of(environment.pid)
            loop = asyncio.get_running_loop()
            findings = await loop.run_in_executor(None, lambda: inspection.inspect(pid, orphans_of=frame.anchor_pid))
            template.memory_mb = inspection.anonymous_mb(pid)
        except inspection.Gone:
            await template.stop()
            raise PlatformError("the template ended after its init", retry_safe=True) from None
        except BaseException:
            await template.stop()
            raise
        return template, findings

    @property
    def alive(self) -> bool:
        return self.environment.state is State.BUSY

    async def restore(self, target: Target) -> Environment:
        """A new environment that is a fork of this one; its after-restore hooks are still to run.

        Raises PlatformError.
        """
        launcher = self._launcher
        self.used_at = time.monotonic()
        place = await self._take_place(target)
        stream = stream_name(self.version, place.environment_id)
        with contextlib.ExitStack() as sent, contextlib.ExitStack() as failing:
            failing.callback(place.discard)
            ours, theirs = socket.socketpair()
            failing.callback(ours.close)
            log_read, log_write = os.pipe()
            failing.callback(os.close, log_read)
            sent.callback(theirs.close)
            sent.callback(os.close, log_write)
            told = [("control", theirs.fileno()), ("log", log_write), *place.told]
            try:
                variables = {"AWS_LAMBDA_LOG_STREAM_NAME": stream, **launcher.credentials(target)}
                self._command({"variables": variables, "fds": [name for name, _ in told]}, [fd for _, fd in told])
            except OSError as exc:
                raise PlatformError(f"the template takes no commands: {exc}", retry_safe=True) from exc
            environment = Environment(
                environment_id=place.environment_id,
                version=self.version,
                stream=stream,
                trees=self.environment.trees,
                spawned=place.spawned,
                gauge=place.gauge,
                deadlines=launcher.deadlines,
                release=place.resources.close,
            )
            failing.pop_all()
            place.sent.close()
        environment.restored = True
        await launcher.attach(environment, ours, log_read)
        asyncio.get_running_loop().call_later(REFILL_DELAY_S, self.prepare, target)
        return environment

    async def check(self, environment: Environment) -> str:
        """What is wrong with a fork that says it is ready; empty when nothing is.

        Its way here led through user code's memory. The joiner in between may take a moment to be gone.
        """
        for delay_s in LEFTOVER_PATIENCE_S:
            if not self._find_problem(environment):
                return ""
            await asyncio.sleep(delay_s)
        return self._find_problem(environment)

    def _find_problem(self, environment: Environment) -> str:
        try:
            if not inspection.is_confined(inspection.child_of(environment.pid)):
                return "it has kept privileges"
        except inspection.Gone:
            return "it is gone"
        for group, name in ((environment, "the environment"), (self.environment, "the template")):
            if group.process_count() not in (None, _EXPECTED_PROCESSES):
                return f"there are {group.process_count()} processes in {name} instead of {_EXPECTED_PROCESSES}"
        return ""

    def prepare(self, target: Target) -> None:
        """Have a place ready for the next one."""
        if not self._left and self._spare is None and self.alive:
            self._spare = asyncio.create_task(self._make_place(target), name="make a place for a fork")
            # Whoever wants it asks for its result; nobody may.
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def stop(self) -> None:
        """End the process; environments that were forked from it live on."""
        leaves, self._left = not self._left, True
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(PlatformError, OSError):
                (await spare).discard()
        await self.environment.stop()
        if leaves:
            self.frame.leave()

    async def _take_place(self, target: Target) -> _Place:
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(PlatformError, OSError):
                place = await asyncio.shield(spare)
                if place.network == target.network and not place.spawned.exited.done():
                    return place
                place.discard()
        return await self._make_place(target)

    async def _make_place(self, target: Target) -> _Place:
        """Namespaces, /tmp, network and limits of one environment, with nobody but an init in them."""
        launcher = self._launcher
        zygote = await launcher.zygotes.get(self.version.runtime)
        environment_id = uuid.uuid4().hex
        with contextlib.ExitStack() as owned, contextlib.ExitStack() as sent, contextlib.ExitStack() as failing:
            self.frame.keep()
            owned.callback(self.frame.leave)
            scratch_fd = await launcher.acquire_scratch(self.version, owned)
            gauge, cgroup_fds = launcher.acquire_limits(self.version, environment_id, owned, shared_mb=self.memory_mb)
            for fd in cgroup_fds:
                sent.callback(os.close, fd)
            spec = launcher.specify(
                target,
                environment_id=environment_id,
                uid=self.frame.uid,
                stream="",
                listener=None,
                has_cgroup=bool(cgroup_fds),
            )
            given = [("anchor", self.frame.anchor_fd), *(("cgroup", fd) for fd in cgroup_fds)]
            if scratch_fd >= 0:
                given.append(("scratch", scratch_fd))
            spawned = zygote.make_slot(spec, target.network, given)
            failing.callback(spawned.pidfd.add_done_callback, lambda _: _discard(spawned))
            await asyncio.shield(spawned.pidfd)
            fds, joined_fd, sockets = _split(spawned.slot_fds)
            spawned.slot_fds = []
            for fd in (*fds, joined_fd):
                sent.callback(os.close, fd)
            assert launcher.networks is not None
            network_fds = [os.dup(fds[NAMESPACES.index("net")]), *sockets]
            network = launcher.networks.adopt(target.network, network_fds, environment_id=environment_id)
            owned.callback(network.release)
            failing.pop_all()
            return _Place(
                environment_id=environment_id,
                network=target.network,
                spawned=spawned,
                gauge=gauge,
                told=[
                    ("joined", joined_fd),
                    *(("namespace", fd) for fd in fds),
                    *(("cgroup", fd) for fd in cgroup_fds),
                ],
                resources=owned.pop_all(),
                sent=sent.pop_all(),
            )

    def _command(self, message: dict[str, object], fds: list[int]) -> None:
        socket.send_fds(self.frame.commands, [json.dumps(message).encode()], fds)


def _discard(spawned: Spawned) -> None:
    """End a slot that nobody moves into. What was taken out of `slot_fds` has other owners."""
    if spawned.pidfd.cancelled() or spawned.pidfd.exception() is not None:
        return
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(spawned.pidfd.result(), signal.SIGKILL)
    os.close(spawned.pidfd.result())
    for fd in spawned.slot_fds:
        os.close(fd)


def _split(slot_fds: list[int]) -> tuple[list[int], int, list[int]]:
    """Namespaces, where the runtime tells that it has joined, sockets of the network."""
    count = len(NAMESPACES)
    return slot_fds[:count], slot_fds[count], slot_fds[count + 1 :]
