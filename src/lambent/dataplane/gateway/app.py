"""The HTTP edge: one plain ASGI application for everything that the node serves on its port."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from lambent.awsapi.context import RequestContext, check_scope, deny
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.dataplane.gateway.invoke import ROUTE, Answer, InvokeEdge
from lambent.dataplane.gateway.streaming import ROUTE as STREAMING_ROUTE
from lambent.dataplane.gateway.streaming import StreamingInvokeEdge
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INVOKE_BODY_BYTES = limits.SYNC_PAYLOAD_BYTES + 1_048_576
"""Read no more than this of an invocation; a little over the limit, so that the error can say by how much."""


class Authenticator(Protocol):
    def authenticate(self, request: HttpRequest, request_id: str) -> RequestContext:
        """Raises CallerError for a request whose signature does not hold."""
        ...


class Api(Protocol):
    async def handle(self, request: HttpRequest, context: RequestContext) -> HttpResponse: ...

    def write_error(self, exc: Exception, request: HttpRequest | None, request_id: str) -> HttpResponse: ...


class NodeApi(Protocol):
    """Lambent's own endpoints."""

    def serves(self, path: bytes) -> bool: ...

    def is_public(self, path: bytes) -> bool:
        """Served without a signature."""
        ...

    def limit_bytes(self, path: bytes) -> int | None:
        """The most that is read of a request's body, where it is not the usual."""
        ...

    async def serve(
        self, request: HttpRequest, context: RequestContext | None, receive: Receive, send: Send
    ) -> None: ...


class StreamingApi(Protocol):
    """What has a wire of its own: it reads bodies and authenticates by itself. The first that serves a scope does."""

    def serves(self, scope: Scope) -> bool: ...

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Gateway:
    """Tells requests apart by path, authenticates, hands them on, and writes the one answer."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        invoke: InvokeEdge,
        streaming_invoke: StreamingInvokeEdge,
        api: Api,
        node_api: NodeApi,
        streaming: Sequence[StreamingApi] = (),
    ) -> None:
        self._authenticator = authenticator
        self._invoke = invoke
        self._streaming_invoke = streaming_invoke
        self._api = api
        self._node_api = node_api
        self._streaming = streaming

    def submit(self, request: HttpRequest, reference: bytes, request_id: str, answer: Answer) -> bool:
        """Serve an Invoke without a task: `answer` is called once, now or later. False: serve it as any other."""
        try:
            context = self._authenticator.authenticate(request, request_id)
            return self._invoke.submit(request, reference, context, answer)
        except Exception as exc:
            answer(exc)
            return True

    def write_error(self, error: Exception, request_id: str) -> HttpResponse:
        """Of the Lambda API, which the short way serves."""
        return self._api.write_error(error, None, request_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for served in self._streaming:
            if served.serves(scope):
                await served.serve(scope, receive, send)
                return
        if scope["type"] != "http":
            return
        request_id = new_request_id()
        request: HttpRequest | None = None
        try:
            raw_path: bytes = scope["raw_path"]
            matched = streamed = None
            if scope["method"] == "POST":
                matched, streamed = ROUTE.match(raw_path), STREAMING_ROUTE.match(raw_path)
            limit_bytes = self._node_api.limit_bytes(raw_path) or limits.CREATE_REQUEST_BYTES
            # The code that SDKs know of an Invoke is another than that of every other operation.
            is_invoke = matched is not None or streamed is not None
            too_large = "RequestTooLargeException" if is_invoke else "RequestEntityTooLargeException"
            body = await _read_body(receive, INVOKE_BODY_BYTES if is_invoke else limit_bytes, too_large)
            request = HttpRequest(
                method=scope["method"],
                raw_path=raw_path,
                query_string=scope["query_string"],
                headers=scope["headers"],
                body=body,
            )
            if self._node_api.serves(raw_path):
                public = self._node_api.is_public(raw_path)
                context = None if public else check_scope(self._authenticator.authenticate(request, request_id))
                if context is not None and context.principal:
                    raise deny(context, "lambent:" + raw_path.decode("latin-1"))
                await self._node_api.serve(request, context, receive, send)
                return
            context = self._authenticator.authenticate(request, request_id)
            if streamed is not None:
                early = await self._streaming_invoke.serve(request, streamed[1], context, receive, send)
                if early is None:
                    return
                response = early
            elif matched is not None:
                response = await self._invoke.handle(request, matched[1], context)
            else:
                response = await self._api.handle(request, context)
        except Exception as exc:
            response = self._api.write_error(exc, request, request_id)
        await _write(response, request_id, send)


async def _read_body(receive: Receive, limit_bytes: int, too_large: str) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    chunks, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise CallerError(
                too_large,
                f"Request must be smaller than {limit_bytes} bytes",
                status=413,
                members={"Type": "User"},
                headers={"Connection": "close"},
            )
        chunks.append(chunk)
    return b"".join(chunks)


class ClientGone(CallerError):
    def __init__(self) -> None:
        super().__init__("RequestAborted", "The client went away before its request was complete.")


async def _write(response: HttpResponse, request_id: str, send: Send) -> None:
    headers = [
        *response.headers,
        (b"content-length", b"%d" % len(response.body)),
        (b"x-amzn-requestid", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
