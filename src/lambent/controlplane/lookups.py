"""From the names in a request to what is stored, with the contract's errors for what is not there."""

from __future__ import annotations

from typing import NamedTuple

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.controlplane.refusals import invalid, no_function
from lambent.controlplane.registry import Registry, Stored
from lambent.model.function import LATEST, Function, Version


class Found(NamedTuple):
    """A function of the caller's account and region, with its `$LATEST`."""

    function: Stored[Function]
    latest: Stored[Version]

    @property
    def arn(self) -> str:
        return self.latest.value.function_arn


def function_arn(context: RequestContext, name: str, qualifier: str | None = None) -> str:
    arn = f"arn:aws:lambda:{context.region}:{context.account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


async def find_function(
    registry: Registry, context: RequestContext, reference: str, *, shown_qualifier: str | None = None
) -> Found:
    """The function of a name or ARN, whatever its qualifier. Raises CallerError.

    `shown_qualifier` is only for the text of the error.
    """
    name = arns.parse_function(reference, context=context).name
    function = await registry.function(context.account, name)
    latest = await registry.version(context.account, name, LATEST)
    if function is None or latest is None or latest.value.region != context.region:
        raise no_function(function_arn(context, name, shown_qualifier))
    return Found(function, latest)


async def find_unqualified(registry: Registry, context: RequestContext, reference: str) -> Found:
    """The function of a request that changes its `$LATEST`, which another qualifier cannot mean. Raises CallerError."""
    if arns.parse_function(reference, context=context).qualifier not in (None, LATEST):
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )
    return await find_function(registry, context, reference)


async def find_version(
    registry: Registry, context: RequestContext, reference: str, qualifier: str | None
) -> tuple[Found, Version, str]:
    """The function, the version that a version, alias or nothing names, and the ARN as the caller named it.

    Raises CallerError.
    """
    named = arns.parse_function(reference, qualifier, context=context)
    found = await find_function(registry, context, named.name, shown_qualifier=named.qualifier)
    if named.qualifier is None:
        return found, found.latest.value, found.arn
    arn = f"{found.arn}:{named.qualifier}"
    alias = await registry.alias(context.account, named.name, named.qualifier)
    wanted = alias.value.version if alias is not None else named.qualifier
    version = await registry.version(context.account, named.name, wanted)
    if version is None:
        raise no_function(arn)
    return found, version.value, arn
