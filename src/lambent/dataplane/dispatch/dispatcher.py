# The heart: gives every invocation an environment, and every environment back.
#
# Rule 1: an environment is either in the idle list, or in the hands of exactly one invocation, or being stopped.
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

from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.dataplane.dispatch.journal import Journal
from lambent.dataplane.dispatch.keepalive.idle_pool import IdlePool
from lambent.dataplane.dispatch.keepalive.policy import KeepAlive
from lambent.dataplane.dispatch.keepalive.worth import GreedyDual, Price
from lambent.dataplane.sandbox import failures
from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Reply
from lambent.dataplane.sandbox.environment import Cause, Ended, Environment
from lambent.dataplane.sandbox.launcher import Launcher
from lambent.dataplane.sandbox.states import Event, State
from lambent.dataplane.wire.frames import Call
from lambent.model.errors import PlatformError
from lambent.model.invocation import Invocation, Outcome, PoolKey, Target
from lambent.telemetry.function_logs import LogSink
from lambent.telemetry.records import InvocationRecord, Recorder

log = logging.getLogger(__name__)

START_HELD_S = 0.1
"""How long the START line of an invocation may wait for company."""

SANDBOX_MS = 10.0
"""What a cold start costs beside the init of the function."""


class Stopping(PlatformError):
    """The node is shutting down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("The node is stopping; send the request again.", retry_safe=True)


Done = Callable[[Outcome | Exception], None]


class _Run:
    """One invocation between admission and its end."""

    __slots__ = ("admission", "began", "cold", "done", "environment", "invocation", "target")

    def __init__(self, target: Target, invocation: Invocation, admission: AccountAdmission, done: Done) -> None:
        self.target = target
        self.invocation = invocation
        self.admission = admission
        self.done = done
        self.environment: Environment | None = None
        self.cold = False
        self.began = 0.0
        """`time.perf_counter` when it was delivered."""


class Dispatcher:
    """Implements `Invoker`."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        sink: LogSink,
        recorder: Recorder,
        admission_of: Callable[[str], AccountAdmission],
        keep_alive: KeepAlive,
        max_environments: int,
        init_limit_ms: float,
    ) -> None:
        self._launcher = launcher
        self._sink = sink
        self._recorder = recorder
        self._admission_of = admission_of
        self._max_environments = max_environments
        self._init_limit_ms = init_limit_ms
        self._idle: IdlePool[Environment, Target] = IdlePool(keep_alive, GreedyDual())
        self._living: dict[str, Environment] = {}
        self._journals: dict[str, Journal] = {}
        self._revisions: dict[str, str] = {}
        # Journals whose START is still held back.
        self._started: dict[str, Journal] = {}
        self._start_timer: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._due_at = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._drained = asyncio.Event()
        self._stopping = False
        self._stopped = False

    def emit_log(self, environment: Environment, lines: list[bytes]) -> None:
        """Where the launcher sends what environments write."""
        self.journal_of(environment).take_lines(lines)

    async def invoke(self, target: Target, invocation: Invocation) -> Outcome:
        if self._stopping:
            raise Stopping
        admission = self._admission_of(target.version.account)
        if target.max_wait_ms:
            await admission.wait(target.version.name, target.max_wait_ms)
        else:
            admission.take(target.version.name)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._start(_Run(target, invocation, admission, functools.partial(_settle, answer)))
        return await answer

    def submit(self, target: Target, invocation: Invocation, done: Done) -> None:
        """`invoke` without a task: `done` is called once with what came of it, later. For targets that do not wait.

        Raises what `invoke` raises before anything runs.
        """
        if self._stopping:
            raise Stopping
        admission = self._admission_of(target.version.account)
        admission.take(target.version.name)
        self._start(_Run(target, invocation, admission, done))

    def follow_version(self, version_arn: str, revision_id: str | None) -> None:
        """The version is now at this revision, or gone (None): environments of any other are not used again."""
        if revision_id is None:
            self._revisions.pop(version_arn, None)
        else:
            self._revisions[version_arn] = revision_id
        for environment in self._idle.keep_revision(version_arn, revision_id):
            self._stop_soon(environment)

    def environments(self) -> list[Environment]:
        return list(self._living.values())

    def has_room(self) -> bool:
        """Whether another environment may live without an idle one ending for it."""
        return not self._stopping and len(self._living) < self._max_environments

    def uses_tree(self, name: str) -> bool:
        """Whether a living environment has this tree of the code store mounted."""
        return any(name in environment.trees for environment in self._living.values())

    def used_trees(self) -> list[str]:
        """The trees that `uses_tree` is true for."""
        return [name for environment in self._living.values() for name in environment.trees]

    async def drain(self) -> None:
        """Take no new work and wait until what runs has ended."""
        self._stopping = True
        if self._running:
            await self._drained.wait()

    async def stop(self) -> None:
        """Stop every environment, busy ones too."""
        self._stopping = self._stopped = True
        if self._due is not None:
            self._due.cancel()
        self._idle.clear()
        for environment in list(self._living.values()):
            self._stop_soon(environment)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, run: _Run) -> None:
        """The run has its slot; from here on it ends in `_finish`, whoever still waits for it."""
        self._running += 1
        environment = self._take_idle(run.target.pool_key)
        if environment is None:
            self._carry_out(self._start_cold(run), f"start environment for {run.target.version.name}")
            return
        try:
            self._deliver(run, environment)
        except Exception as exc:
            self._carry_out(self._stop_and_finish(run, environment, exc), f"stop environment {environment.id}")

    async def _start_cold(self, run: _Run) -> None:
        environment = None
        run.cold = True
        try:
            environment = await self._launch(run.target)
            # A fork of a template has been initialised long ago.
            outcome = None if environment.restored else await self._initialise(environment, run.target, run.invocation)
            if isinstance(outcome, Environment):
                environment = outcome
            elif outcome is not None:
                await self._stop_and_finish(run, environment, outcome)
                return
            self._deliver(run, environment)
        except Exception as exc:
            await self._stop_and_finish(run, environment, exc)

    async def _stop_and_finish(self, run: _Run, environment: Environment | None, result: Outcome | Exception) -> None:
        """Awaits the end of the environment: the slot is free only when it is gone."""
        self._idle.end(run.target.pool_key, time.monotonic())
        if environment is not None:
            await self._stop(environment)
        self._finish(run, result)

    def _finish(self, run: _Run, result: Outcome | Exception) -> None:
        run.admission.give_back(run.target.version.name)
        self._running -= 1
        if self._stopping and not self._running:
            self._drained.set()
        run.done(result)

    def _take_idle(self, key: PoolKey) -> Environment | None:
        environment = self._idle.begin(key, time.monotonic())
        if environment is not None:
            environment.take(Event.LEASED)
        return environment

    def _give_back(self, environment: Environment, target: Target, size_mb: int) -> None:
        key = target.pool_key
        self._idle.end(key, time.monotonic())
        if self._stopping or self._revisions.get(key[0]) != key[1]:
            self._stop_soon(environment)
            return
        environment.take(Event.FINISHED)
        self._idle.add(environment, key, target, environment.idle_since, _price(environment, size_mb))
        self._plan_due()

    async def _launch(self, target: Target) -> Environment:
        if len(self._living) >= self._max_environments and (evicted := self._idle.evict()) is not None:
            await self._stop(evicted)
        environment = await self._launcher.start(target)
        if self._stopped:
            await environment.stop()
            raise Stopping
        self._living[environment.id] = environment
        environment.on_exit = self._forget
        if environment.state is State.DEAD:
            # Ended before we could hear of it; what waits for it is told by its channel.
            self._forget(environment)
        if not environment.restored:
            self.journal_of(environment).note_init_start()
        return environment

    async def _initialise(
        self, environment: Environment, target: Target, invocation: Invocation
    ) -> Outcome | Environment | None:
        """None when init went well, an Outcome when it did not, another Environment when init had to start over."""
        began = time.perf_counter()
        journal = self.journal_of(environment)
        try:
            await environment.wait_ready(self._init_limit_ms)
            return None
        except InitFailed as failed:
            environment.drain_log()
            elapsed_ms = (time.perf_counter() - began) * 1000
            journal.note_init_report(elapsed_ms, status="error", error_type=failed.error_type)
            reply = Reply(failed.payload, failed.error_type)
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            return self._conclude(environment, target, invocation, reply, elapsed_ms, status="error")
        except Ended as ended:
            elapsed_ms = (time.perf_counter() - began) * 1000
            if ended.cause is Cause.PROTOCOL:
                raise PlatformError(f"The environment could not be made: {ended.detail}", retry_safe=True) from ended
            if ended.cause is Cause.TIMEOUT:
                journal.note_init_report(elapsed_ms, status="timeout")
                await environment.stop()
                return await self._initialise_again(target, invocation)
            error_type, payload = failures.describe(
                ended, request_id=invocation.request_id, timeout_s=target.version.timeout_s
            )
            report_type = failures.report_type(ended, error_type)
            journal.note_init_report(elapsed_ms, status="error", error_type=report_type)
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            reply = Reply(payload, error_type)
            return self._conclude(
                environment, target, invocation, reply, elapsed_ms, status="error", report_type=report_type
            )

    async def _initialise_again(self, target: Target, invocation: Invocation) -> Outcome | Environment:
        """An init beyond its limit runs once more within the invocation, under the function's own timeout."""
        environment = await self._launch(target)
        began = time.perf_counter()
        limit_ms = target.version.timeout_s * 1000
        clean = False
        try:
            await environment.wait_ready(limit_ms)
            clean = True
            return environment
        except (InitFailed, Ended) as failed:
            elapsed_ms = (time.perf_counter() - began) * 1000
            journal = self.journal_of(environment)
            journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail)
            return self._conclude_failed(environment, target, invocation, failed, elapsed_ms)
        finally:
            if not clean:
                await environment.stop()

    def _deliver(self, run: _Run, environment: Environment) -> None:
        invocation = run.invocation
        run.environment = environment
        environment.begin_log()
        now_ms = int(time.time() * 1000)
        journal = self._journals[environment.id]
        journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail, now_ms=now_ms)
        self._started[environment.id] = journal
        if self._start_timer is None:
            self._start_timer = asyncio.get_running_loop().call_later(START_HELD_S, self._write_starts)
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
        environment.begin(call, limit_ms, functools.partial(self._take_reply, run))

    def _take_reply(self, run: _Run, reply: Reply | ChannelClosed) -> None:
        elapsed_ms = (time.perf_counter() - run.began) * 1000
        environment = run.environment
        assert environment is not None
        if isinstance(reply, ChannelClosed):
            self._carry_out(self._end_failed(run, environment, reply), f"end environment {environment.id}")
            return
        result: Outcome | Exception
        clean = False
        try:
            environment.drain_log()
            init_ms = environment.init_ms if run.cold else None
            result = self._conclude(environment, run.target, run.invocation, reply, elapsed_ms, init_ms=init_ms)
            clean = environment.state is State.BUSY
        except Exception as exc:
            result = exc
        if clean and isinstance(result, Outcome):
            self._give_back(environment, run.target, result.max_memory_mb)
            self._finish(run, result)
        else:
            self._carry_out(self._stop_and_finish(run, environment, result), f"stop environment {environment.id}")

    async def _end_failed(self, run: _Run, environment: Environment, closed: ChannelClosed) -> None:
        result: Outcome | Exception
        try:
            ended = await environment.how_it_ended(closed)
            elapsed_ms = (time.perf_counter() - run.began) * 1000
            result = self._conclude_failed(environment, run.target, run.invocation, ended, elapsed_ms)
        except Exception as exc:
            result = exc
        await self._stop_and_finish(run, environment, result)

    def _conclude_failed(
        self,
        environment: Environment,
        target: Target,
        invocation: Invocation,
        failed: InitFailed | Ended,
        elapsed_ms: float,
    ) -> Outcome:
        if isinstance(failed, InitFailed):
            reply = Reply(failed.payload, failed.error_type)
            return self._conclude(environment, target, invocation, reply, elapsed_ms, status="error")
        timeout_s = target.version.timeout_s
        error_type, payload = failures.describe(failed, request_id=invocation.request_id, timeout_s=timeout_s)
        journal = self.journal_of(environment)
        if failed.cause is Cause.TIMEOUT:
            elapsed_ms = max(elapsed_ms, timeout_s * 1000.0)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
            journal.note_line(f"{stamp} {invocation.request_id} Task timed out after {timeout_s:.2f} seconds")
        else:
            journal.note_line(f"RequestId: {invocation.request_id} Error: {failures.explain(failed)}")
        return self._conclude(
            environment,
            target,
            invocation,
            Reply(payload, error_type),
            elapsed_ms,
            status="timeout" if failed.cause is Cause.TIMEOUT else "error",
            report_type=failures.report_type(failed, error_type),
        )

    def _conclude(
        self,
        environment: Environment,
        target: Target,
        invocation: Invocation,
        reply: Reply,
        elapsed_ms: float,
        *,
        init_ms: float | None = None,
        status: str = "",
        report_type: str = "",
    ) -> Outcome:
        """Close the log and the books of one invocation and say what came of it."""
        version = target.version
        restore_ms = None
        if environment.restored:
            # Billed beside the duration, not within it.
            init_ms, restore_ms = None, init_ms
        billed_ms = math.ceil(elapsed_ms + (init_ms or 0.0))
        max_memory_mb = min(environment.peak_memory_mb(), version.memory_mb)
        if reply.error_type and not status:
            status = "error"
        record = InvocationRecord(
            request_id=invocation.request_id,
            account=version.account,
            function=version.name,
            version=version.version,
            environment_id=environment.id,
            cold=init_ms is not None or restore_ms is not None,
            init_ms=init_ms,
            restore_ms=restore_ms,
            duration_ms=elapsed_ms,
            billed_ms=billed_ms,
            memory_mb=version.memory_mb,
            max_memory_mb=max_memory_mb,
            error_type=report_type or reply.error_type,
        )
        tail = self._journals[environment.id].note_report(record, status)
        self._started.pop(environment.id, None)
        self._recorder.record(record)
        return Outcome(
            payload=reply.payload,
            function_error="Unhandled" if reply.error_type else "",
            error_type=reply.error_type,
            executed_version=version.version,
            duration_ms=elapsed_ms,
            billed_ms=billed_ms,
            init_ms=init_ms,
            max_memory_mb=max_memory_mb,
            log_tail=tail,
        )

    def forget_journal(self, environment: Environment) -> None:
        """Of an environment that never was among the dispatcher's own."""
        self._journals.pop(environment.id, None)

    def journal_of(self, environment: Environment) -> Journal:
        journal = self._journals.get(environment.id)
        if journal is None:
            journal = self._journals[environment.id] = Journal(self._sink, environment)
        return journal

    def _write_starts(self) -> None:
        self._start_timer = None
        started, self._started = self._started, {}
        for journal in started.values():
            journal.flush()

    def _forget(self, environment: Environment) -> None:
        """The process ended: out of the idle list at once, so that nobody is given a dead environment."""
        self._living.pop(environment.id, None)
        if self._idle.remove(environment):
            self._stop_soon(environment)

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
            self._stop_soon(environment)
        for target in due.ahead:
            self._carry_out(self._warm_ahead(target), f"warm {target.version.name} ahead")
        self._plan_due()

    async def _warm_ahead(self, target: Target) -> None:
        """An environment for an invocation soon to come. It is a guess: it evicts nothing and fails quietly."""
        version, key = target.version, target.pool_key
        if self._stopping or len(self._living) >= self._max_environments or self._revisions.get(key[0]) != key[1]:
            return
        if self._admission_of(version.account).is_closed(version.name):
            return
        environment = None
        try:
            environment = await self._launch(target)
            await environment.wait_ready(self._init_limit_ms)
        except Exception as exc:
            log.info("not warmed ahead", extra={"action": "warm_ahead", "function": version.name, "reason": str(exc)})
            if environment is not None:
                await self._stop(environment)
            return
        environment.drain_log()
        unwanted = self._stopping or self._revisions.get(key[0]) != key[1]
        if unwanted or environment.state is not State.BUSY:
            await self._stop(environment)
            return
        environment.take(Event.FINISHED)
        price = _price(environment, environment.peak_memory_mb())
        self._idle.add_ahead(environment, key, environment.idle_since, price)
        self._plan_due()

    def _stop_soon(self, environment: Environment) -> None:
        self._carry_out(self._stop(environment), f"retire environment {environment.id}")

    def _carry_out(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, environment: Environment) -> None:
        await environment.stop()
        self._journals.pop(environment.id, None)


def _settle(answer: asyncio.Future[Outcome], result: Outcome | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _price(environment: Environment, size_mb: int) -> Price:
    return Price(SANDBOX_MS + (environment.init_ms or 0.0), size_mb)
