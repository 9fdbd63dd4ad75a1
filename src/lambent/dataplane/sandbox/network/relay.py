"""Bytes both ways between two connected sockets: bounded buffers, half-close and reset passed on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

BUFFER_BYTES = 256 * 1024
"""What waits for a slow reader, for each direction, before the fast writer is made to wait."""
_RESET = struct.pack("ii", 1, 0)


def reset(connection: socket.socket) -> None:
    """Close with RST, so that the other side sees an error and not an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(OSError):
        connection.close()


class Relay:
    """Two connections tied together until both directions have ended or either fails."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._client = _End(self._note_lost)
        self._upstream = _End(self._note_lost)
        self._client.peer, self._upstream.peer = self._upstream, self._client

    @property
    def sent_bytes(self) -> int:
        return self._client.received_bytes

    @property
    def received_bytes(self) -> int:
        return self._upstream.received_bytes

    async def run(self, client: socket.socket, upstream: socket.socket) -> None:
        """Takes both sockets; returns when both are closed. Cancelled, it resets both."""
        # Not interrupted half way: whose a socket is would be unclear, and its number would be closed twice.
        joining = asyncio.create_task(self._join(client, upstream), name="join connections")
        try:
            await asyncio.shield(joining)
            # Not before both ends are there to take what comes.
            self._upstream.begin()
            self._client.begin()
            await self._ended.wait()
        except BaseException:
            await asyncio.wait([joining])
            # Those that have become transports are theirs to close, the others ours.
            for end, connection in ((self._client, client), (self._upstream, upstream)):
                if end.transport is None:
                    reset(connection)
                end.reset()
            raise

    async def _join(self, client: socket.socket, upstream: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._upstream, sock=upstream)
        await loop.create_connection(lambda: self._client, sock=client)

    def _note_lost(self) -> None:
        if self._client.lost and self._upstream.lost:
            self._ended.set()


class _End(asyncio.Protocol):
    peer: _End

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self.received_bytes = 0
        self.finished = False
        """The other side of this connection will send no more."""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self.transport.pause_reading()

    def begin(self) -> None:
        assert self.transport is not None
        if not self.lost:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        transport = self.peer.transport
        assert transport is not None
        transport.write(data)

    def pause_writing(self) -> None:
        self._of_peer("pause_reading")

    def resume_writing(self) -> None:
        self._of_peer("resume_reading")

    def _of_peer(self, method: str) -> None:
        transport = self.peer.transport
        if transport is not None and not transport.is_closing():
            getattr(transport, method)()

    def eof_received(self) -> bool:
        self.finished = True
        transport = self.peer.transport
        assert transport is not None and self.transport is not None
        if self.peer.finished:
            # What is still buffered is sent before they close.
            transport.close()
            self.transport.close()
        elif not transport.is_closing():
            transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if exc is not None:
            self.peer.reset()
        self._on_lost()

    def reset(self) -> None:
        if self.transport is None or self.lost:
            return
        connection: Any = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
