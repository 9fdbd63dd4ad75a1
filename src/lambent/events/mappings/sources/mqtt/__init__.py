"""MQTT: a persistent session that acknowledges what was handled."""

from __future__ import annotations

from lambent.events.mappings.sources.connections import names_service
from lambent.events.mappings.sources.mqtt.config import check_settings
from lambent.events.mappings.sources.mqtt.event import shape_event
from lambent.events.mappings.sources.ports import Configuration, Connections, Rules, SourceKind

_RULES = Rules(takes=frozenset({"Queues", "ScalingConfig", "FunctionResponseTypes"}), needs=frozenset({"Queues"}))


async def _open(configuration: Configuration, connections: Connections) -> object:
    from lambent.events.mappings.sources.mqtt.source import open_source  # noqa: PLC0415 - its client is an extra

    return await open_source(configuration, connections)


KIND = SourceKind(
    name="mqtt",
    style="queue",
    claims=lambda values: names_service(values, "mqtt"),
    rules=lambda values: _RULES,
    check=check_settings,
    open=_open,  # type: ignore[arg-type]
    shape=shape_event,
    data_key="data",
)
