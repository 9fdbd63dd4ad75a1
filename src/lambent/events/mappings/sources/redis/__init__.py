"""Redis and Valkey streams: a consumer group."""

from __future__ import annotations

from lambent.events.mappings.sources.connections import names_service
from lambent.events.mappings.sources.ports import Configuration, Connections, Rules, SourceKind
from lambent.events.mappings.sources.redis.config import check_settings
from lambent.events.mappings.sources.redis.event import shape_event

_RULES = Rules(
    takes=frozenset({"Queues", "StartingPosition", "ScalingConfig", "FunctionResponseTypes"}),
    needs=frozenset({"Queues"}),
)


async def _open(configuration: Configuration, connections: Connections) -> object:
    from lambent.events.mappings.sources.redis.source import open_source  # noqa: PLC0415 - its client is an extra

    return await open_source(configuration, connections)


KIND = SourceKind(
    name="redis",
    style="queue",
    claims=lambda values: names_service(values, "redis"),
    rules=lambda values: _RULES,
    check=check_settings,
    open=_open,  # type: ignore[arg-type]
    shape=shape_event,
    data_key="data",
)
