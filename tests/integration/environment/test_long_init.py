"""An init beyond its limit is started over within the invocation, under the function's own timeout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ask, connect
from tests.integration.node.test_lifecycle import create

from lambent.testing.node import LambentNode

SLOW = "import time\ntime.sleep({seconds})\ndef handler(e, c):\n    return 'ready'\n"


@pytest.fixture(scope="module")
def quick_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    folder: Path = tmp_path_factory.mktemp("quick") / "data"
    with LambentNode(folder, environ={"LAMBENT_INIT_TIMEOUT_SECONDS": "1"}).running() as node:
        yield node


def invoke(client: Any, name: str) -> tuple[Any, str]:
    import base64

    answer = client.invoke(FunctionName=name, LogType="Tail")
    return json.load(answer["Payload"]), base64.b64decode(answer["LogResult"]).decode()


def test_an_init_within_the_timeout_answers_after_its_second_start(quick_node: LambentNode) -> None:
    client = connect(quick_node)
    create(client, "slow", SLOW.format(seconds=2), Timeout=10)
    payload, log = invoke(client, "slow")
    assert payload == "ready"
    assert "REPORT" in log
    assert invoke(client, "slow")[0] == "ready"
    assert len(ask(client, "/_lambent/status")["environments"]) == 1


def test_an_init_beyond_the_timeout_is_a_timeout(quick_node: LambentNode) -> None:
    client = connect(quick_node)
    create(client, "never", SLOW.format(seconds=30), Timeout=2)
    payload, log = invoke(client, "never")
    assert payload["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 2.00 seconds" in log
    assert not [one for one in ask(client, "/_lambent/status")["environments"] if one["function"] == "never"]


def test_an_init_that_fails_the_second_time_says_why(quick_node: LambentNode) -> None:
    client = connect(quick_node)
    source = "import time\ntime.sleep(1.5)\nraise RuntimeError('late')\n"
    create(client, "late", source, Timeout=10)
    payload, _ = invoke(client, "late")
    assert payload["errorType"] == "RuntimeError"
