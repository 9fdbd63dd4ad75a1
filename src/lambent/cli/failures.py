"""From an exception to one line on stderr and an exit code. docs/cli.md, "Exit codes", lists the same."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

import click

from lambent.cli.output import note, wrap
from lambent.client.errors import ApiError, BadConnection, NotReady, Unreachable
from lambent.model.errors import OperatorError

FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, FUNCTION_FAILED, UNREACHABLE = 1, 2, 3, 4, 5, 6
_REFUSED_CALLERS = (401, 403)
_FOREIGN_KEYS = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_VIOLATION = re.compile(
    r"1 validation error detected: Value '(.*)' at '([\w.]+)' failed to satisfy constraint: Member must (.*)", re.DOTALL
)


class Failure(Exception):
    """A command cannot go on. The message says what to do; `code` is the exit code."""

    def __init__(self, message: str, *, code: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def report(exc: Exception) -> int:
    if os.environ.get("LAMBENT_DEBUG") == "1":
        traceback.print_exception(exc)
    if isinstance(exc, click.ClickException):
        exc.show()
        return exc.exit_code
    message, hint, code = _read(exc)
    note(wrap(f"Error: {message}", stream=sys.stderr, indent=2, first=0))
    if hint:
        note("  " + wrap(hint, stream=sys.stderr, indent=2))
    return code


def _read(exc: Exception) -> tuple[str, str, int]:
    """Message, hint, exit code."""
    if isinstance(exc, Failure):
        return str(exc), exc.hint, exc.code
    if isinstance(exc, ApiError):
        return _read_api_error(exc)
    if isinstance(exc, Unreachable):
        hint = "Start a node with `lambent up`, or name another with --endpoint URL or LAMBENT_ENDPOINT."
        return str(exc), hint, UNREACHABLE
    if isinstance(exc, BadConnection):
        return str(exc), "", USAGE
    if isinstance(exc, (OperatorError, NotReady)):
        return str(exc), "", FAILED
    where = traceback.extract_tb(exc.__traceback__)[-1:]
    place = f" ({Path(where[0].filename).name}:{where[0].lineno})" if where else ""
    return (
        f"{type(exc).__name__}: {exc}{place}",
        "This is a fault of lambent's. LAMBENT_DEBUG=1 shows where; please report it with that.",
        FAILED,
    )


def _read_api_error(exc: ApiError) -> tuple[str, str, int]:
    if exc.code == "ValidationException":
        return _read_violation(exc.message), "", USAGE
    message = f"{exc.message} ({exc.code}{f', request {exc.request_id}' if exc.request_id else ''})"
    if exc.status in _REFUSED_CALLERS or "Signature" in exc.code or "AuthenticationToken" in exc.code:
        return message, _hint_credentials(exc), NOT_ALLOWED
    if exc.code == "QueueDoesNotExist":
        return message, "`lambent queues ls` lists the queues.", NOT_FOUND
    if exc.status == 404:
        return message, "`lambent ls` lists the functions." if "unction" in message else "", NOT_FOUND
    return message, "", FAILED


def _read_violation(message: str) -> str:
    """The contract's sentence about a value that cannot be, in fewer words and without its regular expressions."""
    matched = _VIOLATION.fullmatch(message)
    if matched is None:
        return message
    value, field, rule = matched.groups()
    if field == "functionName":
        return f"'{value}' cannot be the name of a function: letters, digits, - and _, at most 64."
    if "regular expression" in rule:
        return f"{field}: '{value}' does not have the form that it must have."
    return f"{field}: '{value}' must {rule}."


def _hint_credentials(exc: ApiError) -> str:
    if "Missing" in exc.code:
        return "No access key was found: run as the user who runs the node, or set the variables of `lambent env`."
    if "valid region" in exc.message:
        return "Leave out --region and unset AWS_REGION, or name the node's."
    if exc.code in _FOREIGN_KEYS or "does not match the signature" in exc.message:
        return "The access key is not this node's: unset AWS_ACCESS_KEY_ID, or set the variables of `lambent env`."
    return ""
