"""InvokeWithResponseStream: what a function writes is there when it writes it, through boto3 and a real node."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Deploy, Deployed

from lambent.testing.node import LambentNode

SOURCE = """
import time

seen = []

def generator(event, context):
    yield {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=b"]}
    for number in range(event["count"]):
        yield f"{time.time()}\\n"
        time.sleep(event["wait"])

async def async_generator(event, context):
    import asyncio
    for piece in (b"a", b"b"):
        yield piece
        await asyncio.sleep(0)

def writer(event, context):
    with context.response_stream(content_type="text/csv") as out:
        for number in range(event["mb"]):
            out.write(b"x" * 1_048_576)
    return "does not count"

def whole(event, context):
    return {"whole": True}

def breaks(event, context):
    yield "one"
    raise ValueError("midway")

def refuses(event, context):
    raise ValueError("at once")

def slow(event, context):
    yield "one"
    time.sleep(60)

def odd(event, context):
    yield "one"
    yield 2

def endless(event, context):
    if event.get("seen"):
        return seen
    return write_endless()

def write_endless():
    try:
        while True:
            yield b"x" * 65_536
    except BaseException as exc:
        seen.append(type(exc).__name__)
        raise
    finally:
        seen.append("closed")

def handler(event, context):
    return globals()[event["do"]](event, context)
"""
NODE = """
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const does = {
  async prelude(event, stream) {
    const out = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: "b" } });
    for (let number = 0; number < 2; number++) {
      out.write(`${Date.now() / 1000}\\n`);
      await wait(event.wait * 1000);
    }
    out.end();
  },
  async typed(event, stream) { stream.setContentType("text/csv"); stream.write("a,b"); stream.end(); },
  async large(event, stream) {
    const { Readable, pipeline } = await import("node:stream");
    const { promisify } = await import("node:util");
    const pieces = (function* () { for (let n = 0; n < event.mb; n++) yield Buffer.alloc(1048576, 97); })();
    await promisify(pipeline)(Readable.from(pieces), stream);
  },
  async breaks(event, stream) { stream.write("one"); await wait(1); throw new TypeError("midway"); },
  async refuses() { throw new TypeError("at once"); },
};
export const handler = awslambda.streamifyResponse((event, stream, context) => does[event.do](event, stream, context));
"""


@pytest.fixture(scope="module")
def python(deploy: Deploy) -> Deployed:
    return deploy(SOURCE, Timeout=20, MemorySize=256)


@pytest.fixture(scope="module")
def node_js(deploy: Deploy) -> Deployed:
    return deploy({"app.mjs": NODE}, Runtime="nodejs20.x", Timeout=20, MemorySize=256)


def stream(function: Deployed, event: Any) -> tuple[list[tuple[float, bytes]], dict[str, str], Any]:
    """Pieces with the time of their arrival, what came at the end, and the response."""
    response = function.client.invoke_with_response_stream(
        FunctionName=function.name, Payload=json.dumps(event).encode()
    )
    pieces: list[tuple[float, bytes]] = []
    end: dict[str, str] = {}
    with contextlib.closing(response["EventStream"]) as messages:
        for message in messages:
            if "PayloadChunk" in message:
                pieces.append((time.time(), message["PayloadChunk"]["Payload"]))
            else:
                end = message["InvokeComplete"]
    return pieces, end, response


def together(pieces: list[tuple[float, bytes]]) -> bytes:
    return b"".join(piece for _, piece in pieces)


@pytest.mark.parametrize("runtime", ["python", "node_js"])
def test_each_piece_is_there_before_the_function_writes_the_next(runtime: str, request: pytest.FixtureRequest) -> None:
    function = request.getfixturevalue(runtime)
    do = {"python": "generator", "node_js": "prelude"}[runtime]
    pieces, end, response = stream(function, {"do": do, "count": 2, "wait": 1})
    head, _, rest = together(pieces).partition(b"\0" * 8)
    assert json.loads(head)["statusCode"] == 201
    first_written, second_written = (float(line) for line in rest.split())
    first_at = next(at for at, piece in pieces if f"{first_written}".encode()[:10] in piece)
    assert first_written <= first_at < second_written
    assert end == {}
    remapped = response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-remapped-content-type"]
    assert remapped == "application/vnd.awslambda.http-integration-response"
    assert response["ExecutedVersion"] == "$LATEST"


def test_async_generators_and_writers_stream_too(python: Deployed) -> None:
    pieces, _, _ = stream(python, {"do": "async_generator"})
    assert together(pieces) == b"ab"
    pieces, _, response = stream(python, {"do": "writer", "mb": 1})
    assert together(pieces) == b"x" * 1_048_576
    assert response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-remapped-content-type"] == "text/csv"


def test_a_function_that_does_not_stream_is_answered_in_one_piece(python: Deployed) -> None:
    pieces, end, _ = stream(python, {"do": "whole"})
    assert (together(pieces), end) == (b'{"whole": true}', {})


@pytest.mark.parametrize(("runtime", "type_"), [("python", "ValueError"), ("node_js", "TypeError")])
def test_an_error_in_the_midst_comes_at_the_end_of_the_stream(
    runtime: str, type_: str, request: pytest.FixtureRequest
) -> None:
    function = request.getfixturevalue(runtime)
    pieces, end, _ = stream(function, {"do": "breaks"})
    assert together(pieces) == b"one"
    assert json.loads(end["ErrorDetails"])["errorType"] == type_
    pieces, end, _ = stream(function, {"do": "refuses"})
    assert together(pieces) == b""
    assert json.loads(end["ErrorDetails"])["errorMessage"] == "at once"


def test_a_time_limit_in_the_midst_is_told_too(python: Deployed, deploy: Deploy) -> None:
    function = deploy(SOURCE, Timeout=1)
    pieces, end, _ = stream(function, {"do": "slow"})
    assert together(pieces) == b"one"
    assert end["ErrorCode"] == "Sandbox.Timedout"


def test_a_piece_that_is_no_text_is_the_functions_error(python: Deployed) -> None:
    _, end, _ = stream(python, {"do": "odd"})
    assert end["ErrorCode"] == "Runtime.MarshalError"
    assert "int" in end["ErrorDetails"]


def test_whoever_invokes_without_a_stream_gets_the_pieces_together(python: Deployed, node_js: Deployed) -> None:
    response = python.client.invoke(FunctionName=python.name, Payload=b'{"do": "async_generator"}')
    assert response["Payload"].read() == b"ab"
    response = node_js.client.invoke(FunctionName=node_js.name, Payload=b'{"do": "typed"}')
    assert response["Payload"].read() == b"a,b"
    response = python.client.invoke(FunctionName=python.name, Payload=b'{"do": "writer", "mb": 7}')
    assert json.load(response["Payload"])["errorType"] == "Function.ResponseSizeTooLarge"
    # The environment is as good as before.
    assert python({"do": "whole"}).payload == {"whole": True}


@pytest.mark.parametrize("runtime", ["python", "node_js"])
def test_a_large_answer_does_not_gather_in_the_node_while_nobody_reads(
    runtime: str, node: LambentNode, request: pytest.FixtureRequest
) -> None:
    function = request.getfixturevalue(runtime)
    do = {"python": "writer", "node_js": "large"}[runtime]
    before_mb = resident_mb(node.pid)
    response = function.client.invoke_with_response_stream(
        FunctionName=function.name, Payload=json.dumps({"do": do, "mb": 150}).encode()
    )
    events = iter(response["EventStream"])
    size = len(next(events)["PayloadChunk"]["Payload"])
    time.sleep(1)
    assert resident_mb(node.pid) - before_mb < 20
    for message in events:
        size += len(message.get("PayloadChunk", {}).get("Payload", b""))
    response["EventStream"].close()
    assert size == 150 * 1_048_576


def test_more_than_200_mb_is_refused(python: Deployed) -> None:
    pieces, end, _ = stream(python, {"do": "writer", "mb": 201})
    assert end["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert len(together(pieces)) <= 200 * 1_048_576


def test_a_client_that_leaves_ends_the_writing_and_the_environment_serves_on(python: Deployed) -> None:
    client = python.client
    response = client.invoke_with_response_stream(FunctionName=python.name, Payload=b'{"do": "endless"}')
    # So that no other environment serves who asks while it still writes.
    client.put_function_concurrency(FunctionName=python.name, ReservedConcurrentExecutions=1)
    next(iter(response["EventStream"]))
    response["EventStream"].close()
    deadline_at = time.monotonic() + 15
    seen = None
    while seen is None:
        try:
            seen = python({"do": "endless", "seen": True}).payload
        except client.exceptions.TooManyRequestsException:
            assert time.monotonic() < deadline_at
            time.sleep(0.1)
    client.delete_function_concurrency(FunctionName=python.name)
    assert seen == ["GeneratorExit", "closed"]


def test_bad_requests_are_refused_before_anything_runs(python: Deployed) -> None:
    client = python.client
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="nobody")
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke_with_response_stream(FunctionName=python.name, Payload=b"{")
    dry = client.invoke_with_response_stream(FunctionName=python.name, InvocationType="DryRun")
    dry["EventStream"].close()
    assert dry["StatusCode"] == 204


def resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024
