"""Mappings, and how far each partition of their streams has been read, on disk."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lambent.events.mappings.model import Mapping
from lambent.substrate.ports import Connection, Schema

SCHEMA = Schema(
    name="mappings",
    versions=(
        """
        CREATE TABLE mappings (
            uuid TEXT PRIMARY KEY, account TEXT NOT NULL, source TEXT NOT NULL, function TEXT NOT NULL,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX mappings_by_account ON mappings (account, uuid);
        CREATE UNIQUE INDEX mappings_one_for_each ON mappings (account, source, function);
        CREATE TABLE mappings_progress (
            uuid TEXT NOT NULL, partition TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (uuid, partition)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A tumbling window that has begun and whose last invocation has not succeeded yet."""

    start_at: float
    state: str = "{}"
    """JSON text."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Of one partition."""

    checkpoint: str = ""
    """All records up to it are done with; empty before the first."""
    window: Window | None = None


def get(connection: Connection, uuid: str) -> Mapping | None:
    found = connection.execute("SELECT record FROM mappings WHERE uuid = ?", (uuid,)).get
    return msgspec.msgpack.decode(found, type=Mapping) if found is not None else None


def put(connection: Connection, mapping: Mapping) -> None:
    connection.execute(
        "INSERT INTO mappings (uuid, account, source, function, record) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (uuid) DO UPDATE SET function = excluded.function, record = excluded.record",
        (mapping.uuid, mapping.account, mapping.source, mapping.function_arn, msgspec.msgpack.encode(mapping)),
    )


def change(connection: Connection, uuid: str, changed: Callable[[Mapping], Mapping | None]) -> Mapping | None:
    """Write what `changed` makes of the mapping, unless that is None or the mapping is gone; the mapping after it."""
    found = get(connection, uuid)
    if found is None:
        return None
    after = changed(found)
    if after is not None:
        put(connection, after)
    return after or found


def delete(connection: Connection, uuid: str) -> None:
    connection.execute("DELETE FROM mappings WHERE uuid = ?", (uuid,))
    connection.execute("DELETE FROM mappings_progress WHERE uuid = ?", (uuid,))


def find_rival(connection: Connection, mapping: Mapping) -> Mapping | None:
    """Another mapping of the same source to the same function."""
    query = "SELECT record FROM mappings WHERE account = ? AND source = ? AND function = ? AND uuid != ?"
    found = connection.execute(query, (mapping.account, mapping.source, mapping.function_arn, mapping.uuid)).get
    return msgspec.msgpack.decode(found, type=Mapping) if found is not None else None


def list_all(connection: Connection, account: str | None = None) -> list[Mapping]:
    """In the order of their ids; of every account without one."""
    where, values = ("WHERE account = ?", (account,)) if account is not None else ("", ())
    query = f"SELECT record FROM mappings {where} ORDER BY uuid"  # noqa: S608 - of two constants
    return [msgspec.msgpack.decode(record, type=Mapping) for (record,) in connection.execute(query, values)]


def get_progress(connection: Connection, uuid: str, partition: str) -> Progress:
    query = "SELECT record FROM mappings_progress WHERE uuid = ? AND partition = ?"
    found = connection.execute(query, (uuid, partition)).get
    return msgspec.msgpack.decode(found, type=Progress) if found is not None else Progress()


def put_progress(connection: Connection, uuid: str, partition: str, progress: Progress) -> None:
    # A poller that is being stopped may still write: of a mapping that is gone nothing is kept.
    connection.execute(
        "INSERT INTO mappings_progress (uuid, partition, record) SELECT ?, ?, ? "
        "WHERE EXISTS (SELECT 1 FROM mappings WHERE uuid = ?) "
        "ON CONFLICT (uuid, partition) DO UPDATE SET record = excluded.record",
        (uuid, partition, msgspec.msgpack.encode(progress), uuid),
    )
