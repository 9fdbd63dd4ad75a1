"""Environments that wait without code: who gets them, who does not, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, ask, connect
from tests.integration.environment.test_node_functions import node_runtime
from tests.integration.node.test_ordinary_user import SOURCE, check_confined
from tests.shells import environment_of, until, wait_full

from lambent.testing.node import LambentNode, make_zip

HELLO = "import os\n\ndef handler(event, context):\n    return {'id': context.aws_request_id, 'code': os.listdir()}\n"
needs_namespaces = pytest.mark.skipif(os.geteuid() != 0, reason="pids of shells are looked up as root")


def create(client: Any, name: str, source: str | dict[str, str], **parameters: Any) -> str:
    files = {"app.py": source} if isinstance(source, str) else source
    fixed = {"Role": ROLE, "Handler": "app.handler", "Timeout": 30, "Code": {"ZipFile": make_zip(files)}}
    made = client.create_function(FunctionName=name, **{"Runtime": PYTHON, **fixed, **parameters})
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return str(made["FunctionArn"])


def invoke(client: Any, name: str, event: Any = None) -> Any:
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode())
    assert "FunctionError" not in answer
    return json.load(answer["Payload"])


@contextlib.contextmanager
def running(data: Path, **settings: str) -> Iterator[tuple[LambentNode, Any]]:
    environ = {f"LAMBENT_{name.upper()}": value for name, value in settings.items()}
    with LambentNode(data, environ=environ).running() as node:
        client = connect(node)
        yield node, client
        client.close()


@needs_namespaces
def test_the_second_cold_start_of_a_runtime_happens_in_a_shell(tmp_path: Path) -> None:
    with running(tmp_path / "data") as (_, client):
        create(client, "first", HELLO)
        assert ask(client, "/_lambent/status")["shells"] == {}
        invoke(client, "first")
        waiting = wait_full(client)
        create(client, "second", HELLO)
        assert invoke(client, "second")["code"] == ["app.py"]
        assert environment_of(client, "second")["pid"] in waiting
        assert wait_full(client) != waiting


@needs_namespaces
def test_a_shell_that_died_while_it_waited_is_never_handed_out(tmp_path: Path) -> None:
    with running(tmp_path / "data") as (node, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        for name in ("second", "third"):
            create(client, name, HELLO)
            waiting = wait_full(client)
            for pid in waiting:
                os.kill(pid, signal.SIGKILL)
            assert invoke(client, name)["code"] == ["app.py"]
            assert environment_of(client, name)["pid"] not in waiting
        until(lambda: "a shell ended while it waited" in node.output)


@needs_namespaces
def test_an_environment_in_a_shell_is_as_any_other(tmp_path: Path) -> None:
    with running(tmp_path / "data", network_pool_size="1") as (node, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        waiting = wait_full(client)
        create(client, "look", SOURCE)
        answers = invoke(client, "look", {"data": str(node.data_dir), "port": int(node.endpoint.rpartition(":")[2])})
        assert environment_of(client, "look")["pid"] in waiting
    check_confined(answers)


@needs_namespaces
def test_limits_hold_in_a_shell(tmp_path: Path) -> None:
    source = (
        "import os\n\ndef handler(event, context):\n"
        "    if event.get('grow'):\n        return len(bytearray(400 << 20))\n"
        "    disk = os.statvfs('/tmp')\n    return disk.f_blocks * disk.f_frsize >> 20\n"
    )
    with running(tmp_path / "data") as (_, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        waiting = wait_full(client)
        create(client, "big", source, MemorySize=128, EphemeralStorage={"Size": 700})
        size_mb = invoke(client, "big")
        assert environment_of(client, "big")["pid"] in waiting
        failed = client.invoke(FunctionName="big", Payload=b'{"grow": true}')
        assert failed["FunctionError"] == "Unhandled"
    assert 512 < size_mb <= 700


@needs_namespaces
def test_a_function_without_outgoing_network_takes_no_shell(tmp_path: Path) -> None:
    with running(tmp_path / "data") as (_, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        waiting = wait_full(client)
        create(client, "closed", HELLO, Tags={"lambent:network": "none"})
        invoke(client, "closed")
        assert environment_of(client, "closed")["pid"] not in waiting


def test_none_are_made_when_they_are_switched_off(tmp_path: Path) -> None:
    with running(tmp_path / "data", prewarm_shells="0") as (_, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        assert ask(client, "/_lambent/status")["shells"] == {}


@needs_namespaces
def test_a_killed_node_leaves_no_shell(tmp_path: Path) -> None:
    with running(tmp_path / "data") as (node, client):
        create(client, "first", HELLO)
        invoke(client, "first")
        waiting = wait_full(client)
        node.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in waiting))


@needs_namespaces
def test_node_functions_start_in_shells(tmp_path: Path) -> None:
    runtime = node_runtime()
    with running(tmp_path / "data") as (_, client):
        source = {"app.js": "exports.handler = async () => process.version;\n"}
        create(client, "first", source, Runtime=runtime)
        version = invoke(client, "first")
        waiting = wait_full(client, runtime=runtime)
        create(client, "second", source, Runtime=runtime)
        assert invoke(client, "second") == version
        assert environment_of(client, "second")["pid"] in waiting
