"""What is written to a function's log around its own lines, in the contract's text and JSON forms.

Source of the latter: developer guide, "Lambda Telemetry API Event schema reference".
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from lambent.dataplane.sandbox.environment import Environment
from lambent.model import limits
from lambent.telemetry.function_logs import LogEvent, LogSink, LogStream, QuickInvocation
from lambent.telemetry.platform_lines import end_line, report_line, start_line
from lambent.telemetry.records import InvocationRecord

_RANK = {"DEBUG": 0, "INFO": 1, "WARN": 2}


class Journal:
    """The log of one environment: what it wrote and what the platform says about it, in order."""

    def __init__(self, sink: LogSink, environment: Environment) -> None:
        self._environment = environment
        self._turns: dict[int, Journal] = {}
        """Of an environment with several invocations at a time: the journal of each, by the invocation's identity."""
        version = environment.version
        self._sink = sink
        self._stream = LogStream(
            account=version.account, function=version.name, version=version.version, environment_id=environment.id
        )
        self._version = version.version
        self._json = version.logging.format == "JSON"
        self._rank = _RANK.get(version.logging.system_level, 1)
        self._runtime = version.runtime
        self._request_id = ""
        self._tail: list[bytes] | None = None
        self._tail_bytes = 0
        self._held_start_ms = 0
        """When the invocation began whose START is held back; 0 when none is."""

    def take_lines(self, lines: list[bytes]) -> None:
        """Lines that the function wrote."""
        now_ms = int(time.time() * 1000)
        request_id = self._request_id
        events = self._release_start()
        for turn in self._turns.values():
            # Whose lines they are cannot be told, unless there is only one.
            request_id = turn._request_id if len(self._turns) == 1 else ""
            events += turn._release_start()
            turn._keep_all(lines)
        events += [
            LogEvent(timestamp_ms=now_ms, request_id=request_id, message=line, kind="function") for line in lines
        ]
        self._sink.write(self._stream, events)
        self._keep_all(lines)

    def open_turn(self, invocation: object) -> Journal:
        """The journal of one of several invocations: its own lines, and those of the function that come meanwhile."""
        turn = self._turns[id(invocation)] = Journal(self._sink, self._environment)
        return turn

    def find_turn(self, invocation: object) -> Journal:
        """Its journal, or this one where there is one invocation at a time."""
        return self._turns.get(id(invocation), self)

    def close_turn(self, invocation: object) -> None:
        self._turns.pop(id(invocation), None)

    def flush(self) -> None:
        """Write what is held back: the start of an invocation that takes long enough to be looked at."""
        held = self._release_start()
        if held:
            self._sink.write(self._stream, held)

    def note_init_start(self, initialization: str) -> None:
        if self._json:
            self._write_json("platform.initStart", {"initializationType": initialization, "phase": "init"}, rank=0)
        else:
            self._write(f"INIT_START Runtime Version: {self._runtime}")

    def note_restore_start(self) -> None:
        if self._json:
            self._write_json("platform.restoreStart", {"runtimeVersion": self._runtime}, rank=0)
        else:
            self._write(f"RESTORE_START Runtime Version: {self._runtime}")

    def note_restore_report(self, restore_ms: float, *, status: str = "success") -> None:
        if self._json:
            record = {"status": status, "metrics": {"durationMs": round(restore_ms, 3)}}
            self._write_json("platform.restoreReport", record, rank=1)
            return
        shown = "" if status == "success" else f"\tStatus: {status}"
        self._write(f"RESTORE_REPORT Restore Duration: {restore_ms:.2f} ms{shown}")

    def note_init_report(self, init_ms: float, *, status: str, error_type: str = "") -> None:
        """A failed or overlong init, and one of a SnapStart template (no status), has a line of its own."""
        if not self._json and not status:
            self._write(f"INIT_REPORT Init Duration: {init_ms:.2f} ms")
            return
        status = status or "success"
        if self._json:
            record = {"phase": "init", "status": status, "metrics": {"durationMs": round(init_ms, 3)}}
            if error_type:
                record["errorType"] = error_type
            self._write_json("platform.initReport", record, rank=1)
            return
        error = f"\tError Type: {error_type}" if error_type else ""
        self._write(f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\tStatus: {status}{error}")

    def note_start(self, request_id: str, *, wants_tail: bool, now_ms: int = 0) -> None:
        """Held back for a moment: most invocations are over before anybody could read that they began."""
        self._request_id = request_id
        self._tail = [] if wants_tail else None
        self._tail_bytes = 0
        if self._json:
            self._write_json("platform.start", {"requestId": request_id, "version": self._version}, rank=1)
            return
        self._held_start_ms = now_ms or int(time.time() * 1000)
        if wants_tail:
            self._keep(start_line(request_id, self._version).encode())

    def withdraw_start(self) -> None:
        """The invocation is not this environment's. A START that is written already must not seem to have no end."""
        if not self._held_start_ms and not self._json:
            self._write(f"RequestId: {self._request_id} is run by another environment: this one had ended")
        self._request_id = ""
        self._tail = None
        self._held_start_ms = 0

    def note_line(self, text: str) -> None:
        """A line of the platform about the running invocation: a timeout, an exit."""
        self._write(text)

    def note_report(self, report: InvocationRecord, status: str) -> bytes:
        """Close the invocation. `status` is `timeout`, `error` or empty. Returns its log's tail if it was asked for."""
        if self._json:
            self._write_json_report(report, status)
        elif self._held_start_ms and not status and not report.cold and self._tail is None:
            self._write_quick(report)
        else:
            self._write(end_line(report.request_id), report_line(report, status))
        tail = b"\n".join([*self._tail, b""])[-limits.LOG_TAIL_BYTES :] if self._tail is not None else b""
        self._request_id = ""
        self._tail = None
        return tail

    def _write_json_report(self, report: InvocationRecord, status: str) -> None:
        metrics: dict[str, Any] = {
            "durationMs": round(report.duration_ms, 3),
            "billedDurationMs": report.billed_ms,
            "memorySizeMB": report.memory_mb,
            "maxMemoryUsedMB": report.max_memory_mb,
        }
        if report.restore_ms is not None:
            metrics["restoreDurationMs"] = round(report.restore_ms, 3)
        if report.init_ms is not None:
            metrics["initDurationMs"] = round(report.init_ms, 3)
        shown = status or "success"
        done: dict[str, Any] = {"requestId": self._request_id, "status": shown}
        record: dict[str, Any] = {"requestId": self._request_id, "metrics": metrics, "status": shown}
        if report.error_type:
            done["errorType"] = record["errorType"] = report.error_type
        rank = 2 if status else 1
        self._write_json("platform.runtimeDone", done, rank=2 if status else 0)
        self._write_json("platform.report", record, rank=rank)

    def _write_json(self, kind: str, record: dict[str, Any], *, rank: int) -> None:
        if rank < self._rank:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._write(json.dumps({"time": now, "type": kind, "record": record}, separators=(",", ":")))

    def _write_quick(self, report: InvocationRecord) -> None:
        started_ms, self._held_start_ms = self._held_start_ms, 0
        quick = QuickInvocation(record=report, started_ms=started_ms, ended_ms=int(time.time() * 1000))
        self._sink.write(self._stream, quick)

    def _release_start(self) -> list[LogEvent]:
        started_ms, self._held_start_ms = self._held_start_ms, 0
        if not started_ms:
            return []
        line = start_line(self._request_id, self._version)
        return [LogEvent(timestamp_ms=started_ms, request_id=self._request_id, message=line, kind="platform")]

    def _write(self, *texts: str) -> None:
        now_ms = int(time.time() * 1000)
        request_id = self._request_id
        events = self._release_start()
        events += [
            LogEvent(timestamp_ms=now_ms, request_id=request_id, message=text, kind="platform") for text in texts
        ]
        self._sink.write(self._stream, events)
        if self._tail is not None:
            for text in texts:
                self._keep(text.encode())

    def _keep_all(self, lines: list[bytes]) -> None:
        if self._tail is not None:
            for line in lines:
                self._keep(line)

    def _keep(self, line: bytes) -> None:
        assert self._tail is not None
        kept = line[-limits.LOG_TAIL_BYTES :]
        self._tail.append(kept)
        self._tail_bytes += len(kept)
        while len(self._tail) > 1 and self._tail_bytes - len(self._tail[0]) > limits.LOG_TAIL_BYTES:
            self._tail_bytes -= len(self._tail.pop(0))
