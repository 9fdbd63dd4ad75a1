"""Failures of user code as the documents that callers get and the lines that the log gets."""

from __future__ import annotations

import json
import sys
import traceback
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional

OWN_FOLDER = __file__.rpartition("/")[0]
MAX_MESSAGE_CHARACTERS = 200_000
MAX_FRAMES = 1_000
ESCAPES_TEXT = sys.version_info < (3, 12)
"""The contract's runtimes write JSON in ASCII up to Python 3.11."""


class Refused(Exception):
    """The runtime itself ends an invocation, with an error type of the contract."""

    error_type = ""


class Fault(NamedTuple):
    error_type: str
    message: str
    request_id: str
    stack: List[str]
    """Formatted frames of user code, outermost first."""

    def encode(self) -> bytes:
        return write_json(self.as_document()).encode()

    def as_document(self) -> Dict[str, Any]:
        return {
            "errorMessage": self.message,
            "errorType": self.error_type,
            "requestId": self.request_id,
            "stackTrace": self.stack,
        }


def write_json(document: Dict[str, Any], *, escapes_text: bool = ESCAPES_TEXT) -> str:
    text = json.dumps(document, ensure_ascii=escapes_text)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but it has a JSON escape.
        return json.dumps(document)
    return text


def describe(exc: BaseException, request_id: str) -> Fault:
    """An exception that left user code."""
    return Fault(type(exc).__name__, _message_of(exc), request_id, format_stack(exc.__traceback__))


def format_stack(trace: Optional[TracebackType]) -> List[str]:
    """The frames below ours, as `traceback` formats them without its marks below the line."""
    frames = traceback.extract_tb(trace, limit=MAX_FRAMES)
    return traceback.format_list(
        [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in frames if not is_ours(frame.filename)]
    )


def format_for_log(fault: Fault) -> str:
    """The text form of the runtime interface client: one event, its lines joined by carriage returns."""
    head = ": ".join(part for part in (fault.error_type, fault.message) if part)
    lines = ["[ERROR] " + head if head else "[ERROR]", "Traceback (most recent call last):"]
    for frame in fault.stack:
        lines += [_indent_visibly(line) for line in frame.splitlines() or [""]]
    return "\r".join(lines)


def _indent_visibly(line: str) -> str:
    """No-break spaces, which log viewers do not collapse."""
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text


def is_ours(filename: str) -> bool:
    return filename.startswith(OWN_FOLDER)


def _message_of(exc: BaseException) -> str:
    try:
        return str(exc)[:MAX_MESSAGE_CHARACTERS]
    except Exception as failure:
        return "<the exception's text cannot be read: {}>".format(type(failure).__name__)
