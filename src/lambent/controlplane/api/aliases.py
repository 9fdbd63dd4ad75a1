"""Aliases, and the weights by which they divide invocations."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane.configuration import invalid
from lambent.controlplane.plane import ControlPlane, check_revision
from lambent.controlplane.registry import Stored, put, remove
from lambent.controlplane.views import show_alias
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, Alias

Json = dict[str, Any]


class AliasOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def create_alias(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = plane.name(context, parameters).name
        version = parameters["FunctionVersion"]
        await plane.function(context, name)
        await plane.version(context, name, version)
        alias = Alias(
            account=context.account,
            function=name,
            name=parameters["Name"],
            version=version,
            description=parameters.get("Description", ""),
            weights=await self._check_weights(context, name, version, parameters.get("RoutingConfig")),
            revision_id=plane.new_id(),
        )
        if await plane.registry.find(Alias, context.account, name, alias.name) is not None:
            arn = show_alias(alias, context.region)["AliasArn"]
            raise CallerError("ResourceConflictException", f"Alias already exists: {arn}", status=409)
        await plane.registry.commit(put(alias, expect=0), resource=alias.name)
        return show_alias(alias, context.region)

    async def get_alias(self, context: RequestContext, parameters: Json) -> Json:
        return show_alias((await self._find(context, parameters)).value, context.region)

    async def list_aliases(self, context: RequestContext, parameters: Json) -> Json:
        name = self._plane.name(context, parameters).name
        await self._plane.function(context, name)
        stored = await self._plane.registry.list(Alias, context.account, name)
        wanted = parameters.get("FunctionVersion")
        aliases = [
            item.value for item in stored if wanted is None or wanted in (item.value.version, *item.value.weights)
        ]
        page, marker = cut_page(
            aliases,
            marker=parameters.get("Marker"),
            max_items=parameters.get("MaxItems"),
            key=lambda alias: alias.name,
        )
        return {"Aliases": [show_alias(alias, context.region) for alias in page], "NextMarker": marker}

    async def update_alias(self, context: RequestContext, parameters: Json) -> Json:
        stored = await self._find(context, parameters)
        alias = stored.value
        check_revision(parameters.get("RevisionId"), alias.revision_id)
        version = parameters.get("FunctionVersion", alias.version)
        await self._plane.version(context, alias.function, version)
        weights = alias.weights
        if "RoutingConfig" in parameters or version != alias.version:
            routing = parameters.get("RoutingConfig", {"AdditionalVersionWeights": weights})
            weights = await self._check_weights(context, alias.function, version, routing)
        changed = msgspec.structs.replace(
            alias,
            version=version,
            description=parameters.get("Description", alias.description),
            weights=weights,
            revision_id=self._plane.new_id(),
        )
        await self._plane.registry.commit(put(changed, expect=stored.revision), resource=alias.name)
        return show_alias(changed, context.region)

    async def delete_alias(self, context: RequestContext, parameters: Json) -> Json:
        name = self._plane.name(context, parameters).name
        await self._plane.function(context, name)
        stored = await self._plane.registry.find(Alias, context.account, name, parameters["Name"])
        if stored is not None:
            await self._plane.registry.commit(remove(stored.value, expect=stored.revision), resource=stored.value.name)
        return {}

    async def _find(self, context: RequestContext, parameters: Json) -> Stored[Alias]:
        name = self._plane.name(context, parameters).name
        stored = await self._plane.registry.find(Alias, context.account, name, parameters["Name"])
        if stored is None:
            arn = f"arn:aws:lambda:{context.region}:{context.account}:function:{name}:{parameters['Name']}"
            raise CallerError("ResourceNotFoundException", f"Cannot find alias arn: {arn}", status=404)
        return stored

    async def _check_weights(
        self, context: RequestContext, name: str, version: str, routing: Json | None
    ) -> dict[str, float]:
        weights: dict[str, float] = (routing or {}).get("AdditionalVersionWeights") or {}
        if not weights:
            return {}
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        ((other, weight),) = weights.items()
        if LATEST in (version, other):
            raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        if other == version:
            raise invalid(
                f"Invalid function version {other}. Function version {version} is already included in routing configuration."
            )
        if not 0.0 <= weight <= 1.0:
            raise invalid("The weight of a version must be between 0.0 and 1.0.")
        await self._plane.version(context, name, other)
        return weights
