"""Put/Update/Get/List/DeleteFunctionEventInvokeConfig and Put/GetFunctionRecursionConfig of the Lambda API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambent.awsapi import arns
from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.events.async_invoke import store
from lambent.events.async_invoke.invoker import Resolve
from lambent.events.async_invoke.model import MAX_AGE_S, MAX_RETRIES, MIN_AGE_S, Settings
from lambent.events.deliveries import Deliveries
from lambent.model.errors import CallerError
from lambent.model.function import LATEST
from lambent.substrate.ports import Connection, Tables

Params = dict[str, Any]


class EventInvokeOperations:
    def __init__(
        self, tables: Tables, deliveries: Deliveries, resolve: Resolve, *, now: Callable[[], float] = time.time
    ) -> None:
        self._tables = tables
        self._deliveries = deliveries
        self._resolve = resolve
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
            "GetFunctionEventInvokeConfig": self.get,
            "ListFunctionEventInvokeConfigs": self.list,
            "DeleteFunctionEventInvokeConfig": self.delete,
            "PutFunctionRecursionConfig": self.put_recursion,
            "GetFunctionRecursionConfig": self.get_recursion,
        }

    async def put(self, context: RequestContext, params: Params) -> Params:
        """Replaces what was set."""
        return await self._write(context, params, replaces=True)

    async def update(self, context: RequestContext, params: Params) -> Params:
        """Changes what is given, and keeps the rest. Raises CallerError when nothing was set."""
        return await self._write(context, params, replaces=False)

    async def get(self, context: RequestContext, params: Params) -> Params:
        name, qualifier = self._find(context, params)
        found = await self._tables.read(lambda c: store.get_settings(c, context.account, name, qualifier))
        if found is None:
            raise _missing(context, name, qualifier)
        return _show(context, name, qualifier, found)

    async def list(self, context: RequestContext, params: Params) -> Params:
        name, _ = self._find(context, params)
        found = await self._tables.read(lambda c: store.list_settings(c, context.account, name))
        page, marker = cut_page(
            found, marker=params.get("Marker"), max_items=params.get("MaxItems"), key=lambda item: item[0]
        )
        shown = [_show(context, name, qualifier, settings) for qualifier, settings in page]
        return {"FunctionEventInvokeConfigs": shown, "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        name, qualifier = self._find(context, params)
        deleted = await self._tables.write(lambda c: store.delete_settings(c, context.account, name, qualifier))
        if not deleted:
            raise _missing(context, name, qualifier)
        return {}

    async def put_recursion(self, context: RequestContext, params: Params) -> Params:
        name, _ = self._find(context, params)
        mode = params["RecursiveLoop"]
        await self._tables.write(lambda c: store.put_recursion(c, context.account, name, mode))
        return {"RecursiveLoop": mode}

    async def get_recursion(self, context: RequestContext, params: Params) -> Params:
        name, _ = self._find(context, params)
        return {"RecursiveLoop": await self._tables.read(lambda c: store.get_recursion(c, context.account, name))}

    def _find(self, context: RequestContext, params: Params) -> tuple[str, str]:
        """Raises CallerError `ResourceNotFoundException` unless there is such a function, version or alias."""
        parsed = arns.parse_function(params["FunctionName"], params.get("Qualifier"), context=context)
        self._resolve(context.account, context.region, parsed.name, parsed.qualifier or "")
        return parsed.name, parsed.qualifier or LATEST

    async def _write(self, context: RequestContext, params: Params, *, replaces: bool) -> Params:
        name, qualifier = self._find(context, params)
        _check_bounds(params)
        destinations = params.get("DestinationConfig")
        if destinations is not None:
            for side in ("OnSuccess", "OnFailure"):
                target = (destinations.get(side) or {}).get("Destination")
                if target:
                    await self._deliveries.check(context.account, target)
        elif replaces and params.get("MaximumRetryAttempts") is None and params.get("MaximumEventAgeInSeconds") is None:
            raise CallerError("InvalidParameterValueException", "You must specify at least one error handling setting.")
        now = self._now()

        def work(connection: Connection) -> Settings | None:
            before = store.get_settings(connection, context.account, name, qualifier)
            if before is None and not replaces:
                return None
            settings = _merge(Settings() if replaces or before is None else before, params, now)
            store.put_settings(connection, context.account, name, qualifier, settings)
            return settings

        written = await self._tables.write(work)
        if written is None:
            raise _missing(context, name, qualifier)
        return _show(context, name, qualifier, written)


def _merge(before: Settings, params: Params, now: float) -> Settings:
    retries, age_s = params.get("MaximumRetryAttempts"), params.get("MaximumEventAgeInSeconds")
    destinations = params.get("DestinationConfig")
    kept = {"OnSuccess": {"Destination": before.on_success}, "OnFailure": {"Destination": before.on_failure}}
    chosen = kept if destinations is None else destinations
    return Settings(
        max_retries=before.max_retries if retries is None else retries,
        max_age_s=before.max_age_s if age_s is None else age_s,
        on_success=(chosen.get("OnSuccess") or {}).get("Destination") or "",
        on_failure=(chosen.get("OnFailure") or {}).get("Destination") or "",
        modified_at=now,
    )


def _check_bounds(params: Params) -> None:
    bounds = (("MaximumRetryAttempts", 0, MAX_RETRIES), ("MaximumEventAgeInSeconds", MIN_AGE_S, MAX_AGE_S))
    for member, least, most in bounds:
        value = params.get(member)
        if value is not None and not least <= value <= most:
            raise CallerError("InvalidParameterValueException", f"{member} {value} must be between {least} and {most}.")


def _show(context: RequestContext, name: str, qualifier: str, settings: Settings) -> Params:
    sides = (("OnSuccess", settings.on_success), ("OnFailure", settings.on_failure))
    return {
        "FunctionArn": f"arn:aws:lambda:{context.region}:{context.account}:function:{name}:{qualifier}",
        "LastModified": datetime.fromtimestamp(settings.modified_at, UTC),
        "MaximumRetryAttempts": settings.max_retries,
        "MaximumEventAgeInSeconds": settings.max_age_s,
        "DestinationConfig": {side: {"Destination": target} if target else {} for side, target in sides},
    }


def _missing(context: RequestContext, name: str, qualifier: str) -> CallerError:
    arn = f"arn:aws:lambda:{context.region}:{context.account}:function:{name}:{qualifier}"
    return CallerError(
        "ResourceNotFoundException",
        f"The function {arn} doesn't have an EventInvokeConfig",
        status=404,
        members={"Type": "User"},
    )
