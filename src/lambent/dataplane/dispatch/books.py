"""What is written down about invocations: their lines in the log, and one record each."""

from __future__ import annotations

import asyncio
import math
import time

from lambent.dataplane.dispatch.journal import Journal
from lambent.dataplane.sandbox import failures
from lambent.dataplane.sandbox.channel import InitFailed, Reply
from lambent.dataplane.sandbox.environment import Cause, Ended, Environment
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.telemetry.function_logs import LogSink
from lambent.telemetry.records import ColdReason, InvocationRecord, Recorder

START_HELD_S = 0.1
"""How long the START line of an invocation may wait for company."""


class Books:
    def __init__(self, sink: LogSink, recorder: Recorder) -> None:
        self._sink = sink
        self._recorder = recorder
        self._journals: dict[str, Journal] = {}
        # Those whose START is still held back.
        self._started: dict[Journal, None] = {}
        self._start_timer: asyncio.TimerHandle | None = None

    def journal_of(self, environment: Environment) -> Journal:
        journal = self._journals.get(environment.id)
        if journal is None:
            journal = self._journals[environment.id] = Journal(self._sink, environment)
        return journal

    def close(self, environment: Environment) -> None:
        """The environment is gone."""
        self._journals.pop(environment.id, None)

    def begin(self, environment: Environment, invocation: Invocation, now_ms: int) -> None:
        """It is delivered now."""
        journal = self._journals[environment.id]
        if environment.concurrency > 1:
            journal = journal.open_turn(invocation)
        journal.note_start(invocation.request_id, wants_tail=invocation.wants_log_tail, now_ms=now_ms)
        self._started[journal] = None
        if self._start_timer is None:
            self._start_timer = asyncio.get_running_loop().call_later(START_HELD_S, self._write_starts)

    def withdraw(self, environment: Environment, invocation: Invocation) -> None:
        """What began there has not reached it and begins anew elsewhere."""
        journal = self._journals[environment.id].find_turn(invocation)
        self._started.pop(journal, None)
        journal.withdraw_start()

    def conclude_failed(
        self,
        environment: Environment,
        target: Target,
        invocation: Invocation,
        failed: InitFailed | Ended,
        elapsed_ms: float,
    ) -> Outcome:
        if isinstance(failed, InitFailed):
            reply = Reply(failed.payload, failed.error_type)
            return self.conclude(environment, target, invocation, reply, elapsed_ms, status="error")
        timeout_s = target.version.timeout_s
        error_type, payload = failures.describe(failed, request_id=invocation.request_id, timeout_s=timeout_s)
        journal = self.journal_of(environment).find_turn(invocation)
        if failed.cause is Cause.TIMEOUT:
            elapsed_ms = max(elapsed_ms, timeout_s * 1000.0)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
            journal.note_line(f"{stamp} {invocation.request_id} Task timed out after {timeout_s:.2f} seconds")
        else:
            journal.note_line(f"RequestId: {invocation.request_id} Error: {failures.explain(failed)}")
        return self.conclude(
            environment,
            target,
            invocation,
            Reply(payload, error_type),
            elapsed_ms,
            status="timeout" if failed.cause is Cause.TIMEOUT else "error",
            report_type=failures.report_type(failed, error_type),
        )

    def weigh(self, environment: Environment, target: Target, reply: Reply, elapsed_ms: float) -> Outcome:
        """What came of a warm invocation that went well; `write_down` is to follow."""
        return Outcome(
            payload=reply.payload,
            executed_version=target.version.version,
            duration_ms=elapsed_ms,
            billed_ms=math.ceil(elapsed_ms),
            max_memory_mb=min(environment.peak_memory_mb(), target.version.memory_mb),
        )

    def write_down(self, environment: Environment, target: Target, invocation: Invocation, outcome: Outcome) -> None:
        """Close the log and the books of what `weigh` has weighed."""
        self._write(environment, invocation, _make_record(environment, target.version, invocation, outcome), "")

    def conclude(
        self,
        environment: Environment,
        target: Target,
        invocation: Invocation,
        reply: Reply,
        elapsed_ms: float,
        *,
        init_ms: float | None = None,
        cold: ColdReason | None = None,
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
        outcome = Outcome(
            payload=reply.payload,
            function_error="Unhandled" if reply.error_type else "",
            error_type=reply.error_type,
            executed_version=version.version,
            duration_ms=elapsed_ms,
            billed_ms=billed_ms,
            init_ms=init_ms,
            max_memory_mb=max_memory_mb,
        )
        record = _make_record(environment, version, invocation, outcome)
        record.error_type = report_type or reply.error_type
        record.cold, record.cold_reason = init_ms is not None or restore_ms is not None, cold
        record.restore_ms = restore_ms
        outcome.log_tail = self._write(environment, invocation, record, status)
        return outcome

    def _write(self, environment: Environment, invocation: Invocation, record: InvocationRecord, status: str) -> bytes:
        """Returns the tail of the log, if it was asked for."""
        journal = self._journals[environment.id]
        if environment.concurrency > 1:
            whole, journal = journal, journal.find_turn(invocation)
            whole.close_turn(invocation)
        tail = journal.note_report(record, status)
        self._started.pop(journal, None)
        self._recorder.record(record)
        return tail

    def _write_starts(self) -> None:
        self._start_timer = None
        started, self._started = self._started, {}
        for journal in started:
            journal.flush()


def _make_record(
    environment: Environment, version: Version, invocation: Invocation, outcome: Outcome
) -> InvocationRecord:
    return InvocationRecord(
        request_id=invocation.request_id,
        account=version.account,
        function=version.name,
        version=version.version,
        environment_id=environment.id,
        cold=False,
        init_ms=outcome.init_ms,
        duration_ms=outcome.duration_ms,
        billed_ms=outcome.billed_ms,
        memory_mb=version.memory_mb,
        max_memory_mb=outcome.max_memory_mb,
        error_type="",
    )
