from __future__ import annotations

import asyncio
import socket

import pytest

from lambent.dataplane.sandbox.network.relay import Relay


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = socket.create_connection(listener.getsockname())
        second, _ = listener.accept()
    first.setblocking(False)
    second.setblocking(False)
    return first, second


async def test_both_ends_of_both_directions_end_the_relay() -> None:
    loop = asyncio.get_running_loop()
    (client, inner), (outer, server) = _pair(), _pair()
    relay = Relay()
    running = asyncio.create_task(relay.run(inner, outer))
    await loop.sock_sendall(client, b"question")
    client.shutdown(socket.SHUT_WR)
    assert await loop.sock_recv(server, 99) == b"question"
    assert await loop.sock_recv(server, 99) == b""
    await loop.sock_sendall(server, b"answer")
    server.close()
    assert await loop.sock_recv(client, 99) == b"answer"
    assert await loop.sock_recv(client, 99) == b""
    client.close()
    await asyncio.wait_for(running, 5)
    assert (relay.sent_bytes, relay.received_bytes) == (8, 6)


async def test_a_slow_reader_makes_the_writer_wait_in_bounded_memory() -> None:
    (client, inner), (outer, server) = _pair(), _pair()
    running = asyncio.create_task(Relay().run(inner, outer))
    sent = 0
    quiet_rounds = 0
    while quiet_rounds < 50:
        try:
            sent += client.send(bytes(65_536))
            quiet_rounds = 0
        except BlockingIOError:
            quiet_rounds += 1
        await asyncio.sleep(0.001)
        assert sent < 64 << 20, "nobody reads, and still it takes more"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    client.close()
    server.close()


async def test_a_cancelled_relay_resets_both_sides() -> None:
    loop = asyncio.get_running_loop()
    (client, inner), (outer, server) = _pair(), _pair()
    running = asyncio.create_task(Relay().run(inner, outer))
    await loop.sock_sendall(client, b"x")
    assert await loop.sock_recv(server, 1) == b"x"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for end in (client, server):
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(end, 1)
        end.close()


async def test_one_cancelled_before_it_began_leaves_no_socket_open() -> None:
    loop = asyncio.get_running_loop()
    (client, inner), (outer, server) = _pair(), _pair()
    running = asyncio.create_task(Relay().run(inner, outer))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for end in (client, server):
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(end, 1)
        end.close()
