"""Which idle environments a real node keeps, and which it gives up when it is full."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import connect
from tests.integration.environment.test_mistakes_of_others import environments
from tests.integration.node.test_lifecycle import create

from lambent.testing.node import LambentNode

QUICK = "import os\ndef handler(e, c):\n    return os.environ['AWS_LAMBDA_LOG_STREAM_NAME']\n"
DEAR = "import time\ntime.sleep(1)\n" + QUICK


def invoke(client: Any, name: str) -> str:
    """The log stream: another environment, another stream."""
    stream: str = json.load(client.invoke(FunctionName=name)["Payload"])
    return stream


def wait_gone(node: LambentNode, name: str) -> None:
    deadline_at = time.monotonic() + 15
    while environments(node, name):
        assert time.monotonic() < deadline_at
        time.sleep(0.05)


@pytest.mark.parametrize("keep_alive", ["fixed", "adaptive"])
def test_idle_environments_go_after_the_keep_alive_under_either_policy(tmp_path: Path, keep_alive: str) -> None:
    environ = {"LAMBENT_KEEP_ALIVE": keep_alive, "LAMBENT_KEEP_ALIVE_SECONDS": "1"}
    with LambentNode(tmp_path / "data", environ=environ).running() as node:
        client = connect(node)
        create(client, "brief", QUICK)
        first = invoke(client, "brief")
        wait_gone(node, "brief")
        assert invoke(client, "brief") != first


def test_a_full_node_gives_up_the_environment_worth_least_not_the_oldest(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", environ={"LAMBENT_MAX_ENVIRONMENTS": "2"}).running() as node:
        client = connect(node)
        for name, source in (("dear", DEAR), ("cheap", QUICK), ("third", QUICK)):
            create(client, name, source)
        dear, cheap = invoke(client, "dear"), invoke(client, "cheap")
        invoke(client, "third")
        assert invoke(client, "dear") == dear
        assert environments(node, "cheap") == []
        assert invoke(client, "cheap") != cheap


def test_a_deleted_function_leaves_no_idle_environment(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", environ={"LAMBENT_KEEP_ALIVE": "adaptive"}).running() as node:
        client = connect(node)
        create(client, "gone", QUICK)
        invoke(client, "gone")
        client.delete_function(FunctionName="gone")
        wait_gone(node, "gone")
