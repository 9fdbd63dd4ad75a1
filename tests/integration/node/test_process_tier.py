"""No isolation, for development: asked for, said loudly, and still nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import connect
from tests.integration.node.test_lifecycle import create, descendants, is_zombie

from lambent.testing.node import LambentNode

SOURCE = """
import os, time

def handler(event, context):
    if os.fork() == 0:
        time.sleep(600)
    return os.getcwd()
"""


def test_functions_run_without_isolation_when_that_is_asked_for(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--isolation", "process"])
    node.start()
    assert "ISOLATION IS OFF" in node.output
    client = connect(node)
    create(client, "open", SOURCE)
    for _ in range(2):
        folder = json.load(client.invoke(FunctionName="open")["Payload"])
        assert folder.startswith(str(node.data_dir))
    pids = descendants(node.pid)
    assert node.stop() == 0
    assert not [pid for pid in pids if not is_zombie(pid)]
