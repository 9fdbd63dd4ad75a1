"""Buses, rules, archives and replays on disk, and the way of an event from a bus to the outboxes of its targets.

An event is durable when it lies in the outbox of every target that takes it and in the archives: one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from lambent.events import handover, outbox
from lambent.events.buses.inputs import make_input
from lambent.events.deliveries import Delivery
from lambent.events.handover import MAX_AGE_S, MAX_RETRIES, HandOver
from lambent.events.patterns import BUS, Pattern, compile_pattern
from lambent.substrate.ports import Connection, Schema

BOX = "buses"
DEFAULT_BUS = "default"
SCHEMA = Schema(
    name="buses",
    versions=(
        """
        CREATE TABLE buses_records (
            arn TEXT PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX buses_records_by_parent ON buses_records (kind, parent, arn);
        CREATE TABLE buses_archived (
            id INTEGER PRIMARY KEY, archive TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL
        ) STRICT;
        CREATE INDEX buses_archived_by_time ON buses_archived (archive, at, id);
        """,
    ),
)

Record = dict[str, Any]
"""The members of the Describe operation, and Lambent's own: `Account`, `Tags`, `Targets` of a rule."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way through a bus."""

    account: str
    region: str
    bus: str
    """ARN."""
    event: dict[str, Any]
    at: float
    trace_id: str = ""
    lineage: str = ""
    forwarded: bool = False
    """It came from another bus: it is forwarded to no third one."""
    only_rules: frozenset[str] = frozenset()
    """ARNs; empty: all."""


def bus_arn(account: str, region: str, name: str) -> str:
    return f"arn:aws:events:{region}:{account}:event-bus/{name}"


def rule_arn(account: str, region: str, bus: str, name: str) -> str:
    return f"arn:aws:events:{region}:{account}:rule/{name if bus == DEFAULT_BUS else f'{bus}/{name}'}"


def get(connection: Connection, arn: str) -> Record | None:
    found = connection.execute("SELECT record FROM buses_records WHERE arn = ?", (arn,)).get
    return msgspec.msgpack.decode(found, type=Record) if found is not None else None


def put(connection: Connection, kind: str, parent: str, record: Record) -> None:
    """`parent`: a rule's and an archive's bus by ARN, otherwise `account:region`."""
    connection.execute(
        "INSERT OR REPLACE INTO buses_records (arn, kind, parent, record) VALUES (?, ?, ?, ?)",
        (record["Arn"], kind, parent, msgspec.msgpack.encode(record)),
    )


def delete(connection: Connection, arn: str) -> None:
    connection.execute("DELETE FROM buses_records WHERE arn = ?", (arn,))


def walk(connection: Connection, kind: str, parent: str, *, after: str = "", limit: int = -1) -> list[Record]:
    query = "SELECT record FROM buses_records WHERE kind = ? AND parent = ? AND arn > ? ORDER BY arn LIMIT ?"
    rows = connection.execute(query, (kind, parent, after, limit))
    return [msgspec.msgpack.decode(record, type=Record) for (record,) in rows]


def walk_kind(connection: Connection, kind: str) -> list[Record]:
    """Of all accounts."""
    rows = connection.execute("SELECT record FROM buses_records WHERE kind = ? ORDER BY arn", (kind,))
    return [msgspec.msgpack.decode(record, type=Record) for (record,) in rows]


def has_bus(connection: Connection, account: str, arn: str) -> bool:
    """The default bus is always there."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[4] != account:
        return False
    return parts[5] == f"event-bus/{DEFAULT_BUS}" or get(connection, arn) is not None


def lane_of(rule: str, target_id: str) -> str:
    """Each target of each rule has a lane of its own."""
    return f"{rule}{outbox.SEPARATOR}{target_id}"


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Pattern:
    """Raises PatternRefused."""
    return compile_pattern(pattern, BUS)


def publish(connection: Connection, sent: Sent) -> list[str]:
    """Archive an event and put it in the outbox of every target that takes it. The lanes to ring."""
    if not sent.only_rules and "replay-name" not in sent.event:
        _archive(connection, sent)
    lanes: list[str] = []
    for rule in walk(connection, "rule", sent.bus):
        if rule["State"] == "DISABLED" or not rule.get("EventPattern"):
            continue
        if sent.only_rules and rule["Arn"] not in sent.only_rules:
            continue
        if compiled(rule["EventPattern"]).matches(sent.event):
            lanes += send_to_targets(connection, rule, sent)
    return lanes


def send_to_targets(connection: Connection, rule: Record, sent: Sent) -> list[str]:
    """Within a transaction. The lanes to ring."""
    lanes: list[str] = []
    for target in rule.get("Targets", {}).values():
        to_bus = target["Arn"].split(":")[2] == "events"
        if to_bus and sent.forwarded:
            continue
        lane = lane_of(rule["Arn"], target["Id"])
        attributes = {"Forwarded": "true"} if to_bus else {}
        if "SqsParameters" in target:
            attributes["MessageGroupId"] = target["SqsParameters"].get("MessageGroupId", "")
        retry = target.get("RetryPolicy", {})
        handed = HandOver(
            delivery=Delivery(
                account=sent.account,
                region=sent.region,
                target=target["Arn"],
                body=_encode(sent.event) if to_bus else make_input(target, sent.event, rule, sent.at).encode(),
                source_arn=rule["Arn"],
                attributes=attributes,
                trace_id=sent.trace_id,
                lineage=sent.lineage,
            ),
            since=sent.at,
            max_retries=retry.get("MaximumRetryAttempts", MAX_RETRIES),
            max_age_s=retry.get("MaximumEventAgeInSeconds", MAX_AGE_S),
            dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
            names={"RULE_ARN": rule["Arn"]},
        )
        handover.put(connection, BOX, lane, handed, now=sent.at)
        lanes.append(lane)
    return lanes


def _archive(connection: Connection, sent: Sent) -> None:
    for archive in walk(connection, "archive", sent.bus):
        if archive.get("EventPattern") and not compiled(archive["EventPattern"]).matches(sent.event):
            continue
        kept_s = archive.get("RetentionDays", 0) * 86_400
        if kept_s:
            connection.execute(
                "DELETE FROM buses_archived WHERE archive = ? AND at < ?", (archive["Arn"], sent.at - kept_s)
            )
        connection.execute(
            "INSERT INTO buses_archived (archive, at, body) VALUES (?, ?, ?)",
            (archive["Arn"], time_of(sent.event), _encode(sent.event)),
        )


def time_of(event: Mapping[str, Any]) -> float:
    return datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def _encode(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
