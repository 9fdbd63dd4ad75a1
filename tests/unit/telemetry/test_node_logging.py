from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from lambent.telemetry.logging import set_up_logging

log = logging.getLogger("lambent.node")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # Taken away first: setting up closes the handlers it replaces, and these are pytest's.
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_without_a_terminal_each_record_is_one_json_line() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    log.info("function deployed", extra={"action": "function_deployed", "function": "hello", "bytes": 12})
    log.debug("not at this level")
    [line] = stream.getvalue().splitlines()
    document = json.loads(line)
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "INFO",
        "logger": "lambent.node",
        "message": "function deployed",
        "action": "function_deployed",
        "function": "hello",
        "bytes": 12,
    }


def test_on_a_terminal_people_read_time_level_message_and_details() -> None:
    stream = Terminal()
    set_up_logging("info", stream=stream)
    log.warning("disk is filling", extra={"action": "disk_filling", "free_mb": 12, "path": "/var/my data"})
    assert stream.getvalue()[8:] == ' warning disk is filling free_mb=12 path="/var/my data"\n'


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_traceback_comes_with_the_line_it_belongs_to(stream: io.StringIO) -> None:
    set_up_logging("info", stream=stream)
    try:
        raise ValueError("no such thing")
    except ValueError:
        log.exception("gave up")
    assert "ValueError: no such thing" in stream.getvalue()
    assert "test_node_logging" in stream.getvalue()


def test_a_value_cannot_fake_another_line_on_a_terminal() -> None:
    stream = Terminal()
    set_up_logging("info", stream=stream)
    log.info("function deployed", extra={"function": "x\n12:00:00 error all is lost\x1b[2J"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_an_extra_cannot_take_the_place_of_a_member() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    log.info("true", extra={"level": "FORGED", "time": "never"})
    document = json.loads(stream.getvalue())
    assert document["level"] == "INFO"
    assert document["time"] != "never"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        {"secret": "hunter2abc"},
        {"aws_secret_access_key": "hunter2abc"},
        {"Authorization": "AWS4-HMAC-SHA256 ... Signature=hunter2abc"},
        {"session_token": "hunter2abc"},
        {"url": "/2015-03-31/functions?X-Amz-Credential=LKIA&X-Amz-Signature=hunter2abc&X-Amz-Date=2026"},
        {"body": {"aws_secret_access_key": "hunter2abc"}},
        {"body": '{"aws_secret_access_key": "hunter2abc"}'},
        {"profile": "aws_secret_access_key = hunter2abc"},
    ],
    ids=str,
)
def test_secrets_are_struck_out(extra: dict[str, object], terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    set_up_logging("info", stream=stream)
    log.info("request refused", extra=extra)
    assert "hunter2abc" not in stream.getvalue()
    assert "***" in stream.getvalue()
    assert "request refused" in stream.getvalue()


def test_a_signature_in_a_message_or_a_traceback_is_struck_out() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    try:
        raise ValueError("bad header: Credential=LKIA, Signature=0123abcdef")
    except ValueError:
        log.exception("GET /x?X-Amz-Signature=0123abcdef&a=b")
    assert "0123abcdef" not in stream.getvalue()
    assert "&a=b" in stream.getvalue()
