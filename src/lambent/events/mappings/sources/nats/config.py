"""What a mapping says of a JetStream stream."""

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
    servers: tuple[str, ...]
    stream: str
    subject: str
    """A filter; empty for all of the stream."""
    durable: str
    position: str
    timestamp: float
    ack_wait_s: float
    """After which a message of a node that died comes again; while a function runs, the source renews it."""
    arn: str
    region: str
    credentials: str
    username: str
    password: str
    token: str


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("nats", "nats")
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    connection = find_connection(configuration, connections, "nats", split_source(configuration.source_arn)[3])
    stream, _, subject = read_only_queue(configuration, "STREAM or STREAM/subject.filter").partition("/")
    position = str(configuration.values.get("StartingPosition") or "TRIM_HORIZON")
    timestamp = configuration.values.get("StartingPositionTimestamp")
    if position == "AT_TIMESTAMP" and timestamp is None:
        raise refuse("StartingPosition AT_TIMESTAMP needs StartingPositionTimestamp.")
    return Settings(
        servers=tuple(connection["url"].split(",")),
        stream=stream,
        subject=subject,
        durable=consumer_name(configuration),
        position=position,
        timestamp=float(timestamp or 0),
        ack_wait_s=float(connection.get("ack_wait_s", "30")),
        arn=configuration.source_arn,
        region=configuration.region,
        credentials=connection.get("credentials", ""),
        username=connection.get("username", ""),
        password=connection.get("password", ""),
        token=connection.get("token", ""),
    )
