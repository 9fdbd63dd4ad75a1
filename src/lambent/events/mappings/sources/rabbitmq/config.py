"""What a mapping says of a RabbitMQ queue."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote, urlsplit, urlunsplit

from lambent.events.mappings.sources.connections import find_connection, read_only_queue, refuse, require_extra
from lambent.events.mappings.sources.ports import Configuration, Connections, split_source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    url: str
    """With the virtual host as its path."""
    queue: str
    virtual_host: str
    prefetch: int
    """Messages in hand and not settled, of all pollers together."""


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("aio_pika", "rabbitmq")
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    resource = split_source(configuration.source_arn)[3].split(":")
    name = resource[1] if len(resource) > 1 else resource[0]
    connection = find_connection(configuration, connections, "rabbitmq", name)
    virtual_host = "/"
    for entry in configuration.values.get("SourceAccessConfigurations") or ():
        match entry.get("Type"):
            case "VIRTUAL_HOST":
                virtual_host = str(entry.get("URI") or "/")
            case "BASIC_AUTH":
                pass  # the secret is in the connection's url, wherever URI points
            case other:
                raise refuse(f"SourceAccessConfigurations has the type {other}, which RabbitMQ does not take.")
    url = urlsplit(connection["url"])
    batch_size = int(configuration.values.get("BatchSize") or 100)
    return Settings(
        url=urlunsplit((url.scheme, url.netloc, "/" + quote(virtual_host, safe=""), url.query, "")),
        queue=read_only_queue(configuration, "the queue's name"),
        virtual_host=virtual_host,
        prefetch=min(int(connection.get("prefetch", max(2 * batch_size, 100))), 65_535),
    )
