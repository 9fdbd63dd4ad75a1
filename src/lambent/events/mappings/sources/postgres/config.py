"""What a mapping says of the tables whose changes it wants."""

from __future__ import annotations

import dataclasses
import re

from lambent.events.mappings.sources.connections import (
    find_connection,
    read_only_queue,
    refuse,
    require_extra,
)
from lambent.events.mappings.sources.ports import Configuration, Connections, split_source

_TABLE = re.compile(r'(?:(\w+|"[^"]+")\.)?(\w+|"[^"]+")')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    url: str
    tables: tuple[tuple[str, str], ...]
    """(schema, table); none for every table of the database."""
    name: str
    """Of the slot and the publication."""
    arn: str
    region: str


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("psycopg", "postgres")
    position = configuration.values.get("StartingPosition") or "LATEST"
    if position != "LATEST":
        raise refuse(
            f"StartingPosition {position} is not supported for PostgreSQL: its log has only what comes after the slot, "
            "so that LATEST is the one position there is."
        )
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    name = split_source(configuration.source_arn)[3]
    connection = find_connection(configuration, connections, "postgres", name)
    listed = read_only_queue(configuration, "tables, as `public.orders, public.users`, or * for all of the database")
    return Settings(
        url=connection["url"],
        tables=() if listed == "*" else tuple(_read_table(table.strip()) for table in listed.split(",")),
        name="lambent_" + configuration.uuid.replace("-", "_").lower(),
        arn=configuration.source_arn,
        region=configuration.region,
    )


def _read_table(text: str) -> tuple[str, str]:
    found = _TABLE.fullmatch(text)
    if found is None:
        raise refuse(f"Queues names {text!r}, which is not a table: schema.table, quoted where SQL would quote it.")
    schema, table = found.groups()
    return _fold(schema or "public"), _fold(table)


def _fold(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()
