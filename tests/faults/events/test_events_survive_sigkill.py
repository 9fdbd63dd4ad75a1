"""Nodes killed at random moments under producers: what was acknowledged was carried out, or lies where it is found.

`LAMBENT_KILL_ROUNDS=200 pytest -s` on this file runs as many rounds and prints the counts.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect

from lambent.cli.session import find_connection
from lambent.client.client import Client
from lambent.testing.node import LambentNode, make_zip

ROUNDS = int(os.environ.get("LAMBENT_KILL_ROUNDS", "6"))
PRODUCERS = 3


def produce(client: Any, acknowledged: list[str], stop: threading.Event) -> None:
    while not stop.is_set():
        # A call that the kill cut short was not acknowledged, whatever became of it.
        with contextlib.suppress(Exception):
            answer = client.invoke(FunctionName="f", InvocationType="Event", Payload=b"{}")
            acknowledged.append(answer["ResponseMetadata"]["RequestId"])


# The SDK leaves connections open that its peer broke off.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_acknowledged_event_is_lost_when_nodes_are_killed(tmp_path: Path) -> None:
    chance = random.Random(4)
    acknowledged: list[str] = []
    for number in range(ROUNDS):
        node = LambentNode(tmp_path / "data")
        node.start()
        client = connect(node)
        if number == 0:
            code = {"ZipFile": make_zip({"app.py": "def handler(e, c):\n    return 1\n"})}
            client.create_function(FunctionName="f", Runtime=PYTHON, Role=ROLE, Handler="app.handler", Code=code)
            client.get_waiter("function_active_v2").wait(FunctionName="f")
        stop = threading.Event()
        producers = [threading.Thread(target=produce, args=(client, acknowledged, stop)) for _ in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        time.sleep(chance.uniform(0.05, 0.5))
        stop.set()
        node.kill()
        for producer in producers:
            producer.join()
        client.close()
    states = Counter[str]()
    with LambentNode(tmp_path / "data").running() as node:
        own = Client(find_connection(data_dir=str(node.data_dir), environ={}))
        deadline_at = time.monotonic() + 60
        while own.list_events({"state": "waiting", "limit": "1"}) or own.list_events(
            {"state": "running", "limit": "1"}
        ):
            assert time.monotonic() < deadline_at, "events are stuck"
            time.sleep(0.05)
        attempts = 0
        for request_id in acknowledged:
            event = own.get_event(request_id)
            states[event["state"]] += 1
            attempts += event["attempts"]
    print(f"rounds {ROUNDS}, acknowledged {len(acknowledged)}, attempts {attempts}, ended {dict(states)}")
    assert acknowledged
    assert states == {"done": len(acknowledged)}
