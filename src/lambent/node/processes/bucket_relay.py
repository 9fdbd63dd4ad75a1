"""Buckets in a node of several processes: the one that owns the state serves them, the others pass on what is theirs to
answer, byte by byte, through a socket in the data folder. Signatures are checked where it arrives: nothing is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from lambent.dataplane.gateway.app import Receive, Scope, Send, StreamingApi
from lambent.events.storage.edge import is_for_buckets

_FILE = "buckets.sock"
PIECE_BYTES = 262_144
_LONGEST_HEAD = 262_144
_STOP_S = 5.0
_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>ServiceUnavailable</Code>'
    b"<Message>The process that serves buckets cannot be reached; try again.</Message></Error>"
)


def _place(folder: Path) -> Path:
    """Named by descriptor, which is as long as the process lives: the path of a socket has 108 bytes at most."""
    return Path(f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}") / _FILE


class BucketServer:
    """In the process that owns the state."""

    def __init__(self, buckets: StreamingApi, folder: Path) -> None:
        self._path = _place(folder)
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._config = uvicorn.Config(
            buckets.serve,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._config.load()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._server = await asyncio.get_running_loop().create_unix_server(self._make_protocol, sock=listener)

    async def stop(self) -> None:
        """What is under way may end, for a while."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*self._state.tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _make_protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})


class BucketRelay:
    """Implements the gateway's `StreamingApi` in the other processes."""

    def __init__(self, folder: Path) -> None:
        self._path = _place(folder)

    def serves(self, scope: Scope) -> bool:
        return scope["type"] == "http" and is_for_buckets(scope)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=_LONGEST_HEAD)
        except OSError:
            headers = [(b"content-type", b"application/xml"), (b"content-length", b"%d" % len(_DOWN))]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _DOWN})
            return
        pumping = asyncio.create_task(_pump(scope, receive, writer), name="pass on a body")
        try:
            status, headers = await _read_head(reader)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            length = 0 if scope["method"] == "HEAD" or status in (204, 304) else _length_of(headers)
            async for piece in _read_body(reader, length):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
            writer.close()


async def _pump(scope: Scope, receive: Receive, writer: asyncio.StreamWriter) -> None:
    """The request. Whoever answers before it has all of it ends this with an error that says nothing."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"connection", b"transfer-encoding")]
    has_length = any(name == b"content-length" for name, _ in kept)
    is_chunked = not has_length and any(name == b"transfer-encoding" for name, _ in scope["headers"])
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target), *(b"%b: %b" % pair for pair in kept)]
    lines += [b"connection: close", *([b"transfer-encoding: chunked"] if is_chunked else [])]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    await writer.drain()
    if not (has_length or is_chunked):
        return
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            writer.close()
            return
        more, data = message.get("more_body", False), message.get("body", b"")
        if data:
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)
            await writer.drain()
    if is_chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[bytes, bytes]]]:
    status = 100
    lines: list[bytes] = []
    while status == 100:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
    pairs = (line.partition(b":") for line in lines[1:])
    # Of this connection, and of the server that writes the answer.
    dropped = (b"connection", b"date", b"server")
    found = [(name.lower(), value.strip()) for name, _, value in pairs]
    return status, [pair for pair in found if pair[0] not in dropped]


def _length_of(headers: list[tuple[bytes, bytes]]) -> int:
    return int(dict(headers)[b"content-length"])


async def _read_body(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        piece: Any = await reader.read(min(length, PIECE_BYTES))
        if not piece:
            raise ConnectionError("the process that serves buckets broke off")
        length -= len(piece)
        yield piece
