"""PostgreSQL's built-in output plugin, protocol version 1, read into values.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. No I/O here: bytes in, messages out.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.events.mappings.sources.postgres.types import Types

_EPOCH_S = 946_684_800
"""2000-01-01, from which PostgreSQL counts microseconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Begin:
    final_lsn: int
    """Where the transaction's commit stands in the log."""
    committed_at: float
    transaction_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    final_lsn: int
    end_lsn: int


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    name: str
    is_key: bool
    type_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class Relation:
    schema: str
    table: str
    columns: tuple[Column, ...]


Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    kind: str
    """INSERT, UPDATE, DELETE or TRUNCATE."""
    relation: Relation
    old: Row | None
    """Before: whole under REPLICA IDENTITY FULL, else the key alone, and for an update only where the key changed."""
    new: Row | None
    unchanged: tuple[str, ...]
    """Columns that `new` lacks since the update did not touch them."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: str) -> Any:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values[0] if len(values) == 1 else values

    def take_text(self) -> str:
        end = self._data.index(0, self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def take_bytes(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken


class Decoder:
    """Remembers the relations, which the server describes before it first speaks of them on a connection."""

    def __init__(self, types: Types, primary_keys: Mapping[tuple[str, str], Sequence[str]]) -> None:
        """`primary_keys`: columns by (schema, table)."""
        self._types = types
        self._primary_keys = primary_keys
        self._relations: dict[int, Relation] = {}

    def decode(self, data: bytes) -> list[Begin | Commit | Change]:
        """What a message says: nothing (a relation, an origin), one thing, or a change per truncated table."""
        reader = _Reader(data)
        match reader.take("!c"):
            case b"B":
                final_lsn, committed_us, transaction_id = reader.take("!QqI")
                return [Begin(final_lsn, committed_us / 1e6 + _EPOCH_S, transaction_id)]
            case b"C":
                _, final_lsn, end_lsn, _ = reader.take("!BQQq")
                return [Commit(final_lsn, end_lsn)]
            case b"R":
                self._remember(reader)
            case b"I":
                relation = self._relations[reader.take("!I")]
                reader.take("!c")
                new, _ = self._read_row(reader, relation)
                return [Change("INSERT", relation, None, new, ())]
            case b"U":
                return [self._read_update(reader)]
            case b"D":
                relation = self._relations[reader.take("!I")]
                return [Change("DELETE", relation, self._read_old(reader, relation, reader.take("!c")), None, ())]
            case b"T":
                count, _ = reader.take("!IB")
                found = [self._relations[reader.take("!I")] for _ in range(count)]
                return [Change("TRUNCATE", relation, None, None, ()) for relation in found]
            case _:
                pass  # types, origins and logical messages tell a function nothing
        return []

    def _remember(self, reader: _Reader) -> None:
        relation_id = reader.take("!I")
        schema, table = reader.take_text() or "pg_catalog", reader.take_text()
        identity, count = reader.take("!cH")
        columns = []
        for _ in range(count):
            flags = reader.take("!B")
            name = reader.take_text()
            type_id, _ = reader.take("!Ii")
            # Under REPLICA IDENTITY FULL the server calls every column a key.
            is_key = name in self._primary_keys.get((schema, table), ()) if identity == b"f" else bool(flags & 1)
            columns.append(Column(name, is_key, type_id))
        self._relations[relation_id] = Relation(schema, table, tuple(columns))

    def _read_update(self, reader: _Reader) -> Change:
        relation = self._relations[reader.take("!I")]
        marker = reader.take("!c")
        old = None
        if marker != b"N":
            old = self._read_old(reader, relation, marker)
            reader.take("!c")
        new, unchanged = self._read_row(reader, relation)
        if old is not None:
            # Under REPLICA IDENTITY FULL the old row has what the new one left out, and it is the same value.
            known = [name for name in unchanged if name in old]
            new |= {name: old[name] for name in known}
            unchanged = tuple(name for name in unchanged if name not in known)
        return Change("UPDATE", relation, old, new, unchanged)

    def _read_old(self, reader: _Reader, relation: Relation, marker: bytes) -> Row:
        row, _ = self._read_row(reader, relation)
        if marker == b"K":
            return {column.name: row[column.name] for column in relation.columns if column.is_key}
        return row

    def _read_row(self, reader: _Reader, relation: Relation) -> tuple[Row, tuple[str, ...]]:
        row: Row = {}
        unchanged = []
        count = reader.take("!H")
        assert count == len(relation.columns), (relation, count)
        for column in relation.columns:
            match reader.take("!c"):
                case b"n":
                    row[column.name] = None
                case b"u":
                    unchanged.append(column.name)
                case _:
                    text = reader.take_bytes(reader.take("!I")).decode()
                    row[column.name] = self._types.read(column.type_id, text)
        return row, tuple(unchanged)
