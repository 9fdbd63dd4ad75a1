# The short way of an invocation through the HTTP server: no task, no ASGI messages, one write for the answer.
#
# The gateway serves everything as an ASGI application, Invoke too. But an Invoke is most of what comes, and
# half of what it cost was spent on being an ASGI request. So the usual one (small, complete, on a kept connection) is
# handed over by a call and answered by a call. `submit` of the gateway decides; all checks are the same code.
#
# Rule 1: a request is on the short way only while nothing else of its connection is being answered, so answers keep
#         their order. To uvicorn it looks like one of its own cycles: what is pipelined behind it waits for it.
# Rule 2: a request that turns out to be unusual leaves the short way before anything was done for it.
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.dataplane.gateway.guarded_http import GuardedProtocol, Phase
from lambent.model.identifiers import new_request_id

if TYPE_CHECKING:
    from lambent.dataplane.gateway.app import Gateway

MAX_BODY_BYTES = 65_536
"""uvicorn stops reading a connection beyond this; so does the short way, by leaving it."""

_ROUTE = re.compile(rb"/2015-03-31/functions/([^/?#]+)/invocations/?(?:\?([^#]*))?")


class _DefaultHeaders:
    """The headers of every answer as bytes; uvicorn makes a new list of them each second, for the date."""

    def __init__(self) -> None:
        self._encoded = b""
        self._headers: list[tuple[bytes, bytes]] = []

    def encode(self, state: ServerState) -> bytes:
        if state.default_headers is not self._headers:
            self._headers = state.default_headers
            self._encoded = b"".join(b"%b: %b\r\n" % header for header in self._headers)
        return self._encoded


_default_headers = _DefaultHeaders()


class _NoEvent:
    def set(self) -> None: ...


_NO_EVENT = _NoEvent()


class _Cycle:
    """What uvicorn looks at while a request is being answered."""

    __slots__ = (
        "_gateway",
        "_protocol",
        "_request_id",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
    )

    def __init__(self, protocol: ShortWayProtocol) -> None:
        self._protocol = protocol
        self._gateway: Gateway = protocol.app
        self._request_id = new_request_id()
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self.message_event = _NO_EVENT

    def submit(self, request: HttpRequest, reference: bytes) -> bool:
        return self._gateway.submit(request, reference, self._request_id, self._answer)

    def _answer(self, result: HttpResponse | Exception) -> None:
        response = self._gateway.write_error(result, self._request_id) if isinstance(result, Exception) else result
        self.response_complete = True
        if not self.disconnected:
            self._protocol.write_answer(response, self._request_id, keep_alive=self.keep_alive)
        else:
            self._protocol.let_go()


class ShortWayProtocol(GuardedProtocol):
    """uvicorn's protocol with a short way for Invoke. The application must be a `Gateway`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short: _Cycle | None = None
        self._reference = self._query = b""
        self._body: bytes = b""

    def on_message_begin(self) -> None:
        # uvicorn's own, which makes the scope, is called when the request has left the short way.
        self._short = None
        self._note_message()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self.check_head()
        self._phase = Phase.BODY
        matched = _ROUTE.fullmatch(self.url)
        if matched is None or not self._is_usual():
            self._make_scope()
            super().on_headers_complete()
            return
        self._reference, self._query = matched[1], matched[2] or b""
        self._body = b""
        self._short = _Cycle(self)
        self.cycle = self._short  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self._short is None:
            super().on_body(body)
            return
        self._has_progressed = True
        self._body += body
        if len(self._body) > MAX_BODY_BYTES:
            self._leave()

    def on_message_complete(self) -> None:
        short, self._short = self._short, None
        if short is None:
            super().on_message_complete()
            return
        self._phase = Phase.ANSWERING
        request = HttpRequest(
            method="POST",
            raw_path=self.url if not self._query else self.url.partition(b"?")[0],
            query_string=self._query,
            headers=self.headers,
            body=self._body,
        )
        if not short.submit(request, self._reference):
            self._leave()
            super().on_message_complete()

    def write_answer(self, response: HttpResponse, request_id: str, *, keep_alive: bool) -> None:
        body = response.body
        lines = [b"%b: %b\r\n" % header for header in response.headers]
        if not keep_alive:
            lines.append(b"connection: close\r\n")
        # One write, so that the client is woken once.
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\nx-amzn-requestid: %b\r\n\r\n%b"
            % (
                STATUS_LINE[response.status],
                _default_headers.encode(self.server_state),
                b"".join(lines),
                len(body),
                request_id.encode(),
                body,
            )
        )
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.cycle is None or self.cycle.response_complete:
            self.let_go()

    def let_go(self) -> None:
        """The connection is lost and nothing is being answered: nothing of it shall wait for a collection."""
        self.cycle = self.parser = None  # type: ignore[assignment]

    def _is_usual(self) -> bool:
        return (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
        )

    def _make_scope(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        hosts, is_chunked = self._hosts, self._is_chunked
        super().on_message_begin()
        self._hosts, self._is_chunked = hosts, is_chunked
        self.url, self.expect_100_continue = url, expects
        self.headers += headers

    def _leave(self) -> None:
        """Begin the request again as uvicorn's own, with what is known of it."""
        self._short = None
        # Nothing is being answered: that was the condition for the short way.
        self.cycle = None  # type: ignore[assignment]
        self._make_scope()
        super().on_headers_complete()
        if self._body:
            super().on_body(self._body)
