"""What clients of the HTTP server do wrong, by mistake or on purpose: raw bytes against a real node."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lambent.testing.node import LambentNode

OK = b'{"status":"ok"'
HEAD = b"POST /health HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    # Where a request ends must be beyond doubt, or what follows is smuggled past whoever stands in front.
    "a length and a coding": (400, HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "two lengths that agree": (400, HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    "a list of lengths": (400, HEAD + b"Content-Length: 1, 1\r\n\r\nx"),
    "a length with a sign": (400, HEAD + b"Content-Length: +1\r\n\r\nx"),
    "a negative length": (400, HEAD + b"Content-Length: -1\r\n\r\nx"),
    "a hexadecimal length": (400, HEAD + b"Content-Length: 0x1\r\n\r\nx"),
    "a length beyond all numbers": (400, HEAD + b"Content-Length: 99999999999999999999\r\n\r\nx"),
    "chunked, and more": (400, HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "two codings": (400, HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a coding nearly chunked": (501, HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "a coding before chunked": (501, HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "identity": (501, HEAD + b"Transfer-Encoding: identity\r\n\r\nx"),
    "a space before the colon": (400, HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "a coding of HTTP/1.0": (400, b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a chunk of no size": (400, CHUNKED + b"zz\r\nx\r\n0\r\n\r\n"),
    "a chunk of negative size": (400, CHUNKED + b"-1\r\nx\r\n0\r\n\r\n"),
    "a chunk of endless size": (400, CHUNKED + b"fffffffffffffffff\r\nx\r\n0\r\n\r\n"),
    "a chunk longer than it says": (400, CHUNKED + b"1\r\nxx\r\n0\r\n\r\n"),
    "chunks with bare line feeds": (400, CHUNKED + b"1\nx\n0\n\n"),
    "a trailer that is a length": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
    # Lines that others may read otherwise.
    "a folded header": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
    "bare line feeds": (400, b"GET /health HTTP/1.1\nHost: a\n\n"),
    "a bare carriage return": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n"),
    "a NUL in a value": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
    "a control character in a name": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n"),
    "a space before the first header": (400, b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a header without a colon": (400, b"GET /health HTTP/1.1\r\nHost a\r\n\r\n"),
    # Whose request it is must be beyond doubt, too.
    "no host": (400, b"GET /health HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "a host that is none": (400, b"GET /health HTTP/1.1\r\nHost: a b/c\r\n\r\n"),
    "a target with a host that is none": (400, b"GET http://a@b/health HTTP/1.1\r\nHost: a\r\n\r\n"),
    # Targets.
    "a space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "bytes beyond ASCII in the target": (400, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target without a slash": (400, b"GET health HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target that is too long": (414, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    # Heads that are too large.
    "a header that is too long": (431, b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000),
    "too many headers": (431, b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000 + b"\r\n"),
    # Versions and methods.
    "HTTP/0.9": (505, b"GET /health\r\n\r\n"),
    "HTTP/2.0 without its frames": (505, b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n"),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a method in small letters": (400, b"get /health HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (405, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    "TRACE": (405, b"TRACE /health HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an expectation": (417, HEAD + b"Content-Length: 1\r\nExpect: magic\r\n\r\nx"),
}
SERVED: dict[str, bytes] = {
    "HTTP/1.0 without a host": b"GET /health HTTP/1.0\r\n\r\n",
    "empty lines before the request": b"\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a host": b"GET http://a/health HTTP/1.1\r\nHost: b\r\n\r\n",
    "an address of IPv6 as host": b"GET /health HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "an extension of a chunk": CHUNKED + b"1;a=b\r\nx\r\n0\r\n\r\n",
    "a trailer": CHUNKED + b"0\r\nX: a\r\n\r\n",
    "a body of a GET": b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "another protocol offered": b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
}


class Wire:
    def __init__(self, node: LambentNode) -> None:
        address = urlsplit(node.endpoint)
        self.socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=10)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        # Refused before it is all sent: what counts is the answer.
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def read_answers(self, count: int = 1) -> bytes:
        """Until there are so many bodies, or the end."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while data.count(OK) < count and (piece := self.socket.recv(65_536)):
                data += piece
        return data

    def read_all(self) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(65_536):
                data += piece
        return data


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    """A node with little patience."""
    environ = {
        "LAMBENT_HTTP_HEADER_TIMEOUT_SECONDS": "1",
        "LAMBENT_HTTP_BODY_TIMEOUT_SECONDS": "1",
        "LAMBENT_HTTP_IDLE_TIMEOUT_SECONDS": "1",
        "LAMBENT_HTTP_WRITE_TIMEOUT_SECONDS": "1",
    }
    node = LambentNode(tmp_path_factory.mktemp("strict") / "data", environ=environ)
    with node.running():
        yield node


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_malformed_is_refused_once_and_ends_the_connection(node: LambentNode, case: str) -> None:
    status, request = REFUSED[case]
    with Wire(node) as wire:
        wire.send(request + b"GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        answer = wire.read_all()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


@pytest.mark.parametrize("case", SERVED)
def test_what_is_unusual_and_well_formed_is_served(node: LambentNode, case: str) -> None:
    with Wire(node) as wire:
        wire.send(SERVED[case])
        answer = wire.read_answers()
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer[:200]


def test_requests_in_a_row_are_answered_in_their_order_and_bad_ones_after_them(node: LambentNode) -> None:
    good = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with Wire(node) as wire:
        wire.send(good * 20)
        assert wire.read_answers(20).count(b"200 OK") == 20
        wire.send(good + b"nonsense\r\n\r\n")
        answer = wire.read_all()
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_body_is_asked_for_only_when_it_is_wanted(node: LambentNode) -> None:
    with Wire(node) as wire:
        wire.send(HEAD + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"x")
        assert wire.read_answers().startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost",
        b"POST /2015-03-31/functions/a/invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
        HEAD + b"Content-Length: 10\r\n\r\n12345",
        CHUNKED + b"5\r\n123",
    ],
)
def test_a_client_that_does_not_go_on_is_not_waited_for(strict: LambentNode, sent: bytes) -> None:
    with Wire(strict) as wire:
        wire.send(sent)
        answer = wire.read_all()
    assert answer == b"" if not sent else answer.startswith(b"HTTP/1.1 408 "), answer


def test_a_head_that_dribbles_in_is_not_waited_for_either(strict: LambentNode) -> None:
    with Wire(strict) as wire:
        began = time.monotonic()
        wire.send(b"GET /health HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 20:
                wire.socket.sendall(b"X: a\r\n")
                time.sleep(0.05)
        assert time.monotonic() < began + 20


def test_an_idle_connection_is_closed_without_a_word(strict: LambentNode) -> None:
    with Wire(strict) as wire:
        wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = wire.read_all()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"200 OK" in answer


def test_a_flood_of_bad_requests_costs_neither_memory_nor_log(node: LambentNode) -> None:
    before_mb, lines = resident_mb(node.pid), node.output.count("\n")
    head = b"GET /health HTTP/1.1\r\nHost: a\r\nX: "
    for _ in range(200):
        with Wire(node) as wire:
            wire.send(head + b"a" * 200_000)
            wire.read_all()
    assert resident_mb(node.pid) - before_mb < 20
    assert node.output.count("\n") == lines
    with Wire(node) as wire:
        wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        body = wire.read_answers().partition(b"\r\n\r\n")[2]
    assert json.loads(body)["status"] == "ok"


def resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024
