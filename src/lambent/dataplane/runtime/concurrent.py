"""Several invocations at a time in one environment: for ASGI applications, each request a task of one loop.

What the node and this side say of an invocation carries its number (`wire/frames.py`).
"""

from __future__ import annotations

import contextvars
import json
import os
import socket
from typing import Any, Dict, NoReturn

from lambent.dataplane.runtime import context, exits, faults, logs, marshal
from lambent.dataplane.runtime.applications.asgi import AsgiHandler, Exchange
from lambent.dataplane.runtime.faults import Fault, Refused
from lambent.dataplane.runtime.streaming import ReaderGone, ResponseWriter
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.dataplane.wire.spec import EnvironmentSpec


def serve(sock: socket.socket, handler: AsgiHandler, spec: EnvironmentSpec, told: Dict[str, Any]) -> NoReturn:
    """Never returns: the process ends with its socket, or as user code ends it."""
    logs.Requests.of_task = contextvars.ContextVar("request_id")
    loop = handler.ensure_loop()
    sock.setblocking(False)
    try:
        loop.run_until_complete(_Server(loop, handler, spec).serve(sock, told))
    except BaseException as exc:
        exits.leave(exc)
    os._exit(0)


class _Context(context.LambdaContext):
    """Writes where its invocation's answer goes."""

    def __init__(self, call: Call, open_writer: Any) -> None:
        super().__init__(call)
        self._open_writer = open_writer

    def response_stream(self, *args: Any, **kwargs: Any) -> ResponseWriter:
        if self._writer is not None:
            raise RuntimeError("this invocation has a response stream already")
        writer: ResponseWriter = self._open_writer(self.streams_response)
        self._writer = writer
        if args or kwargs:
            names = ("status_code", "headers", "cookies", "content_type")
            writer.begin(**{**dict(zip(names, args)), **kwargs})
        return writer


class _Turn:
    """One invocation between its delivery and its answer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: Any = None
        self.exchange: Any = None
        self.is_gone = False
        """Nobody reads the answer."""
        self.room: Any = None
        """An event while the reader is behind; None while there is room."""

    def note_gone(self) -> None:
        self.is_gone = True
        if self.room is not None:
            self.room.set()
        if self.exchange is not None:
            self.exchange.note_gone()


class _Writer(ResponseWriter):
    def __init__(self, server: _Server, turn: _Turn, *, streams: bool) -> None:
        super().__init__(None, streams=streams)  # type: ignore[arg-type]
        self._server = server
        self._turn = turn

    async def wait_room(self) -> None:
        """Returns at once for a reader who has left: the next write tells."""
        if self._turn.room is not None and not self._turn.is_gone:
            await self._turn.room.wait()
        await self._server.wait_written()

    def _check_reader(self) -> None:
        if self._turn.is_gone:
            self.reader_gone = True
            raise ReaderGone("nobody reads the answer any more")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._server.send(kind, self._turn.number, body)


class _Server:
    """An asyncio.Protocol; not by inheritance, since most environments do without asyncio."""

    def __init__(self, loop: Any, handler: AsgiHandler, spec: EnvironmentSpec) -> None:
        import asyncio  # noqa: PLC0415

        self._asyncio = asyncio
        self._loop = loop
        self._handler = handler
        self._concurrency = spec.concurrency
        self._log_format = spec.log_format
        self._pid = os.getpid()
        self._transport: Any = None
        self._buffer = bytearray()
        self._turns: Dict[int, _Turn] = {}
        self._written = asyncio.Event()
        self._written.set()

    async def serve(self, sock: socket.socket, told: Dict[str, Any]) -> None:
        await self._loop.create_unix_connection(lambda: self, sock=sock)
        document = {**told, "concurrency": self._concurrency}
        self._transport.write(frames.encode(frames.READY, json.dumps(document).encode()))
        await self._loop.create_future()

    def send(self, kind: bytes, number: int, body: bytes) -> None:
        self._transport.write(frames.encode_numbered(kind, number, body))

    async def wait_written(self) -> None:
        """Until the node has taken enough of what was sent."""
        await self._written.wait()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= frames.HEAD.size:
            kind, length = frames.HEAD.unpack_from(buffer)
            end = frames.HEAD.size + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[frames.HEAD.size : end])
            del buffer[:end]
            self._take(kind, frames.NUMBER.unpack_from(body)[0], body[frames.NUMBER.size :])

    def eof_received(self) -> None:
        os._exit(0)

    def connection_lost(self, exc: Any) -> None:
        os._exit(0)

    def pause_writing(self) -> None:
        self._written.clear()

    def resume_writing(self) -> None:
        self._written.set()

    def _take(self, kind: bytes, number: int, body: bytes) -> None:
        turn = self._turns.get(number)
        if kind in (frames.INVOKE, frames.STREAM):
            call = frames.decode_call(body)
            turn = self._turns[number] = _Turn(number)
            turn.task = self._loop.create_task(
                self._answer(turn, call if kind == frames.INVOKE else call._replace(streamed=True))
            )
        elif turn is None:
            # Told while its answer was on its way.
            return
        elif kind == frames.HOLD:
            turn.room = self._asyncio.Event()
        elif kind == frames.RELEASE:
            if turn.room is not None:
                turn.room.set()
                turn.room = None
        elif kind == frames.CANCEL:
            turn.note_gone()
        elif kind == frames.ABORT:
            turn.note_gone()
            turn.task.cancel()
        else:
            os._exit(1)

    async def _answer(self, turn: _Turn, call: Call) -> None:
        kind, body = frames.RESULT, b""
        try:
            kind, body = await self._run(turn, call)
        except self._asyncio.CancelledError:
            # Its time is over: the node has answered for it.
            pass
        except BaseException as exc:
            if os.getpid() != self._pid:
                os._exit(1)
            exits.leave(exc)
        if os.getpid() != self._pid:
            # User code forked and its child returned from the handler; the answer is the parent's to give.
            os._exit(0)
        exits.flush()
        del self._turns[turn.number]
        self.send(kind, turn.number, body)

    async def _run(self, turn: _Turn, call: Call) -> Any:
        """Kind and body of the last frame."""
        logs.Requests.of_task.set(call.request_id)
        lambda_context = None
        try:
            lambda_context = _Context(call, lambda streams: _Writer(self, turn, streams=streams))
            event = marshal.decode_event(call.event)
            exchange: Exchange = self._handler.open_exchange(event, lambda_context)
            turn.exchange = exchange
            if turn.is_gone:
                exchange.note_gone()
            result = await self._handler.serve(exchange)
            writer = lambda_context._writer
            if writer is None:
                return frames.RESULT, marshal.encode_result(result)
            writer.close()
            return frames.RESULT, b"" if call.streamed else marshal.encode_result(writer.collected())
        except ReaderGone:
            # Not a fault of the function's: whoever asked has left.
            return frames.RESULT, b""
        except Refused as exc:
            fault = Fault(exc.error_type, str(exc), call.request_id, [])
        except marshal.ResponseTooLarge as exc:
            error_type, document = logs.refuse_size(str(exc))
            return frames.ERROR, error_type.encode() + b"\0" + document
        except Exception as exc:
            fault = faults.describe(exc, call.request_id)
        finally:
            if lambda_context is not None and lambda_context._writer is not None:
                lambda_context._writer.close()
        logs.log_fault(fault, self._log_format, faults.format_for_log(fault))
        return frames.ERROR, fault.error_type.encode() + b"\0" + fault.encode()
