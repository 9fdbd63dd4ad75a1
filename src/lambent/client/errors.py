"""What can go wrong when the API is called."""

from __future__ import annotations


class ApiError(Exception):
    """The node refused a request: the contract's `code`, its message, the HTTP status and the request's id."""

    def __init__(self, code: str, message: str, *, status: int, request_id: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id


class Unreachable(Exception):
    """No answer came from `endpoint`."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint} does not answer: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class NotReady(Exception):
    """A function did not become usable: its state, and the reason that the node gives."""


class BadConnection(Exception):
    """It is not said, or not understood, where the node is or who calls. The message says what to do."""
