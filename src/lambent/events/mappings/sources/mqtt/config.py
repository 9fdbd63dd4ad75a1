"""What a mapping says of an MQTT broker."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote, urlsplit

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
    host: str
    port: int
    tls: bool
    ca: str
    username: str
    password: str
    topic: str
    """A filter: `sensors/+/temperature`, or shared with others: `$share/GROUP/sensors/#`."""
    session: str
    arn: str
    region: str


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("aiomqtt", "mqtt")
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    connection = find_connection(configuration, connections, "mqtt", split_source(configuration.source_arn)[3])
    url = urlsplit(connection["url"])
    if url.scheme not in ("mqtt", "mqtts") or not url.hostname:
        raise refuse("The url of an MQTT connection is mqtt://HOST:PORT or mqtts://HOST:PORT.")
    tls = url.scheme == "mqtts"
    return Settings(
        host=url.hostname,
        port=url.port or (8883 if tls else 1883),
        tls=tls,
        ca=connection.get("ca", ""),
        username=connection.get("username", unquote(url.username or "")),
        password=connection.get("password", unquote(url.password or "")),
        topic=read_only_queue(configuration, "a topic filter, as sensors/+/temperature"),
        session=consumer_name(configuration),
        arn=configuration.source_arn,
        region=configuration.region,
    )
