"""Logs that belong to no one function: each is kept as a function's log is, under a key that no function can have."""

from __future__ import annotations

import re

_PREFIX = "group:"
_FUNCTIONS = "/aws/lambda/"
_NAME = re.compile(r"[A-Za-z0-9_/.#-]{1,512}")
"""CloudWatch Logs API reference, "CreateLogGroup"."""
_ARN = re.compile(r"arn:aws:logs:([a-z0-9-]+):([0-9]{12}):log-group:([A-Za-z0-9_/.#-]{1,512})(?::\*)?")


def log_key(group: str) -> str:
    """Of a group's log. That of `/aws/lambda/NAME` is the function's. Raises ValueError for what is no group's name."""
    if _NAME.fullmatch(group) is None:
        raise ValueError(f"'{group}' is no name of a log group: it has up to 512 letters, digits and _/.#-")
    return group.removeprefix(_FUNCTIONS) if group.startswith(_FUNCTIONS) else _PREFIX + group


def parse_group_arn(arn: str) -> tuple[str, str] | None:
    """(account, name) of the ARN of a log group; None for any other."""
    matched = _ARN.fullmatch(arn)
    return (matched[2], matched[3]) if matched is not None else None
