"""CreateFunctionUrlConfig, UpdateFunctionUrlConfig, GetFunctionUrlConfig, ListFunctionUrlConfigs,
DeleteFunctionUrlConfig.

A URL is of a function or of an alias, never of a version. It is written together with its function, unchanged: so it
never is of what is just deleted.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, NamedTuple

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane.lookups import Found, find_function
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import conflict, invalid, no_function, no_resource, update_in_progress, violated
from lambent.controlplane.registry import ABSENT, drop, put, repeat
from lambent.model.function import LATEST, Cors, Function, FunctionUrl, read_cors
from lambent.substrate.ports import Conflict

Params = dict[str, Any]

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/,?#]+", re.I)
_HEADER = re.compile(r"\*|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,1024}")
_METHODS = ("*", "GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")


class _Place(NamedTuple):
    found: Found
    qualifier: str

    @property
    def function(self) -> Function:
        return self.found.function.value


class FunctionUrls:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def create(self, context: RequestContext, params: Params) -> Params:
        cors = _parse_cors(params.get("Cors"))

        async def attempt() -> FunctionUrl:
            place = await self._find(context, params)
            now = self._plane.timestamp()
            url = FunctionUrl(
                account=context.account,
                region=context.region,
                function=place.function.name,
                qualifier=place.qualifier,
                url_id="".join(secrets.choice(_LETTERS) for _ in range(32)),
                auth_type=params["AuthType"],
                invoke_mode=params.get("InvokeMode") or "BUFFERED",
                cors=cors,
                created_at=now,
                last_modified=now,
            )
            if await self._plane.registry.function_url(url.account, url.function, url.qualifier) is not None:
                raise conflict(
                    f"Failed to create function url config for [functionArn = {url.function_arn}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            guard = put(place.function, expect=place.found.function.revision)
            await self._plane.registry.commit(guard, put(url, expect=ABSENT))
            return url

        return self._show(context, await _guarded(attempt, params))

    async def update(self, context: RequestContext, params: Params) -> Params:
        cors = _parse_cors(params.get("Cors"))

        async def attempt() -> FunctionUrl:
            place = await self._find(context, params)
            stored = await self._plane.registry.function_url(context.account, place.function.name, place.qualifier)
            if stored is None:
                raise no_resource()
            before = stored.value
            url = msgspec.structs.replace(
                before,
                auth_type=params.get("AuthType") or before.auth_type,
                invoke_mode=params.get("InvokeMode") or before.invoke_mode,
                cors=cors if "Cors" in params else before.cors,
                last_modified=self._plane.timestamp(),
            )
            guard = put(place.function, expect=place.found.function.revision)
            await self._plane.registry.commit(guard, put(url, expect=stored.revision))
            return url

        url = await _guarded(attempt, params)
        return {**self._show(context, url), "LastModifiedTime": url.last_modified}

    async def get(self, context: RequestContext, params: Params) -> Params:
        place = await self._find(context, params)
        stored = await self._plane.registry.function_url(context.account, place.function.name, place.qualifier)
        if stored is None:
            raise no_resource()
        return {**self._show(context, stored.value), "LastModifiedTime": stored.value.last_modified}

    async def list(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(self._plane.registry, context, params["FunctionName"])
        stored = await self._plane.registry.function_urls(context.account, found.function.value.name)
        page, marker = cut_page(
            [entry.value for entry in stored],
            marker=params.get("Marker"),
            max_items=params.get("MaxItems"),
            key=lambda url: url.qualifier,
        )
        shown = [{**self._show(context, url), "LastModifiedTime": url.last_modified} for url in page]
        return {"FunctionUrlConfigs": shown, "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        async def attempt() -> None:
            place = await self._find(context, params)
            stored = await self._plane.registry.function_url(context.account, place.function.name, place.qualifier)
            if stored is None:
                raise no_resource()
            await self._plane.registry.commit(drop(stored))

        await _guarded(attempt, params)
        return {}

    async def _find(self, context: RequestContext, params: Params) -> _Place:
        named = arns.parse_function(params["FunctionName"], params.get("Qualifier"), context=context)
        found = await find_function(
            self._plane.registry, context, params["FunctionName"], shown_qualifier=named.qualifier
        )
        if named.qualifier in (None, LATEST):
            return _Place(found, LATEST)
        assert named.qualifier is not None
        if named.qualifier.isdigit():
            raise violated(
                "qualifier",
                named.qualifier,
                "Member must satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)",
            )
        if await self._plane.registry.alias(context.account, named.name, named.qualifier) is None:
            raise no_function(f"{found.arn}:{named.qualifier}")
        return _Place(found, named.qualifier)

    def _show(self, context: RequestContext, url: FunctionUrl) -> Params:
        shown: Params = {
            "FunctionUrl": self._plane.function_url(context, url),
            "FunctionArn": url.function_arn,
            "AuthType": url.auth_type,
            "CreationTime": url.created_at,
            "InvokeMode": url.invoke_mode,
        }
        if url.cors is not None:
            shown["Cors"] = _show_cors(url.cors)
        return shown


async def _guarded(attempt: Any, params: Params) -> Any:
    try:
        return await repeat(attempt)
    except Conflict:
        raise update_in_progress(params["FunctionName"]) from None


def _parse_cors(given: Params | None) -> Cors | None:
    if not given:
        return None
    for origin in given.get("AllowOrigins") or ():
        if _ORIGIN.fullmatch(origin) is None:
            raise invalid(f"Cors.AllowOrigins: '{origin}' must be * or an origin like https://www.example.com.")
    for method in given.get("AllowMethods") or ():
        if method not in _METHODS:
            raise invalid(f"Cors.AllowMethods: '{method}' must be one of {', '.join(_METHODS)}.")
    for member in ("AllowHeaders", "ExposeHeaders"):
        for header in given.get(member) or ():
            if _HEADER.fullmatch(header) is None:
                raise invalid(f"Cors.{member}: '{header}' is not the name of a header.")
    return read_cors(given)


def _show_cors(cors: Cors) -> Params:
    shown: Params = {}
    if cors.allow_credentials:
        shown["AllowCredentials"] = True
    for name, values in (
        ("AllowHeaders", cors.allow_headers),
        ("AllowMethods", cors.allow_methods),
        ("AllowOrigins", cors.allow_origins),
        ("ExposeHeaders", cors.expose_headers),
    ):
        if values:
            shown[name] = values
    if cors.max_age_s is not None:
        shown["MaxAge"] = cors.max_age_s
    return shown
