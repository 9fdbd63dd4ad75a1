"""Event source mappings on a real node, through boto3, with a queue at another endpoint and real functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip
from lambent.testing.sqs_endpoint import SqsEndpoint

ELSEWHERE = "999988887777"
QUEUE = f"arn:aws:sqs:us-east-1:{ELSEWHERE}:orders"
HANDLER = """
import json, os, time
def handler(event, context):
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        if body.get("once") and record["attributes"]["ApproximateReceiveCount"] == "1":
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        time.sleep(body.get("sleep", 0))
        print("TOOK " + json.dumps(record))
    return {"batchItemFailures": failures}
"""


@pytest.fixture
def endpoint() -> Iterator[SqsEndpoint]:
    with SqsEndpoint(visibility_s=2.0).running() as running:
        yield running


@pytest.fixture
def mapped_node(tmp_path: Path, endpoint: SqsEndpoint) -> Iterator[LambentNode]:
    settings = tmp_path / "lambent.toml"
    settings.write_text(
        f'[connections.elsewhere]\nurl = "{endpoint.url}"\naccount = "{ELSEWHERE}"\n'
        'access_key_id = "AKELSEWHERE"\nsecret_access_key = "s"\n'
    )
    with LambentNode(tmp_path / "data", environ={"LAMBENT_CONFIG": str(settings)}).running() as running:
        yield running


def make_function(client: Any) -> None:
    client.create_function(
        FunctionName="orders",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": HANDLER})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="orders")


def wait_for(look: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)
    return found


def wait_state(client: Any, uuid: str, state: str) -> None:
    wait_for(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == state)


@pytest.mark.slow
def test_messages_of_another_endpoint_reach_a_function_and_failures_come_again(
    mapped_node: LambentNode, endpoint: SqsEndpoint
) -> None:
    client = connect(mapped_node)
    make_function(client)
    made = client.create_event_source_mapping(
        FunctionName="orders",
        EventSourceArn=QUEUE,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"kind": ["paid"]}})}]},
    )
    assert made["State"] == "Creating"
    wait_state(client, made["UUID"], "Enabled")
    endpoint.send(json.dumps({"kind": "paid", "n": 1}), trace="abc")
    endpoint.send(json.dumps({"kind": "paid", "n": 2, "once": True}))
    endpoint.send(json.dumps({"kind": "open", "n": 3}))
    assert endpoint.wait_empty()
    assert endpoint.signed_by == {"AKELSEWHERE"}
    took = wait_for(lambda: [record for record in taken(mapped_node) if json.loads(record["body"])["n"] == 2])
    assert took[0]["attributes"]["ApproximateReceiveCount"] == "2"
    wait_for(lambda: {json.loads(record["body"])["n"] for record in taken(mapped_node)} == {1, 2})
    for record in taken(mapped_node):
        read_with_powertools(record)
    assert client.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"] == "OK"

    assert "sqs orders" in run_cli(mapped_node, "ls")
    run_cli(mapped_node, "pause", made["UUID"][:8])
    wait_state(client, made["UUID"], "Disabled")
    client.delete_event_source_mapping(UUID=made["UUID"])
    wait_for(lambda: client.list_event_source_mappings()["EventSourceMappings"] == [])
    with pytest.raises(ClientError) as refused:
        client.get_event_source_mapping(UUID=made["UUID"])
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


@pytest.mark.slow
def test_what_was_under_way_when_the_node_was_killed_is_handled_after_it(
    mapped_node: LambentNode, endpoint: SqsEndpoint
) -> None:
    client = connect(mapped_node)
    make_function(client)
    made = client.create_event_source_mapping(FunctionName="orders", EventSourceArn=QUEUE, BatchSize=1)
    wait_state(client, made["UUID"], "Enabled")
    sent = [endpoint.send(json.dumps({"n": number, "sleep": 1})) for number in range(10)]
    wait_for(lambda: len(endpoint.received) == 10)
    mapped_node.kill()
    mapped_node.start()
    assert endpoint.wait_empty()
    assert all(endpoint.received[message] >= 2 for message in sent)
    wait_for(lambda: {json.loads(record["body"])["n"] for record in taken(mapped_node)} == set(range(10)))


def test_a_queue_that_nobody_named_is_refused(mapped_node: LambentNode) -> None:
    client = connect(mapped_node)
    make_function(client)
    with pytest.raises(ClientError) as refused:
        client.create_event_source_mapping(
            FunctionName="orders", EventSourceArn="arn:aws:sqs:us-east-1:111111111111:orders"
        )
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert "lambent.toml" in str(refused.value)


def run_cli(node: LambentNode, *arguments: str) -> str:
    environ = {**os.environ, "LAMBENT_DATA_DIR": str(node.data_dir), "LAMBENT_ENDPOINT": node.endpoint}
    command = [sys.executable, "-m", "lambent", "triggers", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def taken(node: LambentNode) -> list[dict[str, Any]]:
    found = []
    for log in sorted(node.data_dir.glob("logs/**/*")):
        if log.is_file():
            lines = [line for line in log.read_text(errors="replace").splitlines() if "TOOK " in line]
            found += [json.loads(_text(line).partition("TOOK ")[2]) for line in lines]
    return found


def _text(line: str) -> str:
    """Of a line as it is stored: JSON around it, or itself."""
    try:
        stored = json.loads(line)
    except ValueError:
        return line
    return next(value for value in stored.values() if isinstance(value, str) and "TOOK " in value)


def read_with_powertools(record: dict[str, Any]) -> None:
    from aws_lambda_powertools.utilities.data_classes import SQSEvent
    from aws_lambda_powertools.utilities.parser.models import SqsModel

    [parsed] = SqsModel.model_validate({"Records": [record]}).Records
    assert parsed.messageId == record["messageId"]
    [read] = SQSEvent({"Records": [record]}).records
    if record["messageAttributes"]:
        assert read["messageAttributes"]["trace"]["stringValue"] == "abc"
    assert read.event_source_arn == QUEUE
