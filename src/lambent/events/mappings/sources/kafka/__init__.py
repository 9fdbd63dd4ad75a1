"""Apache Kafka, as MSK (`arn:aws:kafka:...:cluster/NAME`) and as a self-managed cluster."""

from __future__ import annotations

from lambent.events.mappings.sources.connections import names_service
from lambent.events.mappings.sources.kafka.config import check_settings
from lambent.events.mappings.sources.kafka.event import shape_event
from lambent.events.mappings.sources.ports import STREAM_FIELDS, Configuration, Connections, Rules, SourceKind

_COMMON = STREAM_FIELDS | {"Topics", "SourceAccessConfigurations", "ProvisionedPollerConfig"}
_MANAGED = Rules(
    takes=_COMMON | {"AmazonManagedKafkaEventSourceConfig"}, needs=frozenset({"Topics", "StartingPosition"})
)
_OWN = Rules(
    takes=_COMMON | {"SelfManagedKafkaEventSourceConfig", "SelfManagedEventSource"},
    needs=frozenset({"Topics", "StartingPosition"}),
)


async def _open(configuration: Configuration, connections: Connections) -> object:
    from lambent.events.mappings.sources.kafka.source import open_source  # noqa: PLC0415 - its client is an extra

    return await open_source(configuration, connections)


KIND = SourceKind(
    name="kafka",
    style="stream",
    claims=lambda values: names_service(values, "kafka") or bool(values.get("SelfManagedEventSource")),
    rules=lambda values: _OWN if values.get("SelfManagedEventSource") else _MANAGED,
    check=check_settings,
    open=_open,  # type: ignore[arg-type]
    shape=shape_event,
    data_key="value",
)
