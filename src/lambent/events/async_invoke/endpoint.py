"""Lambent's own operations on accepted events.

`GET` lists, `GET /REQUEST_ID` shows with payload and history, `POST /redrive` and `POST /drop` take a filter.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.async_invoke import store
from lambent.events.async_invoke.invoker import AsyncInvoker, Resolve
from lambent.events.async_invoke.model import State
from lambent.events.async_invoke.store import Filter
from lambent.model.errors import CallerError
from lambent.substrate.ports import Tables

PATH = "/_lambent/events"
MOST = 1_000
_JSON = (b"content-type", b"application/json")


class _Query(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: int = 100


class _Redrive(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    to: str = ""
    """A version or alias to run the events at instead."""


class EventsEndpoint:
    """Serves PATH."""

    def __init__(self, tables: Tables, invoker: AsyncInvoker, resolve: Resolve) -> None:
        self._tables = tables
        self._invoker = invoker
        self._resolve = resolve

    async def serve(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        """Raises CallerError `ValidationException`, `ResourceNotFoundException` (404), `MethodNotAllowed` (405)."""
        name = request.raw_path.decode("latin-1").removeprefix(PATH).strip("/")
        if name in ("redrive", "drop"):
            if request.method != "POST":
                raise CallerError("MethodNotAllowed", "This takes POST.", status=405, headers={"allow": "POST"})
            return _answer({"events": await self._change(name, request.body, context)})
        if request.method != "GET":
            raise CallerError("MethodNotAllowed", "This takes GET.", status=405, headers={"allow": "GET"})
        if not name:
            return await self._list(request, context)
        found = await self._tables.read(lambda c: store.show_event(c, context.account, name))
        if found is None:
            raise CallerError("ResourceNotFoundException", f"There is no event '{name[:80]}'.", status=404)
        return _answer(found)

    async def _list(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        try:
            query = msgspec.convert(dict(parse_qsl(request.query_string.decode("latin-1"))), _Query, strict=False)
        except msgspec.ValidationError as exc:
            raise CallerError("ValidationException", f"The filter cannot be read: {exc}") from exc
        _check(query)
        limit = max(1, min(query.limit, MOST))
        events = await self._tables.read(lambda c: store.list_events(c, context.account, query, limit=limit))
        return _answer({"events": events})

    async def _change(self, action: str, body: bytes, context: RequestContext) -> int:
        try:
            chosen = msgspec.json.decode(body or b"{}", type=_Redrive)
        except msgspec.MsgspecError as exc:
            raise CallerError("ValidationException", f"The filter cannot be read: {exc}") from exc
        _check(chosen)
        if action == "drop":
            return await self._invoker.drop(context.account, chosen)
        if chosen.to and chosen.function:
            self._resolve(context.account, context.region, chosen.function, chosen.to)
        return await self._invoker.redrive(context.account, chosen, chosen.to or None)


def _check(chosen: Filter) -> None:
    if chosen.state and chosen.state not in tuple(State):
        raise CallerError("ValidationException", f"state '{chosen.state}' must be one of {', '.join(State)}")
    if len(chosen.ids) > MOST:
        raise CallerError("ValidationException", f"ids can have {MOST} entries")


def _answer(document: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status=200, headers=[_JSON], body=msgspec.json.encode(document))
