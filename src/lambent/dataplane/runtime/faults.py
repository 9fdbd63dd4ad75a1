"""Failures of user code as the documents that callers get and the lines that the log gets."""

from __future__ import annotations

import json
import traceback
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional

OWN_FOLDER = __file__.rpartition("/")[0]
MAX_MESSAGE_CHARACTERS = 200_000
MAX_FRAMES = 1_000


class Fault(NamedTuple):
    error_type: str
    message: str
    request_id: Optional[str]
    stack: List[str]
    """Formatted frames of user code, outermost first."""

    def encode(self) -> bytes:
        document: Dict[str, Any] = {"errorMessage": self.message, "errorType": self.error_type}
        if self.request_id is not None:
            document["requestId"] = self.request_id
        document["stackTrace"] = self.stack
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def describe(exc: BaseException, request_id: str) -> Fault:
    """An exception that left user code."""
    return Fault(type(exc).__name__, _message_of(exc), request_id, format_stack(exc.__traceback__))


def format_stack(trace: Optional[TracebackType]) -> List[str]:
    """The frames below ours, as `traceback` formats them."""
    frames = [frame for frame in traceback.extract_tb(trace, limit=MAX_FRAMES) if not _is_ours(frame.filename)]
    return traceback.format_list(frames)


def format_for_log(fault: Fault) -> str:
    """The text form of the runtime interface client: one event, its lines joined by carriage returns."""
    head = "[ERROR] {}: {}".format(fault.error_type, fault.message) if fault.message else "[ERROR] " + fault.error_type
    lines = [head, "Traceback (most recent call last):"]
    for frame in fault.stack:
        lines += [_indent_visibly(line) for line in frame.splitlines()]
    return "\r".join(lines)


def _indent_visibly(line: str) -> str:
    """No-break spaces, which log viewers do not collapse."""
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text


def _is_ours(filename: str) -> bool:
    return filename.startswith(OWN_FOLDER)


def _message_of(exc: BaseException) -> str:
    try:
        return str(exc)[:MAX_MESSAGE_CHARACTERS]
    except Exception as failure:
        return "<the exception's text cannot be read: {}>".format(type(failure).__name__)
