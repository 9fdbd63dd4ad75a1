"""The ways in which a function and a layer can be named (API reference, "FunctionName", "LayerName")."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from lambent.awsapi.context import RequestContext
from lambent.model.errors import CallerError

_FUNCTION = re.compile(
    r"(?:arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):)?"
    r"(?:(?P<account>[0-9]{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}))?"
)
_LAYER = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):layer:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<version>[0-9]{1,18}))?"
)
_QUALIFIER = re.compile(r"\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_$-]{1,128}")
_LONGEST_REFERENCE = 512


class FunctionName(NamedTuple):
    name: str
    qualifier: str | None


class LayerName(NamedTuple):
    account: str
    region: str
    name: str
    version: int | None


@lru_cache(maxsize=4096)
def _split(reference: str) -> tuple[str | None, str | None, str, str | None] | None:
    matched = _FUNCTION.fullmatch(reference)
    if matched is None:
        return None
    return matched["region"], matched["account"], matched["name"], matched["qualifier"]


def parse_function(reference: str, qualifier: str | None = None, *, context: RequestContext) -> FunctionName:
    """A name, a partial ARN or an ARN, each with or without a qualifier, and the separate Qualifier parameter.

    Raises CallerError: `ValidationException`, `InvalidParameterValueException` when both qualifiers disagree,
    `ResourceNotFoundException` for another region, `AccessDeniedException` for another account.
    """
    split = _split(reference) if len(reference) <= _LONGEST_REFERENCE else None
    if split is None:
        raise CallerError(
            "ValidationException",
            f"1 validation error detected: Value '{reference}' at 'functionName' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?"
            "(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?",
        )
    if qualifier and _QUALIFIER.fullmatch(qualifier) is None:
        raise CallerError(
            "ValidationException",
            f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: \\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+",
        )
    region, account, name, own_qualifier = split
    if own_qualifier and qualifier and own_qualifier != qualifier:
        raise CallerError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
            members={"Type": "User"},
        )
    if account is not None and account != context.account:
        raise CallerError(
            "AccessDeniedException",
            f"User: {context.access_key} is not authorized to perform this action on resource: {reference}",
            status=403,
        )
    if region is not None and region != context.region:
        raise CallerError(
            "ResourceNotFoundException",
            f"Functions from '{region}' are not reachable in this region ('{context.region}')",
            status=404,
        )
    return FunctionName(name, own_qualifier or qualifier or None)


def parse_layer(reference: str, *, context: RequestContext) -> LayerName:
    """A layer's name or ARN, with or without its version. Raises CallerError `InvalidParameterValueException`."""
    matched = _LAYER.fullmatch(reference)
    if matched is None:
        raise CallerError("InvalidParameterValueException", f"Invalid Layer name: {reference}")
    version = matched["version"]
    return LayerName(
        matched["account"] or context.account,
        matched["region"] or context.region,
        matched["name"],
        int(version) if version else None,
    )


def format_layer(account: str, region: str, name: str, version: int | None = None) -> str:
    arn = f"arn:aws:lambda:{region}:{account}:layer:{name}"
    return arn if version is None else f"{arn}:{version}"
