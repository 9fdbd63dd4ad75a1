from __future__ import annotations

import pytest

from lambent.telemetry.records import CountingRecorder, InvocationRecord


def record(*, error_type: str = "", init_ms: float | None = None, billed_ms: int = 2) -> InvocationRecord:
    return InvocationRecord(
        request_id="r1",
        account="123456789012",
        function="hello",
        version="$LATEST",
        environment_id="e1",
        cold=init_ms is not None,
        init_ms=init_ms,
        duration_ms=1.5,
        billed_ms=billed_ms,
        memory_mb=128,
        max_memory_mb=30,
        error_type=error_type,
    )


@pytest.mark.parametrize(
    ("error_type", "outcome"), [("", "success"), ("ValueError", "error"), ("Sandbox.Timedout", "timeout")]
)
def test_the_outcome_follows_from_the_error_type(error_type: str, outcome: str) -> None:
    assert record(error_type=error_type).outcome == outcome


def test_a_new_recorder_shows_zeros() -> None:
    assert CountingRecorder().snapshot() == {
        "billed_ms": 0,
        "cold_starts": 0,
        "errors": 0,
        "invocations": 0,
        "timeouts": 0,
    }


def test_invocations_are_counted_by_what_came_of_them() -> None:
    recorder = CountingRecorder()
    for made in (record(init_ms=8.0), record(), record(error_type="ValueError"), record(error_type="Sandbox.Timedout")):
        recorder.record(made)
    recorder.count("throttles")
    assert recorder.snapshot() == {
        "billed_ms": 8,
        "cold_starts": 1,
        "errors": 2,
        "invocations": 4,
        "throttles": 1,
        "timeouts": 1,
    }
