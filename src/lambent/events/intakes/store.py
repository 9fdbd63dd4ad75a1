"""Hooks and what came in by them, on disk."""

from __future__ import annotations

import hashlib

import msgspec

from lambent.events.intakes.hooks import Hook
from lambent.substrate.ports import Connection, Schema, Tables

SEEN_S = 7 * 24 * 3600
"""How long a delivery is known; GitHub lets people repeat one for three days, Stripe repeats by itself for as long."""

SCHEMA = Schema(
    name="hooks",
    versions=(
        """
        CREATE TABLE hooks (
            account TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (account, name)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE hooks_seen (
            account TEXT NOT NULL, name TEXT NOT NULL, id BLOB NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (account, name, id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX hooks_seen_by_time ON hooks_seen (at);
        """,
    ),
)


class HookStore:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, account: str, name: str) -> Hook | None:
        query = "SELECT record FROM hooks WHERE account = ? AND name = ?"
        found = await self._tables.read(lambda connection: connection.execute(query, (account, name)).get)
        return msgspec.msgpack.decode(found, type=Hook) if found is not None else None

    async def list(self, account: str) -> list[Hook]:
        query = "SELECT record FROM hooks WHERE account = ? ORDER BY name"
        rows = await self._tables.read(lambda connection: tuple(connection.execute(query, (account,))))
        return [msgspec.msgpack.decode(record, type=Hook) for (record,) in rows]

    async def put(self, hook: Hook) -> None:
        values = (hook.account, hook.name, msgspec.msgpack.encode(hook))
        await self._tables.write(lambda c: c.execute("INSERT OR REPLACE INTO hooks VALUES (?, ?, ?)", values).get)

    async def delete(self, account: str, name: str) -> bool:
        """Whether there was one. What came in by it is forgotten too."""

        def work(connection: Connection) -> bool:
            connection.execute("DELETE FROM hooks WHERE account = ? AND name = ?", (account, name))
            deleted = connection.changes() > 0
            connection.execute("DELETE FROM hooks_seen WHERE account = ? AND name = ?", (account, name))
            return deleted

        return await self._tables.write(work)

    async def has_seen(self, hook: Hook, identity: str) -> bool:
        query = "SELECT 1 FROM hooks_seen WHERE account = ? AND name = ? AND id = ?"
        values = (hook.account, hook.name, _key(identity))
        return await self._tables.read(lambda connection: connection.execute(query, values).get is not None)

    async def see(self, hook: Hook, identity: str, now: float) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM hooks_seen WHERE at < ?", (now - SEEN_S,))
            values = (hook.account, hook.name, _key(identity), now)
            connection.execute("INSERT OR REPLACE INTO hooks_seen VALUES (?, ?, ?, ?)", values)

        await self._tables.write(work)


def _key(identity: str) -> bytes:
    """Of one length, whatever a sender calls its deliveries."""
    return hashlib.sha256(identity.encode()).digest()
