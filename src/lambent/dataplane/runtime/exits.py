"""User code ends the process: with `sys.exit`, or with an exception that is no `Exception`, as in any program."""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType
from typing import NoReturn, Optional

from lambent.dataplane.runtime import faults


def leave(exc: BaseException) -> NoReturn:
    if isinstance(exc, SystemExit):
        _end(_read_status(exc))
    _show(exc)
    if isinstance(exc, KeyboardInterrupt):
        flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    _end(1)


def flush() -> None:
    """What an invocation wrote is in the pipe before its answer is: the node reads both in this order."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - closed or replaced by user code, whose affair it is
            continue


def _read_status(exc: SystemExit) -> int:
    """A number is the status, text is printed and means 1."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code & 0xFF
    _print_error(exc.code)
    return 1


def _show(exc: BaseException) -> None:
    try:
        shown = exc.with_traceback(_skip_own(exc.__traceback__))
        sys.excepthook(type(shown), shown, shown.__traceback__)
    except Exception as failure:
        _print_error("{}: {}".format(type(exc).__name__, type(failure).__name__))


def _skip_own(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    while trace is not None and faults.is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _print_error(value: object) -> None:
    try:
        sys.stderr.write("{}\n".format(value))
    except Exception:  # noqa: S110 - closed or replaced by user code, or a value without text; the status says enough
        pass


def _end(status: int) -> NoReturn:
    flush()
    os._exit(status)
