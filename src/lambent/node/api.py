"""Lambent's own endpoints, beside the services' wire: health, status, runtimes, logs, code downloads."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.telemetry.function_logs import LogReader, StoredEvent
from lambent.telemetry.log_groups import log_key

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Plane = Callable[[HttpRequest, RequestContext], Awaitable[HttpResponse]]
ReadCode = Callable[[str, str], Awaitable[bytes]]
"""(account, digest) to a package's bytes. Raises KeyError, also for another account's."""

_LOGS = re.compile(rb"/_lambent/functions/([A-Za-z0-9_-]{1,64})/logs")
_CODE = re.compile(rb"/_lambent/code/([0-9a-f]{64})")
_PLANE = re.compile(rb"/_lambent/(?:events|hooks|hook-settings|topics)(?:/|$)")
HOOKS = b"/_lambent/hooks/"
_PUBLIC = (HOOKS, b"/_lambent/topics/")
"""With a signature or a token of their own, which their modules check."""
HOOK_BODY_BYTES = 26_214_400
"""The most that GitHub sends."""
_JSON = (b"content-type", b"application/json")
_MOST_EVENTS = 10_000
_Result = TypeVar("_Result")


class NodeView(Protocol):
    """What the node tells of itself."""

    def health(self) -> Mapping[str, Any]: ...

    async def status(self, account: str) -> Mapping[str, Any]: ...

    async def runtimes(self) -> list[Mapping[str, Any]]: ...


class LambentApi:
    """Implements the gateway's `NodeApi`."""

    def __init__(self, view: NodeView, logs: LogReader, read_code: ReadCode, plane: Plane) -> None:
        """`plane` serves what lives where the node's state is owned."""
        self._view = view
        self._plane = plane
        self._logs = logs
        self._read_code = read_code
        self._draining = asyncio.Event()

    def end_followers(self) -> None:
        """The node drains: nobody may hold it open by reading a log."""
        self._draining.set()

    def serves(self, path: bytes) -> bool:
        return path == b"/health" or path.startswith(b"/_lambent/")

    def is_public(self, path: bytes) -> bool:
        return path == b"/health" or path.startswith(_PUBLIC)

    def limit_bytes(self, path: bytes) -> int | None:
        return HOOK_BODY_BYTES if path.startswith(HOOKS) else None

    async def serve(self, request: HttpRequest, context: RequestContext | None, receive: Receive, send: Send) -> None:
        """Raises CallerError before anything was sent."""
        path = request.raw_path
        if _PLANE.match(path):
            caller = context or RequestContext(
                account="", region="", access_key="", request_id=new_request_id(), host=request.header(b"host") or ""
            )
            response = await self._plane(request, caller)
            headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": response.body})
            return
        if context is None:
            health = self._view.health()
            await _write(send, msgspec.json.encode(health), status=200 if health["status"] == "ok" else 503)
            return
        if request.method != "GET":
            raise CallerError("MethodNotAllowed", "This endpoint only answers GET.", status=405)
        if path == b"/_lambent/status":
            await _write(send, msgspec.json.encode(await self._view.status(context.account)))
        elif path == b"/_lambent/runtimes":
            await _write(send, msgspec.json.encode({"runtimes": await self._view.runtimes()}))
        elif matched := _LOGS.fullmatch(path):
            await self._serve_logs(request, context, matched[1].decode(), receive, send)
        elif path == b"/_lambent/logs":
            await self._serve_logs(request, context, _group_key(request), receive, send)
        elif matched := _CODE.fullmatch(path):
            await self._serve_code(context, matched[1].decode(), send)
        else:
            raise CallerError("ResourceNotFoundException", f"There is nothing at {path.decode('latin-1')}", status=404)

    async def _serve_code(self, context: RequestContext, digest: str, send: Send) -> None:
        try:
            data = await self._read_code(context.account, digest)
        except KeyError:
            raise CallerError("ResourceNotFoundException", "There is no such package.", status=404) from None
        await _write(send, data, kind=(b"content-type", b"application/zip"))

    async def _serve_logs(
        self, request: HttpRequest, context: RequestContext, name: str, receive: Receive, send: Send
    ) -> None:
        query = dict(parse_qsl(request.query_string.decode("latin-1")))
        since_ms, limit = _number(query, "since", 0), _number(query, "limit", 1000)
        follower = self._logs.follow(context.account, name) if query.get("follow") == "1" else None
        events = await self._logs.read(context.account, name, since_ms=since_ms, limit=min(limit, _MOST_EVENTS))
        if follower is None:
            await _write(send, _lines(events), kind=(b"content-type", b"application/x-ndjson"))
            return
        headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        last = events[-1].sequence if events else 0
        await send({"type": "http.response.body", "body": _lines(events), "more_body": True})
        async with _Ends(receive, self._draining) as ends:
            while (event := await ends.before(anext(follower, None))) is not None:
                if event.sequence > last:
                    await send({"type": "http.response.body", "body": _lines([event]), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class _Ends:
    """What ends a stream that has no end of its own: the client leaves, or the node drains."""

    def __init__(self, receive: Receive, draining: asyncio.Event) -> None:
        self._receive = receive
        self._draining = draining

    async def __aenter__(self) -> _Ends:
        self._waiting = {
            asyncio.create_task(self._wait_gone(), name="wait for the client to leave"),
            asyncio.create_task(self._draining.wait(), name="wait for the drain"),
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def before(self, work: Awaitable[_Result]) -> _Result | None:
        """The result of `work`, None when the end comes first."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, *self._waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None

    async def _wait_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _lines(events: list[StoredEvent]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def _group_key(request: HttpRequest) -> str:
    """Raises CallerError."""
    query = dict(parse_qsl(request.query_string.decode("latin-1")))
    try:
        return log_key(query.get("group", ""))
    except ValueError as exc:
        raise CallerError("InvalidParameterException", f"group: {exc}.", status=400) from exc


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise CallerError("InvalidParameterValueException", f"'{name}' must be a whole number, not '{text}'.")
    return int(text)


async def _write(send: Send, body: bytes, *, status: int = 200, kind: tuple[bytes, bytes] = _JSON) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def uptime_s(started_at: float) -> float:
    return round(time.monotonic() - started_at, 1)
