"""The open connections of this process, and those of others by their ids.

A connection's id is made of twelve bytes, of which the last says which process of the node has it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from lambent.awsapi.asgi import Send
from lambent.model.errors import CallerError

SEND_S = 10.0
"""How long a client may take nothing before it is cut off."""
MAX_MESSAGE_BYTES = 131_072


class Known(msgspec.Struct, kw_only=True):
    """What GetConnection tells."""

    connected_at_ms: int
    last_active_at_ms: int
    source_ip: str
    user_agent: str


class Connection:
    """One client, from its handshake to its end."""

    def __init__(
        self,
        id_: str,
        api_id: str,
        stage: str,
        send: Send,
        *,
        source_ip: str,
        user_agent: str,
        abort: Callable[[], None] = lambda: None,
    ) -> None:
        """`abort` ends the connection at once, whatever is still to be sent."""
        self.id = id_
        self.api_id = api_id
        self.stage = stage
        self.source_ip = source_ip
        self.user_agent = user_agent
        self.connected_at_ms = self.last_active_at_ms = int(time.time() * 1000)
        self.is_open = False
        """The handshake is complete, and nobody has left."""
        self._send = send
        self._abort = abort
        self._turn = asyncio.Lock()

    def touch(self) -> None:
        self.last_active_at_ms = int(time.time() * 1000)

    async def send(self, data: bytes, *, is_text: bool = True) -> None:
        """Raises CallerError `GoneException` for one that has left, or that does not read."""
        if not self.is_open:
            raise gone()
        message: dict[str, Any] = {"type": "websocket.send"}
        message["text" if is_text else "bytes"] = data.decode("utf-8", "replace") if is_text else data
        try:
            async with asyncio.timeout(SEND_S), self._turn:
                await self._send(message)
        except TimeoutError:
            self.is_open = False
            self._abort()
            raise gone() from None
        except (OSError, RuntimeError) as exc:
            raise gone() from exc
        self.touch()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End it from this side; a client that does not take even that is cut off."""
        self.is_open = False
        try:
            async with asyncio.timeout(SEND_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            self._abort()
        except (OSError, RuntimeError):
            # It has ended already.
            return

    def tell(self) -> Known:
        return Known(
            connected_at_ms=self.connected_at_ms,
            last_active_at_ms=self.last_active_at_ms,
            source_ip=self.source_ip,
            user_agent=self.user_agent,
        )


class Command(msgspec.Struct, kw_only=True):
    """What is asked of a connection by its id: `post`, `get` or `delete`."""

    kind: str
    id: str
    api_id: str
    stage: str
    data: bytes = b""


Forward = Callable[[int, Command], Awaitable[Known | None]]
"""To the process of that index. Raises CallerError, PlatformError."""


class Elsewhere(Protocol):
    async def __call__(self, member: int, command: Command) -> Known | None: ...


class Connections:
    def __init__(self, member: int = 0, forward: Forward | None = None) -> None:
        """`member` is this process's index among those of the node."""
        self._member = member
        self._forward = forward
        self._open: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def make_id(self) -> str:
        return base64.urlsafe_b64encode(secrets.token_bytes(11) + bytes([self._member])).decode()

    def add(self, connection: Connection) -> None:
        self._open[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        connection.is_open = False
        self._open.pop(connection.id, None)

    async def carry_out(self, command: Command) -> Known | None:
        """Wherever the connection is. Raises CallerError `GoneException`."""
        member = _member_of(command.id)
        if member == self._member or self._forward is None:
            return await self.carry_out_here(command)
        return await self._forward(member, command)

    async def carry_out_here(self, command: Command) -> Known | None:
        connection = self._open.get(command.id)
        if connection is None or (connection.api_id, connection.stage) != (command.api_id, command.stage):
            raise gone()
        if command.kind == "get":
            return connection.tell()
        if command.kind == "delete":
            await connection.close()
            return None
        await connection.send(command.data, is_text=_is_text(command.data))
        return None


def gone() -> CallerError:
    return CallerError("GoneException", "The connection is not there any more.", status=410)


def show_time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _member_of(id_: str) -> int:
    try:
        decoded = base64.b64decode(id_, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise gone() from None
    if len(decoded) != 12:
        raise gone()
    return decoded[-1]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
