"""What a mapping says of a Redis stream."""

from __future__ import annotations

import dataclasses

from lambent.events.mappings.sources.connections import (
    consumer_name,
    find_connection,
    read_only_queue,
    refuse,
    require_extra,
)
from lambent.events.mappings.sources.ports import Configuration, Connections, split_source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    url: str
    key: str
    group: str
    consumer: str
    start: str
    """The id after which a new group begins."""
    claim_after_s: float
    """Entries that another consumer of the group has held for so long are taken over."""
    arn: str
    region: str


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("redis", "redis")
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    connection = find_connection(configuration, connections, "redis", split_source(configuration.source_arn)[3])
    position = str(configuration.values.get("StartingPosition") or "TRIM_HORIZON")
    if position == "AT_TIMESTAMP":
        raise refuse("StartingPosition AT_TIMESTAMP is not supported for Redis: TRIM_HORIZON or LATEST.")
    return Settings(
        url=connection["url"],
        key=read_only_queue(configuration, "the key of the stream"),
        group=connection.get("group", consumer_name(configuration)),
        consumer=consumer_name(configuration),
        start="$" if position == "LATEST" else "0",
        claim_after_s=float(connection.get("claim_after_s", "60")),
        arn=configuration.source_arn,
        region=configuration.region,
    )
