"""The commands on queues, buses and schedules, against a real node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import connect

from lambent.testing.node import LambentNode

LAMBENT = str(Path(sys.executable).parent / "lambent")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(node: LambentNode) -> Run:
    environ = {**os.environ, "LAMBENT_DATA_DIR": str(node.data_dir), "LAMBENT_ENDPOINT": node.endpoint}

    def run_command(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([LAMBENT, *arguments], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    return run_command


def test_messages_are_sent_looked_at_counted_and_purged(run: Run) -> None:
    run("queues", "send", "by-hand", "--create", "-d", "hello")
    run("queues", "send", "by-hand", "-d", "later", "--delay", "900")
    assert run("queues", "peek", "by-hand").stdout == "hello\n"
    line = next(line for line in run("queues", "ls").stdout.splitlines() if "by-hand" in line)
    assert line.split() == ["by-hand", "1", "0", "1"]
    shown = json.loads(run("queues", "show", "by-hand", "--json").stdout)
    assert shown["QueueArn"].endswith(":by-hand")
    assert "without asking" in run("queues", "purge", "by-hand", code=2).stderr
    run("queues", "purge", "by-hand", "--yes")
    assert "nothing to receive" in run("queues", "peek", "by-hand").stderr


def test_what_is_not_there_is_said_with_what_there_is_to_do(run: Run) -> None:
    done = run("queues", "show", "nonesuch", code=3)
    assert "The specified queue does not exist." in done.stderr
    assert "`lambent queues ls` lists the queues." in done.stderr


def test_an_event_put_on_the_bus_reaches_the_queue_of_its_rule(run: Run, node: LambentNode) -> None:
    run("queues", "send", "from-bus", "--create", "-d", "x")
    run("queues", "purge", "from-bus", "--yes")
    arn = json.loads(run("queues", "show", "from-bus", "--json").stdout)["QueueArn"]
    buses: Any = connect(node, "events")
    buses.put_rule(Name="orders", EventPattern='{"source": ["shop.orders"]}')
    buses.put_targets(Rule="orders", Targets=[{"Id": "queue", "Arn": arn}])
    assert "orders" in run("bus", "ls").stdout
    run("bus", "put", "--source", "shop.orders", "--type", "OrderPlaced", "-d", '{"id": 7}')
    sqs: Any = connect(node, "sqs")
    url = sqs.get_queue_url(QueueName="from-bus")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert json.loads(message["Body"])["detail"] == {"id": 7}
    assert "not a JSON object" in run("bus", "put", "--source", "a", "--type", "b", "-d", "[]", code=2).stderr


def test_schedules_are_listed(run: Run, node: LambentNode) -> None:
    arn = json.loads(run("queues", "send", "scheduled", "--create", "-d", "x", "--json").stdout)
    assert arn["MessageId"]
    target = json.loads(run("queues", "show", "scheduled", "--json").stdout)["QueueArn"]
    schedules: Any = connect(node, "scheduler")
    schedules.create_schedule(
        Name="nightly",
        ScheduleExpression="cron(0 3 * * ? *)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": target, "RoleArn": "arn:aws:iam::123456789012:role/any"},
    )
    line = next(line for line in run("schedules", "ls").stdout.splitlines() if "nightly" in line)
    assert "scheduled" in line
