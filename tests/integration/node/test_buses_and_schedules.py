"""Buses and schedules of a real node, through boto3."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip


def deploy(node: LambentNode, client: Any, name: str) -> str:
    client.create_function(
        FunctionName=name,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": "def handler(event, context):\n    print('SEEN', event)\n"})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return str(client.get_function(FunctionName=name)["Configuration"]["FunctionArn"])


def test_a_schedule_and_an_archive_survive_kill_9(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        arn = deploy(node, connect(node), "work")
        events, scheduler = connect(node, "events"), connect(node, "scheduler")
        events.put_rule(Name="orders", EventPattern=json.dumps({"source": ["shop"]}))
        assert events.put_targets(Rule="orders", Targets=[{"Id": "1", "Arn": arn}])["FailedEntryCount"] == 0
        bus = events.describe_event_bus()["Arn"]
        events.create_archive(ArchiveName="all", EventSourceArn=bus)
        entry = {"Source": "shop", "DetailType": "Order", "Detail": "{}"}
        assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
        due = datetime.now(UTC) + timedelta(seconds=2)
        scheduler.create_schedule(
            Name="once",
            ScheduleExpression=due.strftime("at(%Y-%m-%dT%H:%M:%S)"),
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={
                "Arn": bus,
                "RoleArn": ROLE,
                "Input": "{}",
                "EventBridgeParameters": {"DetailType": "Due", "Source": "clock"},
            },
            ActionAfterCompletion="DELETE",
        )
        scheduler.create_schedule(
            Name="later",
            ScheduleExpression="cron(0 9 ? * MON-FRI *)",
            ScheduleExpressionTimezone="Europe/Riga",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": arn, "RoleArn": ROLE},
        )
        node.kill()
    with LambentNode(tmp_path / "data").running() as node:
        events, scheduler = connect(node, "events"), connect(node, "scheduler")
        deadline = time.monotonic() + 30
        # The event from before, and the one that the schedule sent after the restart
        while events.describe_archive(ArchiveName="all")["EventCount"] != 2:
            assert time.monotonic() < deadline, "the one-time schedule did not fire after the restart"
            time.sleep(0.1)
        assert [one["Name"] for one in scheduler.list_schedules()["Schedules"]] == ["later"]
        assert scheduler.get_schedule(Name="later")["State"] == "ENABLED"
