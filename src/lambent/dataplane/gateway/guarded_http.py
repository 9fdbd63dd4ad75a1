# What a client of the HTTP server may not do, and how long it may take for the rest.
#
# uvicorn's parser (llhttp) refuses what is malformed; here is refused what is well-formed and must not be
# served all the same (RFC 9110, RFC 9112), and what would hold the node's memory or its connections.
#
# Rule 1: a connection has at most one timer, which looks at where the connection is and since when.
# Rule 2: whatever is refused is answered once and ends its connection, after what is still being answered.
from __future__ import annotations

import asyncio
import enum
import logging
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lambent.awsapi.asgi import BrokenOff

MAX_LINE_BYTES = 65_536
"""Of a request's target; the parser itself takes no more."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.%a-z]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.I)
_CODINGS = re.compile(rb"\s*chunked\s*", re.I)
_CHECKED = frozenset((b"expect", b"transfer-encoding"))
_REFUSED_METHODS = frozenset((b"TRACE", b"CONNECT"))

# Not uvicorn's own: it writes a line for every bad request, and whoever sends them would fill the log.
_log = logging.getLogger("lambent.http")
_log.setLevel(logging.ERROR)
_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], BrokenOff)))


CLIENT_CERTIFICATE = "lambent.client_certificate"
"""The extension of the scope that has a client's certificate as events show it."""


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    header_timeout_s: float = 20.0
    """From the first byte of a request, or from the connection, to the end of its head."""
    body_timeout_s: float = 60.0
    """Without a byte of a body that was promised."""
    idle_timeout_s: float = 65.0
    """Between requests: longer than the pools of AWS clients and common proxies keep theirs."""
    write_timeout_s: float = 60.0
    """Without a byte of the answer being taken."""
    max_header_bytes: int = 65_536
    max_connections: int = 20_000
    """One more is answered 503 and closed."""


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Phase(enum.Enum):
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    IDLE = "idle"


class _OneWrite:
    """A transport that keeps the head of an answer until its body comes, which nearly always is at once: the client is
    woken once, and the kernel asked once."""

    __slots__ = ("_head", "_is_first", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._is_first = True

    def write(self, data: bytes) -> None:
        if self._is_first:
            self._is_first = False
            self._head = data
            self._loop.call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class GuardedProtocol(HttpToolsProtocol):
    limits = HttpLimits()
    """Of the server; a subclass per server has its own."""
    describe_client: Callable[[Any], dict[str, Any] | None] = staticmethod(lambda _connection: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._phase = Phase.HEAD
        self._since = 0.0
        """The loop's time of the last thing that counts in this phase."""
        self._has_progressed = False
        self._stalled_at = math.inf
        self._unsent_bytes = 0
        self._head_bytes = 0
        self._hosts = 0
        self._known_host = b""
        """The last one that was looked at: a connection mostly has one."""
        self._is_chunked = False
        self._refused: Refused | None = None
        self._client: dict[str, Any] | None = None
        """Its certificate, with TLS on both sides."""

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self._client = self.describe_client(encrypted)
        if len(self.connections) > self.limits.max_connections:
            self._refused = Refused(503, "The node has as many connections as it takes; try again later.")
            self.send_400_response("")
            return
        self._enter(Phase.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Whoever has said all and closed that side waits for the answer; whoever is being answered, or has said a
        part, has left."""
        cycle = self.cycle
        is_waited_for = (
            self._phase is Phase.ANSWERING
            and cycle is not None
            and not cycle.response_complete
            and not getattr(cycle, "response_started", False)
        )
        # Over TLS there is no half of a connection to keep.
        if not is_waited_for or self.transport.get_extra_info("ssl_object") is not None:
            return None
        cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused is not None:
            return
        # Counted before it is parsed: the parser would gather a header of any length.
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
        if self._phase is not Phase.HEAD:
            self._head_bytes = 0
        elif self._head_bytes > self.limits.max_header_bytes and self._refused is None:
            self._refuse(431, f"The request's head is longer than {self.limits.max_header_bytes} bytes.")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_at, self._unsent_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_at = math.inf

    # The parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._note_message()
        if self._client is not None:
            extensions: dict[Any, Any] = {CLIENT_CERTIFICATE: self._client}
            self.scope["extensions"] = extensions

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_LINE_BYTES:
            raise Refused(414, f"The request's target is longer than {MAX_LINE_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            if value != self._known_host:
                self._check_host(value)
        elif name in _CHECKED:
            self._check_header(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.check_head()
        super().on_headers_complete()
        self._phase = Phase.BODY
        if self.cycle is not None and not self.expect_100_continue:
            self.cycle.transport = _OneWrite(self.transport, self.loop)  # type: ignore[assignment]
        if self.parser.should_upgrade() and not self._should_upgrade():
            # What follows on this connection is not parsed any more.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = Phase.ANSWERING
        super().on_message_complete()

    def _is_too_long(self) -> bool:
        return sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits.max_header_bytes

    def _check_host(self, value: bytes) -> None:
        if _HOST.fullmatch(value) is None:
            raise Refused(400, "The Host header is no host.")
        self._known_host = value

    def _check_header(self, name: bytes, value: bytes) -> None:
        if name == b"expect":
            if value.lower() != b"100-continue":
                raise Refused(417, "Only 100-continue can be expected.")
            self.expect_100_continue = True
            return
        self._is_chunked = True
        if _CODINGS.fullmatch(value) is None:
            raise Refused(501, "The only transfer coding is chunked.")

    def check_head(self) -> None:
        """Raises Refused for a head that is not served."""
        # It may be the body that is so long.
        if self._head_bytes > self.limits.max_header_bytes and self._is_too_long():
            raise Refused(431, f"The request's head is longer than {self.limits.max_header_bytes} bytes.")
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not served here.")
        if self._hosts != 1 and (version == "1.1" or self._hosts):
            raise Refused(400, "A request has one Host header.")
        if self._is_chunked and version == "1.0":
            raise Refused(400, "HTTP/1.0 has no transfer codings.")
        if self.parser.get_method() in _REFUSED_METHODS:
            raise Refused(405, "The method is not served here.")
        if not self.url.startswith(b"/") and self.url != b"*":
            self._take_absolute()

    def _take_absolute(self) -> None:
        """A target with a host: that is the host, whatever the header says."""
        matched = _ABSOLUTE.match(self.url)
        if matched is None or _HOST.fullmatch(matched[1]) is None:
            raise Refused(400, "The request's target is no path.")
        self.headers[:] = [(name, matched[1] if name == b"host" else value) for name, value in self.headers]
        self.url = self.url[matched.end() :] or b"/"
        if not self.url.startswith(b"/"):
            self.url = b"/" + self.url

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, for what its parser refuses or one of our callbacks."""
        refused = self._refused or _find_refusal() or Refused(400, "Invalid HTTP request received.")
        self._refused = refused
        if self.cycle is not None and not self.cycle.response_complete and not self._is_of_own_body():
            # Answers keep their order: the one that is due ends the connection.
            self.cycle.keep_alive = False
            self.pipeline.clear()
            self.flow.pause_reading()
            return
        body = refused.reason.encode()
        self.transport.write(
            b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[refused.status], len(body), body)
        )
        self.transport.close()

    def _is_of_own_body(self) -> bool:
        """Whether what is refused is the body of the request that is being answered, of which nothing is out yet."""
        if self._phase is not Phase.BODY or self.pipeline:
            return False
        return not getattr(self.cycle, "response_started", False)

    def _refuse(self, status: int, reason: str) -> None:
        self._refused = Refused(status, reason)
        self.send_400_response("")

    # Time

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._enter(Phase.IDLE)

    def handle_websocket_upgrade(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().handle_websocket_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() and self._stalled_at == math.inf:
            return
        now = self.loop.time()
        if self._check_stall(now):
            self.transport.abort()
            return
        limit_s = self._limit_s()
        if limit_s is None:
            if self._stalled_at != math.inf:
                self._watch()
            return
        if self._has_progressed:
            self._has_progressed, self._since = False, now
        if now < self._since + limit_s:
            self._watch(self._since + limit_s - now)
        elif self._phase is Phase.IDLE or not (self._head_bytes or self._phase is Phase.BODY):
            self.transport.close()
        else:
            self._refuse(408, "The request took too long to arrive.")

    def _check_stall(self, now: float) -> bool:
        """Whether the client has taken nothing of what is being sent for too long."""
        if self._stalled_at == math.inf:
            return False
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent_bytes:
            self._stalled_at, self._unsent_bytes = now, unsent
        return now >= self._stalled_at + self.limits.write_timeout_s

    def _limit_s(self) -> float | None:
        if self._phase is Phase.HEAD:
            return self.limits.header_timeout_s
        if self._phase is Phase.BODY:
            return self.limits.body_timeout_s
        return self.timeout_keep_alive if self._phase is Phase.IDLE else None

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch()

    def _note_message(self) -> None:
        """A request begins."""
        self._hosts = 0
        self._is_chunked = False
        self._phase = Phase.HEAD
        self._since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch()

    def _watch(self, wait_s: float | None = None) -> None:
        """Look again then, but no later than the shortest limit: the phase may have changed by then."""
        limits = self.limits
        shortest_s = min(
            limits.header_timeout_s, limits.body_timeout_s, limits.write_timeout_s, self.timeout_keep_alive
        )
        if self.timeout_keep_alive_task is None:
            wait_s = shortest_s if wait_s is None else min(wait_s, shortest_s)
            self.timeout_keep_alive_task = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn calls it for each piece that comes; the phase tells as much."""


def _find_refusal() -> Refused | None:
    """The one that a callback raised, which the parser has wrapped into an error of its own."""
    error: BaseException | None = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Refused):
            return error
        error = error.__cause__ or error.__context__
    return None
