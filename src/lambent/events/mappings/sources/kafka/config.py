"""What a mapping and its connection say of a Kafka cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lambent.events.mappings.sources.connections import (
    Connection,
    consumer_name,
    find_connection,
    is_granted,
    refuse,
    require_extra,
)
from lambent.events.mappings.sources.ports import Configuration, Connections, split_source

_CLIENT = {
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "username": "sasl.username",
    "password": "sasl.password",
    "ca": "ssl.ca.location",
    "certificate": "ssl.certificate.location",
    "key": "ssl.key.location",
    "key_password": "ssl.key.password",
}
"""Settings of `[connections.NAME]` by what librdkafka calls them."""
_MECHANISMS = {
    "BASIC_AUTH": "PLAIN",
    "SASL_SCRAM_256_AUTH": "SCRAM-SHA-256",
    "SASL_SCRAM_512_AUTH": "SCRAM-SHA-512",
}
_IGNORED = {"VPC_SUBNET", "VPC_SECURITY_GROUP", "CLIENT_CERTIFICATE_TLS_AUTH", "SERVER_ROOT_CA_CERTIFICATE"}
"""Networks this node has anyway, and certificates that the connection names."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    servers: str
    topic: str
    group: str
    client: Mapping[str, str]
    """Further settings of librdkafka: how to authenticate and encrypt."""


async def check_settings(configuration: Configuration, connections: Connections) -> None:
    require_extra("confluent_kafka", "kafka")
    read_settings(configuration, connections)


def read_settings(configuration: Configuration, connections: Connections) -> Settings:
    """Raises CallerError InvalidParameterValueException."""
    values = configuration.values
    topics = list(values.get("Topics") or ())
    if len(topics) != 1:
        raise refuse("Topics takes exactly one topic.")
    connection = _find(configuration, connections)
    own = values.get("SelfManagedKafkaEventSourceConfig") or values.get("AmazonManagedKafkaEventSourceConfig") or {}
    if own.get("ConsumptionMode", "Stream") != "Stream":
        raise refuse("ConsumptionMode Queue (share groups) is not supported by Lambent: leave it out, or say Stream.")
    if own.get("SchemaRegistryConfig"):
        raise refuse("SchemaRegistryConfig is not supported by Lambent: the function gets the record's own bytes.")
    client = {name: connection[ours] for ours, name in _CLIENT.items() if ours in connection}
    client |= _read_access(configuration, connection)
    if "session_timeout_ms" in connection:
        timeout_ms = int(connection["session_timeout_ms"])
        client |= {"session.timeout.ms": str(timeout_ms), "heartbeat.interval.ms": str(max(timeout_ms // 6, 1))}
    return Settings(
        servers=connection["url"].removeprefix("kafka://"),
        topic=str(topics[0]),
        group=str(own.get("ConsumerGroupId") or consumer_name(configuration)),
        client=client,
    )


def _find(configuration: Configuration, connections: Connections) -> Connection:
    managed = configuration.values.get("SelfManagedEventSource")
    if not managed:
        resource = split_source(configuration.source_arn)[3].split("/")
        return find_connection(configuration, connections, "kafka", resource[1] if len(resource) > 1 else resource[0])
    servers = [
        str(server) for server in (managed.get("Endpoints") or {}).get("KAFKA_BOOTSTRAP_SERVERS") or () if server
    ]
    for connection in connections.values():
        known = set(connection.get("url", "").removeprefix("kafka://").split(","))
        if (
            connection.get("kind") == "kafka"
            and servers
            and known >= set(servers)
            and is_granted(connection, configuration.account)
        ):
            return connection
    raise refuse(
        f"SelfManagedEventSource names {','.join(servers) or 'no servers'}, which no connection of this node has: the "
        f'operator adds [connections.NAME] kind = "kafka", url = "{",".join(servers)}" to lambent.toml.'
    )


def _read_access(configuration: Configuration, connection: Connection) -> Mapping[str, str]:
    """The kind of authentication is the mapping's to say; the secrets are in the connection, wherever URI points."""
    read = {}
    for entry in configuration.values.get("SourceAccessConfigurations") or ():
        kind = str(entry.get("Type"))
        if kind in _MECHANISMS:
            read["sasl.mechanism"] = _MECHANISMS[kind]
            if "security_protocol" not in connection:
                read["security.protocol"] = "SASL_SSL"
        elif kind not in _IGNORED:
            raise refuse(f"SourceAccessConfigurations has the type {kind}, which Lambent does not support for Kafka.")
    return read
