"""`logging` inside an environment, with the contract's own runtime interface client as the oracle."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from awslambdaric.bootstrap import LambdaLoggerFilter
from awslambdaric.lambda_literals import lambda_unhandled_exception_warning_message
from awslambdaric.lambda_runtime_log_utils import JsonFormatter

from lambent.dataplane.runtime import logs

SHOP = logging.getLogger("shop")


class Recorder(logging.Handler):
    """Writes as the oracle does, when our handler has written."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(LambdaLoggerFilter())
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The root logger as a new process has it; put back afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    monkeypatch.setattr(logging.Formatter, "converter", logging.Formatter.converter)
    monkeypatch.setattr(logs.Requests, "current", "")
    logger.handlers[:] = []
    logger.setLevel(logging.WARNING)
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def log_everything() -> None:
    SHOP.info("plain %s", "ü")
    SHOP.log(25, "between two levels")
    SHOP.log(5, "below all levels")
    SHOP.log(70, "above all levels")
    SHOP.warning({"a": {1, 2}, "b": [1]})
    SHOP.warning({"a": 1}, extra={"order": 7, "unset": None, "obj": object, "taskName": "t"})
    SHOP.warning("taken", extra={"errorType": "x", "requestId": "y", "location": "z", "tenant_id": "t"})
    SHOP.warning("stack", stack_info=True)
    try:
        int("no number")
    except ValueError:
        SHOP.exception("that", extra={"order": 8})
    SHOP.error("given", exc_info=ValueError("no trace"))


@pytest.mark.parametrize("request_id", ["", "r1"])
def test_json_lines_are_those_of_the_contracts_own_runtime(
    root: logging.Logger,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request_id: str,
) -> None:
    monkeypatch.setattr("awslambdaric.bootstrap._GLOBAL_AWS_REQUEST_ID", request_id)
    monkeypatch.setattr(logs.Requests, "current", request_id)
    logs.set_up_logging("JSON", "INFO")
    root.setLevel(1)
    recorder = Recorder()
    root.addHandler(recorder)
    log_everything()
    assert capfd.readouterr().out.splitlines(keepends=True) == recorder.lines


@pytest.mark.parametrize(
    ("level", "expected"), [("TRACE", 10), ("DEBUG", 10), ("INFO", 20), ("WARN", 30), ("ERROR", 40), ("FATAL", 50)]
)
def test_the_level_of_json_logs_is_that_of_the_function(root: logging.Logger, level: str, expected: int) -> None:
    logs.set_up_logging("JSON", level)
    assert root.level == expected


def test_text_lines_are_one_event_each(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up_logging("Text", "")
    logs.Requests.current = "r1"
    SHOP.info("below the level of the root logger")
    SHOP.warning("two\nlines")
    line = capfd.readouterr().out
    assert line.startswith("[WARNING]\t2")
    assert line.endswith("Z\tr1\ttwo\rlines\n")


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_a_record_that_cannot_be_formatted_raises_where_it_is_logged(root: logging.Logger, log_format: str) -> None:
    logs.set_up_logging(log_format, "INFO")
    with pytest.raises(TypeError):
        SHOP.warning("%d", "text")


def test_an_error_of_an_init_is_preceded_by_the_contracts_warning(
    root: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.set_up_logging("Text", "")
    logs.warn_of_unhandled()
    assert capfd.readouterr().out.endswith("Z\t\t" + lambda_unhandled_exception_warning_message + "\n")


def test_a_handler_of_user_code_that_raises_does_not_hide_the_error_of_an_init(root: logging.Logger) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError

    root.addHandler(Raising())
    logs.warn_of_unhandled()


def test_a_closed_stdout_of_user_code_does_not_stop_the_log(
    root: logging.Logger, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    logs.write_line("still here")
    assert capfd.readouterr().out == "still here\n"
