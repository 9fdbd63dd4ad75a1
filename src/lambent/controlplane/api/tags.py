"""TagResource, UntagResource, ListTags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.controlplane.lookups import find_function
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import invalid, update_in_progress
from lambent.controlplane.registry import put, repeat
from lambent.controlplane.settings import check_tags
from lambent.substrate.ports import Conflict

Params = dict[str, Any]
Tags = dict[str, str]


class FunctionTags:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def tag(self, context: RequestContext, params: Params) -> Params:
        added: Tags = dict(params["Tags"])
        if not added:
            raise invalid("An error occurred and the request cannot be processed.")
        await self._change(context, params["Resource"], lambda tags: tags | added)
        return {}

    async def untag(self, context: RequestContext, params: Params) -> Params:
        gone = set(params["TagKeys"])
        await self._change(
            context, params["Resource"], lambda tags: {key: tags[key] for key in tags if key not in gone}
        )
        return {}

    async def list(self, context: RequestContext, params: Params) -> Params:
        name = _parse_resource(context, params["Resource"])
        found = await find_function(self._plane.registry, context, name)
        return {"Tags": found.function.value.tags}

    async def _change(self, context: RequestContext, resource: str, change: Callable[[Tags], Tags]) -> None:
        registry = self._plane.registry
        name = _parse_resource(context, resource)

        async def attempt() -> None:
            found = await find_function(registry, context, name)
            tags = change(found.function.value.tags)
            check_tags(tags)
            changed = msgspec.structs.replace(found.function.value, tags=tags)
            await registry.commit(put(changed, expect=found.function.revision))

        try:
            await repeat(attempt)
        except Conflict:
            raise update_in_progress(resource) from None


def _parse_resource(context: RequestContext, resource: str) -> str:
    if ":function:" not in resource:
        raise invalid(f"Resource: only functions can be tagged in Lambent yet, not {resource}.")
    named = arns.parse_function(resource, context=context)
    if named.qualifier is not None:
        raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return named.name
