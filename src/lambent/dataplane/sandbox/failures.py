"""The error documents that the platform itself writes, in the contract's words (security report, section 2.1)."""

from __future__ import annotations

import json
import os
import signal

from lambent.dataplane.sandbox.channel import InitFailed
from lambent.dataplane.sandbox.environment import Cause, Ended


def describe(ended: Ended, *, request_id: str, timeout_s: int) -> tuple[str, bytes]:
    """(error type, payload) of an invocation whose environment ended before it answered."""
    if ended.cause is Cause.TIMEOUT:
        error_type, message = "Sandbox.Timedout", f"Task timed out after {timeout_s:.2f} seconds"
    else:
        error_type = "Runtime.Unknown" if ended.cause is Cause.PROTOCOL else "Runtime.ExitError"
        message = explain(ended)
    document = {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    return error_type, json.dumps(document, separators=(",", ":")).encode()


def report_type(ended: Ended, error_type: str) -> str:
    """What the REPORT line calls it; an out-of-memory kill is only told apart there."""
    return "Runtime.OutOfMemory" if ended.cause is Cause.OUT_OF_MEMORY else error_type


def explain(ended: Ended) -> str:
    return ended.detail if ended.cause is Cause.PROTOCOL else explain_exit(ended.status)


def explain_init(failed: InitFailed) -> str:
    return f"{failed.error_type}: {init_message(failed)}"


def init_message(failed: InitFailed) -> str:
    """What the runtime said of its init."""
    try:
        return str(json.loads(failed.payload)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return failed.error_type


def explain_exit(status: int | None) -> str:
    if status is None:
        return "Runtime exited for an unknown reason"
    if os.WIFSIGNALED(status):
        name = signal.strsignal(os.WTERMSIG(status)) or f"signal {os.WTERMSIG(status)}"
        return f"Runtime exited with error: signal: {name.lower()}"
    code = os.WEXITSTATUS(status)
    if code == 0:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: exit status {code}"
