"""Provisioned concurrency as boto3 sees it, on a real node."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import connect
from tests.integration.environment.test_mistakes_of_others import environments
from tests.integration.node.test_lifecycle import create

from lambent.testing.node import LambentNode, make_zip

TELL = """
import os, time, pathlib
INITIALIZED = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
def handler(event, context):
    time.sleep(event.get("seconds", 0))
    if event.get("crash"):
        os._exit(3)
    return [INITIALIZED, context.log_stream_name, context.function_version]
"""
PROVISIONED, ON_DEMAND = "provisioned-concurrency", "on-demand"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    environ = {"LAMBENT_KEEP_ALIVE_SECONDS": "1", "LAMBENT_ACCOUNT_CONCURRENCY": "100"}
    with LambentNode(tmp_path_factory.mktemp("provisioned") / "data", environ=environ).running() as node:
        yield node


def publish(client: Any, name: str, source: str = TELL) -> str:
    client.update_function_code(FunctionName=name, ZipFile=make_zip({"app.py": source}))
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    version: str = client.publish_version(FunctionName=name)["Version"]
    return version


def provision(client: Any, name: str, qualifier: str, executions: int) -> None:
    client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=executions
    )


def wait_status(client: Any, name: str, qualifier: str, status: str = "READY") -> dict[str, Any]:
    deadline_at = time.monotonic() + 60
    while True:
        state: dict[str, Any] = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if state["Status"] == status:
            return state
        assert time.monotonic() < deadline_at, state
        time.sleep(0.05)


def invoke(client: Any, name: str, qualifier: str, **event: Any) -> Any:
    answer = client.invoke(FunctionName=name, Qualifier=qualifier, Payload=json.dumps(event).encode())
    return json.load(answer["Payload"])


def invoke_at_once(client: Any, name: str, qualifier: str, count: int, **event: Any) -> list[Any]:
    """The answers, or the codes of what was refused."""

    def one(_: int) -> Any:
        try:
            return invoke(client, name, qualifier, **event)
        except ClientError as error:
            return error.response["Error"]["Code"]

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_what_is_provisioned_is_initialised_ahead_and_stays(node: LambentNode) -> None:
    client = connect(node)
    create(client, "ahead", TELL)
    publish(client, "ahead")
    provision(client, "ahead", "1", 2)
    state = wait_status(client, "ahead", "1")
    assert state["AvailableProvisionedConcurrentExecutions"] == state["AllocatedProvisionedConcurrentExecutions"] == 2
    # Twice as long as idle environments are kept here.
    ready = {shown["id"] for shown in environments(node, "ahead")}
    time.sleep(2)
    assert {shown["id"] for shown in environments(node, "ahead")} == ready
    kind, stream, version = invoke(client, "ahead", "1")
    assert (kind, version) == (PROVISIONED, "1")
    assert stream[-32:] in ready


def test_what_finds_none_free_spills_over_to_on_demand(node: LambentNode) -> None:
    client = connect(node)
    create(client, "spill", TELL, Timeout=30)
    publish(client, "spill")
    provision(client, "spill", "1", 2)
    wait_status(client, "spill", "1")
    answers = invoke_at_once(client, "spill", "1", 4, seconds=1)
    assert sorted(kind for kind, _, _ in answers) == [ON_DEMAND, ON_DEMAND, PROVISIONED, PROVISIONED]
    assert invoke(client, "spill", "$LATEST")[0] == ON_DEMAND


def test_provisioned_and_on_demand_together_keep_the_functions_limit(node: LambentNode) -> None:
    client = connect(node)
    create(client, "limit", TELL, Timeout=30)
    publish(client, "limit")
    client.put_function_concurrency(FunctionName="limit", ReservedConcurrentExecutions=3)
    provision(client, "limit", "1", 2)
    wait_status(client, "limit", "1")
    answers = invoke_at_once(client, "limit", "1", 8, seconds=2)
    assert answers.count("TooManyRequestsException") == 5
    assert sorted(answer[0] for answer in answers if isinstance(answer, list)) == [ON_DEMAND, PROVISIONED, PROVISIONED]
    # The two that are provisioned for version 1 are not there for another.
    answers = invoke_at_once(client, "limit", "$LATEST", 3, seconds=1)
    assert answers.count("TooManyRequestsException") == 2
    client.delete_function(FunctionName="limit")


def test_an_environment_that_crashes_or_is_killed_is_replaced(node: LambentNode) -> None:
    client = connect(node)
    create(client, "mortal", TELL)
    publish(client, "mortal")
    provision(client, "mortal", "1", 1)
    wait_status(client, "mortal", "1")
    first = invoke(client, "mortal", "1")[1]
    assert invoke(client, "mortal", "1", crash=True)["errorType"] == "Runtime.ExitError"
    wait_status(client, "mortal", "1")
    second = invoke(client, "mortal", "1")
    assert second[0] == PROVISIONED
    assert second[1] != first
    (shown,) = (shown for shown in environments(node, "mortal") if shown["provisioned"])
    os.kill(shown["pid"], signal.SIGKILL)
    deadline_at = time.monotonic() + 30
    while not any(other["provisioned"] and other["id"] != shown["id"] for other in environments(node, "mortal")):
        assert time.monotonic() < deadline_at
        time.sleep(0.05)
    assert invoke(client, "mortal", "1")[0] == PROVISIONED


def test_an_alias_takes_what_is_provisioned_for_it_to_another_version(node: LambentNode) -> None:
    client = connect(node)
    create(client, "moving", TELL)
    publish(client, "moving")
    client.create_alias(FunctionName="moving", Name="live", FunctionVersion="1")
    provision(client, "moving", "live", 1)
    wait_status(client, "moving", "live")
    assert invoke(client, "moving", "live")[0::2] == [PROVISIONED, "1"]
    assert invoke(client, "moving", "1")[0] == ON_DEMAND
    publish(client, "moving", TELL + "# second\n")
    client.update_alias(FunctionName="moving", Name="live", FunctionVersion="2")
    deadline_at = time.monotonic() + 30
    while invoke(client, "moving", "live")[0::2] != [PROVISIONED, "2"]:
        assert time.monotonic() < deadline_at
    client.delete_alias(FunctionName="moving", Name="live")
    while any(shown["provisioned"] for shown in environments(node, "moving")):
        assert time.monotonic() < deadline_at
        time.sleep(0.05)


def test_an_init_that_fails_is_the_reason_that_is_shown(node: LambentNode) -> None:
    client = connect(node)
    create(client, "broken", "raise ValueError('no database')")
    client.publish_version(FunctionName="broken")
    provision(client, "broken", "1", 1)
    state = wait_status(client, "broken", "1", "FAILED")
    assert state["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE: ValueError: no database"
    assert state["AvailableProvisionedConcurrentExecutions"] == 0


def test_a_node_without_room_says_so_and_what_is_idle_makes_room(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", environ={"LAMBENT_MAX_ENVIRONMENTS": "2"}).running() as node:
        client = connect(node)
        create(client, "idle", TELL)
        invoke(client, "idle", "$LATEST")
        create(client, "kept", TELL)
        publish(client, "kept")
        provision(client, "kept", "1", 2)
        wait_status(client, "kept", "1")
        assert environments(node, "idle") == []
        provision(client, "kept", "1", 3)
        state = wait_status(client, "kept", "1", "FAILED")
        assert "max_environments" in state["StatusReason"]
        assert state["AvailableProvisionedConcurrentExecutions"] == 2
        provision(client, "kept", "1", 1)
        wait_status(client, "kept", "1")
        # Its place is another's now.
        assert invoke(client, "idle", "$LATEST")[0] == ON_DEMAND


def test_a_killed_node_provisions_again_what_it_had(tmp_path: Path) -> None:
    killed = LambentNode(tmp_path / "data")
    with killed.running() as node:
        client = connect(node)
        create(client, "again", TELL)
        publish(client, "again")
        provision(client, "again", "1", 2)
        wait_status(client, "again", "1")
        node.kill()
    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        assert wait_status(client, "again", "1")["AvailableProvisionedConcurrentExecutions"] == 2
        assert invoke(client, "again", "1")[0] == PROVISIONED
