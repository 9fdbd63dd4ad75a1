"""A node of two processes behind one port, tried with real processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, ask, connect
from tests.integration.node.test_lifecycle import SLOW, create, descendants, is_zombie, leftovers, wait_nothing_left

from lambent.dataplane.sandbox.launcher import FIRST_UID
from lambent.members.membership import choose_home
from lambent.testing.node import LambentNode, NodeDidNotStart, make_zip

MEMBERS = ("0", "1")
ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    node = LambentNode(
        tmp_path_factory.mktemp("pair") / "data", arguments=["--processes", "2", "--account-concurrency", "12"]
    )
    with node.running():
        yield node


def name_at(client: Any, home: str, stem: str) -> str:
    """A function name whose home is that process."""
    account = ask(client, "/_lambent/status")["account"]
    return next(
        name for name in (f"{stem}-{n}" for n in range(1_000)) if choose_home(f"{account}/{name}", MEMBERS) == home
    )


def create_at(client: Any, home: str, stem: str, source: str = ECHO, **parameters: Any) -> str:
    name = name_at(client, home, stem)
    create(client, name, source, **parameters)
    return name


def invoke(client: Any, name: str, event: Any = None) -> Any:
    return json.load(client.invoke(FunctionName=name, Payload=json.dumps(event).encode())["Payload"])


def wait_for(condition: Callable[[], bool], *, patience_s: float = 30.0) -> None:
    deadline_at = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_at:
            raise AssertionError("it did not come to that")
        time.sleep(0.02)


def processes(client: Any) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = ask(client, "/_lambent/status")["processes"]
    return shown


def pid_of(client: Any, index: int) -> int:
    return int(processes(client)[index]["pid"])


def code_of(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


class Overlap:
    """A file-free way to see how many run at once: each invocation tells when it began and ended."""

    SOURCE = (
        "import time\n"
        "def handler(event, context):\n"
        "    began = time.monotonic()\n"
        "    time.sleep(0.05)\n"
        "    return [began, time.monotonic()]\n"
    )

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.throttled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def call(self, client: Any, name: str) -> None:
        try:
            began, ended = invoke(client, name)
        except ClientError as error:
            assert code_of(error) == (429, "TooManyRequestsException")
            with self._lock:
                self.throttled[error.response["Reason"]] += 1
        else:
            with self._lock:
                self.spans.setdefault(name, []).append((began, ended))

    def most(self, *names: str) -> int:
        """Of these functions together."""
        events = sorted(
            event for name in names for began, ended in self.spans[name] for event in ((began, 1), (ended, -1))
        )
        running = most = 0
        for _, change in events:
            running += change
            most = max(most, running)
        return most


def test_reserved_and_account_limits_are_exact_across_the_processes(pair: LambentNode) -> None:
    client = connect(pair)
    reserved = create_at(client, "1", "reserved", Overlap.SOURCE)
    shared = [create_at(client, home, "shared", Overlap.SOURCE) for home in MEMBERS]
    client.put_function_concurrency(FunctionName=reserved, ReservedConcurrentExecutions=3)
    overlap = Overlap()
    # A client each: their connections fall to both processes.
    clients = [connect(pair) for _ in range(36)]

    def hammer(number: int) -> None:
        name = [reserved, *shared][number % 3]
        for _ in range(40):
            overlap.call(clients[number], name)

    with concurrent.futures.ThreadPoolExecutor(36) as pool:
        list(pool.map(hammer, range(36)))

    assert overlap.most(reserved) == 3
    assert overlap.most(*shared) == 9
    assert set(overlap.throttled) == {
        "ReservedFunctionConcurrentInvocationLimitExceeded",
        "ConcurrentInvocationLimitExceeded",
    }
    # No slot was lost on the way.
    assert ask(client, "/_lambent/status")["concurrency"] == {"limit": 12, "in_use": 0}
    client.delete_function_concurrency(FunctionName=reserved)


def test_who_waits_for_a_slot_is_served_whichever_process_gives_it_back(pair: LambentNode) -> None:
    client = connect(pair)
    tags = {"lambent:max-wait-seconds": "20"}
    names = [create_at(client, home, "patient", Overlap.SOURCE, Tags=tags) for home in MEMBERS]
    overlap = Overlap()
    clients = [connect(pair) for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda number: overlap.call(clients[number], names[number % 2]), range(40)))
    assert not overlap.throttled
    assert sum(map(len, overlap.spans.values())) == 40
    assert overlap.most(*names) <= 12


def test_a_deploy_is_seen_by_all_processes_when_it_is_answered(pair: LambentNode) -> None:
    client = connect(pair)
    names = [create_at(client, home, "deployed", "def handler(e, c):\n    return 0\n") for home in MEMBERS]
    for number in range(1, 11):
        for name in names:
            code = make_zip({"app.py": f"def handler(e, c):\n    return {number}\n"})
            client.update_function_code(FunctionName=name, ZipFile=code)
            client.get_waiter("function_updated_v2").wait(FunctionName=name)
            # New connections, so that either process takes them.
            assert [invoke(connect(pair), name) for _ in range(4)] == [number] * 4


def test_aliases_and_new_keys_hold_everywhere_at_once(pair: LambentNode) -> None:
    client = connect(pair)
    for home in MEMBERS:
        name = create_at(client, home, "aliased")
        client.publish_version(FunctionName=name)
        client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        for _ in range(6):
            answer = connect(pair).invoke(FunctionName=name, Qualifier="live", Payload=b"1")
            assert answer["ExecutedVersion"] == "1"
        client.delete_function(FunctionName=name)
        for _ in range(6):
            with pytest.raises(ClientError) as gone:
                connect(pair).invoke(FunctionName=name)
            assert code_of(gone.value) == (404, "ResourceNotFoundException")


def test_errors_of_functions_and_payloads_come_back_as_they_are(pair: LambentNode) -> None:
    client = connect(pair)
    source = "def handler(event, context):\n    if event == 'fail':\n        raise ValueError('no')\n    return event\n"
    big = "x" * 3_000_000
    for home in MEMBERS:
        name = create_at(client, home, "echo", source)
        for _ in range(4):
            fresh = connect(pair)
            failed = fresh.invoke(FunctionName=name, Payload=b'"fail"', LogType="Tail")
            assert failed["FunctionError"] == "Unhandled"
            assert json.load(failed["Payload"])["errorType"] == "ValueError"
            assert "LogResult" in failed
            assert invoke(fresh, name, big) == big


def test_logs_are_read_and_followed_through_any_process(pair: LambentNode) -> None:
    client = connect(pair)
    for home in MEMBERS:
        name = create_at(client, home, "chatty", "def handler(event, context):\n    print('said', event)\n")
        for number in range(5):
            invoke(client, name, number)
        for _ in range(6):
            lines = read_log(pair, name)
            assert [line for line in lines if line.startswith("said")] == [f"said {n}" for n in range(5)]
        with contextlib.ExitStack() as stack:
            followers = [stack.enter_context(follow_log(pair, name)) for _ in range(6)]
            invoke(client, name, "later")
            for follower in followers:
                assert next(line for line in follower if "later" in line) == "said later"


def read_log(node: LambentNode, name: str) -> list[str]:
    with open_log(node, f"/_lambent/functions/{name}/logs") as response:
        return [json.loads(line)["message"] for line in response]


@contextlib.contextmanager
def follow_log(node: LambentNode, name: str) -> Iterator[Iterator[str]]:
    """Lines after those that there are; it is followed when this has begun."""
    with open_log(node, f"/_lambent/functions/{name}/logs?follow=1") as response:
        response.readline()
        yield (json.loads(line)["message"] for line in response)


def open_log(node: LambentNode, path: str) -> Any:
    import urllib.request

    from lambent.awsapi.sigv4 import sign

    client = connect(node)
    credentials = client._request_signer._credentials
    headers = sign(
        method="GET",
        url=node.endpoint + path,
        headers={},
        body=b"",
        access_key=credentials.access_key,
        secret=credentials.secret_key,
        region="us-east-1",
    )
    return urllib.request.urlopen(urllib.request.Request(node.endpoint + path, headers=headers), timeout=30)


def test_events_accepted_by_any_process_are_carried_out_once(pair: LambentNode) -> None:
    client = connect(pair)
    names = [create_at(client, home, "event", "def handler(e, c):\n    print('did', e)\n") for home in MEMBERS]
    clients = [connect(pair) for _ in range(8)]
    for number in range(64):
        answer = clients[number % 8].invoke(
            FunctionName=names[number // 8 % 2], InvocationType="Event", Payload=str(number).encode()
        )
        assert answer["StatusCode"] == 202

    def done() -> Counter[str]:
        return Counter(line for name in names for line in read_log(pair, name) if line.startswith("did"))

    wait_for(lambda: len(done()) == 64)
    assert set(done().values()) == {1}


def test_status_shows_the_whole_node_whichever_process_is_asked(pair: LambentNode) -> None:
    client = connect(pair)
    names = [create_at(client, home, "shown") for home in MEMBERS]
    for name in names:
        invoke(client, name)
    for _ in range(6):
        status = ask(connect(pair), "/_lambent/status")
        assert {environment["function"] for environment in status["environments"]} >= set(names)
        assert [process["state"] for process in status["processes"]] == ["serving", "serving"]
        assert status["pid"] == pair.pid


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_is_replaced_and_the_rest_goes_on(tmp_path: Path, victim: int) -> None:
    with LambentNode(tmp_path / "data", arguments=["--processes", "2"]).running() as node:
        client = connect(node)
        lost = create_at(client, str(victim), "lost", SLOW)
        kept = create_at(client, str(1 - victim), "kept", SLOW)
        for name in (lost, kept):
            invoke(client, name, {})
        answers: dict[str, Any] = {}

        def call(own: Any, name: str) -> None:
            try:
                answers[name] = invoke(own, name, {"s": 4})
            except Exception as exc:
                answers[name] = exc

        callers = [threading.Thread(target=call, args=[connect(node), name]) for name in (lost, kept)]
        for caller in callers:
            caller.start()
        wait_for(lambda: ask(client, "/_lambent/status")["concurrency"]["in_use"] == 2)
        pid, environments = pid_of(client, victim), descendants(pid_of(client, victim))
        os.kill(pid, signal.SIGKILL)
        # The port serves on, other functions too, and what is asked of the dead one waits for its replacement.
        with contextlib.closing(connect(node)) as fresh:
            assert invoke(fresh, kept, {}) == "done"
            assert invoke(fresh, lost, {}) == "done"
        for caller in callers:
            caller.join()
        assert isinstance(answers[lost], Exception)
        if isinstance(answers[lost], ClientError):
            assert code_of(answers[lost]) == (500, "ServiceException")
        wait_nothing_left(node.data_dir, environments)
        wait_for(lambda: [process["state"] for process in processes(connect(node))] == ["serving"] * 2)
        assert pid_of(client, victim) != pid
        wait_for(lambda: ask(client, "/_lambent/status")["concurrency"]["in_use"] == 0)
        # State can be written again, and all see it.
        new = create_at(client, str(victim), "new")
        assert [invoke(connect(node), new, n) for n in range(4)] == [0, 1, 2, 3]
    assert leftovers(node.data_dir) == []


def test_slots_of_a_process_that_was_killed_are_free_again(tmp_path: Path) -> None:
    arguments = ["--processes", "2", "--account-concurrency", "2"]
    with LambentNode(tmp_path / "data", arguments=arguments).running() as node:
        client = connect(node)
        names = [create_at(client, home, "slow", SLOW) for home in MEMBERS]
        callers = [threading.Thread(target=invoke_in_vain, args=[connect(node), names[1]]) for _ in range(2)]
        for caller in callers:
            caller.start()
        wait_for(lambda: ask(client, "/_lambent/status")["concurrency"]["in_use"] == 2)
        with pytest.raises(ClientError) as refused:
            invoke(client, names[0], {})
        assert code_of(refused.value) == (429, "TooManyRequestsException")
        os.kill(pid_of(client, 1), signal.SIGKILL)
        for caller in callers:
            caller.join()

        def has_room() -> bool:
            try:
                return bool(invoke(connect(node), names[0], {}) == "done")
            except ClientError:
                return False

        wait_for(has_room)


def invoke_in_vain(client: Any, name: str) -> None:
    with contextlib.suppress(Exception):
        invoke(client, name, {"s": 20})


def test_accepted_events_survive_the_death_of_any_process(tmp_path: Path) -> None:
    done = tmp_path / "done"
    # Without isolation, so that what was done stands in a file: the last log lines of a killed process may be lost.
    arguments = ["--processes", "2", "--isolation", "process"]
    with LambentNode(tmp_path / "data", arguments=arguments).running() as node:
        client = connect(node)
        source = (
            "import time\n"
            "def handler(event, context):\n"
            "    time.sleep(0.05)\n"
            f"    with open({str(done)!r}, 'a') as file:\n"
            "        file.write(f'{event}\\n')\n"
        )
        names = [create_at(client, home, "event", source) for home in MEMBERS]
        accepted = set()
        for number in range(60):
            if number in (20, 40):
                os.kill(pid_of(connect(node), number // 20 - 1), signal.SIGKILL)
            with contextlib.suppress(Exception):
                connect(node).invoke(
                    FunctionName=names[number % 2], InvocationType="Event", Payload=str(number).encode()
                )
                accepted.add(str(number))
        assert len(accepted) > 40
        wait_for(lambda: accepted <= set(done.read_text().split()), patience_s=60)


def test_sigterm_drains_all_processes_and_leaves_nothing(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--processes", "2"])
    node.start()
    client = connect(node)
    names = [create_at(client, home, "slow", SLOW) for home in MEMBERS]

    def call(own: Any, name: str) -> None:
        answers.append(invoke(own, name, {"s": 4}))

    # Clients before threads: `connect` changes this process's environment for a moment.
    answers: list[Any] = []
    callers = [threading.Thread(target=call, args=[connect(node), name]) for name in names for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_for(lambda: ask(client, "/_lambent/status")["concurrency"]["in_use"] == 8)
    pids = descendants(node.pid)
    assert node.stop() == 0
    for caller in callers:
        caller.join()
    assert answers == ["done"] * 8
    assert not [pid for pid in pids if not is_zombie(pid)]
    assert leftovers(node.data_dir) == []
    assert not list((node.data_dir / "processes").iterdir())


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--processes", "2"])
    node.start()
    client = connect(node)
    names = [create_at(client, home, "slow", SLOW) for home in MEMBERS]
    callers = [threading.Thread(target=invoke_in_vain, args=[connect(node), name]) for name in names]
    for caller in callers:
        caller.start()
    wait_for(lambda: ask(client, "/_lambent/status")["concurrency"]["in_use"] == 2)
    pids = descendants(node.pid)
    node.signal(signal.SIGTERM)
    wait_for(lambda: "Shutting down" in node.output)
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert time.monotonic() - began < 15, "it waited for invocations of 20 seconds"
    for caller in callers:
        caller.join()
    assert not [pid for pid in pids if not is_zombie(pid)]
    assert leftovers(node.data_dir) == []


def test_after_sigkill_of_the_supervisor_nothing_lives_and_any_number_starts_again(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--processes", "3"])
    node.start()
    client = connect(node)
    names = [name_at(client, home, "echo") for home in MEMBERS]
    for name in names:
        create(client, name, ECHO)
        invoke(client, name)
    pids = descendants(node.pid)
    node.kill()
    wait_nothing_left(node.data_dir, pids)
    for arguments in (["--processes", "2"], []):
        again = LambentNode(node.data_dir, arguments=arguments)
        with again.running():
            assert [invoke(connect(again), name, 1) for name in names] == [1, 1]
    assert leftovers(node.data_dir) == []


def test_a_process_that_cannot_start_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    first = LambentNode(tmp_path / "data", arguments=["--processes", "2"])
    with first.running():
        with pytest.raises(NodeDidNotStart, match="in use by another node"):
            LambentNode(tmp_path / "data", arguments=["--processes", "2"]).start()
    (tmp_path / "data" / "state.db").write_bytes(b"this is no database" * 1_000)
    for path in (tmp_path / "data").glob("state.db-*"):
        path.unlink()
    with pytest.raises(NodeDidNotStart, match="damaged"):
        LambentNode(tmp_path / "data", arguments=["--processes", "2"]).start()
    assert leftovers(tmp_path / "data") == []


def test_one_process_is_the_node_itself(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        assert ask(client, "/_lambent/status")["pid"] == node.pid
        assert "processes" not in ask(client, "/_lambent/status")
        client.create_function(
            FunctionName="f",
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": make_zip({"app.py": ECHO})},
        )
    assert not (tmp_path / "data" / "processes").exists()


def test_what_is_provisioned_lives_in_the_home_process_and_is_told_by_any(pair: LambentNode) -> None:
    client = connect(pair)
    source = "import os\nKIND = os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\ndef handler(e, c):\n    return KIND\n"
    for home in MEMBERS:
        name = create_at(client, home, "ahead", source)
        client.publish_version(FunctionName=name)
        client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=2)

        def status(name: str = name) -> Any:
            return client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")["Status"]

        wait_for(lambda status=status: status() == "READY")  # type: ignore[misc]
        answers = [json.load(client.invoke(FunctionName=name, Qualifier="1")["Payload"]) for _ in range(6)]
        assert answers == ["provisioned-concurrency"] * 6
        client.delete_function(FunctionName=name)


def publish_with_snapstart(client: Any, name: str) -> None:
    client.update_function_configuration(FunctionName=name, SnapStart={"ApplyOn": "PublishedVersions"})
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    client.publish_version(FunctionName=name)
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1")


def invoke_version(client: Any, name: str) -> Any:
    return json.load(client.invoke(FunctionName=name, Qualifier="1")["Payload"])


def uid_of(pid: int) -> int:
    """0 for a process that is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return 0


def templates(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(client, "/_lambent/status")["templates"]
    return found


def test_templates_are_made_in_the_home_process_and_again_after_it_was_killed(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", arguments=["--processes", "2"]).running() as node:
        client = connect(node)
        kind = "import os\ndef handler(e, c):\n    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
        names = [create_at(client, home, "snap", kind) for home in MEMBERS]
        for name in names:
            publish_with_snapstart(client, name)
            shown = client.get_function_configuration(FunctionName=name, Qualifier="1")
            assert shown["SnapStart"]["OptimizationStatus"] == "On", shown
            assert invoke_version(client, name) == "snap-start"
        assert sorted((entry["version"].split(":")[6], entry["process"]) for entry in templates(client)) == sorted(
            (name, int(home)) for name, home in zip(names, MEMBERS, strict=True)
        )
        os.kill(pid_of(client, 1), signal.SIGKILL)
        wait_for(lambda: len([entry for entry in templates(client) if "ended" not in entry]) == 1)
        wait_for(lambda: len([entry for entry in templates(client) if "ended" not in entry]) == 2)
        assert invoke_version(client, names[1]) == "snap-start"


def test_a_version_whose_process_dies_in_its_init_is_initialised_again(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", arguments=["--processes", "2"]).running() as node:
        client = connect(node)
        slow = "import time\ntime.sleep(2)\ndef handler(e, c):\n    return 'made'\n"
        name = create_at(client, "1", "slow", slow)
        publisher = threading.Thread(target=publish_with_snapstart, args=(client, name))
        publisher.start()
        pid = pid_of(client, 1)
        # Nothing else of it has a user of its own: the template that is being made.
        wait_for(lambda: any(uid_of(child) >= FIRST_UID for child in descendants(pid)))
        os.kill(pid, signal.SIGKILL)
        publisher.join()
        shown = client.get_function_configuration(FunctionName=name, Qualifier="1")
        assert (shown["State"], shown["SnapStart"]["OptimizationStatus"]) == ("Active", "On"), shown.get("StateReason")
        assert invoke_version(client, name) == "made"
