from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.dataplane.gateway.guarded_http import HttpLimits
from lambent.dataplane.gateway.invoke import Answer
from lambent.dataplane.gateway.short_way import ShortWayProtocol

INVOKE = b"POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\n{}"


class FakeGateway:
    """Answers when told to."""

    def __init__(self) -> None:
        self.waiting: list[Answer] = []

    def submit(self, request: HttpRequest, reference: bytes, request_id: str, answer: Answer) -> bool:
        self.waiting.append(answer)
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not by the short way")


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


class Connection:
    def __init__(self, *, keep_alive_s: float) -> None:
        self.gateway = FakeGateway()
        config = Config(self.gateway, lifespan="off", log_config=None, proxy_headers=False)
        # Config takes whole seconds only.
        config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
        config.load()
        self.protocol = ShortWayProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)

    def answer(self) -> None:
        self.gateway.waiting.pop()(HttpResponse(body=b"{}"))


async def test_a_connection_that_is_idle_for_long_is_closed() -> None:
    connection = Connection(keep_alive_s=0.01)
    connection.protocol.data_received(INVOKE)
    connection.answer()
    async with asyncio.timeout(10):
        await connection.transport.closed.wait()


async def test_a_connection_is_not_idle_while_a_request_is_under_way() -> None:
    connection = Connection(keep_alive_s=0.01)
    connection.protocol.data_received(INVOKE)
    connection.answer()
    connection.protocol.data_received(INVOKE)
    # The timer of the first answer has its say before the second comes.
    looked = asyncio.Event()
    connection.protocol.loop.call_later(0.02, looked.set)
    await looked.wait()
    assert connection.protocol.timeout_keep_alive_task is None
    assert not connection.transport.closed.is_set()
    connection.answer()
    assert connection.transport.written.count(b"200 OK") == 2
    async with asyncio.timeout(10):
        await connection.transport.closed.wait()


async def test_a_lost_connection_leaves_no_timer_and_takes_no_answer() -> None:
    connection = Connection(keep_alive_s=60)
    connection.protocol.data_received(INVOKE)
    connection.answer()
    connection.protocol.data_received(INVOKE)
    written = connection.transport.written
    connection.protocol.connection_lost(None)
    connection.answer()
    assert connection.protocol.timeout_keep_alive_task is None
    assert connection.transport.written == written


async def test_a_shutdown_closes_the_connection_after_the_answer() -> None:
    connection = Connection(keep_alive_s=60)
    connection.protocol.data_received(INVOKE)
    connection.protocol.shutdown()
    assert not connection.transport.closed.is_set()
    connection.answer()
    assert b"connection: close\r\n" in connection.transport.written
    assert connection.transport.closed.is_set()


@pytest.mark.parametrize("at", range(1, len(INVOKE)))
async def test_a_request_may_be_cut_anywhere(at: int) -> None:
    connection = Connection(keep_alive_s=60)
    connection.protocol.data_received(INVOKE[:at])
    connection.protocol.data_received(INVOKE[at:])
    connection.answer()
    assert connection.transport.written.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("answered_first", [True, False])
async def test_nothing_of_a_closed_connection_waits_for_a_collection(answered_first: bool) -> None:
    connection = Connection(keep_alive_s=60)
    connection.protocol.data_received(INVOKE)
    gone = weakref.ref(connection.protocol)
    if answered_first:
        connection.answer()
    connection.protocol.connection_lost(None)
    if not answered_first:
        connection.answer()
    gc.disable()
    try:
        del connection
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


class FewConnections(ShortWayProtocol):
    limits = HttpLimits(max_connections=2)


async def test_one_connection_more_than_the_limit_is_refused_and_the_others_are_served() -> None:
    config = Config(FakeGateway(), lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()

    def connect() -> tuple[ShortWayProtocol, FakeTransport]:
        protocol, transport = FewConnections(config, state, {}, asyncio.get_running_loop()), FakeTransport()
        protocol.connection_made(transport)
        return protocol, transport

    (first, _), (_, second), (refused, third) = connect(), connect(), connect()
    assert third.written.startswith(b"HTTP/1.1 503 ")
    assert third.closed.is_set()
    assert not second.closed.is_set()
    refused.data_received(INVOKE)
    refused.connection_lost(None)
    first.connection_lost(None)
    _, fourth = connect()
    assert not fourth.closed.is_set()


class StalledTransport(FakeTransport):
    """Its client takes what `unsent` says."""

    unsent = 100_000
    aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True
        self.closed.set()


class Hasty(ShortWayProtocol):
    limits = HttpLimits(write_timeout_s=0.05)


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off() -> None:
    config = Config(FakeGateway(), lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    protocol, transport = Hasty(config, ServerState(), {}, asyncio.get_running_loop()), StalledTransport()
    protocol.connection_made(transport)
    protocol.data_received(INVOKE)
    protocol.pause_writing()
    for _ in range(3):
        # A little is progress.
        await asyncio.sleep(0.03)
        transport.unsent -= 1
    assert not transport.aborted
    async with asyncio.timeout(10):
        await transport.closed.wait()
    assert transport.aborted
    protocol.connection_lost(None)
