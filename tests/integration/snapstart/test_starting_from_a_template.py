"""A version is initialised when it is published, and its environments are forks of that process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import snapshot_restore_py
from tests.conftest import ask
from tests.integration.snapstart.conftest import Publish, Published

RANDOM = """
import os, random, secrets, ssl, tempfile, time, uuid
random.random(); uuid.uuid1(); uuid.uuid4(); secrets.token_hex(); ssl.RAND_bytes(8); tempfile.mktemp()
INIT_PID, INIT_AT = os.getpid(), time.time()
def handler(event, context):
    drawn = {
        "random": random.random(),
        "uuid1": str(uuid.uuid1()),
        "uuid1 node": uuid.uuid1().node,
        "uuid4": str(uuid.uuid4()),
        "secrets": secrets.token_hex(),
        "ssl": ssl.RAND_bytes(16).hex(),
        "tempfile": tempfile.mktemp(),
        "stream": context.log_stream_name,
        "request": context.aws_request_id,
    }
    path, mine = "/tmp/the-same-path", context.aws_request_id
    before = os.path.exists(path)
    with open(path, "w") as file:
        file.write(mine)
    time.sleep(event["sleep"])
    with open(path) as file:
        kept = file.read() == mine
    return {
        "drawn": drawn,
        "tmp": [before, kept],
        "pids": [INIT_PID, os.getpid()],
        "later": time.time() > INIT_AT,
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
    }
"""


@pytest.fixture(scope="module")
def siblings(publish: Publish) -> list[dict[str, object]]:
    published = publish(RANDOM)
    assert published.shown["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    return [answer.payload for answer in published.at_once(5, {"sleep": 2})]


def test_siblings_draw_nothing_alike(siblings: list[dict[str, dict[str, object]]]) -> None:
    for source in siblings[0]["drawn"]:
        values = [sibling["drawn"][source] for sibling in siblings]
        assert len(set(values)) == len(siblings), (source, values)


def test_siblings_that_write_the_same_path_in_tmp_never_meet(siblings: list[dict[str, list[bool]]]) -> None:
    assert [sibling["tmp"] for sibling in siblings] == [[False, True]] * len(siblings)


def test_a_fork_has_another_pid_than_the_process_whose_memory_it_has(siblings: list[dict[str, list[int]]]) -> None:
    # Libraries tell by it that they were forked.
    assert all(sibling["pids"][0] != sibling["pids"][1] for sibling in siblings)


def test_the_clock_of_a_fork_moves_on(siblings: list[dict[str, object]]) -> None:
    assert all(sibling["later"] for sibling in siblings)


def test_forks_are_told_how_they_were_initialised(siblings: list[dict[str, object]]) -> None:
    assert {sibling["type"] for sibling in siblings} == {"snap-start"}


def test_the_report_has_a_restore_duration_where_a_cold_start_has_its_init(publish: Publish) -> None:
    published = publish("import time\ntime.sleep(0.5)\ndef handler(event, context): return 1")
    cold, warm = published(), published()
    assert re.search(r"\tRestore Duration: [\d.]+ ms\tBilled Restore Duration: \d+ ms", cold.log)
    assert "Init Duration" not in cold.log
    assert "Restore" not in warm.log
    duration = float(re.search(r"Restore Duration: ([\d.]+) ms", cold.log)[1])  # type: ignore[index]
    assert duration < 500, "init ran again"


def test_latest_starts_without_a_template(publish: Publish) -> None:
    published = publish("import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']")
    assert published().payload == "snap-start"
    response = published.client.invoke(FunctionName=published.name)
    assert response["Payload"].read() == b'"on-demand"'
    shown = published.client.get_function_configuration(FunctionName=published.name)["SnapStart"]
    assert shown == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}


def test_publish_version_makes_a_template_too(publish: Publish) -> None:
    published = publish("def handler(event, context): return 1")
    client = published.client
    client.update_function_configuration(FunctionName=published.name, MemorySize=256)
    client.get_waiter("function_updated_v2").wait(FunctionName=published.name)
    answer = client.publish_version(FunctionName=published.name)
    assert (answer["Version"], answer["State"], answer["StateReasonCode"]) == ("2", "Pending", "Creating")
    client.get_waiter("published_version_active").wait(FunctionName=published.name, Qualifier="2")
    shown = client.get_function_configuration(FunctionName=published.name, Qualifier="2")
    assert shown["SnapStart"]["OptimizationStatus"] == "On"


HOOKS = """
import os
from snapshot_restore_py import register_after_restore, register_before_snapshot
CALLS = []
@register_before_snapshot
def first(): CALLS.append("before 1")
register_before_snapshot(lambda name, *, suffix: CALLS.append(name + suffix), "before", suffix=" 2")
@register_after_restore
def third(): CALLS.append("after 1")
register_after_restore(CALLS.append, "after 2")
def handler(event, context): return CALLS
"""


@pytest.mark.parametrize("packaged", [True, False], ids=["the published package", "the one of the runtime"])
def test_hooks_run_before_in_reverse_order_and_after_in_order(publish: Publish, packaged: bool) -> None:
    files: dict[str, str | bytes] = {"app.py": HOOKS}
    if packaged:
        files["snapshot_restore_py.py"] = Path(snapshot_restore_py.__file__).read_bytes()
    published = publish(files)
    for answer in published.at_once(2, {}):
        assert answer.payload == ["before 2", "before 1", "after 1", "after 2"]


def test_a_before_snapshot_hook_that_raises_fails_the_version(publish: Publish) -> None:
    published = publish(
        "from snapshot_restore_py import register_before_snapshot\n"
        "@register_before_snapshot\ndef hook(): raise ValueError('not now')\n"
        "def handler(event, context): return 1"
    )
    shown = published.shown
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")
    assert "Runtime.BeforeSnapshotError" in shown["StateReason"]
    assert "not now" in shown["StateReason"]


def test_an_after_restore_hook_that_raises_is_the_contracts_error(publish: Publish) -> None:
    published = publish(
        "from snapshot_restore_py import register_after_restore\n"
        "@register_after_restore\ndef hook(): raise ValueError('no database')\n"
        "def handler(event, context): return 1"
    )
    with pytest.raises(published.client.exceptions.SnapStartException, match="no database"):
        published()


@pytest.mark.slow
def test_after_restore_hooks_have_ten_seconds(publish: Publish) -> None:
    published = publish(
        "import time\nfrom snapshot_restore_py import register_after_restore\n"
        "register_after_restore(time.sleep, 60)\n"
        "def handler(event, context): return 1"
    )
    with pytest.raises(published.client.exceptions.SnapStartTimeoutException):
        published()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no config')", "no config"),
        ("import nothing_of_this_name", "Runtime.ImportModuleError"),
        ("import os; os._exit(3)", "exit status 3"),
    ],
)
def test_a_version_whose_init_fails_is_failed_with_its_error(publish: Publish, source: str, reason: str) -> None:
    published = publish(source)
    shown = published.shown
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")
    assert reason in shown["StateReason"]
    with pytest.raises(published.client.exceptions.ResourceConflictException, match="Failed"):
        published()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", "1 thread"),
        ("import subprocess; subprocess.Popen(['/bin/sleep', '99'])", "1 child process"),
        ("import os\nif not os.fork():\n  if not os.fork():\n    import time; time.sleep(99)\n  os._exit(0)", "child"),
        ("import select; QUEUE = select.epoll()", "eventpoll"),
        ("import os; ENDS = os.pipe()", "pipe"),
        ("open('/tmp/cache', 'w').close()", "1 file in /tmp"),
        ("import mmap; SHARED = mmap.mmap(-1, 4096)", "shared memory"),
    ],
)
def test_what_forks_cannot_have_each_for_itself_means_an_ordinary_cold_start(
    publish: Publish, source: str, reason: str
) -> None:
    published = publish(
        source + "\ndef handler(event, context):\n  import os; return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"
    )
    shown = published.shown
    assert (shown["State"], shown["SnapStart"]["OptimizationStatus"]) == ("Active", "Off")
    assert shown["StateReason"].startswith("SnapStart is off: init left ")
    assert reason in shown["StateReason"]
    assert published().payload == "on-demand"


def test_a_socket_that_init_left_is_closed_for_every_fork(publish: Publish) -> None:
    published = publish(
        "import socket\nMINE, OTHER = socket.socketpair()\n"
        "def handler(event, context):\n"
        "  try: MINE.sendall(b'x')\n"
        "  except OSError as exc: return type(exc).__name__"
    )
    assert published.shown["SnapStart"]["OptimizationStatus"] == "On"
    assert published().payload == "BrokenPipeError"


def test_a_runtime_without_templates_says_so(publish: Publish) -> None:
    published = publish({"bootstrap": "#!/bin/sh\n"}, Runtime="provided.al2023")
    shown = published.shown
    assert (shown["State"], shown["SnapStart"]["OptimizationStatus"]) == ("Active", "Off")
    assert "provided.al2023" in shown["StateReason"]


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"do": "exit"}, "Runtime.ExitError", "exit status 3"),
        ({"do": "kill"}, "Runtime.ExitError", "signal: killed"),
        ({"do": "raise"}, "ValueError", "mine"),
        ({"do": "sleep"}, "Sandbox.Timedout", "2.00 seconds"),
    ],
)
def test_a_fork_ends_as_any_environment_and_the_next_one_is_healthy(
    failing: Published, event: dict[str, str], error: str, message: str
) -> None:
    answer = failing(event)
    assert answer.payload["errorType"] == error
    assert message in answer.payload["errorMessage"]
    assert failing().payload == "well"


@pytest.fixture(scope="module")
def failing(publish: Publish) -> Published:
    return publish(
        "import os, time\n"
        "def handler(event, context):\n"
        "  do = event.get('do')\n"
        "  if do == 'exit': os._exit(3)\n"
        "  if do == 'kill': os.kill(os.getpid(), 9)\n"
        "  if do == 'raise': raise ValueError('mine')\n"
        "  if do == 'sleep': time.sleep(60)\n"
        "  return 'well'",
        Timeout=2,
    )


def test_a_fork_beyond_its_memory_is_ended_and_told_so(publish: Publish) -> None:
    published = publish("def handler(event, context): return len(b'x' * (500 << 20))")
    answer = published()
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert "Runtime.OutOfMemory" in answer.log


LIVELY = """
import os, subprocess, sys, threading
def depth(left):
    return 0 if not left else 1 + depth(left - 1)
def handler(event, context):
    found = []
    thread = threading.Thread(target=lambda: found.append("thread"))
    thread.start()
    thread.join()
    nested = []
    for _ in range(700):
        nested = [nested]
    return {
        "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "python": "%d.%d" % sys.version_info[:2],
        "depth": depth(800),
        "nested": len(repr(nested)),
        "thread": found,
        "child": subprocess.run(["/bin/echo", "child"], stdout=subprocess.PIPE).stdout.decode(),
    }
"""


@pytest.mark.parametrize("runtime", [f"python3.{minor}" for minor in range(9, 15)])
def test_forks_of_each_python_can_do_all_that_others_can(publish: Publish, client: Any, runtime: str) -> None:
    runtimes = ask(client, "/_lambent/runtimes")["runtimes"]
    if not any(known["name"] == runtime and known["available"] for known in runtimes):
        pytest.skip(f"{runtime} is not installed")
    published = publish(LIVELY, Runtime=runtime)
    for answer in [published(), published(), *published.at_once(3, {})]:
        assert answer.payload == {
            "kind": "snap-start",
            "python": runtime.removeprefix("python"),
            "depth": 800,
            "nested": 1402,
            "thread": ["thread"],
            "child": "child\n",
        }
