"""The contract's errors that the control plane answers with, each with its code, status and text."""

from __future__ import annotations

from lambent.model.errors import CallerError

_USER = {"Type": "User"}


def invalid(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message, members=_USER)


def violated(field: str, value: object, constraint: str) -> CallerError:
    """A bound of the contract that the service model does not hold; `field` as the service writes it (`timeout`)."""
    return CallerError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: {constraint}",
    )


def not_found(message: str) -> CallerError:
    return CallerError("ResourceNotFoundException", message, status=404, members=_USER)


def no_function(arn: str) -> CallerError:
    return not_found(f"Function not found: {arn}")


def no_resource() -> CallerError:
    return not_found("The resource you requested does not exist.")


def conflict(message: str) -> CallerError:
    return CallerError("ResourceConflictException", message, status=409, members=_USER)


def update_in_progress(arn: str) -> CallerError:
    return conflict(f"The operation cannot be performed at this time. An update is in progress for resource: {arn}")


def stale_revision() -> CallerError:
    return CallerError(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        status=412,
        members=_USER,
    )


def too_large(message: str) -> CallerError:
    return CallerError("RequestEntityTooLargeException", message, status=413, members=_USER)


def storage_exceeded() -> CallerError:
    return CallerError("CodeStorageExceededException", "Code storage limit exceeded.", members=_USER)
