"""CreateAlias, UpdateAlias, GetAlias, ListAliases, DeleteAlias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane import shapes
from lambent.controlplane.api.functions import check_revision
from lambent.controlplane.api.provisioned import check_alias, versions_of
from lambent.controlplane.lookups import Found, find_function
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import conflict, invalid, no_function, not_found, update_in_progress
from lambent.controlplane.registry import ABSENT, Stored, drop, put, repeat
from lambent.model.function import LATEST, Alias
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Aliases:
    """A new or changed alias writes the function too, unchanged: so an alias never points to what is just deleted."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def create(self, context: RequestContext, params: Params) -> Params:
        try:
            return await repeat(lambda: self._create(context, params))
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None

    async def update(self, context: RequestContext, params: Params) -> Params:
        try:
            return await repeat(lambda: self._update(context, params))
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None

    async def get(self, context: RequestContext, params: Params) -> Params:
        found, alias = await self._find(context, params)
        if alias is None:
            raise not_found(f"Cannot find alias arn: {found.arn}:{params['Name']}")
        return shapes.show_alias(alias.value, function_arn=found.arn)

    async def list(self, context: RequestContext, params: Params) -> Params:
        registry = self._plane.registry
        found = await find_function(registry, context, params["FunctionName"])
        wanted = params.get("FunctionVersion")
        aliases = [
            stored.value
            for stored in await registry.aliases(context.account, found.function.value.name)
            if wanted in (None, stored.value.version)
        ]
        page, marker = cut_page(
            aliases, marker=params.get("Marker"), max_items=params.get("MaxItems"), key=lambda alias: alias.name
        )
        return {"Aliases": [shapes.show_alias(alias, function_arn=found.arn) for alias in page], "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        """Of an alias that is not there: nothing, as the contract has it."""
        try:
            await repeat(lambda: self._delete(context, params))
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None
        return {}

    async def _create(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(
            self._plane.registry, context, params["FunctionName"], shown_qualifier=params["FunctionVersion"]
        )
        function = found.function.value
        alias = Alias(
            account=context.account,
            function=function.name,
            name=params["Name"],
            version=params["FunctionVersion"],
            description=params.get("Description") or "",
            weights=_parse_weights(params) or {},
            revision_id=self._plane.new_id(),
        )
        await self._check_targets(found, alias)
        if await self._plane.registry.alias(context.account, function.name, alias.name) is not None:
            raise conflict(f"Alias already exists: {found.arn}:{alias.name}")
        await self._plane.registry.commit(put(function, expect=found.function.revision), put(alias, expect=ABSENT))
        return shapes.show_alias(alias, function_arn=found.arn)

    async def _update(self, context: RequestContext, params: Params) -> Params:
        found, stored = await self._find(context, params)
        if stored is None:
            raise not_found(f"Alias not found: {found.arn}:{params['Name']}")
        before = stored.value
        check_revision(params, before.revision_id)
        weights = _parse_weights(params)
        alias = msgspec.structs.replace(
            before,
            version=params.get("FunctionVersion") or before.version,
            description=before.description if params.get("Description") is None else params["Description"],
            weights=before.weights if weights is None else weights,
            revision_id=self._plane.new_id(),
        )
        await self._check_targets(found, alias)
        function = found.function.value
        if await self._plane.registry.provisioned(alias.account, function.name, alias.name) is not None:
            await check_alias(self._plane.registry, function, versions_of(alias))
        await self._plane.registry.commit(
            put(found.function.value, expect=found.function.revision), put(alias, expect=stored.revision)
        )
        return shapes.show_alias(alias, function_arn=found.arn)

    async def _delete(self, context: RequestContext, params: Params) -> None:
        found, alias = await self._find(context, params)
        if alias is None:
            return
        function = found.function
        provisioned = await self._plane.registry.provisioned(context.account, function.value.name, alias.value.name)
        url = await self._plane.registry.function_url(context.account, function.value.name, alias.value.name)
        policy = await self._plane.registry.policy(context.account, function.value.name, alias.value.name)
        await self._plane.registry.commit(
            put(function.value, expect=function.revision),
            drop(alias),
            *([drop(provisioned)] if provisioned is not None else []),
            *([drop(url)] if url is not None else []),
            *([drop(policy)] if policy is not None else []),
        )

    async def _find(self, context: RequestContext, params: Params) -> tuple[Found, Stored[Alias] | None]:
        registry = self._plane.registry
        found = await find_function(registry, context, params["FunctionName"])
        return found, await registry.alias(context.account, found.function.value.name, params["Name"])

    async def _check_targets(self, found: Found, alias: Alias) -> None:
        if alias.weights:
            _check_weights(alias.version, alias.weights)
        for version in versions_of(alias):
            if await self._plane.registry.version(alias.account, alias.function, version) is None:
                raise no_function(f"{found.arn}:{version}")


def _parse_weights(params: Params) -> dict[str, float] | None:
    """None when the request says nothing of them; empty when it takes them away."""
    routing = params.get("RoutingConfig")
    return None if routing is None else dict(routing.get("AdditionalVersionWeights") or {})


def _check_weights(version: str, weights: Mapping[str, float]) -> None:
    # At most one, so that a sum above 1 is already refused by the model's bound of each weight.
    if len(weights) > 1:
        raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if version in weights:
        raise invalid(
            f"Invalid function version {version}. Function version {version} is already included in routing "
            "configuration."
        )
    if LATEST in (version, *weights):
        raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
