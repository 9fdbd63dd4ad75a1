"""A node that is killed while rows flow from a database: every row reaches its function, counted in a queue."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.components.postgres import Postgres
from lambent.testing.node import LambentNode, make_zip

ROWS = 300
SOURCE = """
import boto3, os
sqs = boto3.client("sqs")
def handler(event, context):
    numbers = [record["postgres"]["new"]["number"] for record in event["Records"]]
    for at in range(0, len(numbers), 10):
        entries = [{"Id": str(number), "MessageBody": str(number)} for number in numbers[at:at + 10]]
        assert not sqs.send_message_batch(QueueUrl=os.environ["SEEN"], Entries=entries)["Failed"]
"""


def insert(url: str, numbers: range) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for number in numbers:
            connection.execute("INSERT INTO flow VALUES (%s)", (number,))


def drain(sqs: Any, url: str, *, until: int) -> list[int]:
    """What the function saw, with repeats, once it has seen so many different rows."""
    seen: list[int] = []
    for _ in range(200):
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        seen += [int(message["Body"]) for message in messages]
        entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(messages)]
        if entries:
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        if len(set(seen)) >= until and not messages:
            break
    return seen


def test_no_row_is_lost_when_the_node_is_killed(postgres: Postgres, tmp_path: Path) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE flow (number int PRIMARY KEY)")
    config = tmp_path / "lambent.toml"
    config.write_text(f'[connections.shop]\nkind = "postgres"\nurl = "{postgres.url}"\n')
    node = LambentNode(tmp_path / "data", environ={"LAMBENT_CONFIG": str(config)})
    node.start()
    functions, sqs = connect(node), connect(node, "sqs")
    url = sqs.create_queue(QueueName="seen")["QueueUrl"]
    arn = functions.create_function(
        FunctionName="flow",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Timeout=20,
        MemorySize=1024,
        Environment={"Variables": {"SEEN": url}},
        Code={"ZipFile": make_zip({"app.py": SOURCE})},
    )["FunctionArn"]
    functions.get_waiter("function_active_v2").wait(FunctionName="flow")
    mapping = functions.create_event_source_mapping(
        FunctionName="flow",
        EventSourceArn=f"arn:aws:postgres:us-east-1:{arn.split(':')[4]}:shop",
        Queues=["public.flow"],
        StartingPosition="LATEST",
        BatchSize=7,
    )
    while functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] != "Enabled":
        pass
    inserter = threading.Thread(target=insert, args=(postgres.url, range(ROWS)))
    inserter.start()
    before = drain(sqs, url, until=30)
    node.kill()
    inserter.join()
    node.start()
    functions, sqs = connect(node), connect(node, "sqs")
    url = sqs.get_queue_url(QueueName="seen")["QueueUrl"]
    after = drain(sqs, url, until=ROWS - len(set(before)))
    functions.delete_event_source_mapping(UUID=mapping["UUID"])
    assert set(before) | set(after) == set(range(ROWS))
    assert node.stop() == 0
