"""ASGI applications (asgi.readthedocs.io, versions 2 and 3) as handlers: lifespan, HTTP, answers that stream."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Callable, Dict, List, Optional

from lambent.dataplane.runtime.applications.requests import (
    Header,
    Response,
    read_request,
    write_head,
    write_response,
)
from lambent.dataplane.runtime.streaming import ReaderGone, ResponseWriter

SPEC_VERSION = "2.4"


class LifespanFailed(Exception):
    """The application could not start; the message is its own."""


class AsgiHandler:
    """`startup` runs the application's lifespan; each call serves one event. One loop lives as long as the process."""

    def __init__(self, app: Any, *, is_second_version: bool) -> None:
        self._app = _adapt_second(app) if is_second_version else app
        self._loop: Any = None
        self._state: Dict[str, Any] = {}
        self._lifespan: Any = None

    def startup(self) -> None:
        """Raises LifespanFailed."""
        # Here: most functions do without it, and it brings `ssl` with it.
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._start_lifespan(asyncio))
        except BaseException:
            loop, self._loop = self._loop, None
            loop.close()
            raise

    def __call__(self, event: Any, context: Any) -> Any:
        loop = self.ensure_loop()
        exchange = Exchange(event, context, self._state)
        loop.run_until_complete(exchange.run(self._app))
        return exchange.answer()

    def ensure_loop(self) -> Any:
        """The loop that the application was started in."""
        if self._loop is None:
            # A fork of a template: a loop that was made before the fork would be its siblings', too.
            self.startup()
        return self._loop

    async def serve(self, exchange: Exchange) -> Any:
        """One of several requests at a time, within the loop."""
        await exchange.run(self._app)
        return exchange.answer()

    def open_exchange(self, event: Any, context: Any) -> Exchange:
        return Exchange(event, context, self._state)

    async def _start_lifespan(self, asyncio: Any) -> None:
        started = self._loop.create_future()
        received: Any = asyncio.Queue()
        received.put_nowait({"type": "lifespan.startup"})

        async def send(message: Dict[str, Any]) -> None:
            if started.done():
                return
            if message["type"] == "lifespan.startup.complete":
                started.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                started.set_exception(LifespanFailed(message.get("message") or "the application could not start"))

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._lifespan = self._loop.create_task(self._app(scope, received.get, send))
        await asyncio.wait([self._lifespan, started], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
        elif not self._lifespan.cancelled():
            # An application that does not know of lifespans says so with an exception.
            self._lifespan.exception()


class Exchange:
    """One request and its answer."""

    def __init__(self, event: Any, context: Any, state: Dict[str, Any]) -> None:
        request = self._request = read_request(event)
        self._event = event
        self._context = context
        self._state = state
        self._status = 0
        self._headers: List[Header] = []
        self._body = bytearray()
        self._writer: Optional[ResponseWriter] = None
        self._is_received = False
        self._is_done = False
        self._is_head = request.method == "HEAD"

    async def run(self, app: Callable[..., Any]) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
        except ReaderGone:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if self._writer is not None:
                # The status is out: whoever reads must not take it for whole.
                raise
            self._fail()
        if not self._status:
            print("The application returned without an answer.", file=sys.stderr)
            self._fail()

    def note_gone(self) -> None:
        """Nobody waits for the answer any more: the application is told when it asks, or is asking."""
        self._is_done = True
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def answer(self) -> Any:
        if self._writer is not None:
            return None
        response = Response(self._status, self._headers, b"" if self._is_head else bytes(self._body))
        return write_response(self._request, response)

    def _fail(self) -> None:
        self._status = 500
        self._headers = [("content-type", "text/plain; charset=utf-8")]
        self._body = bytearray(b"Internal Server Error")

    def _scope(self) -> Dict[str, Any]:
        request = self._request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": request.protocol.rpartition("/")[2] or "1.1",
            "method": request.method,
            "scheme": request.scheme,
            # With the root, as the specification has it since 2.4.
            "path": request.root_path + request.path,
            "raw_path": (request.root_path + request.raw_path).encode("latin-1", "replace"),
            "query_string": request.query.encode("latin-1", "replace"),
            "root_path": request.root_path,
            "headers": [
                (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
                for name, value in request.headers
            ],
            "client": (request.client, 0) if request.client else None,
            "server": (request.host, request.port),
            "state": dict(self._state),
            "aws.event": self._event,
            "aws.context": self._context,
        }

    async def _receive(self) -> Dict[str, Any]:
        if not self._is_received:
            self._is_received = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        if not self._is_done:
            import asyncio  # noqa: PLC0415

            # Whoever waits for the client to leave waits for the answer's end.
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone
        return {"type": "http.disconnect"}

    _gone: Any = None

    async def _send(self, message: Dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._status:
                raise RuntimeError("http.response.start was sent twice")
            self._status = int(message["status"])
            self._headers = [
                (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
                for name, value in message.get("headers") or ()
            ]
            return
        if kind != "http.response.body":
            return
        if not self._status:
            raise RuntimeError("http.response.body was sent before http.response.start")
        more = message.get("more_body", False)
        self._write(message.get("body", b""), more=more)
        if not more:
            self.note_gone()
        if self._writer is not None and self._writer.wait_room is not None:
            await self._writer.wait_room()

    def _write(self, data: bytes, *, more: bool) -> None:
        if self._writer is None and more and self._context.streams_response:
            head = write_head(self._status, self._headers)
            self._writer = self._context.response_stream()
            self._writer.begin(status_code=self._status, headers=head["headers"], cookies=head.get("cookies"))
        if self._writer is None:
            self._body += data
        elif data and not self._is_head:
            self._writer.write(data)


def _adapt_second(app: Any) -> Any:
    """An application of ASGI 2: called with the scope, it gives what is called with the channels."""

    async def adapted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return adapted
