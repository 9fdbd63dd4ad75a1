"""A poison event kills its environment each time: the good ones get through, and it lies in the dead-letter place."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.conftest import PYTHON, ROLE, connect
from tests.faults.events.noting import NOTE

from lambent.testing.components.postgres import Postgres
from lambent.testing.components.processes import ComponentMissing
from lambent.testing.node import LambentNode, make_zip

GOOD = 6
POISON = 3
SEEN = "seen.fifo"
HANDLER = (
    NOTE
    + """
import signal
def handler(event, context):
    records = [str(record["postgres"]["new"]["number"]) if "postgres" in record else record["body"]
               for record in event["Records"]]
    if any(record.endswith("poison") or record == "3" for record in records):
        os.kill(os.getpid(), signal.SIGKILL)
    note(records)
"""
)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    try:
        component = Postgres(tmp_path_factory.mktemp("postgres"))
    except ComponentMissing as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    with component.running():
        yield component


@pytest.fixture(scope="module")
def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    folder = tmp_path_factory.mktemp("shop")
    config = folder / "lambent.toml"
    config.write_text(f'[connections.shop]\nkind = "postgres"\nurl = "{postgres.url}"\n')
    with LambentNode(folder / "data", environ={"LAMBENT_CONFIG": str(config)}).running() as running:
        yield running


class World:
    def __init__(self, node: LambentNode) -> None:
        self.functions, self.sqs = connect(node), connect(node, "sqs")
        self.account = ""

    def queue(self, name: str, **attributes: str) -> str:
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        url: str = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.account = url.split("/")[-2]
        return url

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:us-east-1:{self.account}:{name}"

    def map(self, kind: str, **mapping: Any) -> str:
        """A function of its own, which notes in a queue of its own; the mapping, once it is enabled."""
        seen = f"{kind}-{SEEN}"
        self.queue(seen)
        self.functions.create_function(
            FunctionName=kind,
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Timeout=3,
            Code={"ZipFile": make_zip({"app.py": HANDLER})},
            Environment={"Variables": {"SEEN": f"{self.account}/{seen}"}},
        )
        self.functions.get_waiter("function_active_v2").wait(FunctionName=kind)
        uuid: str = self.functions.create_event_source_mapping(FunctionName=kind, **mapping)["UUID"]
        wait_for(lambda: self.functions.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
        return uuid

    def dead_letters(self, name: str) -> tuple[str, str]:
        suffix = ".fifo" if name.endswith(".fifo") else ""
        dead = self.queue(f"dead-{name.removesuffix('.fifo')}{suffix}")
        policy = {"deadLetterTargetArn": self.arn(dead.rsplit("/", 1)[1]), "maxReceiveCount": 2}
        return self.queue(name, VisibilityTimeout="3", RedrivePolicy=json.dumps(policy)), dead

    def take(self, url: str, count: int) -> list[str]:
        found: list[str] = []

        def look() -> bool:
            for one in self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", ()):
                found.append(one["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            return len(found) >= count

        wait_for(look)
        return found

    def noted(self, kind: str, count: int) -> list[str]:
        url = self.sqs.get_queue_url(QueueName=f"{kind}-{SEEN}")["QueueUrl"]
        notes: list[str] = []

        def look() -> bool:
            for body in self.take(url, 0):
                notes.extend(json.loads(body))
            return len(notes) >= count

        wait_for(look)
        return notes


def wait_for(look: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline_at, "it never came to that"
        time.sleep(0.05)


def test_in_a_standard_queue(shop: LambentNode) -> None:
    world = World(shop)
    url, dead = world.dead_letters("standard")
    for number in range(GOOD):
        world.sqs.send_message(QueueUrl=url, MessageBody="poison" if number == POISON else str(number) + " good")
    world.map("standard", EventSourceArn=world.arn("standard"), BatchSize=1)
    assert sorted(world.noted("standard", GOOD - 1)) == [f"{n} good" for n in range(GOOD) if n != POISON]
    assert world.take(dead, 1) == ["poison"]


def test_in_a_group_of_a_fifo_queue(shop: LambentNode) -> None:
    world = World(shop)
    url, dead = world.dead_letters("ordered.fifo")
    for group in ("a", "b"):
        for number in range(GOOD):
            body = "a poison" if (group, number) == ("a", POISON) else f"{group} {number}"
            world.sqs.send_message(
                QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=f"{group}{number}"
            )
    world.map("ordered", EventSourceArn=world.arn("ordered.fifo"), BatchSize=1)
    noted = world.noted("ordered", 2 * GOOD - 1)
    assert [note for note in noted if note[0] == "a"] == [f"a {n}" for n in range(GOOD) if n != POISON]
    assert [note for note in noted if note[0] == "b"] == [f"b {n}" for n in range(GOOD)]
    assert world.take(dead, 1) == ["a poison"]


def test_in_a_stream_whose_batches_are_halved(shop: LambentNode, postgres: Postgres) -> None:
    world = World(shop)
    dead = world.queue("dead-stream")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (number int PRIMARY KEY)")
    uuid = world.map(
        "stream",
        EventSourceArn=f"arn:aws:postgres:us-east-1:{world.account}:shop",
        Queues=["public.orders"],
        StartingPosition="LATEST",
        BatchSize=GOOD,
        MaximumBatchingWindowInSeconds=1,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": world.arn("dead-stream")}},
    )
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("INSERT INTO orders SELECT generate_series(0, %s)", (GOOD - 1,))
    assert world.noted("stream", GOOD - 1) == [str(n) for n in range(GOOD) if n != POISON]
    (record,) = map(json.loads, world.take(dead, 1))
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    (batch,) = [value for name, value in record.items() if name.endswith("BatchInfo")]
    assert batch["batchSize"] == 1
    world.functions.delete_event_source_mapping(UUID=uuid)
    wait_for(
        lambda: not any(m["UUID"] == uuid for m in world.functions.list_event_source_mappings()["EventSourceMappings"])
    )
