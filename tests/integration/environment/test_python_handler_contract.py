"""What a Python function may rely on, seen from inside a real environment."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.conftest import PYTHON, Deploy, read_log


def test_the_event_goes_in_and_the_result_comes_out(deploy: Deploy) -> None:
    echo = deploy("def handler(event, context):\n    return {'got': event}\n")
    assert echo({"é": [1, 2.5, None, True]}).payload == {"got": {"é": [1, 2.5, None, True]}}


def test_the_context_has_every_member(deploy: Deploy) -> None:
    function = deploy(
        "def handler(event, c):\n"
        "    return dict(id=c.aws_request_id, name=c.function_name, version=c.function_version,\n"
        "        arn=c.invoked_function_arn, memory=c.memory_limit_in_mb, group=c.log_group_name,\n"
        "        stream=c.log_stream_name, left=c.get_remaining_time_in_millis(), identity=repr(c.identity),\n"
        "        client=c.client_context.custom if c.client_context else None, tenant=c.tenant_id)\n",
        Timeout=7,
        MemorySize=256,
    )
    payload = function(None, ClientContext="eyJjdXN0b20iOiB7ImEiOiAxfX0=").payload
    assert payload["name"] == function.name
    assert payload["version"] == "$LATEST"
    assert payload["arn"].endswith(f":function:{function.name}")
    assert payload["memory"] == "256"
    assert payload["group"] == f"/aws/lambda/{function.name}"
    assert re.fullmatch(r"\d{4}/\d{2}/\d{2}/\[\$LATEST\][0-9a-f]{32}", payload["stream"])
    assert 6000 < payload["left"] <= 7000
    assert payload["client"] == {"a": 1}
    assert payload["tenant"] is None


def test_module_state_is_kept_between_warm_invocations(deploy: Deploy) -> None:
    count = deploy("calls = []\ndef handler(event, context):\n    calls.append(1)\n    return len(calls)\n")
    assert [count().payload for _ in range(3)] == [1, 2, 3]


def test_a_cold_start_reports_its_init_and_a_warm_one_does_not(deploy: Deploy) -> None:
    function = deploy("def handler(event, context):\n    pass\n")
    assert "Init Duration: " in function().log
    assert "Init Duration: " not in function().log


def test_the_log_has_start_end_and_report_around_what_was_printed(deploy: Deploy) -> None:
    function = deploy(
        "import sys, logging\n"
        "def handler(event, context):\n"
        "    print('one')\n"
        "    print('two', file=sys.stderr)\n"
        "    logging.getLogger().warning('three')\n"
        "    sys.stdout.write('four')\n"
    )
    lines = function().log.splitlines()
    assert [line.split(" ")[0] for line in (lines[0], lines[-2], lines[-1])] == ["START", "END", "REPORT"]
    assert lines[1:3] == ["one", "two"]
    assert re.fullmatch(r"\[WARNING\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[0-9a-f-]{36}\tthree", lines[3])
    assert lines[4] == "four"
    assert re.fullmatch(
        r"REPORT RequestId: [0-9a-f-]{36}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t",
        lines[-1],
    )


def test_json_logs_carry_the_request_and_obey_the_level(deploy: Deploy) -> None:
    import json

    function = deploy(
        "import logging\n"
        "log = logging.getLogger('shop')\n"
        "def handler(event, context):\n"
        "    log.info('not this')\n"
        "    log.warning('this', extra={'order': 7})\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        log.exception('that')\n",
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN"},
    )
    records = [json.loads(line) for line in function().log.splitlines()]
    own = [record for record in records if "logger" in record]
    assert [(record["level"], record["message"]) for record in own] == [("WARNING", "this"), ("ERROR", "that")]
    assert own[0]["order"] == 7
    assert own[1]["errorType"] == "ZeroDivisionError"
    kinds = [record["type"] for record in records if "type" in record]
    assert kinds[0] == "platform.start"
    assert kinds[-1] == "platform.report"


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("def handler(e, c):\n    raise ValueError('bad é')\n", "ValueError", "bad é"),
        ("def handler(e, c):\n    return {1, 2}\n", "Runtime.MarshalError", "set is not JSON serializable"),
        ("def handler(e, c):\n    yield 1\n", "Runtime.MarshalError", "must be str or bytes, not int"),
        ("async def handler(e, c):\n    pass\n", "Runtime.MarshalError", "coroutine is not JSON serializable"),
        ("def handler(e, c):\n    return handler(e, c)\n", "RecursionError", "maximum recursion depth exceeded"),
        ("def handler(e, c):\n    raise KeyboardInterrupt\n", "Runtime.ExitError", "signal: interrupt"),
        ("def handler(e, c):\n    raise GeneratorExit('gone')\n", "Runtime.ExitError", "exit status 1"),
        ("raise BaseException('gone')\n", "Runtime.ExitError", "exit status 1"),
        ("handler = 5\n", "TypeError", "'int' object is not callable"),
        ("def handler(e):\n    pass\n", "TypeError", "takes 1 positional argument but 2 were given"),
        ("def handler(e, c):\n    return [b'\\xff']\n", "Runtime.MarshalError", "'utf-8' codec can't decode byte 0xff"),
        ("def handler(e, c):\n    return 'x' * 6291560\n", "Function.ResponseSizeTooLarge", "(6291556 bytes)"),
        ("def other(e, c):\n    pass\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("import nothing_here\n", "Runtime.ImportModuleError", "No module named 'nothing_here'"),
        ("def handler(:\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("raise RuntimeError('at import')\n", "RuntimeError", "at import"),
        ("def handler(e, c):\n    import sys; sys.exit(3)\n", "Runtime.ExitError", "exit status 3"),
        ("def handler(e, c):\n    import os; os._exit(0)\n", "Runtime.ExitError", "without providing a reason"),
        ("import sys; sys.exit(4)\n", "Runtime.ExitError", "exit status 4"),
        ("def handler(e, c):\n    import os; os.abort()\n", "Runtime.ExitError", "signal: aborted"),
        ("def handler(e, c):\n    import os; os.kill(os.getpid(), 9)\n", "Runtime.ExitError", "signal: killed"),
        ("def handler(e, c):\n    import ctypes; ctypes.string_at(0)\n", "Runtime.ExitError", "segmentation fault"),
    ],
)
def test_every_way_to_fail_has_its_error_and_the_next_invocation_is_healthy(
    deploy: Deploy, source: str, error_type: str, message: str
) -> None:
    function = deploy(source)
    for _ in range(2):
        answer = function()
        assert answer.error == "Unhandled"
        assert answer.payload["errorType"] == error_type
        assert message in answer.payload["errorMessage"]
    function.client.update_function_code(FunctionName=function.name, ZipFile=_healthy())
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function().payload == "healthy"


def _healthy() -> bytes:
    from lambent.testing.node import make_zip

    return make_zip({"app.py": "def handler(e, c):\n    return 'healthy'\n"})


def test_an_exception_carries_the_stack_of_user_code_alone(deploy: Deploy) -> None:
    function = deploy("def inner():\n    raise ValueError('x')\ndef handler(e, c):\n    inner()\n")
    answer = function()
    stack = answer.payload["stackTrace"]
    assert stack[0].startswith('  File "/var/task/app.py", line 4, in handler\n')
    assert stack[1].startswith('  File "/var/task/app.py", line 2, in inner\n')
    assert len(stack) == 2
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.payload["requestId"])
    assert "[ERROR] ValueError: x\r" in answer.log


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_an_error_of_an_init_is_logged_after_the_contracts_warning(deploy: Deploy, log_format: str) -> None:
    function = deploy("raise RuntimeError('at import')\n", LoggingConfig={"LogFormat": log_format})
    function()
    lines = (line["message"] for line in read_log(function))
    assert any("LAMBDA_WARNING: Unhandled exception. " in line for line in lines)
    assert "at import" in next(lines)


def test_an_interrupt_leaves_its_trace_in_the_log(deploy: Deploy) -> None:
    log = deploy("def handler(e, c):\n    raise KeyboardInterrupt('stop')\n")().log
    assert 'Traceback (most recent call last):\n  File "/var/task/app.py", line 2, in handler\n' in log
    assert "KeyboardInterrupt: stop\n" in log


def test_a_timeout_ends_the_invocation_and_replaces_the_environment(deploy: Deploy) -> None:
    function = deploy(
        "import time\nseen = []\ndef handler(event, context):\n    seen.append(1)\n"
        "    if event.get('sleep'): time.sleep(60)\n    return len(seen)\n",
        Timeout=1,
    )
    assert function().payload == 1
    answer = function({"sleep": True})
    assert answer.payload["errorType"] == "Sandbox.Timedout"
    assert answer.payload["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    assert "Task timed out after 1.00 seconds" in answer.log
    assert "Status: timeout" in answer.log
    assert function().payload == 1


def test_a_closed_stdout_does_not_stop_the_answers(deploy: Deploy) -> None:
    function = deploy("import sys, os\ndef handler(e, c):\n    sys.stdout.close(); os.close(1); return 'still here'\n")
    assert [function().payload for _ in range(2)] == ["still here"] * 2 or function().payload


def test_a_child_that_returns_from_the_handler_does_not_answer(deploy: Deploy) -> None:
    function = deploy(
        "import os\ndef handler(e, c):\n    pid = os.fork()\n    if pid == 0:\n        return 'child'\n"
        "    os.waitpid(pid, 0)\n    return 'parent'\n"
    )
    assert [function().payload for _ in range(3)] == ["parent"] * 3


def test_two_environments_of_one_function_have_different_random_numbers(deploy: Deploy, client: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    function = deploy(
        "import random, uuid, time, secrets\nnumber = random.random()\n"
        "def handler(e, c):\n    time.sleep(0.3)\n    return [number, str(uuid.uuid4()), secrets.token_hex()]\n"
    )
    with ThreadPoolExecutor(4) as pool:
        answers = [answer.payload for answer in pool.map(lambda _: function(), range(4))]
    for column in range(3):
        assert len({answer[column] for answer in answers}) == 4


def test_sys_path_is_in_the_contracts_order(deploy: Deploy) -> None:
    function = deploy("import sys\ndef handler(e, c):\n    return sys.path\n")
    path = function().payload
    assert path[:4] == ["/var/task", f"/opt/python/lib/{PYTHON}/site-packages", "/opt/python", "/var/runtime"]
    assert not any("site-packages" in entry and not entry.startswith("/opt") for entry in path)


def test_environment_variables_are_the_functions_and_the_reserved_ones(deploy: Deploy) -> None:
    function = deploy(
        "import os\ndef handler(e, c):\n    return dict(os.environ)\n", Environment={"Variables": {"STAGE": "blue"}}
    )
    variables = function().payload
    assert variables["STAGE"] == "blue"
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == function.name
    assert variables["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{PYTHON}"
    assert variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert variables["TZ"] == ":UTC"
    assert variables["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert not {"HOME", "USER", "SHELL", "VIRTUAL_ENV", "PWD"} & variables.keys()


def test_layers_lie_over_one_another_at_opt(deploy: Deploy, client: Any) -> None:
    from lambent.testing.node import make_zip

    arns = []
    for number, files in enumerate(({"python/lib_a.py": "N = 1", "x": "1"}, {"python/lib_b.py": "N = 2", "x": "2"})):
        layer = client.publish_layer_version(LayerName=f"layer-{number}", Content={"ZipFile": make_zip(files)})
        arns.append(layer["LayerVersionArn"])
    function = deploy(
        "import lib_a, lib_b\ndef handler(e, c):\n    return [lib_a.N, lib_b.N, open('/opt/x').read()]\n", Layers=arns
    )
    assert function().payload == [1, 2, "2"]


def test_boto3_is_there_as_in_the_contracts_own_runtimes_and_reaches_the_node(deploy: Deploy) -> None:
    function = deploy(
        "import boto3\n"
        "topics = boto3.client('sns')\n"
        "def handler(event, context):\n"
        "    arn = topics.create_topic(Name='from-a-function')['TopicArn']\n"
        "    return [arn, topics.publish(TopicArn=arn, Message='hello')['MessageId'], boto3.__file__]\n",
        Timeout=60,
        MemorySize=512,
    )
    arn, message_id, file = function().payload
    assert arn.endswith(":from-a-function")
    assert len(message_id) == 36
    assert file == "/var/runtime/boto3/__init__.py"


def test_a_package_of_the_function_goes_before_the_one_that_is_there(deploy: Deploy) -> None:
    source = {
        "app.py": "import boto3\ndef handler(event, context):\n    return boto3.OWN\n",
        "boto3.py": "OWN = 'mine'\n",
    }
    assert deploy(source)().payload == "mine"


def test_a_python_that_the_function_starts_finds_the_sdk_too(deploy: Deploy) -> None:
    function = deploy(
        "import os, subprocess, sys\n"
        "def handler(e, c):\n"
        "    code = 'import botocore; print(botocore.__file__)'\n"
        "    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "    return [ran.stdout.split('/')[:3], ran.stderr, os.environ['AWS_XRAY_CONTEXT_MISSING']]\n",
        Timeout=20,
    )
    assert function().payload == [["", "var", "runtime"], "", "LOG_ERROR"]
