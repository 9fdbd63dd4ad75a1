# The heart: gives every invocation an environment, and every environment back.
#
# Rule 1: an environment is either in the idle list, or in the hands of at most as many invocations as it takes at a
#         time (nearly always one), or being stopped.
# Rule 2: it returns to the idle list only after a clean answer; every other way out stops it.
# Rule 3: the concurrency slot is held from before the environment is chosen until after it is idle or gone.
# Rule 4: nothing here parses a payload or knows of HTTP.
from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

from lambent.dataplane.dispatch.admission import AccountAdmission, Throttled
from lambent.dataplane.dispatch.books import Books
from lambent.dataplane.dispatch.fleets import Fleets, NoRoom
from lambent.dataplane.dispatch.keepalive.idle_pool import IdlePool
from lambent.dataplane.dispatch.keepalive.policy import KeepAlive
from lambent.dataplane.dispatch.keepalive.worth import GreedyDual, Price
from lambent.dataplane.dispatch.open_environments import OpenEnvironments
from lambent.dataplane.dispatch.starts import Starts
from lambent.dataplane.sandbox import failures
from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Reply, TurnOver
from lambent.dataplane.sandbox.environment import Cause, Ended, Environment
from lambent.dataplane.sandbox.launcher import ON_DEMAND, PROVISIONED, Launcher
from lambent.dataplane.sandbox.states import Event, State
from lambent.dataplane.wire.frames import Call
from lambent.model.errors import PlatformError
from lambent.model.invocation import Invocation, Outcome, PoolKey, Target
from lambent.model.streams import ResponseStream
from lambent.telemetry.records import ColdReason

log = logging.getLogger(__name__)

SANDBOX_MS = 10.0
"""What a cold start costs beside the init of the function."""

PROVISION_LIMIT_S = 130
"""Of an init ahead; the function's own timeout where that is longer (developer guide, "Execution environment")."""

LONG_START_S = 0.1
"""How often a start that goes on is looked at: one that slept meanwhile waits for something."""

WORKING_MS = 20
"""Time on a processor, or waiting for one, in LONG_START_S that makes it one that works."""

LONGEST_WORK_S = 5.0
"""After this a start is not looked at any more, and counts no more: it must not hold up the others for ever."""

MAX_QUEUED = 1_000
"""Invocations that may wait until a start for them can begin; the next is throttled at once."""

_USED = (State.STARTING, State.BUSY)
_FULL_REASON = "ConcurrentInvocationLimitExceeded"
_MAX_REMEMBERED = 4_096


class Stopping(PlatformError):
    """The node is shutting down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("The node is stopping; send the request again.", retry_safe=True)


class Interrupted(PlatformError):
    """The node stopped while the function ran."""

    def __init__(self) -> None:
        super().__init__("The node stopped before the function had answered; it may have begun its work.")


Done = Callable[[Outcome | Exception], None]


class _Run:
    """One invocation between admission and its end."""

    __slots__ = (
        "admission",
        "began",
        "cold",
        "done",
        "environment",
        "invocation",
        "patience",
        "share",
        "stream",
        "target",
    )

    def __init__(
        self,
        target: Target,
        invocation: Invocation,
        admission: AccountAdmission,
        done: Done,
        *,
        share: str = "",
        stream: ResponseStream | None = None,
    ) -> None:
        self.target = target
        self.invocation = invocation
        self.admission = admission
        self.done = done
        self.share = share
        """Of provisioned concurrency, of which it has a slot; else it has one of its function or account."""
        self.stream = stream
        """Where the answer goes while it is written; None for an answer in one piece."""
        self.environment: Environment | None = None
        self.cold: ColdReason | None = None
        """Why no environment was there; None once it was given one that was."""
        self.patience: asyncio.TimerHandle | None = None
        """Until when it waits for room."""
        self.began = 0.0
        """`time.perf_counter` when it was delivered."""


class Dispatcher:
    """Implements `Invoker`."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        books: Books,
        admission_of: Callable[[str], AccountAdmission],
        keep_alive: KeepAlive,
        starts: Starts[_Run, Environment],
        queue_s: float,
        init_limit_ms: float,
    ) -> None:
        self._launcher = launcher
        self._books = books
        self._admission_of = admission_of
        self._starts = starts
        self._queue_s = queue_s
        self._init_limit_ms = init_limit_ms
        self._idle: IdlePool[Environment, Target] = IdlePool(keep_alive, GreedyDual())
        self._open: OpenEnvironments[Environment] = OpenEnvironments()
        self.fleets: Fleets[Environment] = Fleets(self._start_ahead, self._stop_soon)
        self._left: dict[str, ColdReason] = {}
        """Why the last environment of a version went."""
        self._revisions: dict[str, str] = {}
        self._single: dict[PoolKey, None] = {}
        """Versions that are to take several invocations at a time, and whose runtime cannot."""
        self._due: asyncio.TimerHandle | None = None
        self._due_at = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def emit_log(self, environment: Environment, lines: list[bytes]) -> None:
        """Where the launcher sends what environments write."""
        self._books.journal_of(environment).take_lines(lines)

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome:
        if stream is None:
            return await self._invoke(target, invocation, None)
        try:
            return await self._invoke(target, invocation, stream)
        finally:
            stream.end()

    async def _invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None) -> Outcome:
        if self._stopped:
            raise Stopping
        admission = self._admission_of(target.version.account)
        share = self._take_share(target, admission) if target.provisioned else ""
        if not share and target.max_wait_ms:
            if await admission.wait(target.version.name, target.max_wait_ms, target.provisioned):
                share = target.provisioned
        elif not share:
            admission.take(target.version.name)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._start(_Run(target, invocation, admission, functools.partial(_settle, answer), share=share, stream=stream))
        return await answer

    def submit(self, target: Target, invocation: Invocation, done: Done) -> None:
        """`invoke` without a task: `done` is called once with what came of it, later. For targets that do not wait.

        Raises what `invoke` raises before anything runs.
        """
        if self._stopped:
            raise Stopping
        admission = self._admission_of(target.version.account)
        share = self._take_share(target, admission) if target.provisioned else ""
        if not share:
            admission.take(target.version.name)
        self._start(_Run(target, invocation, admission, done, share=share))

    def follow_version(self, version_arn: str, revision_id: str | None) -> None:
        """The version is now at this revision, or gone (None): environments of any other are not used again."""
        if revision_id is None:
            self._revisions.pop(version_arn, None)
        else:
            self._revisions[version_arn] = revision_id
        for environment in self._idle.keep_revision(version_arn, revision_id):
            self._note_left(version_arn, ColdReason.NEW_CODE)
            self._stop_soon(environment)

    def environments(self) -> list[Environment]:
        return list(self._starts)

    def has_room(self) -> bool:
        """Whether another environment may live without an idle one ending for it."""
        return not self._stopped and not self._starts.queued and self._starts.has_room()

    def uses_tree(self, name: str) -> bool:
        """Whether a living environment has this tree of the code store mounted."""
        return any(name in environment.trees for environment in self._starts)

    def used_trees(self) -> list[str]:
        """The trees that `uses_tree` is true for."""
        return [name for environment in self._starts for name in environment.trees]

    def cut_short(self) -> None:
        """Environments end from now on because the node does: no answer of the functions'."""
        self._stopped = True

    async def stop(self) -> None:
        """Stop every environment, busy ones too."""
        self._stopped = True
        if self._due is not None:
            self._due.cancel()
        self._idle.clear()
        self.fleets.close()
        for run in self._starts.take_queued():
            self._refuse(run, Stopping())
        for environment in self._starts:
            self._stop_soon(environment)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.fleets.wait_closed()

    def _start(self, run: _Run) -> None:
        """The run has its slot; from here on it ends in `_finish`, whoever still waits for it."""
        environment = self._take_provisioned(run.share) if run.share else None
        if environment is None and run.target.version.concurrency > 1:
            environment = self._open.find(run.target.pool_key)
            if environment is not None and environment.state is not State.BUSY:
                environment = None
            if environment is not None:
                self._idle.begin(run.target.pool_key, time.monotonic(), needs_one=False)
        if environment is None:
            environment = self._take_idle(run.target.pool_key)
        if environment is None:
            self._want(run)
        else:
            self._hand_over(run, environment)

    def _hand_over(self, run: _Run, environment: Environment) -> None:
        try:
            self._deliver(run, environment)
        except Exception as exc:
            self._carry_out(self._stop_and_finish(run, environment, exc), f"stop environment {environment.id}")

    def _want(self, run: _Run) -> None:
        key = run.target.pool_key
        run.cold = self._why_cold(key)
        if run.target.version.concurrency > 1 and key not in self._single:
            self._starts.note_concurrency(key, run.target.version.concurrency)
        self._starts.want(key, run)
        self._start_next()
        if not self._starts.is_queued(run):
            return
        if self._starts.queued > MAX_QUEUED:
            self._refuse(run, Throttled(_FULL_REASON))
        else:
            self._have_patience(run)

    def _have_patience(self, run: _Run) -> None:
        loop = asyncio.get_running_loop()
        run.patience = loop.call_later(self._queue_s, self._refuse, run, Throttled(_FULL_REASON))

    def _refuse(self, run: _Run, error: Exception) -> None:
        """Whoever waits for room gets none."""
        if self._leave(run):
            self._idle.end(run.target.pool_key, time.monotonic())
            self._finish(run, error)

    def _leave(self, run: _Run) -> bool:
        """It waits no more. False if it did not."""
        if run.patience is not None:
            run.patience.cancel()
            run.patience = None
        return self._starts.leave(run.target.pool_key, run)

    def _start_next(self) -> None:
        """Begin the starts that there is room for."""
        for adopted in self._starts.adopt():
            if adopted.patience is not None:
                adopted.patience.cancel()
                adopted.patience = None
        while not self._stopped and (begun := self._starts.next(self._evict)) is not None:
            run, victim = begun
            if run.patience is not None:
                run.patience.cancel()
            self._carry_out(self._start_cold(run, victim), f"start environment for {run.target.version.name}")

    def _evict(self) -> Environment | None:
        evicted = self._idle.evict()
        if evicted is not None:
            self._note_left(evicted.version.version_arn, ColdReason.EVICTED)
        return evicted

    def _rest(self, run: _Run) -> None:
        self._starts.rest(run)
        self._start_next()

    def _end_start(self, run: _Run) -> None:
        """What came of the start is given away: whoever else waited for it needs another."""
        for orphan in self._starts.end(run):
            self._have_patience(orphan)
        self._start_next()

    def _serve_waiting(self, environment: Environment, key: PoolKey) -> bool:
        """Give a free environment to whoever has waited longest for one of its kind."""
        run = self._starts.first(key)
        if run is None:
            return False
        self._leave(run)
        run.cold = None
        self._hand_over(run, environment)
        return True

    async def _start_cold(self, run: _Run, victim: Environment | None) -> None:
        """Start an environment for the run; it may be served by another meanwhile."""
        environment = None
        watch: _Watch | None = None
        result: Outcome | Exception | None = None
        try:
            environment = await self._launch(run.target, victim)
            watch = _Watch(environment, functools.partial(self._rest, run))
            if run.target.version.optimization == "On" and not environment.restored and run.cold is not None:
                run.cold = ColdReason.TEMPLATE_NOT_READY
            # A fork of a template has been initialised long ago.
            outcome = None if environment.restored else await self._initialise(environment, run)
            if isinstance(outcome, Environment):
                environment = outcome
            else:
                result = outcome
        except Exception as exc:
            result = exc
        finally:
            if watch is not None:
                watch.end()
            self._rest(run)
        waits = self._leave(run)
        if result is not None or environment is None:
            assert result is not None
            self._end_start(run)
            if waits:
                await self._stop_and_finish(run, environment, result)
            elif environment is not None:
                await self._stop(environment)
            return
        if run.target.version.concurrency > 1:
            self._note_concurrency(environment, run.target.pool_key)
        if waits:
            self._hand_over(run, environment)
        else:
            self._keep_spare(environment, run.target)
        self._fill(environment, run.target.pool_key)
        self._end_start(run)

    def _fill(self, environment: Environment, key: PoolKey) -> None:
        """Those who wait take what it has room for."""
        while 0 < environment.running < environment.concurrency and environment.state is State.BUSY:
            if not self._serve_waiting(environment, key):
                return

    def _note_concurrency(self, environment: Environment, key: PoolKey) -> None:
        """What its runtime says counts, whatever the version wishes."""
        self._starts.note_concurrency(key, environment.concurrency)
        if environment.concurrency == 1:
            self._single[key] = None
            if len(self._single) > _MAX_REMEMBERED:
                del self._single[next(iter(self._single))]

    def _keep_spare(self, environment: Environment, target: Target) -> None:
        """It became ready after the one it was started for had been served."""
        key = target.pool_key
        if self._stopped or self._revisions.get(key[0]) != key[1] or environment.state is not State.BUSY:
            self._stop_soon(environment)
        elif not self._serve_waiting(environment, key):
            environment.take(Event.FINISHED)
            price = _price(environment, environment.peak_memory_mb())
            self._idle.add(environment, key, target, environment.idle_since, price)
            self._plan_due()

    async def _stop_and_finish(self, run: _Run, environment: Environment | None, result: Outcome | Exception) -> None:
        """Awaits the end of the environment: the slot is free only when it is gone."""
        if environment is None or not environment.provisioned:
            self._idle.end(run.target.pool_key, time.monotonic())
        if environment is not None:
            self._take_back(run, environment)
            await self._stop(environment)
        self._finish(run, result)

    def _take_back(self, run: _Run, environment: Environment) -> None:
        """It has the run no more, and gets no other."""
        environment.retire = True
        if run.environment is environment:
            environment.running -= 1
            self._open.note(run.target.pool_key, environment)

    def _finish(self, run: _Run, result: Outcome | Exception) -> None:
        if run.share:
            run.admission.give_back_provisioned(run.share)
        else:
            run.admission.give_back(run.target.version.name)
        run.done(result)

    def _take_share(self, target: Target, admission: AccountAdmission) -> str:
        """The share that has a slot and an environment for it; empty when it has not both."""
        fleet = self.fleets.find(target.provisioned)
        if fleet is not None and fleet.idle and admission.take_provisioned(fleet.id):
            return fleet.id
        return ""

    def _take_provisioned(self, share: str) -> Environment | None:
        fleet = self.fleets.find(share)
        return self.fleets.take(fleet) if fleet is not None else None

    def _take_idle(self, key: PoolKey) -> Environment | None:
        environment = self._idle.begin(key, time.monotonic())
        if environment is not None:
            environment.take(Event.LEASED)
        return environment

    def _give_back(self, environment: Environment, target: Target, size_mb: int) -> None:
        environment.running -= 1
        if environment.provisioned:
            environment.size_mb = size_mb
            if environment.retire:
                self.fleets.remove(environment)
                self._stop_soon(environment)
            else:
                self.fleets.give_back(environment)
            return
        key = target.pool_key
        now = time.monotonic()
        self._idle.end(key, now)
        unwanted = environment.retire or self._stopped
        if unwanted or self._revisions.get(key[0]) != key[1] or now > environment.retire_at:
            self._retire(environment, key)
            return
        environment.size_mb = size_mb
        if self._starts.queued_or_wanted and self._serve_waiting(environment, key):
            return
        if environment.concurrency > 1:
            self._open.note(key, environment)
            if environment.running:
                return
        environment.take(Event.FINISHED)
        self._idle.add(environment, key, target, environment.idle_since, _price(environment, size_mb))
        self._plan_due()
        if self._starts.queued:
            self._start_next()

    def _retire(self, environment: Environment, key: PoolKey) -> None:
        """It takes no further invocation, and ends with the last that it has."""
        environment.retire = True
        self._open.note(key, environment)
        if not environment.running:
            self._stop_soon(environment)

    async def _launch(
        self, target: Target, victim: Environment | None = None, *, provisioned: bool = False
    ) -> Environment:
        """A place must have been reserved. `victim`: whose place it is, and who ends for it."""
        try:
            if victim is not None:
                await self._stop(victim)
            if provisioned:
                environment = await self._launcher.start_cold(target, initialization=PROVISIONED)
            else:
                environment = await self._launcher.start(target)
            if self._stopped:
                await environment.stop()
                raise Stopping
        except BaseException:
            self._starts.give_up()
            raise
        self._starts.add(environment)
        environment.on_exit = self._forget
        if environment.state is State.DEAD:
            # Ended before we could hear of it; what waits for it is told by its channel.
            self._forget(environment)
        if not environment.restored:
            self._books.journal_of(environment).note_init_start(PROVISIONED if provisioned else ON_DEMAND)
        return environment

    async def _initialise(self, environment: Environment, run: _Run) -> Outcome | Exception | Environment | None:
        """None when init went well, an Outcome when it did not, another Environment when init had to start over.

        An exception is what comes of an init that failed when nobody waited for it any more.
        """
        target, invocation = run.target, run.invocation
        began = time.perf_counter()
        journal = self._books.journal_of(environment)
        try:
            await environment.wait_ready(self._init_limit_ms)
            return None
        except InitFailed as failed:
            environment.drain_log()
            elapsed_ms = (time.perf_counter() - began) * 1000
            journal.note_init_report(elapsed_ms, status="error", error_type=failed.error_type)
            if run.environment is not None:
                return failed
            reply = Reply(failed.payload, failed.error_type)
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            return self._books.conclude(environment, target, invocation, reply, elapsed_ms, status="error")
        except Ended as ended:
            elapsed_ms = (time.perf_counter() - began) * 1000
            if self._stopped:
                raise Stopping from ended
            if ended.cause is Cause.PROTOCOL:
                raise PlatformError(f"The environment could not be made: {ended.detail}", retry_safe=True) from ended
            if ended.cause is Cause.TIMEOUT:
                journal.note_init_report(elapsed_ms, status="timeout")
                return await self._initialise_again(environment, run)
            error_type, payload = failures.describe(
                ended, request_id=invocation.request_id, timeout_s=target.version.timeout_s
            )
            report_type = failures.report_type(ended, error_type)
            journal.note_init_report(elapsed_ms, status="error", error_type=report_type)
            if run.environment is not None:
                return ended
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            reply = Reply(payload, error_type)
            return self._books.conclude(
                environment, target, invocation, reply, elapsed_ms, status="error", report_type=report_type
            )

    async def _initialise_again(self, first: Environment, run: _Run) -> Outcome | Exception | Environment:
        """An init beyond its limit runs once more within the invocation, under the function's own timeout."""
        target, invocation = run.target, run.invocation
        if run.environment is not None:
            return TimeoutError("init took too long")
        self._starts.reserve(first)
        environment = await self._launch(target, first)
        began = time.perf_counter()
        limit_ms = target.version.timeout_s * 1000
        clean = False
        try:
            await environment.wait_ready(limit_ms)
            clean = True
            return environment
        except (InitFailed, Ended) as failed:
            elapsed_ms = (time.perf_counter() - began) * 1000
            if self._stopped:
                raise Stopping from failed
            if run.environment is not None:
                return failed
            journal = self._books.journal_of(environment)
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            return self._books.conclude_failed(environment, target, invocation, failed, elapsed_ms)
        finally:
            if not clean:
                await environment.stop()

    def _deliver(self, run: _Run, environment: Environment) -> None:
        invocation = run.invocation
        run.environment = environment
        environment.running += 1
        if environment.concurrency > 1 and not environment.provisioned:
            self._open.note(run.target.pool_key, environment)
        environment.begin_log()
        now_ms = int(time.time() * 1000)
        limit_ms = run.target.version.timeout_s * 1000
        call = Call(
            invocation.request_id,
            invocation.payload,
            now_ms + limit_ms,
            run.target.invoked_arn,
            invocation.trace_id,
            invocation.client_context,
            invocation.cognito_identity,
        )
        run.began = time.perf_counter()
        environment.begin(call, limit_ms, functools.partial(self._take_reply, run), run.stream)
        # Written down while the function runs: nothing of it is read before this returns.
        self._books.begin(environment, invocation, now_ms)

    def _take_reply(self, run: _Run, reply: Reply | ChannelClosed) -> None:
        elapsed_ms = (time.perf_counter() - run.began) * 1000
        environment = run.environment
        assert environment is not None
        if isinstance(reply, ChannelClosed):
            environment.retire = True
            self._open.note(run.target.pool_key, environment)
            if isinstance(reply, TurnOver):
                self._end_turn(run, environment, elapsed_ms)
                return
            self._carry_out(self._end_failed(run, environment, reply), f"end environment {environment.id}")
            return
        usual = not reply.error_type and run.cold is None and not run.invocation.wants_log_tail
        if usual and environment.state is State.BUSY:
            self._answer_first(run, environment, reply, elapsed_ms)
            return
        result: Outcome | Exception
        clean = False
        try:
            environment.drain_log()
            cold = run.cold
            init_ms = environment.init_ms if cold is not None else None
            result = self._books.conclude(
                environment, run.target, run.invocation, reply, elapsed_ms, init_ms=init_ms, cold=cold
            )
            clean = environment.state is State.BUSY
        except Exception as exc:
            result = exc
        if clean and isinstance(result, Outcome):
            self._give_back(environment, run.target, result.max_memory_mb)
            self._finish(run, result)
        else:
            self._carry_out(self._stop_and_finish(run, environment, result), f"stop environment {environment.id}")

    def _answer_first(self, run: _Run, environment: Environment, reply: Reply, elapsed_ms: float) -> None:
        """The usual end: who asked is told, then it is written down, in one step of the node.

        The slot is given back before, since another process of the node might be asked as soon as the answer is out.
        """
        target = run.target
        outcome = self._books.weigh(environment, target, reply, elapsed_ms)
        clean = False
        try:
            self._finish(run, outcome)
        finally:
            try:
                environment.drain_log()
                self._books.write_down(environment, target, run.invocation, outcome)
                clean = True
            finally:
                if clean:
                    self._give_back(environment, target, outcome.max_memory_mb)
                else:
                    self._idle.end(target.pool_key, time.monotonic())
                    self._take_back(run, environment)
                    self._stop_soon(environment)

    def _end_turn(self, run: _Run, environment: Environment, elapsed_ms: float) -> None:
        """Its time is over, and not that of the others in the environment: that ends when they have."""
        self._note_left(run.target.version.version_arn, ColdReason.DIED)
        result: Outcome | Exception
        try:
            environment.drain_log()
            ended = Ended(Cause.TIMEOUT, None)
            result = self._books.conclude_failed(environment, run.target, run.invocation, ended, elapsed_ms)
        except Exception as exc:
            result = exc
        self._give_back(environment, run.target, environment.size_mb)
        self._finish(run, result)

    async def _end_failed(self, run: _Run, environment: Environment, closed: ChannelClosed) -> None:
        self._note_left(run.target.version.version_arn, ColdReason.DIED)
        result: Outcome | Exception
        try:
            ended = await environment.how_it_ended(closed)
            if self._may_hand_on(environment, closed, ended):
                await self._hand_on(run, environment)
                return
            if self._stopped:
                # Ended by the node, not by itself: not an answer of the function's.
                raise Interrupted
            elapsed_ms = (time.perf_counter() - run.began) * 1000
            result = self._books.conclude_failed(environment, run.target, run.invocation, ended, elapsed_ms)
        except Exception as exc:
            result = exc
        await self._stop_and_finish(run, environment, result)

    def _may_hand_on(self, environment: Environment, closed: ChannelClosed, ended: Ended) -> bool:
        """Whether another environment may carry out what this one never saw: it ended after its last answer.

        Not when it never answered any: a runtime that ends at its first invocation would be started for ever.
        """
        early = closed.undelivered and ended.cause in (Cause.EXIT, Cause.OUT_OF_MEMORY)
        return early and environment.invocations > 1 and not self._stopped

    async def _hand_on(self, run: _Run, environment: Environment) -> None:
        self._books.withdraw(environment, run.invocation)
        if not environment.provisioned:
            self._idle.end(run.target.pool_key, time.monotonic())
        self._take_back(run, environment)
        await self._stop(environment)
        run.environment = None
        if self._stopped:
            self._finish(run, Stopping())
        else:
            self._start(run)

    def _forget(self, environment: Environment) -> None:
        """The process ended: out of the idle list at once, so that nobody is given a dead environment."""
        self._starts.remove(environment)
        if environment.concurrency > 1:
            self._open.forget(environment)
        if self._idle.remove(environment):
            self._note_left(environment.version.version_arn, ColdReason.DIED)
            self._stop_soon(environment)
        elif environment.provisioned and self.fleets.remove(environment):
            self._stop_soon(environment)
        self._start_next()
        self.fleets.note_room()

    def _note_left(self, version_arn: str, reason: ColdReason) -> None:
        self._left.pop(version_arn, None)
        self._left[version_arn] = reason
        if len(self._left) > _MAX_REMEMBERED:
            del self._left[next(iter(self._left))]

    def _why_cold(self, key: PoolKey) -> ColdReason:
        for environment in self._starts:
            version = environment.version
            if environment.state in _USED and (version.version_arn, version.revision_id) == key[:2]:
                return ColdReason.SCALED_OUT
        if self._starts.first(key) is not None:
            return ColdReason.SCALED_OUT
        return self._left.get(key[0], ColdReason.FIRST)

    def _plan_due(self) -> None:
        """One timer for all that the pool will ask for."""
        due_at = self._idle.due_at
        if self._due is not None:
            if self._due_at <= due_at:
                return
            self._due.cancel()
            self._due = None
        if due_at < math.inf and not self._stopped:
            loop = asyncio.get_running_loop()
            self._due_at, self._due = due_at, loop.call_later(max(0.0, due_at - time.monotonic()), self._take_due)

    def _take_due(self) -> None:
        self._due = None
        due = self._idle.take_due(time.monotonic())
        for environment in due.expired:
            self._note_left(environment.version.version_arn, ColdReason.EXPIRED)
            self._stop_soon(environment)
        for target in due.ahead:
            self._carry_out(self._warm_ahead(target), f"warm {target.version.name} ahead")
        self._plan_due()

    async def _warm_ahead(self, target: Target) -> None:
        """An environment for an invocation soon to come. It is a guess: it evicts nothing and fails quietly."""
        version, key = target.version, target.pool_key
        if not self.has_room() or self._revisions.get(key[0]) != key[1]:
            return
        if self._admission_of(version.account).is_closed(version.name):
            return
        environment = None
        self._starts.reserve()
        try:
            environment = await self._launch(target)
            await environment.wait_ready(self._init_limit_ms)
        except Exception as exc:
            log.info("not warmed ahead", extra={"action": "warm_ahead", "function": version.name, "reason": str(exc)})
            if environment is not None:
                await self._stop(environment)
            return
        environment.drain_log()
        unwanted = self._stopped or self._revisions.get(key[0]) != key[1]
        if unwanted or environment.state is not State.BUSY:
            await self._stop(environment)
            return
        environment.take(Event.FINISHED)
        price = _price(environment, environment.peak_memory_mb())
        self._idle.add_ahead(environment, key, environment.idle_since, price)
        self._plan_due()

    async def _start_ahead(self, target: Target) -> Environment:
        """For provisioned concurrency: its init has gone well. Raises NoRoom, and what became of the init."""
        version = target.version
        if self._stopped:
            raise Stopping
        victim = None
        if not self._starts.has_room():
            victim = self._evict()
            if victim is None:
                raise NoRoom
        self._starts.reserve(victim)
        environment = await self._launch(target, victim, provisioned=True)
        began = time.perf_counter()
        journal = self._books.journal_of(environment)
        ready = False
        try:
            await environment.wait_ready(max(PROVISION_LIMIT_S, version.timeout_s) * 1000)
            ready = environment.state is State.BUSY
        except InitFailed as failed:
            journal.note_init_report((time.perf_counter() - began) * 1000, status="error", error_type=failed.error_type)
            raise PlatformError(f"FUNCTION_ERROR_INIT_FAILURE: {failures.explain_init(failed)}") from failed
        except Ended as ended:
            status = "timeout" if ended.cause is Cause.TIMEOUT else "error"
            journal.note_init_report((time.perf_counter() - began) * 1000, status=status)
            raise PlatformError(f"FUNCTION_ERROR_INIT_FAILURE: {failures.explain(ended)}") from ended
        finally:
            environment.drain_log()
            if not ready:
                await self._stop(environment)
        if not ready:
            raise PlatformError("The environment ended before it was used.")
        journal.note_init_report(environment.init_ms or 0.0, status="")
        environment.provisioned = True
        environment.size_mb = environment.peak_memory_mb()
        return environment

    def _stop_soon(self, environment: Environment) -> None:
        self._carry_out(self._stop(environment), f"retire environment {environment.id}")

    def _carry_out(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, environment: Environment) -> None:
        await environment.stop()
        if not environment.running:
            # Else whoever ends its last invocation closes them.
            self._books.close(environment)


class _Watch:
    """Looks at a start from time to time, and tells once when it only waits or has worked for long enough."""

    def __init__(self, environment: Environment, tell: Callable[[], None]) -> None:
        self._environment = environment
        self._tell = tell
        self._busy_ms = 0.0
        self._loop = asyncio.get_running_loop()
        self._over_at = self._loop.time() + LONGEST_WORK_S
        self._timer = self._loop.call_later(LONG_START_S, self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        before, self._busy_ms = self._busy_ms, self._environment.busy_ms()
        if self._busy_ms - before >= WORKING_MS and self._loop.time() < self._over_at:
            self._timer = self._loop.call_later(LONG_START_S, self._look)
        else:
            self._tell()


def _settle(answer: asyncio.Future[Outcome], result: Outcome | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _price(environment: Environment, size_mb: int) -> Price:
    return Price(SANDBOX_MS + (environment.init_ms or 0.0), size_mb)
