"""PutProvisionedConcurrencyConfig, GetProvisionedConcurrencyConfig, ListProvisionedConcurrencyConfigs,
DeleteProvisionedConcurrencyConfig.

What is wanted is kept here; the data plane reads it and tells what has come of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane.api.concurrency import check_unreserved, sum_claimed
from lambent.controlplane.lookups import Found, find_function
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import conflict, invalid, no_function, update_in_progress
from lambent.controlplane.registry import ABSENT, Registry, drop, put, repeat
from lambent.model.errors import CallerError, PlatformError
from lambent.model.function import LATEST, SNAP_START, Alias, Function, Provisioned
from lambent.model.provisioned import Allocation
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class _Place(NamedTuple):
    """What a request names: a published version, or an alias and the versions that it points to."""

    found: Found
    qualifier: str
    versions: tuple[str, ...]
    is_alias: bool

    @property
    def function(self) -> Function:
        return self.found.function.value

    @property
    def arn(self) -> str:
        return f"{self.found.arn}:{self.qualifier}"


class ProvisionedConcurrency:
    """A configuration is written together with its function, unchanged: so it never is of what is just deleted."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def put(self, context: RequestContext, params: Params) -> Params:
        try:
            async with self._plane.reservations:
                config = await repeat(lambda: self._put(context, params))
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None
        return _show(config, (await self._allocations(config)).get(config.qualifier))

    async def get(self, context: RequestContext, params: Params) -> Params:
        place = await self._find(context, params)
        function = place.function
        stored = await self._plane.registry.provisioned(function.account, function.name, place.qualifier)
        if stored is None:
            raise CallerError(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
                status=404,
                members={"Type": "User"},
            )
        return _show(stored.value, (await self._allocations(stored.value)).get(place.qualifier))

    async def list(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(self._plane.registry, context, params["FunctionName"])
        function = found.function.value
        configs = [entry.value for entry in await self._plane.registry.all_provisioned(function.account, function.name)]
        page, marker = cut_page(
            configs, marker=params.get("Marker"), max_items=params.get("MaxItems"), key=lambda config: config.qualifier
        )
        allocations = await self._allocations(page[0]) if page else {}
        shown = [
            {"FunctionArn": f"{found.arn}:{config.qualifier}", **_show(config, allocations.get(config.qualifier))}
            for config in page
        ]
        return {"ProvisionedConcurrencyConfigs": shown, "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        """Where nothing is provisioned: nothing, as the contract has it."""

        async def attempt() -> None:
            place = await self._find(context, params)
            function = place.function
            stored = await self._plane.registry.provisioned(function.account, function.name, place.qualifier)
            if stored is not None:
                await self._plane.registry.commit(drop(stored))

        try:
            async with self._plane.reservations:
                await repeat(attempt)
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None
        return {}

    async def _put(self, context: RequestContext, params: Params) -> Provisioned:
        registry, wanted = self._plane.registry, params["ProvisionedConcurrentExecutions"]
        place = await self._find(context, params, latest=_UNPUBLISHED)
        function = place.function
        stored = await registry.provisioned(function.account, function.name, place.qualifier)
        if place.is_alias:
            await check_alias(registry, function, place.versions)
        else:
            await check_snap_start(registry, function, place.versions)
            await _check_not_pointed_to(registry, function, place.qualifier)
        await self._check_claim(context, place, wanted)
        config = Provisioned(
            account=function.account,
            function=function.name,
            qualifier=place.qualifier,
            executions=wanted,
            last_modified=f"{self._plane.now():%Y-%m-%dT%H:%M:%S}+0000",
        )
        guard = put(function, expect=place.found.function.revision)
        await registry.commit(guard, put(config, expect=stored.revision if stored is not None else ABSENT))
        return config

    async def _check_claim(self, context: RequestContext, place: _Place, wanted: int) -> None:
        registry, limit = self._plane.registry, self._plane.account_concurrency
        function = place.function
        others = [entry.value for entry in await registry.all_provisioned(function.account, function.name)]
        total = wanted + sum(config.executions for config in others if config.qualifier != place.qualifier)
        if function.reserved_concurrency is not None:
            if total > function.reserved_concurrency:
                raise invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                    "function"
                )
            return
        left = limit - await sum_claimed(registry, context.account, without=function.name)
        if total > left:
            raise invalid(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
                f"[{left}]."
            )
        check_unreserved(left - total, limit, what="ConcurrentExecutions")

    async def _find(self, context: RequestContext, params: Params, *, latest: str = "") -> _Place:
        registry = self._plane.registry
        named = arns.parse_function(params["FunctionName"], params["Qualifier"], context=context)
        qualifier = named.qualifier or ""
        if qualifier == LATEST:
            raise invalid(latest or "The function resource provided must be an alias or a published version.")
        found = await find_function(registry, context, named.name, shown_qualifier=qualifier)
        if qualifier.isdigit():
            if await registry.version(context.account, named.name, qualifier) is None:
                raise no_function(f"{found.arn}:{qualifier}")
            return _Place(found, qualifier, (qualifier,), is_alias=False)
        alias = await registry.alias(context.account, named.name, qualifier)
        if alias is None:
            raise no_function(f"{found.arn}:{qualifier}")
        return _Place(found, qualifier, versions_of(alias.value), is_alias=True)

    async def _allocations(self, config: Provisioned) -> Mapping[str, Allocation]:
        try:
            return await self._plane.allocations(f"{config.account}/{config.function}")
        except PlatformError:
            # The process that has them is being replaced, and its environments with it.
            return {}


_UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."


def versions_of(alias: Alias) -> tuple[str, ...]:
    return (alias.version, *alias.weights)


async def check_alias(registry: Registry, function: Function, versions: Iterable[str]) -> None:
    """Whether an alias that points to these versions may have provisioned concurrency. Raises CallerError."""
    named = tuple(versions)
    if LATEST in named:
        raise invalid(_UNPUBLISHED)
    await check_snap_start(registry, function, named)
    for version in named:
        if await registry.provisioned(function.account, function.name, version) is not None:
            raise conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            )


async def check_snap_start(registry: Registry, function: Function, versions: Iterable[str]) -> None:
    for number in versions:
        version = await registry.version(function.account, function.name, number)
        if version is not None and version.value.snap_start == SNAP_START:
            raise invalid(
                f"Version {number} has SnapStart, which does not support provisioned concurrency. Publish a version "
                "with SnapStart ApplyOn None, or rely on SnapStart."
            )


async def _check_not_pointed_to(registry: Registry, function: Function, version: str) -> None:
    for alias in await registry.aliases(function.account, function.name):
        provisioned = await registry.provisioned(function.account, function.name, alias.value.name)
        if version in versions_of(alias.value) and provisioned is not None:
            raise conflict("Version is pointed by a Provisioned Concurrency alias")


def _show(config: Provisioned, allocation: Allocation | None) -> Params:
    state = allocation or Allocation()
    ready = state.available >= config.executions
    status = "READY" if ready else "FAILED" if state.failure else "IN_PROGRESS"
    return {
        "RequestedProvisionedConcurrentExecutions": config.executions,
        "AvailableProvisionedConcurrentExecutions": state.available,
        "AllocatedProvisionedConcurrentExecutions": state.allocated,
        "Status": status,
        "StatusReason": state.failure if status == "FAILED" else None,
        "LastModified": config.last_modified,
    }
