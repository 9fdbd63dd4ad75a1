"""Schedules and their groups on disk; what is next due lies in the timers."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.events import outbox
from lambent.events.schedules.timers import set_timer
from lambent.substrate.ports import Connection, Schema

BOX = "schedules"
"""Of the outbox, and the kind of the timers."""
SCHEMA = Schema(
    name="schedules",
    versions=(
        """
        CREATE TABLE schedules (arn TEXT PRIMARY KEY, account TEXT NOT NULL, record BLOB NOT NULL)
            STRICT, WITHOUT ROWID;
        CREATE TABLE schedules_groups (arn TEXT PRIMARY KEY, account TEXT NOT NULL, record BLOB NOT NULL)
            STRICT, WITHOUT ROWID;
        """,
    ),
)

Record = dict[str, Any]
"""The members of GetSchedule or GetScheduleGroup, and `Tags` and `ClientToken`."""


def schedule_arn(account: str, region: str, group: str, name: str = "") -> str:
    return f"arn:aws:scheduler:{region}:{account}:schedule/{group}/{name}"


def group_arn(account: str, region: str, name: str) -> str:
    return f"arn:aws:scheduler:{region}:{account}:schedule-group/{name}"


def get(connection: Connection, table: str, arn: str) -> Record | None:
    found = connection.execute(f"SELECT record FROM {table} WHERE arn = ?", (arn,)).get  # noqa: S608
    return msgspec.msgpack.decode(found, type=Record) if found is not None else None


def put(connection: Connection, table: str, account: str, record: Record) -> None:
    query = f"INSERT OR REPLACE INTO {table} (arn, account, record) VALUES (?, ?, ?)"  # noqa: S608
    connection.execute(query, (record["Arn"], account, msgspec.msgpack.encode(record)))


def walk(connection: Connection, table: str, prefix: str, after: str, limit: int) -> list[Record]:
    """In the order of their ARNs, those that begin with `prefix` and come after `after`."""
    query = f"SELECT record FROM {table} WHERE arn >= ? AND arn > ? AND arn < ? ORDER BY arn LIMIT ?"  # noqa: S608
    rows = connection.execute(query, (prefix, after, f"{prefix}\U0010ffff", limit))
    return [msgspec.msgpack.decode(record, type=Record) for (record,) in rows]


def delete_schedule(connection: Connection, arn: str) -> None:
    """What is on its way to the target goes on."""
    connection.execute("DELETE FROM schedules WHERE arn = ?", (arn,))
    set_timer(connection, BOX, arn, None)


def withdraw_schedule(connection: Connection, arn: str) -> None:
    """With what is on its way."""
    delete_schedule(connection, arn)
    outbox.drop_lanes(connection, BOX, arn)


def delete_group(connection: Connection, arn: str, prefix: str) -> None:
    while found := walk(connection, "schedules", prefix, "", 500):
        for record in found:
            withdraw_schedule(connection, record["Arn"])
    connection.execute("DELETE FROM schedules_groups WHERE arn = ?", (arn,))
