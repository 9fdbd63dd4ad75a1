"""`logging` inside an environment, in the two formats of LoggingConfig (developer guide, "Log and monitor Python").

`print` stays plain text in both: it writes to the same pipe, and the order is kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from typing import Any, Dict, Tuple

from lambent.dataplane.runtime import faults
from lambent.dataplane.runtime.faults import Fault

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
_LEVELS = {"TRACE": logging.DEBUG, "FATAL": logging.CRITICAL, "WARN": logging.WARNING}
_KNOWN = frozenset(logging.LogRecord("", 0, "", 0, None, None, None).__dict__) - {"taskName"} | {
    "aws_request_id",
    "tenant_id",
    "_frame_type",
}
_UNHANDLED = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. However, in rare "
    "cases, a Lambda runtime update can cause unexpected function behavior. For functions using managed runtimes, "
    "runtime updates can be triggered by a function change, or can be applied automatically. To determine if the "
    "runtime has been updated, check the runtime version in the INIT_START log entry. If this error correlates with a "
    "change in the runtime version, you may be able to mitigate this error by temporarily rolling back to the previous "
    "runtime version. For more information, see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)
"""What the contract's runtime says before the error of an init."""


class Requests:
    """The invocation that is going on; log records carry its id."""

    current = ""
    of_task: Any = None
    """A ContextVar where there are several at a time; then `current` is empty."""

    @classmethod
    def find(cls) -> str:
        return cls.current if cls.of_task is None else cls.of_task.get("")


class _RequestFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = Requests.find()
        return True


class _TextHandler(logging.Handler):
    """Writes to whatever sys.stdout is now, unbuffered by us; several lines stay one event."""

    def emit(self, record: logging.LogRecord) -> None:
        # A record that cannot be formatted is an error of the call that logs it, as with the contract's runtime.
        write_line(self.format(record).replace("\n", "\r"))


def write_line(text: str) -> None:
    """One event to the log pipe itself: user code may have replaced or closed sys.stdout."""
    try:
        sys.stdout.flush()
    except Exception:  # noqa: S110 - closed or replaced by user code, whose affair it is
        pass
    data = (text + "\n").encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        # User code closed the pipe; it has no log any more, but it still has an answer.
        return


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kind, value, trace = record.exc_info or (None, None, None)
        body: Dict[str, Any] = {
            "timestamp": time.strftime(_TIME, time.gmtime(record.created)),
            "level": logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10),
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
            "stackTrace": traceback.format_tb(trace) if kind else None,
            "errorType": kind.__name__ if kind else None,
            "errorMessage": str(value) if kind else None,
            "requestId": Requests.find(),
            "location": "{}:{}:{}".format(record.pathname, record.funcName, record.lineno) if kind else None,
        }
        body.update((key, value) for key, value in record.__dict__.items() if key not in _KNOWN and key not in body)
        return _encode({key: value for key, value in body.items() if value is not None})


def set_up_logging(log_format: str, level: str) -> None:
    """Give the root logger our handler, as the contract's runtime does before the handler's module is imported."""
    logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    handler = _TextHandler()
    handler.addFilter(_RequestFilter())
    if log_format == "JSON":
        handler.setFormatter(_JsonFormatter())
        root.setLevel(_LEVELS.get(level, level) or logging.INFO)
    else:
        text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
        handler.setFormatter(logging.Formatter(text, "%Y-%m-%dT%H:%M:%S"))
    root.addHandler(handler)


def log_fault(fault: Fault, log_format: str, text: str) -> None:
    """The log entry of an invocation that failed."""
    if log_format != "JSON":
        write_line(text)
        return
    body = {"timestamp": time.strftime(_TIME, time.gmtime()), "level": "ERROR", **fault.as_document()}
    write_line(faults.write_json(body))


def refuse_size(message: str) -> Tuple[str, bytes]:
    """Error type and document of an answer that is too large, which the log is told, too."""
    error_type = "Function.ResponseSizeTooLarge"
    write_line("[ERROR] {}: {}".format(error_type, message))
    document = {"errorMessage": message, "errorType": error_type}
    return error_type, json.dumps(document, separators=(",", ":")).encode()


def warn_of_unhandled() -> None:
    try:
        logging.warning(_UNHANDLED)
    except Exception:  # noqa: S110 - by a handler that user code added; the error that is told next matters more
        pass
