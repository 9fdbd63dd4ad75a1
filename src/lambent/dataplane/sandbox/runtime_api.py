"""The channel of an environment that speaks the Lambda Runtime API, version 2018-06-01.

The listener lives inside the environment's network namespace, so whoever connects is inside that environment: the
socket is the identity and nothing else is checked. Code inside may forge the answers of its own invocations; that
cannot be prevented here and stays within the environment.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import socket
from collections.abc import Mapping

from lambent.dataplane.sandbox import runtime_api_http as http
from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Intake, Reply, TakeReply
from lambent.dataplane.sandbox.runtime_api_connection import Connection, Exchange, Head
from lambent.dataplane.sandbox.runtime_api_http import Answer, Operation, Route
from lambent.dataplane.sandbox.runtime_api_states import Event, IllegalTransition, RuntimeState, State
from lambent.dataplane.wire.frames import Call
from lambent.model.limits import SYNC_PAYLOAD_BYTES
from lambent.model.streams import ResponseStream

MAX_CONNECTIONS = 64
"""One more takes the place of the one that has been idle longest, and is refused if none is idle."""

MAX_STALLED = 4
"""Connections whose client does not read what was written to it; each may hold an event of 6 MB."""

MAX_HELD_BYTES = 4 << 20
"""Bytes of unfinished heads over all connections of an environment."""

_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"
_RESPONSE_MODE = b"lambda-runtime-function-response-mode"
_EVENTS = {
    Operation.RESPONSE: Event.RESPOND,
    Operation.ERROR: Event.REPORT,
    Operation.INIT_ERROR: Event.FAIL_INIT,
}


class _Invocation:
    def __init__(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> None:
        self.call = call
        self.stream = stream
        self._take: TakeReply | None = take

    def release(self) -> TakeReply | None:
        """Whoever gets it answers; nobody gets it twice."""
        take, self._take = self._take, None
        return take


class RuntimeApiChannel:
    """Implements `Channel` over a listening, non-blocking TCP socket, which becomes the channel's.

    Needs a running loop; serves from its construction until `close`.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._state = RuntimeState()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._pending: _Invocation | None = None
        """Not delivered yet."""
        self._current: _Invocation | None = None
        """Delivered last, whether or not it has been answered."""
        self._holder: Connection | None = None
        """To whom it was delivered last."""
        self._connections: dict[Connection, None] = {}
        """Longest unused first."""
        self._pollers: dict[Connection, None] = {}
        self._stalled: dict[Connection, None] = {}
        self._closed = False
        self._server: asyncio.Server | None = None
        self._opening = self._loop.create_task(self._open(), name="open runtime api")

    concurrency = 1

    async def wait_ready(self) -> None:
        """Returns when the runtime first asks for an event. Raises InitFailed, ChannelClosed."""
        await self._ready

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> int:
        """Deliver one invocation. One at a time."""
        if self._closed:
            self._loop.call_soon(take, ChannelClosed(undelivered=True))
            return 0
        assert self._pending is None, "one invocation at a time"
        self._pending = _Invocation(call, take, stream)
        self._offer()
        return 0

    def abandon(self, number: int) -> None:
        """Where there is one at a time it ends with its environment."""
        self.close()

    def close(self) -> None:
        """Free sockets and tell those who wait. May be called twice."""
        if self._closed:
            return
        self._closed = True
        # Until the server is there the listener is the opening task's, which closes it with the server.
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        for invocation in (self._pending, self._current):
            take = invocation.release() if invocation is not None else None
            if take is not None:
                # Later: whoever closes it is in the middle of something.
                undelivered = invocation is self._pending
                self._loop.call_soon(take, ChannelClosed("the node closed it", undelivered=undelivered))
        if not self._ready.done():
            self._fail_ready(ChannelClosed("the node closed it"))

    async def _open(self) -> None:
        try:
            server = await self._loop.create_server(lambda: Connection(self), sock=self._listener)
        except (OSError, ValueError) as exc:
            self._listener.close()
            self._fail_ready(ChannelClosed(f"the runtime API cannot be served: {exc}"))
            return
        self._server = server
        if self._closed:
            server.close()

    def _fail_ready(self, reason: Exception) -> None:
        if self._ready.done():
            return
        self._ready.set_exception(reason)
        # A start that nobody waits for any more must not be reported as a lost exception.
        self._ready.exception()

    # runtime_api_connection.Host

    def admit(self, connection: Connection) -> bool:
        if self._closed:
            return False
        if len(self._connections) >= MAX_CONNECTIONS:
            oldest = next((other for other in self._connections if other.idle), None)
            if oldest is None:
                return False
            # It leaves the count at once; its transport reports the loss only in a later turn of the loop.
            del self._connections[oldest]
            oldest.abort()
        self._connections[connection] = None
        return True

    def may_hold(self, connection: Connection) -> bool:
        return sum(other.held_bytes for other in self._connections) <= MAX_HELD_BYTES

    def note_used(self, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def note_stalled(self, connection: Connection) -> None:
        self._stalled = {other: None for other in self._stalled if other.stalled}
        self._stalled[connection] = None
        if len(self._stalled) > MAX_STALLED:
            next(iter(self._stalled)).abort()

    def note_lost(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._pollers.pop(connection, None)
        self._stalled.pop(connection, None)
        if self._holder is not connection:
            return
        self._holder = None
        # It hung up before it had read the whole event, so the event goes to another that waits.
        if not connection.stalled or self._state.current is not State.RUNNING or self._closed:
            return
        poller = self._take_poller()
        if poller is not None:
            self._deliver(poller)

    def begin(self, connection: Connection, head: Head) -> Exchange:
        route = http.find_route(head.method, head.target)
        if isinstance(route, Answer):
            return _Refusal(route)
        if route.operation is Operation.NEXT:
            return _Poll(self, connection)
        try:
            return self._begin_upload(connection, route, head)
        except IllegalTransition as exc:
            return _Refusal(http.refuse(403, "InvalidStateTransition", str(exc)))

    def _begin_upload(self, connection: Connection, route: Route, head: Head) -> Exchange:
        if route.operation is not Operation.INIT_ERROR and not self._knows(route.request_id):
            return _Refusal(http.INVALID_REQUEST_ID)
        self._state.take(_EVENTS[route.operation])
        error_type = (
            "" if route.operation is Operation.RESPONSE else http.filter_error_type(head.fields.get(_ERROR_TYPE, b""))
        )
        mode = head.fields.get(_RESPONSE_MODE, b"")
        if mode == b"streaming" and route.operation is Operation.RESPONSE:
            assert self._current is not None
            kind = head.fields.get(b"content-type", b"").decode("latin-1")
            return _StreamedUpload(self, connection, self._current.stream, kind)
        upload = _Upload(self, route, error_type)
        if route.operation is Operation.RESPONSE and mode:
            # Left unanswered, the invocation would be given to the runtime again when it asks for the next.
            upload.fail(
                http.INVALID_RESPONSE_MODE, "Runtime.InvalidResponseModeHeader", "Invalid function response mode"
            )
        elif int(head.fields.get(b"content-length", b"0")) > SYNC_PAYLOAD_BYTES:
            upload.refuse_size()
        return upload

    def _knows(self, request_id: str) -> bool:
        known = (self._pending, None if self._state.current is State.READY else self._current)
        return any(invocation is not None and invocation.call.request_id == request_id for invocation in known)

    def poll(self, connection: Connection) -> Answer | None:
        """A runtime asks for the next event: there it is, or it will be told."""
        try:
            state = self._state.take(Event.ASK_NEXT)
        except IllegalTransition as exc:
            return http.refuse(403, "InvalidStateTransition", str(exc))
        if not self._ready.done():
            self._ready.set_result(None)
        if state is State.READY:
            if self._pending is None:
                self._pollers[connection] = None
                return None
            self._start_pending()
        assert self._current is not None
        self._holder = connection
        return http.answer_next(self._current.call)

    def finish(self, operation: Operation, reply: Reply) -> None:
        """What the runtime answered, or what stands for it."""
        if operation is Operation.INIT_ERROR:
            self._fail_ready(InitFailed(reply.error_type, reply.payload))
            return
        assert self._current is not None
        self._state.take(Event.FINISH)
        take = self._current.release()
        if take is not None:
            take(reply)
        self._offer()

    def _offer(self) -> None:
        """Give the pending invocation to a runtime that waits for one."""
        if self._state.current is State.ANSWERED and self._pollers:
            self._state.take(Event.ASK_NEXT)
        if self._pending is None or self._state.current is not State.READY:
            return
        poller = self._take_poller()
        if poller is not None:
            self._start_pending()
            self._deliver(poller)

    def _start_pending(self) -> None:
        self._state.take(Event.DELIVER)
        self._current, self._pending = self._pending, None

    def _take_poller(self) -> Connection | None:
        """The one that waits longest and is still there."""
        for poller in list(self._pollers):
            del self._pollers[poller]
            if poller.is_reachable():
                return poller
            poller.abort()
        return None

    def _deliver(self, poller: Connection) -> None:
        assert self._current is not None
        self._holder = poller
        poller.answer(http.answer_next(self._current.call))


class _Refusal:
    discards = True

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def receive(self, data: bytes) -> None:
        pass

    def complete(self, trailers: Mapping[bytes, bytes]) -> Answer:
        return self._answer

    def cut_short(self) -> None:
        pass


class _Poll:
    discards = True

    def __init__(self, channel: RuntimeApiChannel, connection: Connection) -> None:
        self._channel = channel
        self._connection = connection

    def receive(self, data: bytes) -> None:
        pass

    def complete(self, trailers: Mapping[bytes, bytes]) -> Answer | None:
        return self._channel.poll(self._connection)

    def cut_short(self) -> None:
        pass


class _Upload:
    """A response or an error report. The only body that is kept, and there is one at a time."""

    def __init__(self, channel: RuntimeApiChannel, route: Route, error_type: str) -> None:
        self.discards = False
        self._channel = channel
        self._route = route
        self._error_type = error_type
        self._body = bytearray()
        self._answer = http.ACCEPTED

    def receive(self, data: bytes) -> None:
        if self.discards:
            return
        if len(self._body) + len(data) > SYNC_PAYLOAD_BYTES:
            self.refuse_size()
            return
        self._body += data

    def complete(self, trailers: Mapping[bytes, bytes]) -> Answer:
        if not self.discards:
            self.discards = True
            self._channel.finish(self._route.operation, self._read_reply(trailers))
        return self._answer

    def cut_short(self) -> None:
        if not self.discards:
            self.fail(http.TRUNCATED, "Runtime.TruncatedResponse", "The response ended before it was complete")

    def refuse_size(self) -> None:
        message = f"Response payload size exceeded maximum allowed payload size ({SYNC_PAYLOAD_BYTES} bytes)."
        self.fail(http.BODY_TOO_LARGE, "Function.ResponseSizeTooLarge", message)

    def fail(self, answer: Answer, error_type: str, message: str) -> None:
        """Answer the runtime with `answer` and the caller with an error document."""
        self.discards = True
        self._answer = answer
        self._body = bytearray()
        self._channel.finish(self._route.operation, Reply(http.error_document(error_type, message), error_type))

    def _read_reply(self, trailers: Mapping[bytes, bytes]) -> Reply:
        body = bytes(self._body)
        if self._route.operation is Operation.RESPONSE and (failed := _read_error(trailers)) is not None:
            return failed
        return Reply(body, self._error_type)


class _StreamedUpload:
    """A response in pieces, which are handed on as they come. Nothing is read while whoever reads it is behind."""

    def __init__(
        self, channel: RuntimeApiChannel, connection: Connection, stream: ResponseStream | None, content_type: str
    ) -> None:
        self.discards = False
        self._channel = channel
        self._connection = connection
        self._intake = Intake(stream)
        if stream is not None:
            stream.on_room = self._read_on
        self._intake.begin(content_type)
        self._done = False

    def receive(self, data: bytes) -> None:
        if self.discards:
            return
        self._intake.take(data)
        if self._intake.is_too_large:
            self.discards = True
            self._finish(self._intake.finish())
        elif self._intake.is_full:
            self._connection.hold()

    def complete(self, trailers: Mapping[bytes, bytes]) -> Answer:
        if self.discards:
            return http.BODY_TOO_LARGE
        self._finish(_read_error(trailers) or self._intake.finish())
        return http.ACCEPTED

    def cut_short(self) -> None:
        message = "The response ended before it was complete"
        error_type = "Runtime.TruncatedResponse"
        self._finish(Reply(http.error_document(error_type, message), error_type))

    def _finish(self, reply: Reply) -> None:
        if not self._done:
            self._done = True
            self._channel.finish(Operation.RESPONSE, reply)

    def _read_on(self) -> None:
        self._connection.let_go()


def _read_error(trailers: Mapping[bytes, bytes]) -> Reply | None:
    """Of a response that failed while it was being streamed: the error stands at its end."""
    if _ERROR_TYPE not in trailers:
        return None
    error_type = http.filter_error_type(trailers[_ERROR_TYPE])
    with contextlib.suppress(binascii.Error):
        document = base64.b64decode(trailers.get(_ERROR_BODY, b""), validate=True)
        if document:
            return Reply(document, error_type)
    return Reply(http.error_document(error_type, ""), error_type)
