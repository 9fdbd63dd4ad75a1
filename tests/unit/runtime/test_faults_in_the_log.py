"""Errors in the log, with the contract's own runtime interface client as the oracle."""

from __future__ import annotations

from typing import Any

import awslambdaric.bootstrap as ric
import pytest

from lambent.dataplane.runtime import faults
from lambent.dataplane.runtime.faults import Fault


class Sink:
    def __init__(self) -> None:
        self.text = ""

    def log_error(self, lines: list[str]) -> None:
        self.text = ric.ERROR_LOG_LINE_TERMINATE.join(lines)


def fail_inside(message: str) -> None:
    raise ValueError(message)


def caught(message: str) -> BaseException:
    try:
        fail_inside(message)
    except ValueError as exc:
        return exc
    raise AssertionError


@pytest.mark.parametrize("message", ["asked for", "", "two\nlines", "ü"])
def test_a_failure_is_logged_as_by_the_contracts_own_runtime(message: str) -> None:
    exc = caught(message)
    fault = faults.describe(exc, "r1")
    result: dict[str, Any] = ric.make_error(str(exc), "ValueError", fault.stack, "r1")
    sink = Sink()
    ric.log_error(result, sink)
    assert faults.format_for_log(fault) == sink.text
    assert [line.strip("\u00a0") for line in sink.text.split("\r")[-2:]][1].startswith("raise ValueError(message)")


def test_a_failure_without_frames_is_logged_as_by_the_contracts_own_runtime() -> None:
    sink = Sink()
    ric.log_error(ric.make_error("no module", "Runtime.ImportModuleError", None), sink)
    assert faults.format_for_log(Fault("Runtime.ImportModuleError", "no module", "", [])) == sink.text
