"""One HTTP connection from inside an environment. Who is at its other end may be hostile.

What it may cost the node is bounded here: the size of a head, how long one may dribble in, what is read ahead of a
waiting poll, what is discarded of a refused body, what is written to a client that does not read.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import select
import socket
from collections.abc import Mapping
from typing import Any, Protocol, cast

import httptools

from lambent.dataplane.sandbox import runtime_api_http as http
from lambent.dataplane.sandbox.runtime_api_http import Answer

log = logging.getLogger(__name__)

MAX_HEAD_PIECES = 4_096
"""The parser copies a header value for every piece that it comes in, so the number of pieces is limited too."""

SLICE_BYTES, SLICE_EVENTS = 2_048, 64
"""How much is parsed at once, and how much may come of it before the loop turns to others: a segment that is all
tiny requests or one-byte chunks must not hold up the node."""

HELD_UNASKED_BYTES = 16_384
"""What each connection may hold of an unfinished head whatever the others hold."""

MAX_AHEAD_REQUESTS, MAX_AHEAD_BYTES = 16, 65_536
"""What a client may send on a connection behind a poll that still waits."""

MAX_DISCARDED_BYTES = 64 << 20
"""How much of a refused body is read before the answer, so that an honest client reads it and not a reset."""

_KEPT_FIELDS = frozenset(
    (
        b"content-length",
        b"content-type",
        b"expect",
        b"lambda-runtime-function-error-type",
        b"lambda-runtime-function-error-body",
        b"lambda-runtime-function-response-mode",
    )
)


@dataclasses.dataclass(slots=True)
class Head:
    """The request line and those headers that mean something here, names in lower case."""

    method: bytes = b""
    target: bytes = b""
    fields: dict[bytes, bytes] = dataclasses.field(default_factory=dict)


class Exchange(Protocol):
    """One request after its head, and what is to come of it."""

    discards: bool
    """The body is not wanted (any more)."""

    def receive(self, data: bytes) -> None: ...

    def complete(self, trailers: Mapping[bytes, bytes]) -> Answer | None:
        """The whole request is there. None: `Connection.answer` will be called later."""
        ...

    def cut_short(self) -> None:
        """The rest of the body will never come."""
        ...


class Host(Protocol):
    """What a connection belongs to."""

    def admit(self, connection: Connection) -> bool: ...
    def begin(self, connection: Connection, head: Head) -> Exchange: ...
    def may_hold(self, connection: Connection) -> bool:
        """Whether the bytes of unfinished heads, over all connections, are few enough to go on."""
        ...

    def note_used(self, connection: Connection) -> None: ...
    def note_stalled(self, connection: Connection) -> None: ...
    def note_lost(self, connection: Connection) -> None: ...


@dataclasses.dataclass(slots=True)
class _Message:
    """A request as the parser delivers it. Without an exchange it waits behind a poll and keeps its own body."""

    head: Head = dataclasses.field(default_factory=Head)
    trailers: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    body: bytearray = dataclasses.field(default_factory=bytearray)
    body_bytes: int = 0
    head_done: bool = False
    keep_alive: bool = True
    exchange: Exchange | None = None


class _Stop(Exception):
    """Ends the parser's work on data that follows the end of a connection."""


class Connection(asyncio.Protocol):
    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._message: _Message | None = None
        self._polling: _Message | None = None
        self._ahead: collections.deque[_Message] = collections.deque()
        self._ahead_bytes = 0
        self._closing = False
        self._rest = memoryview(b"")
        """Received and not parsed yet; nothing is read meanwhile."""
        self._events = 0
        self._progressed = False
        self._head_pieces = 0
        self.held_bytes = 0
        """Received since the parser last came to an end of something."""
        self.stalled = False
        """Something written has not been taken by the other end."""
        self._is_held = False

    @property
    def idle(self) -> bool:
        """No request has been received that is still to be answered."""
        in_request = self._message is not None and self._message.head_done
        return self._polling is None and not self._ahead and not in_request

    def is_reachable(self) -> bool:
        """Asks the kernel, which knows of a hang-up before the loop has read it."""
        if self._transport is None or self._closing:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), getattr(select, "POLLRDHUP", 0))
        return not poll.poll(0)

    def answer(self, answer: Answer) -> None:
        """Answer the poll that waits."""
        message = self._polling
        assert message is not None
        self._polling = None
        self._send(answer, message)
        if self._ahead or self._message is not None:
            self._loop.call_soon(self._catch_up)

    def hold(self) -> None:
        """Read no further until `let_go`."""
        self._is_held = True

    def let_go(self) -> None:
        if self._is_held:
            self._is_held = False
            self._set_reading()
            if self._rest:
                self._loop.call_soon(self._parse)

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._host.admit(self):
            self.abort()
            return
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self._parse()

    def eof_received(self) -> None:
        if self._message is not None and not self._closing:
            self._end(http.TRUNCATED)
        self._closing = True

    def pause_writing(self) -> None:
        self.stalled = True
        self._set_reading()
        self._host.note_stalled(self)

    def resume_writing(self) -> None:
        self.stalled = False
        self._set_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._cut_short()
        self._polling = None
        self._ahead.clear()
        self._host.note_lost(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._closing:
            raise _Stop
        self._message = _Message()

    def on_url(self, url: bytes) -> None:
        self._current.head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered not in _KEPT_FIELDS:
            return
        message = self._current
        # What comes after the head are the trailers of a chunked body.
        (message.trailers if message.head_done else message.head.fields)[lowered] = value

    def on_headers_complete(self) -> None:
        self._note_progress()
        message = self._current
        message.head_done = True
        message.head.method = self._parser.get_method()
        if self._parser.should_upgrade():
            message.keep_alive = False
            if message.head.method != b"GET":
                # The parser would not deliver its body.
                raise _Stop
        if not self._is_waiting():
            self._begin(message)

    def on_body(self, body: bytes) -> None:
        self._note_progress()
        message = self._current
        message.body_bytes += len(body)
        exchange = message.exchange
        if exchange is None:
            message.body += body
            self._ahead_bytes += len(body)
            if self._ahead_bytes > MAX_AHEAD_BYTES:
                self.abort()
            return
        exchange.receive(body)
        if exchange.discards and message.body_bytes > MAX_DISCARDED_BYTES:
            self._end(exchange.complete({}))

    def on_chunk_header(self) -> None:
        self._note_progress()

    def on_chunk_complete(self) -> None:
        self._note_progress()

    def on_message_complete(self) -> None:
        self._note_progress()
        message = self._current
        self._message = None
        if not self._parser.should_keep_alive() or self._parser.get_http_version() != "1.1":
            message.keep_alive = False
        if not self._is_waiting():
            self._complete(message)
            return
        self._ahead.append(message)
        if len(self._ahead) > MAX_AHEAD_REQUESTS:
            self.abort()

    def _parse(self) -> None:
        self._events = 0
        while self._rest and not self._closing and not self._is_held:
            piece, self._rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
            self._parse_piece(piece)
            if self._events > SLICE_EVENTS and self._rest:
                self._set_reading()
                self._loop.call_soon(self._parse)
                return
        if not self._is_held:
            self._rest = memoryview(b"")
        self._set_reading()

    def _parse_piece(self, piece: memoryview) -> None:
        self._progressed = False
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # The request was taken as if it had not asked for it, and is the connection's last.
            self._rest = memoryview(b"")
            return
        except httptools.HttpParserError as exc:
            self._give_up(exc)
            return
        if self._progressed:
            self.held_bytes = self._head_pieces = 0
            return
        self.held_bytes += len(piece)
        self._head_pieces += 1
        if self._holds_too_much():
            self._end(http.HEAD_TOO_LARGE)

    def _holds_too_much(self) -> bool:
        if self.held_bytes > http.MAX_HEAD_BYTES or self._head_pieces > MAX_HEAD_PIECES:
            return True
        return self.held_bytes > HELD_UNASKED_BYTES and not self._host.may_hold(self)

    def _set_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = not self.stalled and not self._rest and not self._is_held
        if wanted == transport.is_reading():
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    @property
    def _current(self) -> _Message:
        if self._closing or self._message is None:
            raise _Stop
        return self._message

    def _note_progress(self) -> None:
        self._progressed = True
        self._events += 1

    def _is_waiting(self) -> bool:
        return self._polling is not None or bool(self._ahead)

    def _catch_up(self) -> None:
        """Take up what arrived behind a poll, in its order, until the next poll waits."""
        while self._ahead and self._polling is None and not self._closing:
            self._complete(self._ahead.popleft())
        message = self._message
        if self._is_waiting() or self._closing or message is None:
            return
        if message.head_done and message.exchange is None:
            self._begin(message)

    def _begin(self, message: _Message) -> None:
        exchange = message.exchange = self._host.begin(self, message.head)
        if message.body:
            exchange.receive(bytes(message.body))
            self._ahead_bytes -= len(message.body)
            message.body = bytearray()
        if message.head.fields.get(b"expect", b"").lower() != b"100-continue" or message.body_bytes:
            return
        if exchange.discards:
            # Whether the body comes nevertheless is the client's choice, so the connection cannot go on.
            message.keep_alive = False
            self._send(exchange.complete({}), message)
        elif self._transport is not None:
            self._transport.write(http.CONTINUE)

    def _complete(self, message: _Message) -> None:
        self._host.note_used(self)
        if message.exchange is None:
            self._begin(message)
        assert message.exchange is not None
        if self._closing:
            return
        answer = message.exchange.complete(message.trailers)
        if answer is None:
            self._polling = message
        else:
            self._send(answer, message)

    def _send(self, answer: Answer | None, message: _Message) -> None:
        if self._transport is None or answer is None or self._closing:
            return
        close = not message.keep_alive
        self._transport.write(answer.render(head_only=message.head.method == b"HEAD", close=close))
        if close:
            self._closing = True
            self._transport.close()

    def _end(self, answer: Answer | None) -> None:
        """Say why, if there is something to say, and hang up."""
        message = _Message(keep_alive=False)
        self._cut_short()
        if answer is not None and self._polling is None:
            self._send(answer, message)
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _give_up(self, error: httptools.HttpParserError) -> None:
        if self._closing:
            return
        cause: Any = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, _Stop):
            log.error("runtime API request failed", extra={"action": "runtime_api_failed"}, exc_info=cause)
            self._end(http.INTERNAL_ERROR)
            return
        self._end(http.MALFORMED)

    def _cut_short(self) -> None:
        message, self._message = self._message, None
        if message is not None and message.exchange is not None:
            message.exchange.cut_short()
