"""Runtimes that nobody wrote for us: a compiled program on bare sockets, and a shell script around curl."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.channels import deliver

from lambent.dataplane.sandbox.channel import Reply
from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.wire.frames import Call

Run = Callable[[Path], Awaitable[asyncio.subprocess.Process]]

C_BOOTSTRAP = Path(__file__).parent / "bootstrap.c"

SHELL_BOOTSTRAP = """#!/usr/bin/env bash
set -euo pipefail
api="http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime"
headers="$(mktemp)"
while true; do
  event="$(curl -sS -D "$headers" "$api/invocation/next")"
  id="$(grep -i '^Lambda-Runtime-Aws-Request-Id:' "$headers" | tr -d '[:space:]' | cut -d: -f2)"
  if [ "$event" = '"fail"' ]; then
    curl -sS -o /dev/null "$api/invocation/$id/error" -d '{"errorMessage":"m","errorType":"T"}' \\
      -H 'Lambda-Runtime-Function-Error-Type: Function.Failed'
  elif [ "$event" = '"large"' ]; then
    head -c 3000000 /dev/zero | tr '\\0' 'x' | curl -sS -o /dev/null "$api/invocation/$id/response" --data-binary @-
  elif [ "$event" = '"stream"' ]; then
    echo -n "in pieces" | curl -sS -o /dev/null "$api/invocation/$id/response" -X POST \\
      -H 'Transfer-Encoding: chunked' -H 'Lambda-Runtime-Function-Response-Mode: streaming' --data-binary @-
  else
    curl -sS -o /dev/null "$api/invocation/$id/response" -d "echo $event"
  fi
done
"""


@pytest.fixture
async def run(listener: socket.socket, tmp_path: Path) -> AsyncIterator[Run]:
    host, port = listener.getsockname()
    processes: list[asyncio.subprocess.Process] = []

    async def start(program: Path) -> asyncio.subprocess.Process:
        environment = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(tmp_path),
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "no_proxy": "*",
        }
        process = await asyncio.create_subprocess_exec(program, env=environment, start_new_session=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        os.killpg(process.pid, 9)
        await process.wait()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
async def test_a_compiled_bootstrap_serves_calls(
    channel: RuntimeApiChannel, run: Run, tmp_path: Path, call: Callable[..., Call]
) -> None:
    program = tmp_path / "bootstrap"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, C_BOOTSTRAP], check=True)  # noqa: ASYNC221
    await run(program)
    async with asyncio.timeout(30):
        await channel.wait_ready()
        for number in range(300):
            reply = await deliver(channel, call(f"id-{number}", b"%d" % number))
            assert reply == Reply(b'{"echo":%d}' % number)
        failed = await deliver(channel, call("id-fail", b"fail"))
    assert failed.error_type == "Function.Failed"
    assert json.loads(failed.payload) == {"errorMessage": "told to", "errorType": "Function.Failed"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_a_shell_bootstrap_around_curl_serves_calls(
    channel: RuntimeApiChannel, run: Run, tmp_path: Path, call: Callable[..., Call]
) -> None:
    program = tmp_path / "bootstrap"
    program.write_text(SHELL_BOOTSTRAP)
    program.chmod(0o755)
    await run(program)
    async with asyncio.timeout(30):
        await channel.wait_ready()
        assert await deliver(channel, call("id-1", b"1")) == Reply(b"echo 1")
        assert await deliver(channel, call("id-2", b'"fail"')) == Reply(
            b'{"errorMessage":"m","errorType":"T"}', "Function.Failed"
        )
        # More than 1 MB: curl asks first whether to send it.
        assert await deliver(channel, call("id-3", b'"large"')) == Reply(b"x" * 3_000_000)
        assert await deliver(channel, call("id-4", b'"stream"')) == Reply(b"in pieces")
