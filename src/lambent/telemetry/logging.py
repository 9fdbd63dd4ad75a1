"""The node's own log: for people on a terminal, JSON lines otherwise.

A message is constant; what varies is in `extra`, with a stable `action`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def set_up_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (stderr)."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_HumanFormatter() if target.isatty() else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class _HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        details = " ".join(f"{key}={value}" for key, value in _extras(record).items() if key != "action")
        text = f"{at} {record.levelname.lower():7} {record.getMessage()} {details}".rstrip()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body: dict[str, object] = {"time": at, "level": record.levelname, "logger": record.name}
        body["message"] = record.getMessage()
        body.update(_extras(record))
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)
        return json.dumps(body, default=str)
