"""HTTP servers as functions: a real program beside the adapter, and events as the contract has them."""

from __future__ import annotations

import json
import select
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.runtime.test_applications import Context, call, first, second, serve

from lambent.dataplane.runtime.applications.server import (
    ServerFailed,
    ServerHandler,
    ServerNotStarted,
    read_settings,
)
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.servers import is_server

SERVER = """#!{python}
import http.server, json, os, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/end":
            os._exit(3)
        if self.path == "/pieces":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in (b"one", b"two"):
                self.wfile.write(b"3\\r\\n" + piece + b"\\r\\n")
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        text = json.dumps({{
            "path": self.path, "method": self.command, "body": body.decode(), "pid": os.getpid(),
            "headers": dict(self.headers), "peer": self.client_address[1],
        }}).encode()
        self.send_response(503 if self.path == "/broken" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("set-cookie", "a=1")
        self.send_header("set-cookie", "b=2")
        self.send_header("content-length", str(len(text)))
        if self.path == "/last":
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_HEAD = do_PUT = answer

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

Start = Callable[..., ServerHandler]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made = []

    def start_server(source: str = SERVER.format(python=sys.executable), **variables: str) -> ServerHandler:
        program = tmp_path / "run.sh"
        program.write_text(source)
        program.chmod(0o755)
        handler = ServerHandler(str(program), read_settings(variables, shares_loopback=True))
        made.append(handler)
        handler.startup()
        return handler

    yield start_server
    for handler in made:
        handler.stop()


def test_requests_reach_a_server_over_one_connection(start: Start) -> None:
    handler = start()
    given = call("POST", "/a%20b", query="q=%2B&q=2", body=b"hello", x_one="1")
    document = handler(second(given), Context())
    assert document["cookies"] == ["a=1", "b=2"]
    seen = json.loads(document["body"])
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/a%20b?q=%2B&q=2", "hello")
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert (headers["host"], headers["x-one"]) == ("shop.example:8443", "1")
    assert json.loads(headers["x-amzn-request-context"])["http"]["method"] == "POST"
    again = json.loads(handler(second(given), Context())["body"])
    assert again["peer"] == seen["peer"]
    document = handler(first(given), Context())
    assert document["multiValueHeaders"]["set-cookie"] == ["a=1", "b=2"]
    assert serve(handler, second(call("HEAD")))[2] == b""


def test_a_connection_that_the_server_closed_is_opened_anew(start: Start) -> None:
    handler = start()
    before = json.loads(handler(second(call(path="/last")), Context())["body"])
    # Its end of the connection: what is sent before the kernel has told us of it is lost.
    select.select([handler._connection.sock], [], [])
    after = json.loads(handler(second(call("POST")), Context())["body"])
    assert before["peer"] != after["peer"]


def test_a_server_that_ended_is_started_again_by_the_next_request(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = start()
    status, _, body = serve(handler, second(call("POST", "/end")))
    assert (status, body) == (502, b"Bad Gateway")
    assert "RemoteDisconnected" in capsys.readouterr().err
    while handler._ended() is None:  # the kernel tells of it a moment after its sockets closed
        pass
    assert serve(handler, second(call()))[0] == 200


def test_what_a_server_sends_in_pieces_leaves_in_pieces(start: Start) -> None:
    handler = start()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert handler(second(call(path="/pieces")), Context(theirs)) is None
        sent = ours.recv(65_536)
    assert sent.startswith(frames.BEGIN)
    assert sent.index(b"one") < sent.index(b"two")
    assert serve(handler, second(call(path="/pieces")))[2] == b"onetwo"


def test_events_that_are_no_requests_are_posted(start: Start) -> None:
    answer = start(AWS_LWA_PASS_THROUGH_PATH="/jobs")({"job": 1}, Context())
    assert (answer["method"], answer["path"], json.loads(answer["body"])) == ("POST", "/jobs", {"job": 1})


def test_a_status_may_mean_that_the_function_failed(start: Start) -> None:
    handler = start(AWS_LWA_ERROR_STATUS_CODES="500,502-504")
    with pytest.raises(ServerFailed, match="503"):
        handler(second(call(path="/broken")), Context())
    with pytest.raises(ServerFailed, match="503"):
        start(AWS_LWA_PASS_THROUGH_PATH="/broken")({}, Context())


def test_the_base_path_is_taken_off(start: Start) -> None:
    handler = start(AWS_LWA_REMOVE_BASE_PATH="/shop")
    paths = [json.loads(serve(handler, second(call(path=path)))[2])["path"] for path in ("/shop", "/shop/a", "/shops")]
    assert paths == ["/", "/a", "/shops"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("#!/bin/sh\nexit 4\n", "ended with status 4 before it was ready"),
        ("#!/bin/sh\nkill -9 $$\n", "ended with signal 9 before it was ready"),
        ("#!/no/such/shell\n", "cannot be started"),
    ],
)
def test_a_server_that_does_not_start_is_told(start: Start, source: str, told: str) -> None:
    with pytest.raises(ServerNotStarted, match=told):
        start(source)


def test_settings_have_the_names_of_the_convention() -> None:
    settings = read_settings({"PORT": "8000", "READINESS_CHECK_PATH": "/old"}, shares_loopback=False)
    assert (settings.port, settings.readiness_port, settings.readiness_path) == (8000, 8000, "/old")
    settings = read_settings(
        {"PORT": "8000", "AWS_LWA_PORT": "9000", "AWS_LWA_READINESS_CHECK_PROTOCOL": "TCP"}, shares_loopback=False
    )
    assert (settings.port, settings.readiness_protocol) == (9000, "tcp")
    assert read_settings({}, shares_loopback=False).port == 8080
    assert read_settings({}, shares_loopback=True).port != 8080
    with pytest.raises(ServerNotStarted, match="no number"):
        read_settings({"AWS_LWA_PORT": "http"}, shares_loopback=False)


def test_what_a_server_is_told_by() -> None:
    assert is_server("nodejs22.x", "run.sh", {})
    assert is_server("python3.12", "server", {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"})
    assert is_server("provided.al2023", "bootstrap", {"AWS_LWA_PORT": "8000"})
    assert not is_server("provided.al2023", "bootstrap", {"PORT": "8000"})
    assert not is_server("python3.12", "app.handler", {"AWS_LWA_PORT": "8000"})
    assert not is_server("python3.12", "app.handler", {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel"})
