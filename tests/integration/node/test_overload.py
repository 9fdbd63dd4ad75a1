"""More work than the node has room for: what is not run is refused in the contract's words, and nothing is exceeded."""

from __future__ import annotations

import concurrent.futures
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, ask, connect

from lambent.testing.node import LambentNode, make_zip

LIMIT = 4
SOURCE = """
import time
def handler(event, context):
    time.sleep(event["s"])
    return {"n": event["n"]}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    folder = tmp_path_factory.mktemp("small")
    config = folder / "lambent.toml"
    config.write_text(f"max_environments = {LIMIT}\nqueue_seconds = 1\n")
    with LambentNode(folder / "data", arguments=["--config", str(config)]).running() as running:
        yield running


@pytest.fixture(scope="module")
def client(small: LambentNode) -> Any:
    return connect(small)


@pytest.fixture(scope="module")
def names(client: Any) -> list[str]:
    names = [f"busy-{number}" for number in range(3)]
    for name in names:
        client.create_function(
            FunctionName=name,
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Timeout=20,
            Code={"ZipFile": make_zip({"app.py": SOURCE})},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name)
    return names


def invoke(client: Any, name: str, **event: Any) -> tuple[int, str]:
    """Status and `Retry-After`."""
    try:
        response = client.invoke(FunctionName=name, Payload=json.dumps(event).encode())
    except client.exceptions.TooManyRequestsException as exc:
        assert exc.response["Reason"] == "ConcurrentInvocationLimitExceeded"
        return 429, exc.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]
    assert "FunctionError" not in response
    assert json.loads(response["Payload"].read()) == {"n": event["n"]}
    return response["StatusCode"], ""


def test_ten_times_what_there_is_room_for_is_run_or_refused_and_the_limit_holds(client: Any, names: list[str]) -> None:
    counts: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            counts.append(len(ask(client, "/_lambent/status")["environments"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(LIMIT * 10) as pool:
        futures = [pool.submit(invoke, client, names[n % 3], n=n, s=0.6) for n in range(LIMIT * 10)]
        answers = [future.result() for future in futures]
    done.set()
    watcher.join()
    assert {status for status, _ in answers} == {200, 429}
    assert all(retry_after for status, retry_after in answers if status == 429)
    assert sum(status == 200 for status, _ in answers) >= LIMIT
    assert max(counts) <= LIMIT
    # And it has recovered.
    assert [invoke(client, name, n=0, s=0)[0] for name in names] == [200] * 3


def test_whoever_waits_for_room_gets_it_when_there_is_some(client: Any, names: list[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(LIMIT + 2) as pool:
        futures = [pool.submit(invoke, client, names[0], n=n, s=0.4) for n in range(LIMIT + 2)]
        assert [future.result()[0] for future in futures] == [200] * (LIMIT + 2)


def test_reasons_of_cold_starts_are_counted(client: Any, names: list[str]) -> None:
    def counters() -> dict[str, int]:
        found: dict[str, int] = ask(client, "/_lambent/status")["counters"]
        return found

    before = counters()
    client.update_function_code(FunctionName=names[1], ZipFile=make_zip({"app.py": SOURCE + "\n# new\n"}))
    client.get_waiter("function_updated_v2").wait(FunctionName=names[1])
    invoke(client, names[1], n=0, s=0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: invoke(client, names[1], n=n, s=0.5), range(2)))
    after = counters()
    assert after["cold_first"] >= 3
    assert after["cold_evicted"] >= 1
    assert after["cold_scaled_out"] > before.get("cold_scaled_out", 0)
    reasons = {name: count for name, count in after.items() if name.startswith("cold_") and name != "cold_starts"}
    assert sum(reasons.values()) == after["cold_starts"]


def test_the_node_can_be_stopped_while_invocations_wait_for_room(tmp_path: Path) -> None:
    config = tmp_path / "lambent.toml"
    config.write_text("max_environments = 1\nqueue_seconds = 60\ndrain_timeout_seconds = 1\n")
    with LambentNode(tmp_path / "data", arguments=["--config", str(config)]).running() as node:
        client = connect(node)
        client.create_function(
            FunctionName="f",
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Timeout=60,
            Code={"ZipFile": make_zip({"app.py": SOURCE})},
        )
        client.get_waiter("function_active_v2").wait(FunctionName="f")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(client.invoke, FunctionName="f", Payload=b'{"s": 30, "n": 1}') for _ in range(3)]
            while ask(client, "/_lambent/status")["concurrency"]["in_use"] < 3:
                pass
            assert node.stop() == 0
            for future in futures:
                assert future.exception() is not None or "FunctionError" in future.result()
