"""The node's own log: for people on a terminal, JSON lines otherwise.

A message is constant; what varies is in `extra`, with a stable `action`. Secrets are struck out: values of `extra`
whose name says that they are one, and signatures and credentials wherever they occur in a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_HIDDEN = "***"
_SECRET_NAME = re.compile(r"secret|password|token|authorization|signature|credential|private", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(Signature=|X-Amz-Security-Token=|aws_secret_access_key[\\\"'\s]*[=:][\\\"'\s]*)[\w/+=%.~-]+", re.IGNORECASE
)
_PLAIN = re.compile(r"[^\s\"'=\x00-\x1f\x7f]+")


def set_up_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send the log of this process, at `level` (`info`, ...) and above, to `stream` (stderr)."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_HumanFormatter() if target.isatty() else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        details = [f"{key}={_plain(value)}" for key, value in _extras(record).items() if key != "action"]
        text = " ".join([at, f"{record.levelname.lower():7}", record.getMessage(), *details])
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return _strike_out(text)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"time": at, "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        # An extra cannot pass for one of the line's own members.
        line |= {key: value for key, value in _extras(record).items() if key not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _strike_out(json.dumps(line, default=str))


def _extras(record: logging.LogRecord) -> dict[str, object]:
    members = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    return {key: _HIDDEN if _SECRET_NAME.search(key) else value for key, value in members.items()}


def _plain(value: object) -> str:
    """On a line of its own words: what could break or fake a line is quoted."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _strike_out(text: str) -> str:
    return _SECRET_TEXT.sub(rf"\g<1>{_HIDDEN}", text)
