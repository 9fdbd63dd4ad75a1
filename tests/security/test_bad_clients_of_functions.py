"""What bad clients send on to functions: raw bytes against function URLs of a real node."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, Deploy, Deployed, connect
from tests.integration.gateway.http_api import ECHO
from tests.integration.gateway.test_function_urls import Site
from tests.security.test_bad_clients import Wire, resident_mb

from lambent.testing.node import LambentNode, make_zip

SECRET = "not to be seen"


@pytest.fixture(scope="module")
def echo(deploy: Deploy) -> Site:
    return Site(deploy(ECHO))


@pytest.fixture(scope="module")
def files(deploy: Deploy) -> Site:
    page = {"public/index.html": "<p>page</p>", "public/a b.txt": "a b", "secret.txt": SECRET, "app.py": ""}
    return Site(deploy(page, Handler="lambent_static:public"))


def request(site: Site, target: bytes, *, method: bytes = b"GET", more: bytes = b"", body: bytes = b"") -> bytes:
    head = method + b" " + target + b" HTTP/1.1\r\nHost: " + site.host.encode() + b"\r\n" + more
    if body:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + b"Connection: close\r\n\r\n" + body


def ask(node: LambentNode, data: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body."""
    with Wire(node) as wire:
        wire.send(data)
        head, _, body = wire.read_all().partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


def see(node: LambentNode, data: bytes) -> Any:
    """The event that the function was handed."""
    status, _, body = ask(node, data)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize(
    "target",
    [
        b"/%",
        b"/%z",
        b"/%zz",
        b"/%c3%28",
        b"/%00",
        b"/%ed%a0%80",
        b"/%2e%2e/%2e%2e",
        b"/..%2f..",
        b"/a//b/./../c",
        b"/?a=%&b=%zz&c=%c3%28&=&&d",
        b"/\\..\\a",
    ],
)
def test_escapes_that_are_none_reach_a_function_as_the_text_they_are(
    node: LambentNode, echo: Site, target: bytes
) -> None:
    event = see(node, request(echo, target))
    path, _, query = target.decode().partition("?")
    assert (event["rawPath"], event["rawQueryString"]) == (path, query)
    # Any client that asks again as the event says asks for the same.
    assert event["requestContext"]["http"]["path"] == path


def test_names_and_values_that_are_no_text_are_text_in_the_event(node: LambentNode, echo: Site) -> None:
    event = see(node, request(echo, b"/?%ff=%fe", more=b"X-Raw: \xff\xfe\r\nCookie: a=\xff\r\n"))
    assert event["queryStringParameters"] == {"\ufffd": "\ufffd"}
    assert event["headers"]["x-raw"] == "\xff\xfe"
    assert event["cookies"] == ["a=\xff"]


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b'{"a": "\xc3\x28"}', b"\xed\xa0\x80"])
def test_a_body_that_is_no_text_is_handed_on_in_base64(node: LambentNode, echo: Site, body: bytes) -> None:
    more = b"Content-Type: application/json\r\n"
    event = see(node, request(echo, b"/", method=b"POST", more=more, body=body))
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


def test_a_body_that_grows_when_it_is_unpacked_is_not_unpacked(node: LambentNode, echo: Site) -> None:
    bomb = gzip.compress(bytes(200 * 1_048_576))
    before_mb = resident_mb(node.pid)
    more = b"Content-Type: text/plain\r\nContent-Encoding: gzip\r\n"
    event = see(node, request(echo, b"/", method=b"POST", more=more, body=bomb))
    assert base64.b64decode(event["body"]) == bomb
    assert resident_mb(node.pid) - before_mb < 50


def test_headers_that_only_a_front_may_add_are_not_believed(node: LambentNode, echo: Site) -> None:
    forged = (
        b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n"
        b"X-Amzn-Trace-Id: Root=forged\r\nX-Amzn-RequestId: forged\r\n"
    )
    event = see(node, request(echo, b"/", more=forged))
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert event["headers"]["x-forwarded-proto"] == "http"
    assert event["requestContext"]["requestId"] != "forged"


def test_repeated_headers_are_joined_and_lengths_are_the_nodes_own(node: LambentNode, echo: Site) -> None:
    more = b"X-A: 1\r\nx-a: 2\r\nX_A: 3\r\nTE: trailers\r\nProxy-Authorization: x\r\n"
    headers = see(node, request(echo, b"/", method=b"POST", more=more, body=b"abc"))["headers"]
    assert (headers["x-a"], headers["x_a"], headers["content-length"]) == ("1,2", "3", "3")
    assert not {"te", "connection", "transfer-encoding", "proxy-authorization"} & set(headers)


@pytest.mark.parametrize(
    "target",
    [
        b"/../secret.txt",
        b"/../../../../../../etc/passwd",
        b"/%2e%2e/secret.txt",
        b"/..%2fsecret.txt",
        b"/..%5csecret.txt",
        b"/%2e%2e%2fsecret.txt",
        b"/./../secret.txt",
        b"//../secret.txt",
        b"/public/../../secret.txt",
        b"/%252e%252e/secret.txt",
        b"/..%00/secret.txt",
        b"/var/task/secret.txt",
        b"//var/task/secret.txt",
    ],
)
def test_no_path_leads_out_of_a_folder_of_files(node: LambentNode, files: Site, target: bytes) -> None:
    status, _, body = ask(node, request(files, target))
    assert status in (400, 404), body
    assert SECRET.encode() not in body
    assert ask(node, request(files, b"/a%20b.txt"))[2] == b"a b"


@pytest.mark.parametrize("target", [b"/_lambent/../health", b"/_lambent/url/../status", b"/_lambent/%2e%2e/status"])
def test_no_path_of_a_functions_host_leads_to_the_nodes_own(node: LambentNode, echo: Site, target: bytes) -> None:
    assert see(node, request(echo, target))["rawPath"].encode() == target


def test_the_answer_to_head_has_no_body_and_what_follows_is_not_confused(node: LambentNode, echo: Site) -> None:
    with Wire(node) as wire:
        host = b"Host: " + echo.host.encode() + b"\r\n"
        wire.send(b"HEAD /first HTTP/1.1\r\n" + host + b"\r\n" + request(echo, b"/second"))
        first, _, rest = wire.read_all().partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["rawPath"] == "/second"


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "M-SEARCH"])
def test_any_other_method_is_the_functions_to_answer(node: LambentNode, echo: Site, method: str) -> None:
    assert see(node, request(echo, b"/", method=method.encode()))["requestContext"]["http"]["method"] == method


def test_a_method_that_nobody_knows_is_refused(node: LambentNode, echo: Site) -> None:
    status, head, _ = ask(node, request(echo, b"/", method=b"X"))
    assert (status, b"connection: close" in head) == (400, True)


def test_a_client_that_has_said_all_and_closed_its_side_is_answered(node: LambentNode, deploy: Deploy) -> None:
    slow = Site(deploy("import time\ndef handler(event, context):\n    time.sleep(0.5)\n    return 'done'\n"))
    with Wire(node) as wire:
        wire.send(request(slow, b"/"))
        wire.socket.shutdown(socket.SHUT_WR)
        answer = wire.read_all()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'"done"')


def test_a_client_that_closes_its_side_in_the_midst_of_a_request_reaches_no_function(
    node: LambentNode, deploy: Deploy
) -> None:
    function = deploy("count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count\n")
    site = Site(function)
    for cut in (b"POST / HT", b"POST / HTTP/1.1\r\nHost: ", request(site, b"/", method=b"POST", body=b"12345")[:-1]):
        with Wire(node) as wire:
            wire.send(cut)
            wire.socket.shutdown(socket.SHUT_WR)
            assert b" 200 " not in wire.read_all()
    assert function().payload == 1


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[LambentNode]:
    environ = {"LAMBENT_HTTP_MAX_CONNECTIONS": "50", "LAMBENT_HTTP_WRITE_TIMEOUT_SECONDS": "1"}
    node = LambentNode(tmp_path, environ=environ)
    with node.running():
        yield node


def test_a_flood_of_connections_is_refused_and_ends_with_the_clients(narrow: LambentNode) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    before_mb = resident_mb(narrow.pid)
    with contextlib.ExitStack() as opened:
        wires = [opened.enter_context(Wire(narrow)) for _ in range(400)]
        for wire in wires:
            wire.send(health)
        answers = [wire.socket.recv(100) for wire in wires]
        statuses = [answer.split()[1] for answer in answers if answer]
        assert statuses.count(b"200") == 50
        assert set(statuses) == {b"200", b"503"}
        assert resident_mb(narrow.pid) - before_mb < 20
    give_up_at = time.monotonic() + 10
    while True:
        with Wire(narrow) as wire:
            wire.send(health)
            if b" 200 " in wire.socket.recv(100):
                break
        assert time.monotonic() < give_up_at


def test_a_client_that_does_not_take_its_answer_is_cut_off(narrow: LambentNode) -> None:
    client = connect(narrow)
    site = Site(deploy_large(client))
    with Wire(narrow) as wire:
        wire.send(request(site, b"/"))
        first = wire.socket.recv(1_000)
        assert first.startswith(b"HTTP/1.1 200 ")
        # Nothing is taken for longer than the limit.
        time.sleep(4)
        rest = wire.read_all()
    assert len(first) + len(rest) < 5_000_000


def deploy_large(client: Any) -> Deployed:
    name = f"large-{uuid.uuid4().hex[:8]}"
    source = "def handler(event, context):\n    return 'x' * 5_000_000\n"
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": source})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return Deployed(client=client, name=name)
