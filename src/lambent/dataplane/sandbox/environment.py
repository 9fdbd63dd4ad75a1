"""One execution environment as the node holds it: its process, its channel, its log, its limits.

It serves one invocation at a time, or up to `concurrency` of them where its runtime can. Whoever starts it owns it
until `stop` has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import time
from collections.abc import Callable

from lambent.dataplane.sandbox import inspection
from lambent.dataplane.sandbox.channel import Channel, ChannelClosed, Reply, TakeReply
from lambent.dataplane.sandbox.deadlines import Deadlines
from lambent.dataplane.sandbox.log_pipe import LogPipe
from lambent.dataplane.sandbox.states import EnvironmentState, Event, State
from lambent.dataplane.sandbox.zygote_link import Spawned
from lambent.dataplane.wire.frames import Call
from lambent.model.function import Version
from lambent.model.streams import ResponseStream

EXIT_PATIENCE_S = 2.0
"""How long a runtime that closed its channel may take to exit before it is killed."""

EXIT_GRACE_S = 0.05
"""How long after the exit of the process its last bytes are still read."""


UNMEASURED_MB = 32
"""What an environment counts as until its first invocation has been measured."""


MAX_AGE_S = 11 * 3600.0
"""Below the lifetime of the credentials that it was given at its start."""


class Cause(enum.Enum):
    """Why an environment ended without an answer."""

    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    EXIT = "exit"
    PROTOCOL = "protocol"


class Ended(Exception):
    """The environment ended before it answered. `status` is the runtime's wait status, None if unknown."""

    def __init__(self, cause: Cause, status: int | None, detail: str = "") -> None:
        super().__init__(detail or cause.value)
        self.cause = cause
        self.status = status
        self.detail = detail


class Gauge:
    """Reads what an environment used; the cgroup's numbers where there is one, else the kernel's high-water mark."""

    def peak_mb(self) -> int:
        raise NotImplementedError

    def oom_kills(self) -> int:
        return 0

    def process_count(self) -> int | None:
        """None where there is no cgroup to count them."""
        return None

    def kill(self) -> None:
        """End every process that the init process cannot take with it; nothing where a pid namespace does."""


class _Turn:
    """One of several invocations: its own time limit, and the way of its answer."""

    __slots__ = ("_channel", "_deadlines", "_take", "number")

    def __init__(self, channel: Channel, deadlines: Deadlines, take: TakeReply) -> None:
        self._channel = channel
        self._deadlines = deadlines
        self._take = take
        self.number = 0

    def time_out(self) -> None:
        self._channel.abandon(self.number)

    def note_reply(self, reply: Reply | ChannelClosed) -> None:
        self._deadlines.leave(self.time_out)
        self._take(reply)


class Environment:
    """Built by `launcher.Launcher`, which hands it what it owns; `stop` gives all of it back."""

    def __init__(
        self,
        *,
        environment_id: str,
        version: Version,
        stream: str,
        trees: frozenset[str],
        spawned: Spawned,
        gauge: Gauge,
        deadlines: Deadlines,
        release: Callable[[], None],
    ) -> None:
        self.id = environment_id
        self.version = version
        self.stream = stream
        self.trees = trees
        """Names of what is mounted from the code store."""
        self.init_ms: float | None = None
        self.restored = False
        """A fork of a SnapStart template; `init_ms` is then how long the restore took."""
        self.provisioned = False
        """Initialised ahead, and kept for one share of provisioned concurrency."""
        self.idle_since = 0.0
        """Monotonic seconds; meaningful while idle."""
        self.retire_at = time.monotonic() + MAX_AGE_S
        """By the monotonic clock: when it serves no further invocation, since its credentials run out."""
        self.size_mb = UNMEASURED_MB
        """Memory it took in its last invocation."""
        self.invocations = 0
        self.concurrency = 1
        """How many invocations it takes at a time; known when it is ready."""
        self.running = 0
        """Invocations in it now, as whoever hands them out counts them."""
        self.retire = False
        """It takes no further invocation, and ends with the last that it has."""
        self._loop = asyncio.get_running_loop()
        self._spawned = spawned
        self._gauge = gauge
        self._deadlines = deadlines
        self._take_reply: TakeReply | None = None
        self._release = release
        self._state = EnvironmentState()
        self._channel: Channel | None = None
        self._log: LogPipe | None = None
        self._timed_out = False
        self._exited_first = False
        self._stopping: asyncio.Task[None] | None = None
        self.on_exit: Callable[[Environment], None] | None = None
        """Called once when the process ends for whatever reason, before its resources are given back."""
        spawned.exited.add_done_callback(self._note_exit)

    @property
    def state(self) -> State:
        return self._state.current

    @property
    def pid(self) -> int:
        return self._spawned.pid

    def attach(self, channel: Channel, log: LogPipe) -> None:
        self._channel = channel
        self._log = log

    def take(self, event: Event) -> None:
        """LEASED by the pool that hands it out, FINISHED when it may serve the next."""
        self._state.take(event)
        if event is Event.FINISHED:
            self.idle_since = time.monotonic()

    async def wait_ready(self, limit_ms: float) -> None:
        """Wait for the end of init. Raises InitFailed from the runtime, Ended otherwise."""
        assert self._channel is not None
        began = time.perf_counter()
        self._deadlines.enter(self._time_out, limit_ms)
        try:
            measured = await self._channel.wait_ready()
        except ChannelClosed as exc:
            raise await self.how_it_ended(exc) from exc
        finally:
            self._deadlines.leave(self._time_out)
        if self._state.current is not State.STARTING:
            raise await self.how_it_ended(ChannelClosed())
        self.concurrency = self._channel.concurrency
        self.init_ms = (time.perf_counter() - began) * 1000 if measured is None else measured
        self._state.take(Event.BOOTED)

    def begin(self, call: Call, limit_ms: float, take: TakeReply, stream: ResponseStream | None = None) -> None:
        """Deliver one invocation. `take` is called once, later: with the answer, or with what `how_it_ended` explains.

        What the function streams goes to `stream`; without one it is put together and is the answer.

        A reply after the limit is never accepted: where there are several at a time TurnOver is told instead.
        """
        assert self._channel is not None
        if self.concurrency > 1:
            turn = _Turn(self._channel, self._deadlines, take)
            turn.number = self._channel.send(call, turn.note_reply, stream)
            self.invocations += 1
            self._deadlines.enter(turn.time_out, limit_ms)
            return
        self._take_reply = take
        self._channel.send(call, self._note_reply, stream)
        # After it was sent, and before anything can be read: the function runs meanwhile.
        self.invocations += 1
        self._deadlines.enter(self._time_out, limit_ms)

    def _note_reply(self, reply: Reply | ChannelClosed) -> None:
        self._deadlines.leave(self._time_out)
        take, self._take_reply = self._take_reply, None
        assert take is not None
        take(reply)

    async def how_it_ended(self, closed: ChannelClosed) -> Ended:
        """Why the channel closed: waits for the end of the process."""
        status = await self._wait_exit(at_once=self._timed_out or not closed.by_end)
        if self._log is not None:
            self._log.drain()
        if self._timed_out:
            return Ended(Cause.TIMEOUT, status)
        if self._gauge.oom_kills() and status is not None and os.WIFSIGNALED(status):
            return Ended(Cause.OUT_OF_MEMORY, status)
        if closed.by_end or self._exited_first:
            return Ended(Cause.EXIT, status)
        return Ended(Cause.PROTOCOL, status, closed.reason)

    def begin_log(self) -> None:
        if self._log is not None:
            self._log.begin()

    def drain_log(self) -> None:
        if self._log is not None:
            self._log.drain()

    def peak_memory_mb(self) -> int:
        return self._gauge.peak_mb()

    def busy_ms(self) -> float:
        """How long its processes have run, or waited for a processor, until now."""
        return inspection.busy_ms(self._spawned.pid)

    def process_count(self) -> int | None:
        """Processes in its cgroup, its init among them."""
        return self._gauge.process_count()

    def kill(self) -> None:
        """Send SIGKILL to everything in the environment; `stop` waits for the end."""
        if self._state.current is not State.DEAD:
            self._state.take(Event.STOPPED)
        if self._spawned.exited.done():
            return
        self._spawned.pidfd.add_done_callback(self._kill_by)

    async def stop(self) -> None:
        """Kill, wait for the end and give everything back. May be called by several; all wait for the same."""
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(), name=f"stop environment {self.id}")
        await asyncio.shield(self._stopping)

    def _kill_by(self, pidfd: asyncio.Future[int]) -> None:
        if pidfd.cancelled() or pidfd.exception() is not None or self._spawned.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd.result(), signal.SIGKILL)
        self._gauge.kill()

    async def _stop(self) -> None:
        self.kill()
        await self._spawned.exited
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        pipe, self._log = self._log, None
        if pipe is not None:
            # It holds who is told of its lines, who knows of us: not until a collection, which is rare here.
            pipe.close()
        with contextlib.suppress(Exception):
            os.close(await self._spawned.pidfd)
        self._release()

    def _time_out(self) -> None:
        self._timed_out = True
        self.kill()
        # Not the end of the process but the deadline itself ends the call: nothing that still comes counts.
        if self._channel is not None:
            self._channel.close()

    async def _wait_exit(self, *, at_once: bool) -> int | None:
        """The wait status. A runtime that hung up is about to exit and must be let, or its status is lost."""
        if not at_once:
            await asyncio.wait([self._spawned.exited], timeout=EXIT_PATIENCE_S)
        self.kill()
        return await self._spawned.exited

    def _note_exit(self, _: asyncio.Future[int | None]) -> None:
        self._state.take(Event.EXITED)
        if self.on_exit is not None:
            self.on_exit(self)
        # What it sent before it ended is already on its way to us and must be read first.
        self._loop.call_later(EXIT_GRACE_S, self._hang_up)

    def _hang_up(self) -> None:
        self._exited_first = True
        if self._channel is not None:
            self._channel.close()
