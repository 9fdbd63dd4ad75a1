"""Answers that leave while the handler still writes them.

A handler streams by being a generator (or an async generator), or by asking its context for a writer:

    def handler(event, context):
        yield {"statusCode": 200, "headers": {"content-type": "text/event-stream"}}      # may be left out
        for word in words():
            yield word                                                                   # str or bytes

    def handler(event, context):
        with context.response_stream(status_code=200, content_type="text/plain") as out:
            out.write("now")

The pieces go to whoever invoked with a response stream (InvokeWithResponseStream, a function URL or API that streams);
for everybody else they are put together. Writing waits while the reader is behind.
"""

from __future__ import annotations

import base64
import json
import select
import socket
from types import AsyncGeneratorType, GeneratorType
from typing import Any, AsyncIterator, Dict, Iterator, List, Optional, Union

from lambent.dataplane.runtime.faults import Refused
from lambent.dataplane.runtime.marshal import MAX_RESPONSE_BYTES, ResponseTooLarge
from lambent.dataplane.wire import frames

INTEGRATION_TYPE = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
DEFAULT_TYPE = "application/octet-stream"
PIECE_BYTES = 65_536
_NO_PIECE = "A piece of a streamed answer must be str or bytes, not {}"

STREAMED = frozenset((GeneratorType, AsyncGeneratorType))
"""What a handler returns that streams."""

Piece = Union[str, bytes, bytearray, memoryview]


class ReaderGone(BrokenPipeError):
    """Nobody reads the answer any more: raised by the next write."""


class NotStreamed(Refused):
    """A piece has no bytes."""

    error_type = "Runtime.MarshalError"


class ResponseWriter:
    """What `context.response_stream` gives. Bound to one invocation; not for several threads at a time."""

    wait_room: Any = None
    """Where there are several invocations at a time: a coroutine function, to be awaited after each write."""

    def __init__(self, sock: socket.socket, *, streams: bool) -> None:
        """Without `streams` what is written is kept, for whoever wants the answer in one piece."""
        self._sock = sock
        self._streams = streams
        self._head: Dict[str, Any] = {}
        self._pieces: List[bytes] = []
        self._size_bytes = 0
        self.begun = False
        self.closed = False
        self.reader_gone = False

    def begin(
        self,
        content_type: Optional[str] = None,
        status_code: Optional[int] = None,
        headers: Optional[Dict[str, Any]] = None,
        cookies: Optional[List[str]] = None,
    ) -> None:
        """Tell the head of the answer; the first write does it where nobody did."""
        if self.begun:
            raise RuntimeError("the answer has begun already")
        self._check_open()
        head: Dict[str, Any] = {}
        if status_code is not None:
            head["statusCode"] = status_code
        if headers:
            head["headers"] = dict(headers)
        if cookies:
            head["cookies"] = list(cookies)
        self.begun = True
        if not self._streams:
            self._head = {"statusCode": 200, **head} if head else {}
            if head and content_type:
                self._head["headers"] = {"content-type": content_type, **head.get("headers", {})}
            return
        if not head:
            self._send(frames.BEGIN, (content_type or DEFAULT_TYPE).encode("latin-1", "replace"))
            return
        head.setdefault("statusCode", 200)
        if content_type:
            head["headers"] = {"content-type": content_type, **head.get("headers", {})}
        document = json.dumps(head).encode()
        self._send(frames.BEGIN, INTEGRATION_TYPE.encode())
        self._send(frames.PIECE, document + SEPARATOR)

    def write(self, data: Piece) -> int:
        """Send now; waits while the reader is behind. Returns the bytes written. Raises ReaderGone."""
        if not self.begun:
            self.begin()
        self._check_open()
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        view = memoryview(data).cast("B")
        if not self._streams:
            self._keep(bytes(view))
            return len(view)
        for at in range(0, len(view), PIECE_BYTES):
            self._check_reader()
            self._send(frames.PIECE, bytes(view[at : at + PIECE_BYTES]))
        return len(view)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> ResponseWriter:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def collected(self) -> Any:
        """What was written, in one piece; with status or headers as an answer of payload format 2.0."""
        body = b"".join(self._pieces)
        if not self._head:
            return body
        try:
            return {**self._head, "body": body.decode("utf-8"), "isBase64Encoded": False}
        except UnicodeDecodeError:
            return {**self._head, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}

    def _keep(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes > MAX_RESPONSE_BYTES:
            raise ResponseTooLarge
        self._pieces.append(data)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the answer is complete: nothing can be written to it any more")

    def _check_reader(self) -> None:
        """All that the node sends before the answer is complete is that nobody reads it."""
        if self.reader_gone or select.select([self._sock], [], [], 0)[0]:
            self.reader_gone = True
            raise ReaderGone("nobody reads the answer any more")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._sock.sendall(frames.encode(kind, body))


def write_pieces(result: Any, writer: ResponseWriter) -> None:
    """Send what a generator gives, as it gives it; it is closed when nobody reads any more."""
    if isinstance(result, AsyncGeneratorType):
        # Here, not in what all environments share: it brings `ssl` with it.
        import asyncio  # noqa: PLC0415

        asyncio.run(_write_async(result, writer))
    else:
        _write_sync(result, writer)


def _write_sync(pieces: Iterator[Any], writer: ResponseWriter) -> None:
    try:
        for piece in pieces:
            _write(piece, writer)
    finally:
        pieces.close()  # type: ignore[attr-defined]
    _ensure_begun(writer)


async def _write_async(pieces: AsyncIterator[Any], writer: ResponseWriter) -> None:
    try:
        async for piece in pieces:
            _write(piece, writer)
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]
    _ensure_begun(writer)


def _write(piece: Any, writer: ResponseWriter) -> None:
    if isinstance(piece, dict) and not writer.begun:
        writer.begin(
            status_code=piece.get("statusCode", 200), headers=piece.get("headers"), cookies=piece.get("cookies")
        )
        return
    if not isinstance(piece, (str, bytes, bytearray, memoryview)):
        raise NotStreamed(_NO_PIECE.format(type(piece).__name__))
    writer.write(piece)


def _ensure_begun(writer: ResponseWriter) -> None:
    if not writer.begun:
        writer.begin()
