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


def test_a_failure_without_type_and_message_is_logged_as_by_the_contracts_own_runtime() -> None:
    sink = Sink()
    ric.log_error(ric.make_error("", "", ["", "  a\n    b"]), sink)
    assert faults.format_for_log(Fault("", "", "", ["", "  a\n    b"])) == sink.text


def test_the_stack_has_no_marks_below_the_line() -> None:
    nested: Any = {"a": {}}
    try:
        nested["a"]["b"]["c"]
    except KeyError as exc:
        (frame,) = faults.format_stack(exc.__traceback__)
        assert frame.endswith('\n    nested["a"]["b"]["c"]\n')
        assert ric.build_fault_result((KeyError, exc, exc.__traceback__), None)["stackTrace"] == [frame]


@pytest.mark.parametrize(("version", "escapes"), [("python3.11", True), ("python3.12", False)])
def test_an_error_is_written_as_by_the_contracts_own_runtime(
    monkeypatch: pytest.MonkeyPatch, version: str, escapes: bool
) -> None:
    monkeypatch.setenv("AWS_EXECUTION_ENV", f"AWS_Lambda_{version}")
    fault = Fault("ValueError", "é\u2028", "r1", ['  File "ü"\n'])
    expected = ric.to_json(ric.make_error(fault.message, fault.error_type, fault.stack, "r1"))
    assert faults.write_json(fault.as_document(), escapes_text=escapes) == expected


def test_an_error_with_a_lone_surrogate_has_it_escaped() -> None:
    assert b'"errorMessage": "\\ud800"' in Fault("E", "\ud800", "", []).encode()


def test_an_exception_whose_text_cannot_be_read_still_has_a_type() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert faults.describe(Mute(), "r1")[:2] == ("Mute", "<the exception's text cannot be read: ValueError>")
