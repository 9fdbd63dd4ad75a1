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
from typing import Any, Dict, Optional

from lambent.dataplane.runtime.faults import Fault

_LEVELS = {"TRACE": logging.DEBUG, "FATAL": logging.CRITICAL, "WARN": logging.WARNING}
_KNOWN = frozenset(logging.LogRecord("", 0, "", 0, None, None, None).__dict__) - {"taskName"} | {
    "aws_request_id",
    "message",
    "asctime",
}


class Requests:
    """The invocation that is going on; log records carry its id."""

    current = ""


class _RequestFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = Requests.current
        return True


class _TextHandler(logging.Handler):
    """Writes to whatever sys.stdout is now, unbuffered by us; several lines stay one event."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record).replace("\n", "\r"))
        except Exception:
            self.handleError(record)


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
        body: Dict[str, Any] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, value, trace = record.exc_info
            body["stackTrace"] = traceback.format_tb(trace)
            body["errorType"] = kind.__name__ if kind else None
            body["errorMessage"] = str(value)
            body["location"] = "{}:{}:{}".format(record.pathname, record.funcName, record.lineno)
        if Requests.current:
            body["requestId"] = Requests.current
        for key, value in record.__dict__.items():
            if key not in _KNOWN and key not in body and value is not None:
                body[key] = value
        return json.dumps(body, ensure_ascii=False, default=str)


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
    body: Dict[str, Optional[Any]] = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "level": "ERROR",
        "errorMessage": fault.message,
        "errorType": fault.error_type,
        "requestId": fault.request_id or "",
        "stackTrace": fault.stack,
    }
    write_line(json.dumps(body, ensure_ascii=False))
