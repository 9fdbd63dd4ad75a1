"""Tags of functions, among them Lambent's own settings."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.arns import parse_function
from lambent.awsapi.context import RequestContext
from lambent.controlplane.configuration import check_tags, invalid
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.registry import Stored, put
from lambent.model.function import Function

Json = dict[str, Any]
MAX_TAGS = 50


class TagOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def list_tags(self, context: RequestContext, parameters: Json) -> Json:
        return {"Tags": (await self._find(context, parameters)).value.tags}

    async def tag_resource(self, context: RequestContext, parameters: Json) -> Json:
        check_tags(parameters["Tags"])
        stored = await self._find(context, parameters)
        tags = {**stored.value.tags, **parameters["Tags"]}
        if len(tags) > MAX_TAGS:
            raise invalid(f"Number of tags exceeds function tag limit of {MAX_TAGS}.")
        await self._write(stored, tags)
        return {}

    async def untag_resource(self, context: RequestContext, parameters: Json) -> Json:
        stored = await self._find(context, parameters)
        gone = set(parameters["TagKeys"])
        await self._write(stored, {key: value for key, value in stored.value.tags.items() if key not in gone})
        return {}

    async def _find(self, context: RequestContext, parameters: Json) -> Stored[Function]:
        name, qualifier = parse_function(parameters["Resource"], context=context)
        if qualifier is not None:
            raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return await self._plane.function(context, name)

    async def _write(self, stored: Stored[Function], tags: dict[str, str]) -> None:
        changed = msgspec.structs.replace(stored.value, tags=tags)
        await self._plane.registry.commit(put(changed, expect=stored.revision), resource=stored.value.name)
