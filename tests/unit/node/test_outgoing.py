"""Requests to URLs that users gave, at real servers of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lambent.dataplane.sandbox.network.policy import AllowedHost, EgressPolicy
from lambent.model.errors import CallerError, PlatformError
from lambent.node.outgoing import READ_BYTES, Denied, GuardedBackend, GuardedHttp


class Server:
    """Answers every request with `answer` and remembers them."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Kind: test\r\n\r\nok"
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head + await reader.readexactly(4))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await listening.wait_closed()


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    opened = GuardedHttp(EgressPolicy(), allow_loopback=True)
    yield opened
    await opened.close()


async def test_a_post_is_answered(server: Server, http: GuardedHttp) -> None:
    reply = await http.post(f"http://localhost:{server.port}/a?b=c", {"x-a": "1"}, b"body", timeout_s=5)
    assert (reply.status, reply.body, reply.headers["x-kind"]) == (200, b"ok", "test")
    head = server.requests[0].decode()
    assert head.startswith("POST /a?b=c HTTP/1.1\r\n")
    assert "x-a: 1\r\n" in head
    assert f"Host: localhost:{server.port}\r\n" in head
    assert head.endswith("body")


async def test_a_redirect_is_not_followed(server: Server, http: GuardedHttp) -> None:
    server.answer = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    assert (await http.post(f"http://127.0.0.1:{server.port}/", {}, b"body", timeout_s=5)).status == 302


async def test_of_a_long_answer_the_beginning_is_read(server: Server, http: GuardedHttp) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n" + b"x" * 1_000_000
    reply = await http.post(f"http://127.0.0.1:{server.port}/", {}, b"body", timeout_s=5)
    assert len(reply.body) == READ_BYTES


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://localhost:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://0.0.0.0:{}/",
        "http://2130706433:{}/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "https://192.168.0.1/",
    ],
)
async def test_where_functions_may_not_connect_the_node_does_not_either(server: Server, url: str) -> None:
    http = GuardedHttp(EgressPolicy())
    with pytest.raises(CallerError, match="may not be connected to"):
        await http.post(url.format(server.port), {}, b"body", timeout_s=5)
    assert server.requests == []
    await http.close()


async def test_an_address_that_the_operator_allowed_is_reached() -> None:
    policy = EgressPolicy(allow_hosts=(AllowedHost.parse("10.255.255.1:9"),))
    backend = GuardedBackend(policy, allow_loopback=False, is_local=lambda _address: False)
    assert await backend.choose("10.255.255.1", 9) == "10.255.255.1"
    with pytest.raises(Denied):
        await backend.choose("10.255.255.1", 10)


@pytest.mark.parametrize(
    "url", ["", "ftp://example.com/", "http://", "nonsense", "http://exa mple/", "http://a" + "b" * 300]
)
async def test_what_is_no_url_is_the_callers_fault(http: GuardedHttp, url: str) -> None:
    with pytest.raises((CallerError, PlatformError)):
        await http.post(url, {}, b"body", timeout_s=5)


@pytest.mark.parametrize("answer", [b"", b"not http\r\n\r\n"])
async def test_no_answer_is_to_be_tried_again(server: Server, http: GuardedHttp, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(PlatformError, match="did not answer"):
        await http.post(f"http://127.0.0.1:{server.port}/", {}, b"body", timeout_s=5)
