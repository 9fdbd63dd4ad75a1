"""Receipt rules on disk."""

from __future__ import annotations

import msgspec

from lambent.events.mail.rules import RuleSet
from lambent.substrate.ports import Connection, Schema

SCHEMA = Schema(
    name="mail",
    versions=(
        """
        CREATE TABLE mail_rule_sets (
            account TEXT NOT NULL, name TEXT NOT NULL, active INTEGER NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (account, name)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)


def get(connection: Connection, account: str, name: str) -> RuleSet | None:
    query = "SELECT record FROM mail_rule_sets WHERE account = ? AND name = ?"
    found = connection.execute(query, (account, name)).get
    return msgspec.msgpack.decode(found, type=RuleSet) if found is not None else None


def put(connection: Connection, rule_set: RuleSet) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO mail_rule_sets (account, name, active, record) VALUES (?, ?, ?, ?)",
        (rule_set.account, rule_set.name, int(rule_set.active), msgspec.msgpack.encode(rule_set)),
    )


def delete(connection: Connection, account: str, name: str) -> None:
    connection.execute("DELETE FROM mail_rule_sets WHERE account = ? AND name = ?", (account, name))


def list_all(connection: Connection, account: str) -> list[RuleSet]:
    rows = connection.execute("SELECT record FROM mail_rule_sets WHERE account = ? ORDER BY name", (account,))
    return [msgspec.msgpack.decode(record, type=RuleSet) for (record,) in rows]


def list_active(connection: Connection) -> list[RuleSet]:
    """Of all accounts."""
    rows = connection.execute("SELECT record FROM mail_rule_sets WHERE active = 1 ORDER BY account")
    return [msgspec.msgpack.decode(record, type=RuleSet) for (record,) in rows]


def list_of_others(connection: Connection, account: str) -> list[RuleSet]:
    rows = connection.execute("SELECT record FROM mail_rule_sets WHERE account <> ?", (account,))
    return [msgspec.msgpack.decode(record, type=RuleSet) for (record,) in rows]
