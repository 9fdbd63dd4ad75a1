"""Invoke over raw connections: what a client may do that boto3 never does."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import Deploy, Deployed, ask

from lambent.awsapi.sigv4 import sign

SOURCE = """
import time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {"echo": event.get("text", ""), "id": context.aws_request_id}
"""


class Wire:
    """One connection, and signed requests as bytes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        address = urlsplit(client.meta.endpoint_url)
        self.socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=30)
        self._file = self.socket.makefile("rb")

    def request(
        self, function: str, event: Any, *, query: str = "", version: str = "HTTP/1.1", more: str = "", chunks: int = 0
    ) -> bytes:
        body = json.dumps(event).encode()
        path = f"/2015-03-31/functions/{function}/invocations{query}"
        credentials = self._client._request_signer._credentials
        headers = sign(
            method="POST",
            url=self._client.meta.endpoint_url + path,
            headers={"content-type": "application/json"},
            body=body,
            access_key=credentials.access_key,
            secret=credentials.secret_key,
            region="us-east-1",
        )
        if chunks:
            headers["transfer-encoding"] = "chunked"
            pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            headers["content-length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {path} {version}\r\n{lines}{more}\r\n".encode() + body

    def send(self, *requests: bytes) -> None:
        self.socket.sendall(b"".join(requests))

    def read(self) -> tuple[int, dict[str, str], Any]:
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return self.read()
        body = self._file.read(int(headers["content-length"]))
        return status, headers, json.loads(body)

    def is_closed(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def wire(client: Any) -> Iterator[Wire]:
    opened = Wire(client)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def echo(deploy: Deploy) -> Deployed:
    return deploy(SOURCE, Timeout=20)


def test_one_connection_serves_one_invocation_after_the_other(wire: Wire, echo: Deployed) -> None:
    for text in ("one", "two"):
        wire.send(wire.request(echo.name, {"text": text}))
        status, headers, answer = wire.read()
        assert (status, answer["echo"]) == (200, text)
        assert headers["x-amzn-requestid"] == answer["id"]
        assert headers["x-amz-executed-version"] == "$LATEST"
        assert "date" in headers


def test_who_has_asked_all_and_closed_that_side_is_answered(wire: Wire, echo: Deployed) -> None:
    wire.send(wire.request(echo.name, {"text": "one", "sleep": 0.5}))
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.read()[2]["echo"] == "one"
    assert wire.is_closed()


def test_pipelined_invocations_are_answered_in_their_order(wire: Wire, echo: Deployed) -> None:
    events = [{"text": "slow", "sleep": 0.5}, {"text": "fast"}, {"text": "last"}]
    wire.send(*(wire.request(echo.name, event) for event in events))
    assert [wire.read()[2]["echo"] for _ in events] == ["slow", "fast", "last"]


def test_a_refused_invocation_does_not_disturb_those_behind_it(wire: Wire, echo: Deployed) -> None:
    wire.send(wire.request("no-such-function", {}), wire.request(echo.name, {"text": "a"}), wire.request("neither", {}))
    answers = [wire.read() for _ in range(3)]
    assert [status for status, _, _ in answers] == [404, 200, 404]
    assert answers[0][1]["x-amzn-errortype"] == "ResourceNotFoundException"
    assert answers[1][2]["echo"] == "a"


def test_other_requests_pipelined_between_invocations_keep_their_place(wire: Wire, echo: Deployed) -> None:
    wire.send(
        wire.request(echo.name, {"text": "a", "sleep": 0.2}),
        b"GET /health HTTP/1.1\r\nhost: lambent\r\n\r\n",
        wire.request(echo.name, {"text": "b"}),
    )
    answers = [wire.read()[2] for _ in range(3)]
    assert [answers[0].get("echo"), answers[1].get("status"), answers[2].get("echo")] == ["a", "ok", "b"]


@pytest.mark.parametrize("size", [10, 65_535, 65_537, 1_000_000])
@pytest.mark.parametrize("chunks", [0, 10_000])
def test_events_of_every_size_arrive_whole_in_one_piece_or_many(
    wire: Wire, echo: Deployed, size: int, chunks: int
) -> None:
    text = "ü" + "x" * size
    wire.send(wire.request(echo.name, {"text": text}, chunks=chunks))
    assert wire.read()[2]["echo"] == text


def test_an_event_that_comes_byte_by_byte_is_served(wire: Wire, echo: Deployed) -> None:
    for byte in wire.request(echo.name, {"text": "drop"}):
        wire.send(bytes((byte,)))
    assert wire.read()[2]["echo"] == "drop"


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(wire: Wire, echo: Deployed) -> None:
    head, _, body = wire.request(echo.name, {"text": "asked"}, more="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    wire.send(head, b"\r\n\r\n")
    assert wire._file.readline().startswith(b"HTTP/1.1 100")
    assert wire._file.readline() == b"\r\n"
    wire.send(body)
    assert wire.read()[2]["echo"] == "asked"


@pytest.mark.parametrize(("version", "more"), [("HTTP/1.1", "connection: close\r\n"), ("HTTP/1.0", "")])
def test_a_connection_that_is_not_to_be_kept_is_closed_after_the_answer(
    wire: Wire, echo: Deployed, version: str, more: str
) -> None:
    wire.send(wire.request(echo.name, {"text": "last"}, version=version, more=more))
    assert wire.read()[2]["echo"] == "last"
    assert wire.is_closed()


def test_the_qualifier_counts(wire: Wire, echo: Deployed, client: Any) -> None:
    version = client.publish_version(FunctionName=echo.name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=echo.name, Qualifier=version)
    wire.send(wire.request(echo.name, {"text": "published"}, query=f"?Qualifier={version}"))
    status, headers, answer = wire.read()
    assert (status, answer["echo"], headers["x-amz-executed-version"]) == (200, "published", version)


def test_a_signature_is_needed_and_checked(wire: Wire, echo: Deployed) -> None:
    good = wire.request(echo.name, {"text": "signed"})
    wire.send(good.replace(b'"signed"', b'"forged"'))
    assert wire.read()[0] == 403
    wire.send(
        b"POST /2015-03-31/functions/%b/invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
        % echo.name.encode()
    )
    assert wire.read()[0] == 403


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"LogType": "Loud"}, "ValidationException"),
        ({"TenantId": "blue"}, "InvalidParameterValueException"),
        ({"DurableExecutionName": "once"}, "InvalidParameterValueException"),
    ],
)
@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_what_an_invocation_asks_for_in_vain_is_refused_by_name(
    client: Any, echo: Deployed, asked: dict[str, str], code: str, kind: str
) -> None:
    with pytest.raises(client.exceptions.ClientError, match=f"(?i){next(iter(asked))}") as caught:
        client.invoke(FunctionName=echo.name, InvocationType=kind, **asked)
    assert caught.value.response["Error"]["Code"] == code


def test_a_qualifier_that_none_can_have_is_refused_as_such(wire: Wire, echo: Deployed) -> None:
    wire.send(wire.request(echo.name, {}, query="?Qualifier=a%20b"))
    status, headers, _ = wire.read()
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")


@pytest.mark.parametrize("body", [b"{", b"nothing", b'{"a": 1} x', b"\xff"])
def test_an_event_that_is_no_json_is_refused_and_nothing_runs(echo: Deployed, client: Any, body: bytes) -> None:
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName=echo.name, Payload=body)


def test_a_client_that_left_costs_its_function_no_slot(client: Any, deploy: Deploy) -> None:
    function = deploy(SOURCE, Timeout=20)
    client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=1)
    leaving = Wire(client)
    leaving.send(leaving.request(function.name, {"sleep": 0.5}))
    while not [entry for entry in ask(client, "/_lambent/status")["environments"] if entry["state"] == "busy"]:
        time.sleep(0.01)
    leaving.close()
    while [entry for entry in ask(client, "/_lambent/status")["environments"] if entry["state"] == "busy"]:
        time.sleep(0.01)
    assert function({"text": "next"}).payload["echo"] == "next"
