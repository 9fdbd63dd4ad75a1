"""Errors by whose fault it is. A function that fails is neither: it is an `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping


class CallerError(Exception):
    """The request cannot be served as it stands; nothing was changed.

    `code` is the contract's own error code (`ResourceNotFoundException`), `status` its HTTP status.
    `members` are the error shape's further members (`Type`, `Reason`, ...); `headers` go on the response.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        members: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members: Mapping[str, str] = members or {}
        self.headers: Mapping[str, str] = headers or {}


class PlatformError(Exception):
    """Lambent failed, not the caller and not the function; answered as 500 `ServiceException`.

    `retry_safe` says whether the function certainly did not start.
    """

    def __init__(self, message: str, *, retry_safe: bool = False) -> None:
        super().__init__(message)
        self.retry_safe = retry_safe


class OperatorError(Exception):
    """The node cannot start or go on as it was set up. The message is one line that says what to do."""
