"""What code inside an environment may try against its Runtime API: it costs the node little and harms only itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from tests.channels import deliver

from lambent.dataplane.sandbox import runtime_api, runtime_api_connection
from lambent.dataplane.sandbox.channel import Reply
from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.wire.frames import Call

if TYPE_CHECKING:
    from tests.conformance.runtime_api.conftest import Client

    Connect = Callable[[], Awaitable[Client]]

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
NOTHING = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: x\r\n"


async def settle(connect: Connect) -> None:
    """All that was sent before is read when a request on a connection of its own has been answered."""
    client = await connect()
    for _ in range(3):
        await client.ask("GET", "/nothing")
    client.close()


async def assert_healthy(channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call("healthy")))
    assert (await client.next()).fields["lambda-runtime-aws-request-id"] == "healthy"
    assert (await client.respond("healthy", b"yes")).status == 202
    assert await task == Reply(b"yes")


async def test_of_two_that_wait_exactly_one_gets_each_event(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    pollers = [await connect(), await connect()]
    for poller in pollers:
        await poller.send(NEXT)
        await settle(connect)
    for number in (0, 1):
        task = asyncio.create_task(deliver(channel, call(f"id-{number}")))
        answer = await pollers[number].receive()
        assert answer.fields["lambda-runtime-aws-request-id"] == f"id-{number}"
        assert (await pollers[number].respond(f"id-{number}", b"%d" % number)).status == 202
        assert (await task).payload == b"%d" % number


async def test_an_event_goes_to_the_poller_that_is_still_there(
    channel: RuntimeApiChannel, listener: socket.socket, connect: Connect, call: Callable[..., Call]
) -> None:
    gone = socket.create_connection(listener.getsockname())
    gone.sendall(NEXT)
    await channel.wait_ready()
    alive = await connect()
    await alive.send(NEXT)
    await settle(connect)
    gone.close()
    # The loop has had no turn in which it could have read the hang-up.
    task = asyncio.ensure_future(deliver(channel, call()))
    assert (await alive.receive()).fields["lambda-runtime-aws-request-id"] == "id-1"
    await alive.respond("id-1", b"1")
    assert (await task).payload == b"1"


async def test_an_event_waits_for_the_next_poller_when_the_only_one_has_gone(
    channel: RuntimeApiChannel, listener: socket.socket, connect: Connect, call: Callable[..., Call]
) -> None:
    gone = socket.create_connection(listener.getsockname())
    gone.sendall(NEXT)
    await channel.wait_ready()
    gone.close()
    task = asyncio.create_task(deliver(channel, call()))
    await settle(connect)
    assert not task.done()
    client = await connect()
    assert (await client.next()).fields["lambda-runtime-aws-request-id"] == "id-1"
    await client.respond("id-1", b"1")
    assert (await task).payload == b"1"


async def test_an_event_that_was_not_read_to_its_end_goes_to_another_poller(
    channel: RuntimeApiChannel, listener: socket.socket, connect: Connect, call: Callable[..., Call]
) -> None:
    first = socket.create_connection(listener.getsockname())
    first.sendall(NEXT)
    await channel.wait_ready()
    second = await connect()
    await second.send(NEXT)
    await settle(connect)
    task = asyncio.create_task(deliver(channel, call(event=b"e" * 6_000_000)))
    await settle(connect)
    first.close()
    assert len((await second.receive()).body) == 6_000_000
    await second.respond("id-1", b"1")
    assert (await task).payload == b"1"


async def test_requests_behind_a_waiting_poll_are_answered_after_it_and_in_order(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    body = POST % b"id-1" + b"Content-Length: 2\r\n\r\nab"
    await client.send(NOTHING + NEXT + body + NOTHING + NEXT[:20])
    assert (await client.receive()).status == 404
    await channel.wait_ready()
    task = asyncio.create_task(deliver(channel, call()))
    assert (await client.receive()).status == 200
    assert (await client.receive()).status == 202
    assert (await client.receive()).status == 404
    assert (await task).payload == b"ab"
    task = asyncio.create_task(deliver(channel, call("id-2")))
    await client.send(NEXT[20:])
    assert (await client.receive()).fields["lambda-runtime-aws-request-id"] == "id-2"
    task.cancel()


async def test_a_body_that_begins_behind_a_waiting_poll_is_taken_when_its_turn_comes(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    await client.send(NEXT + POST % b"id-1" + b"Content-Length: 4\r\n\r\nab")
    await channel.wait_ready()
    await settle(connect)
    task = asyncio.create_task(deliver(channel, call()))
    assert (await client.receive()).status == 200
    await client.send(b"cd")
    assert (await client.receive()).status == 202
    assert (await task).payload == b"abcd"


@pytest.mark.parametrize("ahead", [NOTHING * 17, POST % b"id-1" + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000])
async def test_who_sends_too_much_behind_a_waiting_poll_is_hung_up_on(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], ahead: bytes
) -> None:
    client = await connect()
    await client.send(NEXT + ahead)
    assert await client.hung_up()
    await assert_healthy(channel, connect, call)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"BLAH\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    ],
)
async def test_what_is_not_a_request_is_answered_with_400_and_hung_up_on(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], data: bytes
) -> None:
    client = await connect()
    await client.send(data)
    answer = await client.receive()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    assert "content-type" in answer.fields
    assert await client.hung_up()
    await assert_healthy(channel, connect, call)


async def test_a_declared_length_that_is_too_small_ends_the_response_there(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call()))
    await client.next()
    await client.send(POST % b"id-1" + b"Content-Length: 2\r\n\r\nabcdefgh\r\n\r\n")
    assert (await client.receive()).status == 202
    assert (await client.receive()).status == 400
    assert (await task).payload == b"ab"
    assert await client.hung_up()
    await assert_healthy(channel, connect, call)


async def test_a_chunk_that_is_malformed_ends_the_response(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call()))
    await client.next()
    await client.send(POST % b"id-1" + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabXX")
    assert (await client.receive()).status == 400
    assert (await task).error_type == "Runtime.TruncatedResponse"
    await assert_healthy(channel, connect, call)


async def test_a_header_of_a_megabyte_and_ten_thousand_headers_are_read(
    channel: RuntimeApiChannel, connect: Connect
) -> None:
    client = await connect()
    assert (await client.ask("GET", "/", X_A="a" * 1_040_000)).status == 404
    await client.send(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n")
    assert (await client.receive()).status == 404


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nX-A: ", b"GET /", b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: "]
)
async def test_a_head_or_trailer_that_does_not_end_is_refused(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], head: bytes
) -> None:
    client = await connect()
    await client.send(head)
    sending = asyncio.create_task(client.send(b"a" * 2_000_000))
    answer = await client.receive()
    assert (answer.status, answer.fields["connection"]) == (431, "close")
    await asyncio.gather(sending, return_exceptions=True)
    await assert_healthy(channel, connect, call)


async def test_a_head_that_dribbles_in_is_read_and_one_that_dribbles_on_is_refused(
    channel: RuntimeApiChannel, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_api_connection, "MAX_HEAD_PIECES", 100)
    client = await connect()
    for byte in NOTHING:
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.receive()).status == 404
    other = await connect()
    await other.send(b"GET / HTTP/1.1\r\nX: ")

    async def dribble() -> None:
        while True:
            await other.send(b"a")
            await settle(connect)

    dribbling = asyncio.create_task(dribble())
    assert (await other.receive()).status == 431
    dribbling.cancel()
    await asyncio.gather(dribbling, return_exceptions=True)


async def test_unfinished_heads_are_held_within_a_budget_over_all_connections(
    channel: RuntimeApiChannel, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_api, "MAX_HELD_BYTES", 300_000)
    first, second, third = [await connect() for _ in range(3)]
    for client in (first, second):
        await client.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 140_000)
    await settle(connect)
    await third.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 140_000)
    assert (await third.receive()).status == 431
    await first.send(b"\r\n\r\n")
    assert (await first.receive()).status == 404


async def test_an_endless_body_that_nobody_wants_is_cut(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_api_connection, "MAX_DISCARDED_BYTES", 1_000_000)
    client = await connect()
    await client.send(POST % b"wrong" + b"Transfer-Encoding: chunked\r\n\r\n")

    async def send_without_end() -> None:
        while True:
            await client.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    sending = asyncio.create_task(send_without_end())
    await asyncio.wait([sending], timeout=10)
    assert isinstance(sending.exception(), ConnectionError)
    await assert_healthy(channel, connect, call)


async def test_idle_connections_beyond_the_cap_give_way_to_new_ones(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    poller = await connect()
    await poller.send(NEXT)
    await channel.wait_ready()
    crowd = [await connect() for _ in range(3 * runtime_api.MAX_CONNECTIONS)]
    assert await crowd[0].hung_up()
    task = asyncio.create_task(deliver(channel, call()))
    assert (await poller.receive()).status == 200, "a poll that waits is not idle"
    assert (await poller.respond("id-1", b"1")).status == 202
    assert (await task).payload == b"1"


async def test_when_all_connections_are_in_use_a_new_one_is_refused(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    pollers = [await connect() for _ in range(runtime_api.MAX_CONNECTIONS)]
    for poller in pollers:
        await poller.send(NEXT)
    async with asyncio.timeout(10):
        while any(connection.idle for connection in channel._connections):
            await asyncio.sleep(0)
    assert await (await connect()).hung_up()
    task = asyncio.create_task(deliver(channel, call()))
    assert (await pollers[0].receive()).status == 200
    # That one is idle now and gives way.
    assert (await (await connect()).ask("GET", "/")).status == 404
    task.cancel()


async def test_a_segment_full_of_tiny_requests_does_not_hold_up_the_loop(
    channel: RuntimeApiChannel, connect: Connect
) -> None:
    client = await connect()
    number = 5_000
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    sending = asyncio.create_task(client.send(b"GET / HTTP/1.1\r\n\r\n" * number))
    for _ in range(number):
        assert (await client.receive()).status == 404
    counting.cancel()
    await sending
    assert turns > number // 200


async def test_a_client_that_does_not_read_is_not_read_from(
    channel: RuntimeApiChannel, listener: socket.socket, connect: Connect, call: Callable[..., Call]
) -> None:
    greedy = socket.create_connection(listener.getsockname())
    greedy.setblocking(False)
    async with asyncio.timeout(10):
        while not channel._stalled or next(iter(channel._stalled))._rest:
            with contextlib.suppress(BlockingIOError):
                greedy.send(NOTHING * 1_000)
            await asyncio.sleep(0)
    (connection,) = channel._stalled
    assert connection._transport is not None
    assert not connection._transport.is_reading()
    await assert_healthy(channel, connect, call)
    greedy.close()


async def test_of_those_that_do_not_read_their_event_only_a_few_are_kept(
    channel: RuntimeApiChannel, connect: Connect, listener: socket.socket, call: Callable[..., Call]
) -> None:
    task = asyncio.create_task(deliver(channel, call(event=b"e" * 6_000_000)))
    await asyncio.sleep(0)
    lazy = [socket.create_connection(listener.getsockname()) for _ in range(2 * runtime_api.MAX_STALLED)]
    for one in lazy:
        one.sendall(NEXT)
        await settle(connect)
    reader, writer = await asyncio.open_connection(sock=lazy[0])
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(6_000_000)
    writer.close()
    client = await connect()
    assert len((await client.next()).body) == 6_000_000
    await client.respond("id-1", b"1")
    assert (await task).payload == b"1"
    for one in lazy[1:]:
        one.close()
