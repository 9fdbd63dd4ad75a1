"""Mistakes that other platforms made, each kept out here."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.conftest import Deploy, ask, connect
from tests.integration.node.test_lifecycle import create

from lambent.testing.node import LambentNode, make_zip


def environments(node: LambentNode, name: str) -> list[dict[str, Any]]:
    found = ask(connect(node), "/_lambent/status")["environments"]
    return [environment for environment in found if environment["function"] == name]


def test_a_timeout_leaks_no_environment_and_harms_no_sibling(deploy: Deploy, node: LambentNode) -> None:
    function = deploy(
        "import time\ndef handler(e, c):\n    time.sleep(e['s'])\n    return 'done'\n", Timeout=1, MemorySize=128
    )
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda s: function({"s": s}), (5, 0.5, 5, 0.6)))
    assert [answer.payload for answer in answers if not answer.error] == ["done", "done"]
    assert all(environment["state"] == "idle" for environment in environments(node, function.name))
    assert len(environments(node, function.name)) == 2


def test_a_dead_idle_environment_makes_nobody_wait(deploy: Deploy, node: LambentNode) -> None:
    function = deploy("def handler(e, c):\n    return 1\n")
    function()
    (environment,) = environments(node, function.name)
    os.kill(environment["pid"], signal.SIGKILL)
    deadline_at = time.monotonic() + 10
    while environments(node, function.name) and time.monotonic() < deadline_at:
        time.sleep(0.01)
    answer = function()
    assert answer.payload == 1
    assert "Init Duration" in answer.log


def test_one_slow_cold_start_does_not_hold_up_another(deploy: Deploy) -> None:
    slow = deploy("import time\ntime.sleep(3)\ndef handler(e, c):\n    return 'slow'\n", Timeout=20)
    quick = deploy("def handler(e, c):\n    return 'quick'\n")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slow)
        assert quick().payload == "quick"
        assert not waiting.done()
        assert waiting.result().payload == "slow"


def test_the_runtime_api_waits_as_long_as_nobody_invokes(deploy: Deploy) -> None:
    script = (
        "#!/bin/bash\n"
        "exec 3<>/dev/tcp/127.0.0.1/9001\n"
        "printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3\n"
        "id=''\n"
        "while IFS= read -r line <&3; do line=${line%$'\\r'}; [ -z \"$line\" ] && break;\n"
        "  case ${line,,} in lambda-runtime-aws-request-id:*) id=${line#*: };; esac; done\n"
        "body='\"waited\"'\n"
        "exec 4<>/dev/tcp/127.0.0.1/9001\n"
        "printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\n"
        'Content-Length: %d\\r\\n\\r\\n%s\' "$id" ${#body} "$body" >&4\n'
        "read -r line <&4\nsleep 60\n"
    )
    function = deploy(
        {"bootstrap": script}, Runtime="provided.al2023", Handler="x", executable=("bootstrap",), Timeout=10
    )
    assert function().payload == "waited"


def test_code_is_unpacked_once_for_all_its_environments(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        create(client, "one", "import time\ndef handler(e, c):\n    time.sleep(0.2)\n    return 1\n")
        create(client, "two", "import time\ndef handler(e, c):\n    time.sleep(0.2)\n    return 1\n")
        trees = node.data_dir / "code" / "trees"
        (tree,) = list(trees.iterdir())
        inode = (tree / "app.py").stat()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: client.invoke(FunctionName=name), ("one", "two", "one", "two")))
        assert [path.name for path in trees.iterdir()] == [tree.name]
        after = (tree / "app.py").stat()
        assert (after.st_ino, after.st_mtime_ns) == (inode.st_ino, inode.st_mtime_ns)


def test_an_update_drains_old_environments_without_failing_what_is_in_flight(deploy: Deploy) -> None:
    function = deploy("import time\ndef handler(e, c):\n    time.sleep(e.get('s', 0))\n    return 'old'\n", Timeout=10)
    function()
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(function, {"s": 2})
        time.sleep(0.3)
        package = make_zip({"app.py": "def handler(e, c):\n    return 'new'\n"})
        function.client.update_function_code(FunctionName=function.name, ZipFile=package)
        function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
        assert function().payload == "new"
        assert flying.result().payload == "old"


def test_idle_environments_are_gone_after_the_keep_alive(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", arguments=["--keep-alive", "1"]).running() as node:
        client = connect(node)
        create(client, "brief", "def handler(e, c):\n    return 1\n")
        client.invoke(FunctionName="brief")
        assert len(environments(node, "brief")) == 1
        deadline_at = time.monotonic() + 15
        while environments(node, "brief"):
            assert time.monotonic() < deadline_at
            time.sleep(0.05)
        assert client.invoke(FunctionName="brief")["StatusCode"] == 200
