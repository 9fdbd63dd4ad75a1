"""The front door as an ASGI application: which site serves a request, its body, and the way of the answer.

A site is a kind of thing that people reach by HTTP: function URLs, HTTP APIs, REST APIs. It gets a whole request as a
value and gives an answer as a value; a body that comes in pieces is written as the pieces come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from typing import Any, Protocol

import msgspec

from lambent.awsapi.asgi import Receive, Send, write_while_present
from lambent.awsapi.http import HttpRequest
from lambent.frontdoor.call import HttpAnswer, HttpCall, answer_json
from lambent.frontdoor.forwarded import TrustedProxies
from lambent.frontdoor.place import Place, find_place, split_host
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_request_id, new_trace_id

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
_PLACE = "lambent.place"

FindDomain = Callable[[str, bytes], Place | None]
"""(host, raw path) to what a custom domain leads to."""


class Site(Protocol):
    """One kind of what is served here."""

    max_body_bytes: int

    def has(self, place: Place) -> bool:
        """Whether the place is one of this site's."""
        ...

    async def answer(self, place: Place, call: HttpCall) -> HttpAnswer:
        """What goes wrong in it is logged and answered by the door as a failure of ours."""
        ...


class WebSocketSite(Protocol):
    def has(self, place: Place) -> bool: ...

    async def serve(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None: ...


class ClientGone(Exception):
    """It left before its request was complete."""


class FrontDoor:
    """Implements the gateway's `StreamingApi`, and takes its WebSockets."""

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        find_domain: FindDomain = lambda _host, _path: None,
        web_sockets: WebSocketSite | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._sites = sites
        self._find_domain = find_domain
        self._web_sockets = web_sockets
        self._proxies = proxies or TrustedProxies(())

    def serves(self, scope: Scope) -> bool:
        place = self._find(scope)
        if place is not None:
            # For `serve`, which comes next.
            scope[_PLACE] = place
        return place is not None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        place: Place | None = scope.pop(_PLACE, None) or self._find(scope)
        assert place is not None
        self._believe(scope)
        if scope["type"] == "websocket":
            await self._serve_web_socket(place, scope, receive, send)
            return
        writer = _Writer(send, is_head=scope["method"] == "HEAD")
        site = next((site for site in self._sites if site.has(place)), None)
        if site is None:
            await writer.write(answer_json(404, b'{"message":"Not Found"}'), receive)
            return
        try:
            body = await _read_body(receive, site.max_body_bytes)
        except ClientGone:
            return
        if body is None:
            answer = answer_json(413, b'{"message":"Request Entity Too Large"}', [("connection", "close")])
            await writer.write(answer, receive)
            return
        call = read_call(scope, place, body)
        writer.request_id = call.request_id
        try:
            answer = await site.answer(place, call)
        except Exception as exc:
            answer = self._explain(exc, call.request_id)
        await writer.write(answer, receive)

    def _believe(self, scope: Scope) -> None:
        """Client and scheme as a trusted proxy tells them."""
        peer, port = scope.get("client") or ("", 0)
        scheme: str = scope.get("scheme", "http")
        told = {name: _header(scope, name.encode()) for name in ("x-forwarded-for", "x-forwarded-proto")}
        client, said = self._proxies.read(peer, scheme.replace("ws", "http"), told)
        scope["client"] = (client, port if client == peer else 0)
        scope["scheme"] = said.replace("http", "ws") if scheme.startswith("ws") else said

    def _find(self, scope: Scope) -> Place | None:
        host, _ = split_host(_header(scope, b"host"), scope.get("scheme", "http"))
        return find_place(host, scope["raw_path"]) or self._find_domain(host, scope["raw_path"])

    async def _serve_web_socket(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        if self._web_sockets is None or not self._web_sockets.has(place):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._web_sockets.serve(place, scope, receive, send)

    def _explain(self, exc: Exception, request_id: str) -> HttpAnswer:
        if isinstance(exc, CallerError):
            return answer_json(exc.status, msgspec.json.encode({"message": exc.message}))
        if isinstance(exc, PlatformError):
            log.error("platform error", extra={"action": "platform_error", "request": request_id, "reason": str(exc)})
            return answer_json(503 if exc.retry_safe else 500, b'{"message":"Service Unavailable"}')
        log.error("unexpected error", extra={"action": "unexpected_error", "request": request_id}, exc_info=exc)
        return answer_json(500, b'{"message":"Internal Server Error"}')


def read_call(scope: Scope, place: Place, body: bytes) -> HttpCall:
    """The request as sites see it."""
    scheme = scope.get("scheme", "http").replace("ws", "http")
    host, port = split_host(_header(scope, b"host"), scheme)
    raw_path: bytes = scope["raw_path"]
    client = scope.get("client") or ("", 0)
    request = HttpRequest(
        method=scope.get("method", "GET"),
        raw_path=raw_path,
        query_string=scope["query_string"],
        headers=scope["headers"],
        body=body,
    )
    return HttpCall(
        method=request.method,
        raw_path=raw_path[len(place.prefix) :] or b"/",
        query_string=request.query_string,
        headers=request.headers,
        body=body,
        host=host,
        port=port,
        source_ip=client[0],
        protocol=f"HTTP/{scope.get('http_version', '1.1')}",
        scheme=scheme,
        request_id=new_request_id(),
        trace_id=request.header(b"x-amzn-trace-id") or new_trace_id(),
        received_at_ms=int(time.time() * 1000),
        client_certificate=(scope.get("extensions") or {}).get("lambent.client_certificate"),
        request=request,
    )


class _Writer:
    """Writes one answer. Pieces go out as they come; a client that leaves ends what makes them."""

    def __init__(self, send: Send, *, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.request_id = ""

    async def write(self, answer: HttpAnswer, receive: Receive) -> None:
        if isinstance(answer.body, bytes):
            await self._write_whole(answer)
        else:
            await self._write_pieces(answer, receive)

    async def _write_whole(self, answer: HttpAnswer) -> None:
        headers = self._encode(answer)
        has_body = answer.status not in (204, 304)
        if has_body:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = answer.body if has_body and not self._is_head else b""
        await self._send({"type": "http.response.body", "body": body})

    async def _write_pieces(self, answer: HttpAnswer, receive: Receive) -> None:
        pieces: AsyncIterator[bytes] = answer.body
        try:
            await write_while_present(receive, self._pump(answer, pieces))
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    async def _pump(self, answer: HttpAnswer, pieces: AsyncIterator[bytes]) -> None:
        headers = self._encode(answer)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if not self._is_head:
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    def _encode(self, answer: HttpAnswer) -> list[tuple[bytes, bytes]]:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        if self.request_id:
            headers.append((b"x-amzn-requestid", self.request_id.encode()))
        return headers


async def _read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """None for one that is too large, of which no more is read. Raises ClientGone."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            return None
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _header(scope: Scope, wanted: bytes) -> str:
    """Several of the name are joined by commas, as they mean the same."""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)
