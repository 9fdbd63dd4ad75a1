"""Limits hold against functions that try to break them, and neighbours do not notice."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import Deploy

from lambent.dataplane.sandbox import cgroups

needs_cgroups = pytest.mark.skipif(cgroups.discover() is None, reason="no control groups for this user")


@needs_cgroups
def test_a_function_beyond_its_memory_is_killed_and_the_report_says_so(deploy: Deploy) -> None:
    function = deploy("def handler(e, c):\n    return len(bytearray(e['mb'] << 20))\n", MemorySize=128, Timeout=20)
    assert function({"mb": 16}).payload == 16 << 20
    answer = function({"mb": 400})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert answer.payload["errorMessage"].endswith("signal: killed")
    assert "Error Type: Runtime.OutOfMemory" in answer.log
    assert function({"mb": 16}).payload == 16 << 20


@needs_cgroups
def test_the_report_measures_the_memory_that_was_used(deploy: Deploy) -> None:
    function = deploy("kept = []\ndef handler(e, c):\n    kept.append(bytearray(100 << 20))\n", MemorySize=512)
    used = int(function().log.rsplit("Max Memory Used: ", 1)[1].split()[0])
    assert 100 <= used <= 160


@pytest.mark.skipif(os.geteuid() != 0, reason="disk images need root")
def test_tmp_does_not_count_as_memory(deploy: Deploy) -> None:
    function = deploy(
        "def handler(e, c):\n    with open('/tmp/big', 'wb') as f:\n"
        "        for _ in range(400): f.write(b'x' * 1048576)\n    return 'written'\n",
        MemorySize=128,
        Timeout=60,
    )
    assert function().payload == "written"


@needs_cgroups
def test_a_fork_bomb_ends_at_the_limit_and_the_node_goes_on(deploy: Deploy) -> None:
    bomb = deploy(
        "import os, time\ndef handler(e, c):\n    n = 0\n    try:\n        while True:\n"
        "            if os.fork() == 0: time.sleep(60); os._exit(0)\n            n += 1\n"
        "    except OSError as exc:\n        return [n, type(exc).__name__]\n",
        Timeout=60,
        MemorySize=3008,
    )
    other = deploy("def handler(e, c):\n    return 'fine'\n")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bomb)
        assert other().payload == "fine"
        children, error = running.result().payload
    assert error == "BlockingIOError"
    assert children < 1024
    assert other().payload == "fine"


def test_a_flood_of_output_is_cut_and_said_so(deploy: Deploy) -> None:
    function = deploy(
        "import os\ndef handler(e, c):\n    for _ in range(20 * 16): os.write(1, b'x' * 65535 + b'\\n')\n"
        "    return 'done'\n",
        Timeout=60,
    )
    answer = function()
    assert answer.payload == "done"
    assert "bytes of output were dropped beyond the limit" in answer.log


def test_a_line_without_end_does_not_hold_up_the_answer(deploy: Deploy) -> None:
    function = deploy("import os\ndef handler(e, c):\n    os.write(1, b'y' * 2000000)\n    return 'done'\n", Timeout=30)
    assert function().payload == "done"


def test_what_a_function_leaves_running_ends_with_its_environment(
    deploy: Deploy, run_inside: Callable[[str], object]
) -> None:
    function = deploy(
        "import os, time\ndef handler(e, c):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        "            time.sleep(600)\n        os._exit(0)\n    os._exit(5)\n"
    )
    assert "exit status 5" in function().payload["errorMessage"]
    assert function().error == "Unhandled"


@pytest.mark.parametrize("size", [6_291_556 + 1, 7_000_000])
def test_a_request_beyond_six_megabytes_is_refused(deploy: Deploy, size: int) -> None:
    function = deploy("def handler(e, c):\n    return 1\n")
    payload = b'"' + b"x" * (size - 2) + b'"'
    with pytest.raises(function.client.exceptions.RequestTooLargeException):
        function.client.invoke(FunctionName=function.name, Payload=payload)


def test_six_megabytes_go_in_and_out(deploy: Deploy) -> None:
    function = deploy("def handler(e, c):\n    return e\n", Timeout=30, MemorySize=512)
    payload = b'"' + b"x" * (6_291_556 - 2) + b'"'
    answer = function.client.invoke(FunctionName=function.name, Payload=payload)
    assert answer["Payload"].read() == payload


def test_reserved_concurrency_is_exact_under_load(deploy: Deploy) -> None:
    import threading

    function = deploy("import time\ndef handler(e, c):\n    time.sleep(1)\n    return 1\n", Timeout=10)
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=3)
    throttled = threading.Semaphore(0)

    def call(_: int) -> str:
        try:
            return str(function().payload)
        except function.client.exceptions.TooManyRequestsException as exc:
            throttled.release()
            assert exc.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
            return "throttled"

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(call, range(12)))
    assert results.count("1") == 3
    assert results.count("throttled") == 9


def test_who_may_wait_is_served_in_turn_instead_of_throttled(deploy: Deploy) -> None:
    function = deploy(
        "import time\ndef handler(e, c):\n    time.sleep(0.2)\n    return 1\n", Tags={"lambent:max-wait-seconds": "20"}
    )
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=2)
    with ThreadPoolExecutor(8) as pool:
        assert [answer.payload for answer in pool.map(lambda _: function(), range(8))] == [1] * 8
