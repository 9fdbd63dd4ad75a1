"""Lambent's own operations on hooks: `GET` lists, `PUT /NAME` makes or changes, `GET /NAME` shows, `DELETE /NAME` ends.

A secret is told once, in the answer of the PUT that made it up.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.deliveries import Deliveries
from lambent.events.intakes.hooks import NAME, SETTINGS_PATH, Custom, Hook
from lambent.events.intakes.kinds import KINDS
from lambent.events.intakes.signatures import check_custom
from lambent.events.intakes.store import HookStore
from lambent.model.errors import CallerError

_JSON = (b"content-type", b"application/json")
_SHORTEST_SECRET = 16
_MOST_FILTERS = 100


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT."""

    kind: str
    target: str
    secret: str = ""
    """As the sender was given it; left out, one is made up, or the one that the hook has is kept."""
    types: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    custom: Custom | None = None


class HookSettings:
    """Serves SETTINGS_PATH."""

    def __init__(self, store: HookStore, deliveries: Deliveries, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._deliveries = deliveries
        self._now = now

    async def serve(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        """Raises CallerError `ValidationException`, `ResourceNotFoundException` (404), `MethodNotAllowed` (405)."""
        name = request.raw_path.decode("latin-1").removeprefix(SETTINGS_PATH).strip("/")
        if not name:
            if request.method != "GET":
                raise _not_allowed("GET")
            hooks = await self._store.list(context.account)
            return _answer({"hooks": [show(hook, context) for hook in hooks]})
        if not NAME.fullmatch(name):
            raise CallerError("ValidationException", f"The name '{name[:80]}' must match {NAME.pattern}.")
        if request.method == "PUT":
            return await self._put(name, request, context)
        hook = await self._store.get(context.account, name)
        if hook is None:
            raise CallerError("ResourceNotFoundException", f"There is no hook '{name}'.", status=404)
        if request.method == "GET":
            return _answer(show(hook, context))
        if request.method != "DELETE":
            raise _not_allowed("GET, PUT, DELETE")
        await self._store.delete(context.account, name)
        return HttpResponse(status=204)

    async def _put(self, name: str, request: HttpRequest, context: RequestContext) -> HttpResponse:
        settings = _read(request)
        await self._deliveries.check(context.account, settings.target)
        before = await self._store.get(context.account, name)
        kept = before.secret if before is not None and before.kind == settings.kind else ""
        secret = settings.secret or kept or secrets.token_urlsafe(32)
        hook = Hook(
            account=context.account,
            region=context.region,
            name=name,
            kind=settings.kind,
            target=settings.target,
            secret=secret,
            types=settings.types,
            refs=settings.refs,
            custom=settings.custom,
            created_at=before.created_at if before is not None else self._now(),
        )
        await self._store.put(hook)
        told = {} if secret in (settings.secret, kept) else {"secret": secret}
        return _answer({**show(hook, context), **told}, status=200 if before is not None else 201)


def show(hook: Hook, context: RequestContext) -> dict[str, Any]:
    return {
        "name": hook.name,
        "arn": hook.arn,
        "kind": hook.kind,
        "target": hook.target,
        "types": hook.types,
        "refs": hook.refs,
        "custom": hook.custom,
        "created_at": hook.created_at,
        "url": f"http://{context.host}{hook.path}",
    }


def _read(request: HttpRequest) -> Settings:
    try:
        settings = msgspec.json.decode(request.body, type=Settings)
    except msgspec.MsgspecError as exc:
        raise CallerError("ValidationException", f"The settings of the hook cannot be read: {exc}") from exc
    if settings.kind not in KINDS:
        raise CallerError("ValidationException", f"kind '{settings.kind}' must be one of {', '.join(KINDS)}")
    if settings.secret and len(settings.secret) < _SHORTEST_SECRET:
        raise CallerError("ValidationException", f"secret must have {_SHORTEST_SECRET} characters or more")
    if len(settings.types) > _MOST_FILTERS or len(settings.refs) > _MOST_FILTERS:
        raise CallerError("ValidationException", f"types and refs can have {_MOST_FILTERS} entries each")
    if settings.custom is not None:
        if settings.kind != "hmac":
            raise CallerError("ValidationException", "custom describes the signature of the kind hmac alone")
        check_custom(settings.custom)
    return settings


def _answer(document: dict[str, Any], status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, headers=[_JSON], body=msgspec.json.encode(document))


def _not_allowed(allowed: str) -> CallerError:
    return CallerError("MethodNotAllowed", f"This takes {allowed}.", status=405, headers={"allow": allowed})
