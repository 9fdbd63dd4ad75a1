from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.wire.frames import Call

PATIENCE_S = 10.0
API = "/2018-06-01/runtime"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


class Client:
    """A runtime that writes its own bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head[:-4].split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return Answer(int(status_line.split(" ")[1]), fields, body)

    async def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> Answer:
        """`fields` are header fields, with _ for -."""
        await self.send(compose(method, path, body, **fields))
        return await self.receive()

    async def next(self) -> Answer:
        return await self.ask("GET", f"{API}/invocation/next")

    async def respond(self, request_id: str, body: bytes, **fields: str) -> Answer:
        return await self.ask("POST", f"{API}/invocation/{request_id}/response", body, **fields)

    async def hung_up(self) -> bool:
        """Whether the other end closes, after whatever it still says."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionResetError:
                return True
        return True

    def close(self) -> None:
        self.writer.close()


def compose(method: str, path: str, body: bytes | None = None, **fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:9001"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (body or b"")


def make_call(
    request_id: str = "id-1",
    event: bytes = b'{"a":1}',
    *,
    trace_id: str = "",
    client_context: str = "",
    cognito_identity: str = "",
) -> Call:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:fn"
    return Call(request_id, event, 1_795_421_537_600, arn, trace_id, client_context, cognito_identity)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here runs on both loops: the node uses uvloop where there is one."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


@pytest.fixture
async def channel(listener: socket.socket) -> AsyncIterator[RuntimeApiChannel]:
    channel = RuntimeApiChannel(listener)
    yield channel
    channel.close()
    await asyncio.sleep(0)


@pytest.fixture
async def connect(
    listener: socket.socket, channel: RuntimeApiChannel
) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    host, port = listener.getsockname()
    clients: list[Client] = []

    async def connect_one() -> Client:
        clients.append(Client(*await asyncio.open_connection(host, port)))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.close()
    await asyncio.sleep(0)


@pytest.fixture
def call() -> Callable[..., Call]:
    return make_call
