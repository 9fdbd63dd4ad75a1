"""Start, drain, kill and start again, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.conftest import PYTHON, ROLE, ask, connect, own_processes

from lambent.testing.node import LambentNode, NodeDidNotStart, make_zip

SLOW = "import time\ndef handler(e, c):\n    time.sleep(e.get('s', 0))\n    return 'done'\n"


def create(client: Any, name: str, source: str = SLOW, **parameters: Any) -> None:
    client.create_function(
        FunctionName=name,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": source})},
        **{"Timeout": 30, **parameters},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)


def invoke_in_vain(client: Any, name: str) -> None:
    """An invocation that the end of the node cuts short; whether it is told so is not the point."""
    with contextlib.suppress(Exception):
        client.invoke(FunctionName=name, Payload=b'{"s": 25}')


def leftovers(data_dir: Path) -> list[str]:
    """Processes, mounts, cgroups and loop devices of a node that should be gone."""
    found = [f"process {pid}" for pid in own_processes(data_dir)]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(data_dir) in line]
    node_id = (data_dir / "node-id").read_text().strip() if (data_dir / "node-id").exists() else "-none-"
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/lambent-{node_id}*")]
    return found


def wait_nothing_left(data_dir: Path, pids: set[int]) -> None:
    """The kernel takes a killed tree apart in its own time; wait for that and for nothing else."""
    deadline_at = time.monotonic() + 20
    while time.monotonic() < deadline_at:
        if not any(Path(f"/proc/{pid}").exists() and not is_zombie(pid) for pid in pids):
            return
        time.sleep(0.02)
    raise AssertionError(f"still alive: {[pid for pid in pids if Path(f'/proc/{pid}').exists()]}")


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                child = int(entry.name)
                found |= {child} | descendants(child)
    return found


def test_a_node_serves_health_without_a_signature_and_nothing_else(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        with urllib.request.urlopen(f"{node.endpoint}/health") as response:
            assert json.load(response)["status"] == "ok"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{node.endpoint}/2015-03-31/functions/")
        with refused.value:
            assert refused.value.code == 403
        assert (node.profile.stat().st_mode & 0o777) == 0o600


def test_the_address_that_a_node_prints_can_be_used_as_it_stands(tmp_path: Path) -> None:
    with (
        LambentNode(tmp_path / "data", arguments=["--host", "::1"]).running() as node,
        urllib.request.urlopen(f"{node.endpoint}/health") as response,
    ):
        assert response.status == 200


def test_sigterm_lets_running_invocations_finish_and_leaves_nothing(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    client = connect(node)
    create(client, "slow")
    client.invoke(FunctionName="slow")
    answers: list[Any] = []
    caller = threading.Thread(
        target=lambda: answers.append(json.load(client.invoke(FunctionName="slow", Payload=b'{"s": 1.5}')["Payload"]))
    )
    caller.start()
    wait_busy(node)
    pids = descendants(node.pid)
    assert node.stop() == 0
    caller.join()
    assert answers == ["done"]
    assert not [pid for pid in pids if not is_zombie(pid)]
    assert leftovers(node.data_dir) == []


def wait_busy(node: LambentNode) -> None:
    """Until an invocation is under way."""
    client = connect(node)
    deadline_at = time.monotonic() + 10
    while time.monotonic() < deadline_at:
        if ask(client, "/_lambent/status")["concurrency"]["in_use"]:
            return
        time.sleep(0.01)
    raise AssertionError("nothing is running")


def test_a_drain_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--drain-timeout", "1"])
    node.start()
    client = connect(node)
    create(client, "slow")
    told: list[str] = []
    caller = threading.Thread(target=invoke_interrupted, args=(client, told))
    caller.start()
    wait_busy(node)
    began = time.monotonic()
    node.stop()
    assert time.monotonic() - began < 10
    caller.join()
    assert told == [INTERRUPTED]
    assert "Traceback" not in node.output
    assert leftovers(node.data_dir) == []


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    client = connect(node)
    create(client, "slow")
    told: list[str] = []
    caller = threading.Thread(target=invoke_interrupted, args=(client, told))
    caller.start()
    wait_busy(node)
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    wait_draining(node)
    node.signal(signal.SIGTERM)
    node.wait()
    assert time.monotonic() - began < 10
    caller.join()
    # Its environment may still have been starting.
    assert told in ([INTERRUPTED], [NOT_BEGUN], [])
    assert "Traceback" not in node.output


INTERRUPTED = "The node stopped before the function had answered; it may have begun its work."
NOT_BEGUN = "The node is stopping; send the request again."


def invoke_interrupted(client: Any, told: list[str]) -> None:
    """What an invocation that the node ends is told; nothing if its connection ends first."""
    with contextlib.suppress(BotoCoreError):
        try:
            answer = client.invoke(FunctionName="slow", Payload=b'{"s": 25}')
            told.append(answer["Payload"].read().decode())
        except ClientError as refused:
            told.append(refused.response["Error"]["Message"])


def wait_draining(node: LambentNode) -> None:
    deadline_at = time.monotonic() + 10
    while "Shutting down" not in node.output and time.monotonic() < deadline_at:
        time.sleep(0.01)
    assert "Shutting down" in node.output


def test_what_was_acknowledged_survives_sigkill_and_nothing_is_left_of_the_killed(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    client = connect(node)
    for number in range(3):
        create(client, f"f{number}")
        client.publish_version(FunctionName=f"f{number}")
        client.create_alias(FunctionName=f"f{number}", Name="live", FunctionVersion="1")
    caller = threading.Thread(target=invoke_in_vain, args=(client, "f0"))
    caller.start()
    wait_busy(node)
    pids = descendants(node.pid)
    assert pids
    node.kill()
    caller.join()
    wait_nothing_left(node.data_dir, pids)
    again = LambentNode(tmp_path / "data")
    with again.running():
        client = connect(again)
        for number in range(3):
            answer = client.invoke(FunctionName=f"f{number}", Qualifier="live")
            assert json.load(answer["Payload"]) == "done"
            assert answer["ExecutedVersion"] == "1"
    assert leftovers(node.data_dir) == []


def test_an_accepted_event_is_carried_out_after_sigkill(tmp_path: Path) -> None:
    marker = "print('MARK', e)\n    return 1\n"
    node = LambentNode(tmp_path / "data")
    node.start()
    client = connect(node)
    create(client, "later", "def handler(e, c):\n    " + marker)
    client.put_function_concurrency(FunctionName="later", ReservedConcurrentExecutions=0)
    assert client.invoke(FunctionName="later", InvocationType="Event", Payload=b'{"n": 42}')["StatusCode"] == 202
    node.kill()
    with LambentNode(tmp_path / "data").running() as again:
        connect(again).delete_function_concurrency(FunctionName="later")
        deadline_at = time.monotonic() + 30
        logs = again.data_dir / "logs"
        while not any("MARK" in path.read_text() for path in logs.rglob("*") if path.is_file()):
            assert time.monotonic() < deadline_at, "the event was lost"
            time.sleep(0.05)


@pytest.mark.parametrize("what", ["port", "folder"])
def test_what_is_taken_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        port = int(node.endpoint.rpartition(":")[2])
        other = LambentNode(tmp_path / "other", port=port) if what == "port" else LambentNode(tmp_path / "data", port=0)
        with pytest.raises(NodeDidNotStart) as refused:
            other.start()
        lines = str(refused.value).strip().splitlines()
        assert len(lines) == 1
        assert ("taken" in lines[0]) if what == "port" else ("in use" in lines[0])
        assert node.endpoint


def test_a_data_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    with node.running():
        pass
    import apsw

    connection = apsw.Connection(str(tmp_path / "data" / "state.db"))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(NodeDidNotStart, match="newer"):
        LambentNode(tmp_path / "data").start()


def test_dev_accepts_any_signature_and_refuses_other_than_loopback(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", arguments=["--dev"]).running() as node:
        with urllib.request.urlopen(f"{node.endpoint}/2015-03-31/functions/") as response:
            assert json.load(response)["Functions"] == []
    with pytest.raises(NodeDidNotStart, match="--dev"):
        LambentNode(tmp_path / "data", arguments=["--dev", "--host", "0.0.0.0"]).start()


def test_a_node_listens_on_loopback_alone(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        port = int(node.endpoint.rpartition(":")[2])
        shown = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
        bound = [line.split()[1] for line in shown.splitlines()[1:] if line.split()[3] == "0A"]
        mine = [address for address in bound if int(address.rpartition(":")[2], 16) == port]
        assert mine == [f"0100007F:{port:04X}"]


def test_the_environment_of_the_node_does_not_reach_functions(tmp_path: Path) -> None:
    secret = "s3cr3t-" + os.urandom(6).hex()
    with LambentNode(tmp_path / "data", environ={"OPERATOR_SECRET": secret}).running() as node:
        client = connect(node)
        source = (
            "import glob\ndef handler(e, c):\n    found = []\n"
            "    for path in glob.glob('/proc/[0-9]*/environ'):\n"
            "        try: found.append(open(path, 'rb').read().decode('latin-1'))\n"
            "        except OSError: pass\n    return found\n"
        )
        create(client, "look", source)
        seen = client.invoke(FunctionName="look")["Payload"].read().decode()
        assert secret not in seen


def test_two_nodes_on_one_machine_do_not_see_one_another(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "a").running() as one, LambentNode(tmp_path / "b").running() as two:
        create(connect(one), "only-here")
        client = connect(two)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName="only-here")
        assert one.endpoint != two.endpoint
