"""How the process ends when user code ends it: in forked processes, as `leave` never returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from lambent.dataplane.runtime import exits

class Mute(BaseException):
    def __str__(self):
        raise ValueError

class MuteCode:
    def __str__(self):
        raise ValueError

try:
    print("before", end="")
    {}
except BaseException as exc:
    exits.leave(exc)
"""


def run(statement: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("statement", "status", "error"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(259)", 3, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit(True)", 1, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("sys.exit(MuteCode())", 1, ""),
        ("sys.stderr.close(); sys.exit('why')", 1, ""),
        ("sys.stdout.close(); sys.exit(4)", 4, ""),
    ],
)
def test_an_exit_has_its_status(statement: str, status: int, error: str) -> None:
    ended = run(statement)
    assert (ended.returncode, ended.stderr) == (status, error)
    assert ended.stdout == "before" or "stdout" in statement


def test_what_is_no_exception_ends_it_with_its_trace() -> None:
    ended = run("raise GeneratorExit('gone')")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback (most recent call last):\n")
    assert ended.stderr.endswith("GeneratorExit: gone\n")
    assert ended.stdout == "before"


def test_an_interrupt_ends_it_with_its_signal() -> None:
    ended = run("raise KeyboardInterrupt")
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "before"


def test_a_hook_that_fails_does_not_keep_it_alive() -> None:
    ended = run("sys.excepthook = None; raise GeneratorExit")
    assert ended.returncode == 1
    assert "GeneratorExit" in ended.stderr


def test_a_text_that_cannot_be_read_does_not_keep_it_alive() -> None:
    assert run("raise Mute").returncode == os.EX_OK + 1
