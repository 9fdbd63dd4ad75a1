"""Statuses, headers, bodies and the order of events as the contract's own emulator gives them.

Where the expectation is not the emulator's, the test says so.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from tests.channels import deliver

from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Reply
from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.wire.frames import Call

if TYPE_CHECKING:
    from tests.conformance.runtime_api.conftest import Answer, Client

    Connect = Callable[[], Awaitable[Client]]

API = "/2018-06-01/runtime"
LIMIT = 6_291_556
STREAMING = b"Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
INVALID_ID = b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n'


def forbidden(source: str, target: str) -> bytes:
    message = f"State transition from {source} to {target} failed for runtime. Error: State transition is not allowed"
    return f'{{"errorMessage":"{message}","errorType":"InvalidStateTransition"}}\n'.encode()


async def start(channel: RuntimeApiChannel, client: Client, call: Call) -> asyncio.Task[Reply]:
    """The runtime has been handed the event and works on it."""
    task = asyncio.create_task(deliver(channel, call))
    answer = await client.next()
    assert answer.fields["lambda-runtime-aws-request-id"] == call.request_id
    return task


async def test_next_carries_the_event_and_the_headers_of_the_contract(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call(event=b'{"a": 1}')))
    answer = await client.next()
    date = answer.fields.pop("date")
    assert date.endswith(" GMT")
    assert answer.status == 200
    assert answer.body == b'{"a": 1}'
    assert answer.fields == {
        "content-type": "application/json",
        "lambda-runtime-aws-request-id": "id-1",
        "lambda-runtime-deadline-ms": "1795421537600",
        "lambda-runtime-invoked-function-arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
        "content-length": "8",
    }
    task.cancel()


async def test_next_carries_trace_context_and_identity_when_there_are_any(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    wanted = call(trace_id="Root=1-5bef4de7;Sampled=1", client_context='{"k":"ü"}', cognito_identity='{"id":"x"}')
    task = asyncio.create_task(deliver(channel, wanted))
    fields = (await client.next()).fields
    assert fields["lambda-runtime-trace-id"] == "Root=1-5bef4de7;Sampled=1"
    assert fields["lambda-runtime-client-context"].encode("latin-1").decode() == '{"k":"ü"}'
    assert fields["lambda-runtime-cognito-identity"] == '{"id":"x"}'
    task.cancel()


async def test_a_line_break_that_a_caller_hid_in_its_context_does_not_become_a_header(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call(client_context="a\r\nX-Evil: 1\nY: 2")))
    fields = (await client.next()).fields
    assert fields["lambda-runtime-client-context"] == "a  X-Evil: 1 Y: 2"
    assert "x-evil" not in fields
    task.cancel()


async def test_a_runtime_is_ready_when_it_first_asks_for_an_event(channel: RuntimeApiChannel, connect: Connect) -> None:
    waiting = asyncio.create_task(channel.wait_ready())
    client = await connect()
    assert (await client.ask("GET", "/nothing")).status == 404
    assert not waiting.done()
    await client.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
    await waiting


async def test_a_response_is_accepted_and_is_the_answer_byte_for_byte(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    answer = await client.respond("id-1", b"\x00not json\xff")
    assert (answer.status, answer.body) == (202, b'{"status":"OK"}\n')
    assert answer.fields["content-type"] == "application/json"
    assert await task == Reply(b"\x00not json\xff")


async def test_an_empty_response_is_a_response(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    assert (await client.respond("id-1", b"")).status == 202
    assert await task == Reply(b"")


async def test_one_connection_serves_many_invocations(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    for number in range(50):
        task = await start(channel, client, call(f"id-{number}", b"%d" % number))
        await client.respond(f"id-{number}", b"r%d" % number)
        assert (await task).payload == b"r%d" % number


async def test_an_event_that_comes_while_the_runtime_waits_is_handed_over(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    await client.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
    await channel.wait_ready()
    task = asyncio.create_task(deliver(channel, call()))
    assert (await client.receive()).body == b'{"a":1}'
    task.cancel()


async def test_each_request_may_use_a_connection_of_its_own(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    task = await start(channel, await connect(), call())
    assert (await (await connect()).respond("id-1", b"1")).status == 202
    assert (await task).payload == b"1"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Runtime.Foo", "Runtime.Foo"),
        ("Function.MyError", "Function.MyError"),
        ("Function.lower", "Function.Unknown"),
        ("ValueError", "Runtime.Unknown"),
        ("Runtime.Foo; Set-Cookie: x", "Runtime.Foo"),
        ("", "Runtime.Unknown"),
    ],
)
async def test_an_error_report_is_the_answer_and_its_type_is_filtered(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], given: str, kept: str
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    fields = {"Lambda_Runtime_Function_Error_Type": given, "Lambda_Runtime_Function_XRay_Error_Cause": '{"x":1}'}
    answer = await client.ask("POST", f"{API}/invocation/id-1/error", b'{"errorMessage":"m"}', **fields)
    assert (answer.status, answer.body) == (202, b'{"status":"OK"}\n')
    assert await task == Reply(b'{"errorMessage":"m"}', kept)


async def test_a_failed_init_is_reported_once_and_nothing_follows(channel: RuntimeApiChannel, connect: Connect) -> None:
    client = await connect()
    path = f"{API}/init/error"
    fields = {"Lambda_Runtime_Function_Error_Type": "Runtime.ImportModuleError"}
    assert (await client.ask("POST", path, b'{"errorType":"T"}', **fields)).status == 202
    with pytest.raises(InitFailed) as failed:
        await channel.wait_ready()
    assert (failed.value.error_type, failed.value.payload) == ("Runtime.ImportModuleError", b'{"errorType":"T"}')
    again = await client.ask("POST", path, b"{}")
    assert (again.status, again.body) == (403, forbidden("InitError", "InitError"))
    after = await client.next()
    assert (after.status, after.body) == (403, forbidden("InitError", "Ready"))


async def test_init_cannot_fail_after_the_runtime_was_ready(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    waiting, other = await connect(), await connect()
    await waiting.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
    await channel.wait_ready()
    answer = await other.ask("POST", f"{API}/init/error", b"{}")
    assert (answer.status, answer.body) == (403, forbidden("Ready", "InitError"))
    task = asyncio.create_task(deliver(channel, call()))
    await waiting.receive()
    answer = await other.ask("POST", f"{API}/init/error", b"{}")
    assert (answer.status, answer.body) == (403, forbidden("Running", "InitError"))
    task.cancel()


@pytest.mark.parametrize("last", ["response", "error"])
async def test_an_answer_for_another_request_id_is_refused(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], last: str
) -> None:
    client = await connect()
    path = f"{API}/invocation/other/{last}"
    before = await client.ask("POST", path, b"{}")
    assert (before.status, before.body) == (400, INVALID_ID)
    task = await start(channel, client, call())
    answer = await client.ask("POST", path, b"{}")
    assert (answer.status, answer.body) == (400, INVALID_ID)
    assert not task.done()
    await client.respond("id-1", b"1")
    await task


@pytest.mark.parametrize(("last", "target"), [("response", "InvocationResponse"), ("error", "InvocationErrorResponse")])
async def test_an_answer_before_the_event_was_asked_for_is_refused(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], last: str, target: str
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call()))
    await asyncio.sleep(0)  # the call has begun
    answer = await client.ask("POST", f"{API}/invocation/id-1/{last}", b"{}")
    assert (answer.status, answer.body) == (403, forbidden("Started", target))
    assert not task.done()
    task.cancel()


async def test_a_second_answer_is_refused_with_403_until_the_runtime_asks_again_and_with_400_then(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    await client.respond("id-1", b"first")
    again = await client.respond("id-1", b"second")
    assert (again.status, again.body) == (403, forbidden("RuntimeResponseSentState", "InvocationResponse"))
    report = await client.ask("POST", f"{API}/invocation/id-1/error", b"{}")
    assert (report.status, report.body) == (403, forbidden("RuntimeResponseSentState", "InvocationErrorResponse"))
    assert (await client.respond("other", b"")).body == INVALID_ID
    assert (await task).payload == b"first"
    poller = await connect()
    ready = asyncio.create_task(poller.next())
    while (late := await client.respond("id-1", b"third")).status == 403:
        await asyncio.sleep(0)
    assert (late.status, late.body) == (400, INVALID_ID)
    ready.cancel()


async def test_a_runtime_that_asks_again_before_it_answered_is_given_the_same_event(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    again = await (await connect()).next()
    assert again.fields["lambda-runtime-aws-request-id"] == "id-1"
    assert again.body == b'{"a":1}'
    await client.respond("id-1", b"1")
    assert (await task).payload == b"1"


async def test_while_a_response_is_on_its_way_nothing_else_may_happen(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client, other = await connect(), await connect()
    task = await start(channel, client, call())
    await client.send(b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: x\r\n")
    await client.send(b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.receive()).status == 100
    await client.send(b"hello")
    assert (await other.next()).body == forbidden("InvocationResponse", "Ready")
    assert (await other.respond("id-1", b"")).body == forbidden("InvocationResponse", "InvocationResponse")
    await client.send(b"world")
    assert (await client.receive()).status == 202
    assert (await task).payload == b"helloworld"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", f"{API}/invocation/foo", 404, None),
        ("GET", f"{API}/invocation/next/", 404, None),
        ("GET", "/2018-06-02/runtime/invocation/next", 404, None),
        ("POST", f"{API}/invocation//response", 404, None),
        ("POST", f"{API}/invocation/a/b/response", 404, None),
        ("GET", f"{API}/restore/next", 404, None),
        ("POST", f"{API}/invocation/next", 405, "GET"),
        ("GET", f"{API}/invocation/a/response", 405, "POST"),
        ("PUT", f"{API}/invocation/a/error", 405, "POST"),
        ("DELETE", f"{API}/init/error", 405, "POST"),
    ],
)
async def test_unknown_paths_versions_and_methods_are_named_as_such(
    channel: RuntimeApiChannel, connect: Connect, *, method: str, path: str, status: int, allow: str | None
) -> None:
    client = await connect()
    answer = await client.ask(method, path, b"{}")
    assert answer.status == status
    assert answer.fields.get("allow") == allow
    assert answer.fields["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == (b"404 page not found\n" if status == 404 else b"")
    assert (await client.ask("GET", "/")).status == 404, "the connection goes on"


async def test_a_head_request_is_answered_without_a_body(channel: RuntimeApiChannel, connect: Connect) -> None:
    client = await connect()
    await client.send(b"HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    raw = await client.reader.read()
    assert raw.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert raw.endswith(b"Content-Length: 19\r\n\r\n")


@pytest.mark.parametrize("target", [f"{API}/invocation/next?x=1", f"http://127.0.0.1:9001{API}/invocation/next"])
async def test_a_query_or_a_host_in_the_request_line_changes_nothing(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], target: str
) -> None:
    task = asyncio.create_task(deliver(channel, call()))
    assert (await (await connect()).ask("GET", target)).status == 200
    task.cancel()


async def test_a_wish_to_upgrade_is_not_heeded(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call()))
    answer = await client.ask("GET", f"{API}/invocation/next", Connection="Upgrade", Upgrade="h2c")
    assert (answer.status, answer.fields["connection"]) == (200, "close")
    task.cancel()


async def test_a_response_of_the_largest_size_is_accepted(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    assert (await client.respond("id-1", b"x" * LIMIT)).status == 202
    assert len((await task).payload) == LIMIT


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_response_that_is_too_large_is_refused_and_the_caller_told(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], chunked: bool
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    if chunked:
        head = b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: x\r\n" + STREAMING + b"\r\n"
        await client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (LIMIT + 1, b"x" * (LIMIT + 1)))
        answer = await client.receive()
    else:
        answer = await client.respond("id-1", b"x" * (LIMIT + 1))
    assert answer.status == 413
    document = {
        "errorMessage": "Exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "RequestEntityTooLarge",
    }
    assert json.loads(answer.body) == document
    reply = await task
    assert reply.error_type == "Function.ResponseSizeTooLarge"
    assert json.loads(reply.payload) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    again = await client.respond("id-1", b"")
    assert again.body == forbidden("RuntimeResponseSentState", "InvocationResponse")
    task = await start(channel, client, call("id-2"))
    await client.respond("id-2", b"healthy")
    assert (await task).payload == b"healthy"


async def test_a_large_body_is_asked_for_and_a_refused_one_is_not(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client, other = await connect(), await connect()
    task = await start(channel, client, call())
    head = b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    await other.send(head % b"wrong" + b"Content-Length: 5\r\n\r\n")
    refused = await other.receive()
    assert (refused.status, refused.fields["connection"]) == (400, "close")
    assert await other.hung_up()
    await client.send(head % b"id-1" + b"Content-Length: 5\r\n\r\n")
    assert (await client.receive()).status == 100
    await client.send(b"hello")
    assert (await client.receive()).status == 202
    assert (await task).payload == b"hello"


async def test_a_streamed_response_is_collected(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    await client.send(b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: x\r\n" + STREAMING)
    await client.send(b"\r\n5\r\nhello\r\n")
    await client.send(b"6;ext=1\r\n world\r\n0\r\n\r\n")
    assert (await client.receive()).status == 202
    assert await task == Reply(b"hello world")


@pytest.mark.parametrize("document", [b'{"errorType":"E","errorMessage":"m"}', b""])
async def test_a_streamed_response_that_fails_half_way_tells_so_in_its_trailers(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], document: bytes
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    trailers = b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n"
    if document:
        trailers += b"Lambda-Runtime-Function-Error-Body: %b\r\n" % base64.b64encode(document)
    head = b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: x\r\n" + STREAMING
    head += b"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
    await client.send(head + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    assert (await client.receive()).status == 202
    expected = document or b'{"errorMessage":"","errorType":"Runtime.StreamError"}'
    assert await task == Reply(expected, "Runtime.StreamError")


@pytest.mark.parametrize("mode", ["buffered", "STREAMING"])
async def test_an_unknown_response_mode_is_refused_and_ends_the_invocation(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], mode: str
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    answer = await client.respond("id-1", b"{}", Lambda_Runtime_Function_Response_Mode=mode)
    assert answer.status == 400
    assert answer.body == (
        b'{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}\n'
    )
    assert (await task).error_type == "Runtime.InvalidResponseModeHeader"


@pytest.mark.parametrize(
    "body",
    [
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"Content-Length: 10\r\n\r\nhello",
    ],
)
async def test_a_response_that_ends_early_is_an_error_of_the_function(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call], body: bytes
) -> None:
    client = await connect()
    task = await start(channel, client, call())
    await client.send(b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: x\r\n" + body)
    client.writer.write_eof()
    answer: Answer = await client.receive()
    assert answer.status == 400
    assert json.loads(answer.body)["errorType"] == "TruncatedHTTPRequest"
    assert (await task).error_type == "Runtime.TruncatedResponse"
    assert await client.hung_up()


async def test_http_1_0_is_answered_and_closed(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call()))
    await client.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await client.receive()
    assert (answer.status, answer.fields["connection"], answer.body) == (200, "close", b'{"a":1}')
    assert await client.hung_up()
    task.cancel()


async def test_a_client_that_wants_to_close_is_let(channel: RuntimeApiChannel, connect: Connect) -> None:
    client = await connect()
    assert (await client.ask("GET", "/", Connection="close")).fields["connection"] == "close"
    assert await client.hung_up()


async def test_each_answer_is_written_at_once(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    task = asyncio.create_task(deliver(channel, call(event=b"e" * 1_000)))
    await client.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.reader.read(65_536)).endswith(b"e" * 1_000), "head and body came in one segment"
    task.cancel()


async def test_closing_the_channel_ends_whoever_waits(
    channel: RuntimeApiChannel, connect: Connect, call: Callable[..., Call]
) -> None:
    client = await connect()
    waiting = asyncio.create_task(channel.wait_ready())
    task = asyncio.create_task(deliver(channel, call()))
    await client.ask("GET", "/")
    channel.close()
    channel.close()
    for ended in (waiting, task):
        with pytest.raises(ChannelClosed):
            await ended
    assert await client.hung_up()
    with pytest.raises(ChannelClosed):
        await deliver(channel, call())
