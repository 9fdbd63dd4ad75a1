"""Queues on a real node, through boto3, the AWS CLI, kombu and Celery, with functions behind them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip


@pytest.fixture(scope="module", params=["one process", "two processes"])
def own_node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    arguments = [] if request.param == "one process" else ["--processes", "2"]
    with LambentNode(tmp_path_factory.mktemp("node") / "data", arguments=arguments).running() as running:
        yield running


@pytest.fixture
def sqs(own_node: LambentNode) -> Any:
    return connect(own_node, "sqs")


def test_send_receive_and_delete_by_boto3_which_checks_every_digest(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="plain", Attributes={"VisibilityTimeout": "5"}, tags={"a": "b"})["QueueUrl"]
    attributes = {"n": {"DataType": "Number", "StringValue": "1"}, "b": {"DataType": "Binary", "BinaryValue": b"\xff"}}
    sent = sqs.send_message(QueueUrl=url, MessageBody="grüße 🦊", MessageAttributes=attributes)
    answer = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=2)
    (message,) = answer["Messages"]
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "grüße 🦊")
    assert message["MessageAttributes"] == attributes
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    batch = [{"Id": str(number), "MessageBody": str(number)} for number in range(10)]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=batch)["Successful"]) == 10
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    entries = [{"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]} for at, message in enumerate(got)]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


def test_errors_are_botocores_by_their_old_names_and_their_new(sqs: Any) -> None:
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.get_queue_url(QueueName="nonesuch")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert caught.value.response["Error"]["QueryErrorCode"] == "QueueDoesNotExist"


def test_a_long_poll_is_answered_when_something_is_sent(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="polled")["QueueUrl"]
    got: list[str] = []

    def poll() -> None:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
        got.extend(message["Body"] for message in answer.get("Messages", []))

    poller = threading.Thread(target=poll)
    poller.start()
    sqs.send_message(QueueUrl=url, MessageBody="now")
    poller.join(timeout=15)
    assert got == ["now"]


def test_the_aws_cli_sends_and_receives(own_node: LambentNode) -> None:
    aws = str(Path(sys.executable).parent / "aws")
    environ = {**own_node.environ(), "AWS_PROFILE": "lambent"}

    def run(*arguments: str) -> Any:
        # Version 1 of the CLI looks at no endpoint of the environment for this service.
        command = [aws, "sqs", "--endpoint-url", own_node.endpoint, *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    url = run("create-queue", "--queue-name", "by-cli")["QueueUrl"]
    run("send-message", "--queue-url", url, "--message-body", "hello")
    assert run("receive-message", "--queue-url", url)["Messages"][0]["Body"] == "hello"


def test_a_mapping_hands_messages_to_a_function_and_what_fails_comes_to_the_dead_letters(own_node: LambentNode) -> None:
    sqs, functions = connect(own_node, "sqs"), connect(own_node)
    dead = sqs.create_queue(QueueName="map-dead")["QueueUrl"]
    policy = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{dead.split('/')[-2]}:map-dead", "maxReceiveCount": 2}
    attributes = {"VisibilityTimeout": "1", "RedrivePolicy": json.dumps(policy)}
    url = sqs.create_queue(QueueName="map", Attributes=attributes)["QueueUrl"]
    source = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    code = (
        "def handler(event, context):\n"
        "    bad = [r['messageId'] for r in event['Records'] if r['body'] == 'bad']\n"
        "    return {'batchItemFailures': [{'itemIdentifier': one} for one in bad]}\n"
    )
    functions.create_function(
        FunctionName="worker",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Timeout=1,
        Code={"ZipFile": make_zip({"app.py": code})},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="worker")
    functions.create_event_source_mapping(
        FunctionName="worker", EventSourceArn=source, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    for body in ("good", "bad", "good"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    letters: list[Any] = []
    give_up_at = time.monotonic() + 30
    while not letters and time.monotonic() < give_up_at:
        letters = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=5, AttributeNames=["All"]).get("Messages", [])
    assert [letter["Body"] for letter in letters] == ["bad"]
    assert letters[0]["Attributes"]["DeadLetterQueueSourceArn"] == source


def test_a_failed_event_reaches_the_queue_of_its_function(own_node: LambentNode) -> None:
    sqs, functions = connect(own_node, "sqs"), connect(own_node)
    url = sqs.create_queue(QueueName="failures")["QueueUrl"]
    target = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    functions.create_function(
        FunctionName="failing",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": "def handler(event, context):\n    raise ValueError('no')\n"})},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="failing")
    functions.put_function_event_invoke_config(
        FunctionName="failing", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": target}}
    )
    functions.invoke(FunctionName="failing", InvocationType="Event", Payload=b'{"order": 1}')
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    record = json.loads(message["Body"])
    assert (record["requestPayload"], record["requestContext"]["condition"]) == ({"order": 1}, "RetriesExhausted")


def test_every_message_that_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    sqs = connect(node, "sqs")
    url = sqs.create_queue(QueueName="kept", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    acknowledged: list[str] = []

    def send(worker: int) -> None:
        for number in range(10_000):
            try:
                sqs.send_message(QueueUrl=url, MessageBody=f"{worker}-{number}")
            # Whatever the client says when the node dies beneath it.
            except Exception:
                return
            acknowledged.append(f"{worker}-{number}")

    workers = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    while len(acknowledged) < 200:
        time.sleep(0.01)
    node.kill()
    for worker in workers:
        worker.join(timeout=30)
    node.start()
    sqs = connect(node, "sqs")
    url = sqs.get_queue_url(QueueName="kept")["QueueUrl"]
    found: set[str] = set()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60).get("Messages"):
        assert not found & {message["Body"] for message in messages}
        found |= {message["Body"] for message in messages}
        entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    assert set(acknowledged) <= found
    assert len(found) - len(acknowledged) <= len(workers)
    assert node.stop() == 0
