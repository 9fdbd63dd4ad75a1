"""The unmodified Python runtime interface client, as a real process, against the channel."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.channels import deliver

from lambent.dataplane.sandbox.channel import InitFailed
from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.wire.frames import Call

pytest.importorskip("awslambdaric")

Run = Callable[[str], Awaitable[asyncio.subprocess.Process]]

APP = """
import os

def handler(event, context):
    if event == "boom":
        raise ValueError("told to")
    return {
        "event": event,
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "custom": context.client_context.custom if context.client_context else None,
        "identity": context.identity.cognito_identity_id,
    }
"""


@pytest.fixture
async def run(tmp_path: Path, listener: socket.socket) -> AsyncIterator[Run]:
    host, port = listener.getsockname()
    processes: list[asyncio.subprocess.Process] = []

    async def start(source: str) -> asyncio.subprocess.Process:
        (tmp_path / "app.py").write_text(source)
        environment = {
            **os.environ,
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "fn",
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "PYTHONPATH": str(tmp_path),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "awslambdaric", "app.handler"),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_awslambdaric_answers_many_warm_calls_and_survives_an_error(
    channel: RuntimeApiChannel, run: Run, call: Callable[..., Call]
) -> None:
    process = await run(APP)
    async with asyncio.timeout(30):
        await channel.wait_ready()
        first = call(
            "8f5a1a3e-7d1c-4a52-8b61-0c1f6c2f9d10",
            b'"h\xc3\xbc"',
            trace_id="Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1",
            client_context='{"custom":{"k":"v"}}',
            cognito_identity='{"cognitoIdentityId":"me","cognitoIdentityPoolId":"pool"}',
        )
        reply = await deliver(channel, first)
        assert reply.error_type == ""
        assert json.loads(reply.payload) == {
            "event": "hü",
            "id": first.request_id,
            "arn": first.invoked_arn,
            "trace": first.trace_id,
            "custom": {"k": "v"},
            "identity": "me",
        }
        for number in range(200):
            reply = await deliver(channel, call(f"id-{number}", b"%d" % number))
            assert json.loads(reply.payload)["event"] == number
        failed = await deliver(channel, call("id-boom", b'"boom"'))
        document = json.loads(failed.payload)
        assert failed.error_type == "Runtime.Unknown"
        assert (document["errorType"], document["errorMessage"]) == ("ValueError", "told to")
        assert document["requestId"] == "id-boom"
        large = await deliver(channel, call("id-large", b'"' + b"x" * 3_000_000 + b'"'))
        assert len(json.loads(large.payload)["event"]) == 3_000_000
    assert process.returncode is None


async def test_awslambdaric_learns_that_its_response_was_too_large(
    channel: RuntimeApiChannel, run: Run, call: Callable[..., Call]
) -> None:
    process = await run("def handler(event, context):\n    return 'x' * event\n")
    async with asyncio.timeout(30):
        await channel.wait_ready()
        assert (await deliver(channel, call("id-1", b"7000000"))).error_type == "Function.ResponseSizeTooLarge"
        # What it does about the refusal (it exits) is its own affair.
        await process.wait()


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("import nothing_of_that_name\n", "Runtime.ImportModuleError"),
        ("def handler(:\n", "Runtime.UserCodeSyntaxError"),
        ("other = 1\n", "Runtime.HandlerNotFound"),
    ],
)
async def test_awslambdaric_reports_that_init_failed(
    channel: RuntimeApiChannel, run: Run, source: str, error_type: str
) -> None:
    process = await run(source)
    async with asyncio.timeout(30):
        with pytest.raises(InitFailed) as failed:
            await channel.wait_ready()
        assert await process.wait() != 0
    assert failed.value.error_type == error_type
    assert json.loads(failed.value.payload)["errorType"] == error_type
