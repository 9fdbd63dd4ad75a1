from __future__ import annotations

import click

from lambent.cli.output import note, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client


@click.group("schedules")
def command() -> None:
    """Schedules (EventBridge Scheduler)."""


@command.command("ls")
@json_option
@with_client
def list_schedules(client: Client, as_json: bool) -> None:
    """List the schedules."""
    schedules = list(client.list_schedules())
    if as_json:
        write_json(schedules)
        return
    if not schedules:
        note("There are no schedules yet. CreateSchedule of any AWS SDK makes one; see docs/events.md.")
        return
    rows = [
        [
            schedule["Name"],
            schedule.get("GroupName", ""),
            schedule.get("State", ""),
            schedule.get("ScheduleExpression", ""),
            schedule.get("Target", {}).get("Arn", "").rpartition(":")[2],
        ]
        for schedule in schedules
    ]
    write_table(["NAME", "GROUP", "STATE", "WHEN", "TARGET"], rows)
