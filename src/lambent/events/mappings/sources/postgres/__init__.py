"""PostgreSQL change data capture: what was committed to tables, through a logical replication slot."""

from __future__ import annotations

from lambent.events.mappings.sources.connections import names_service
from lambent.events.mappings.sources.ports import STREAM_FIELDS, Configuration, Connections, Rules, SourceKind
from lambent.events.mappings.sources.postgres.config import check_settings
from lambent.events.mappings.sources.postgres.event import shape_event

_RULES = Rules(takes=STREAM_FIELDS | {"Queues"}, needs=frozenset({"Queues"}))


async def _open(configuration: Configuration, connections: Connections) -> object:
    from lambent.events.mappings.sources.postgres.source import open_source  # noqa: PLC0415 - its client is an extra

    return await open_source(configuration, connections)


KIND = SourceKind(
    name="postgres",
    style="stream",
    claims=lambda values: names_service(values, "postgres"),
    rules=lambda values: _RULES,
    check=check_settings,
    open=_open,  # type: ignore[arg-type]
    shape=shape_event,
    data_key="postgres",
    marks_start=True,
)
