"""Settings, recursion and the owner's view of asynchronous events, with boto3 and the command line on a real node."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, connect

from lambent.cli.main import run
from lambent.testing.node import LambentNode, make_zip

SOURCE = "def handler(event, context):\n    if event.get('fails'):\n        raise ValueError('no')\n    return 1\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    with LambentNode(tmp_path_factory.mktemp("events") / "data").running() as started:
        yield started


@pytest.fixture(scope="module")
def client(node: LambentNode) -> Any:
    client = connect(node)
    code = {"ZipFile": make_zip({"app.py": SOURCE})}
    client.create_function(FunctionName="f", Runtime=PYTHON, Role=ROLE, Handler="app.handler", Code=code)
    client.get_waiter("function_active_v2").wait(FunctionName="f")
    return client


def command(capsys: pytest.CaptureFixture[str], data_dir: Path, *arguments: str) -> Any:
    assert run(["events", *arguments, "--json", "--data-dir", str(data_dir)]) == 0
    return json.loads(capsys.readouterr().out)


def test_settings_are_put_updated_listed_and_deleted_per_qualifier(client: Any) -> None:
    put = client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
    assert put["FunctionArn"].endswith(":function:f:$LATEST")
    updated = client.update_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=60)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    shown = client.get_function_event_invoke_config(FunctionName="f")
    assert shown["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    listed = client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
    assert [item["FunctionArn"] for item in listed] == [put["FunctionArn"]]
    client.delete_function_event_invoke_config(FunctionName="f")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.get_function_event_invoke_config(FunctionName="f")


def test_a_destination_that_is_not_there_is_refused(client: Any) -> None:
    missing = f"{client.get_function(FunctionName='f')['Configuration']['FunctionArn']}-missing"
    with pytest.raises(ClientError, match="does not exist"):
        client.put_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnFailure": {"Destination": missing}}
        )


def test_loops_are_ended_unless_the_owner_allows_them(client: Any) -> None:
    assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"


def test_a_dead_event_is_found_shown_redriven_and_dropped(
    client: Any, node: LambentNode, capsys: pytest.CaptureFixture[str]
) -> None:
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
    client.invoke(FunctionName="f", InvocationType="Event", Payload=b'{"fails": true}')

    def wait_dead(attempts: int) -> dict[str, Any]:
        deadline_at = time.monotonic() + 30
        while True:
            found = command(capsys, node.data_dir, "ls", "--function", "f", "--state", "dead")
            if found and found[0]["attempts"] == attempts:
                return dict(found[0])
            assert time.monotonic() < deadline_at, found
            time.sleep(0.05)

    request_id = wait_dead(1)["request_id"]
    shown = command(capsys, node.data_dir, "show", request_id)
    assert (shown["payload"], shown["error"]) == ({"fails": True}, "ValueError")
    assert command(capsys, node.data_dir, "redrive", "--error", "ValueError", "--since", "1h") == {"redriven": 1}
    wait_dead(2)
    assert run(["events", "show", request_id, "--data-dir", str(node.data_dir)]) == 0
    assert run(["events", "ls", "--data-dir", str(node.data_dir)]) == 0
    capsys.readouterr()
    assert command(capsys, node.data_dir, "drop", request_id) == {"dropped": 1}
    assert command(capsys, node.data_dir, "ls") == []
