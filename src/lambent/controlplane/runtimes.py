"""Which of the contract's runtimes can be deployed. Whether its interpreter is installed is asked on invoke."""

from __future__ import annotations

from collections.abc import Callable

from lambent.controlplane.refusals import invalid

SUPPORTED = (
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "provided.al2",
    "provided.al2023",
)
# The contract itself no longer creates functions of these.
_RETIRED = (
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs16.x",
    "nodejs18.x",
    "python2.7",
    "python3.6",
    "python3.7",
    "python3.8",
    "provided",
)


def check_runtime(runtime: str, *, available: Callable[[str], str | None]) -> None:
    """Raises CallerError `InvalidParameterValueException` with what to do instead."""
    if runtime in _RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            f"We recommend you use a supported runtime while creating or updating functions: {', '.join(SUPPORTED)}."
        )
    if runtime not in SUPPORTED:
        raise invalid(
            f"Runtime: Lambent does not run {runtime}. Supported are {', '.join(SUPPORTED)}. "
            "Any other language runs as provided.al2023 with an executable named bootstrap."
        )
    reason = available(runtime)
    if reason is not None:
        raise invalid(reason)
