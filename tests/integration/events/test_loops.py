"""A function that sends to what triggers it is stopped after sixteen rounds, through a queue and through a topic."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip

LOOP = {
    "queue": (
        "import boto3, os\n"
        "sqs = boto3.client('sqs')\n"
        "def handler(event, context):\n"
        "    sqs.send_message(QueueUrl=os.environ['SEEN'], MessageBody='round')\n"
        "    sqs.send_message(QueueUrl=os.environ['SELF'], MessageBody='again')\n"
    ),
    "topic": (
        "import boto3, os\n"
        "sqs, sns = boto3.client('sqs'), boto3.client('sns')\n"
        "def handler(event, context):\n"
        "    sqs.send_message(QueueUrl=os.environ['SEEN'], MessageBody='round')\n"
        "    sns.publish(TopicArn=os.environ['SELF'], Message='again')\n"
    ),
}


def visible(sqs: Any, url: str) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def settle(look: Any) -> int:
    """What `look` gives once it has been the same for two seconds."""
    last, since, give_up_at = look(), time.monotonic(), time.monotonic() + 60
    while time.monotonic() - since < 2 or last == 0:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
        now = look()
        if now != last:
            last, since = now, time.monotonic()
    return int(last)


@pytest.mark.parametrize("kind", LOOP)
def test_a_loop_is_stopped(node: LambentNode, kind: str) -> None:
    functions, sqs, sns = connect(node), connect(node, "sqs"), connect(node, "sns")
    seen = sqs.create_queue(QueueName=f"seen-{kind}")["QueueUrl"]
    dead = sqs.create_queue(QueueName=f"dead-{kind}")["QueueUrl"]
    dead_arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
    attributes = {"VisibilityTimeout": "6", "RedrivePolicy": policy}
    url = sqs.create_queue(QueueName=f"loop-{kind}", Attributes=attributes)["QueueUrl"]
    topic = sns.create_topic(Name="loop")["TopicArn"]
    name = f"loop-{kind}"
    arn = functions.create_function(
        FunctionName=name,
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Timeout=6,
        MemorySize=1024,
        Environment={"Variables": {"SEEN": seen, "SELF": url if kind == "queue" else topic}},
        Code={"ZipFile": make_zip({"app.py": LOOP[kind]})},
    )["FunctionArn"]
    functions.get_waiter("function_active_v2").wait(FunctionName=name)
    # What URLs the function is given name this host; from within it is another one, and the path is what counts.
    if kind == "queue":
        source = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        functions.create_event_source_mapping(FunctionName=name, EventSourceArn=source, BatchSize=1)
        sqs.send_message(QueueUrl=url, MessageBody="first")
    else:
        functions.put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": dead_arn}}
        )
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
        sns.publish(TopicArn=topic, Message="first")
    assert settle(lambda: visible(sqs, seen)) == 16
    if kind == "topic":
        (letter,) = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=10)["Messages"]
        assert json.loads(letter["Body"])["requestContext"]["condition"] == "RetriesExhausted"
    else:
        assert (sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=20).get("Messages") or [{}])[0].get(
            "Body"
        ) == "again"
