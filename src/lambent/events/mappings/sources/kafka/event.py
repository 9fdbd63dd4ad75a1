"""https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html and with-kafka.html: the records by topic-partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambent.events.mappings.sources.encoding import encode_text, list_bytes
from lambent.events.mappings.sources.ports import Configuration, Record, Values

_TIMESTAMP_TYPES = {0: "NO_TIMESTAMP_TYPE", 1: "CREATE_TIME", 2: "LOG_APPEND_TIME"}


def make_record(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp: tuple[int, int],
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
) -> Record:
    """`timestamp`: librdkafka's type, and milliseconds since 1970. A `value` of None is a tombstone."""
    kind, at_ms = timestamp
    event: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": at_ms,
        "timestampType": _TIMESTAMP_TYPES[kind],
        **({} if key is None else {"key": encode_text(key)}),
        "value": None if value is None else encode_text(value),
        "headers": [{name: list_bytes(content or b"")} for name, content in headers],
    }
    return Record(
        id=f"{topic}-{partition}-{offset}",
        event=event,
        data=value or b"",
        at=at_ms / 1000,
        checkpoint=str(offset),
        group="" if key is None else encode_text(key),
    )


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    by_partition: dict[str, list[Values]] = {}
    for record in records:
        by_partition.setdefault(f"{record['topic']}-{record['partition']}", []).append(record)
    own = configuration.values.get("SelfManagedEventSource")
    if own:
        servers = (own.get("Endpoints") or {}).get("KAFKA_BOOTSTRAP_SERVERS") or ()
        return {"eventSource": "SelfManagedKafka", "bootstrapServers": ",".join(servers), "records": by_partition}
    return {"eventSource": "aws:kafka", "eventSourceArn": configuration.source_arn, "records": by_partition}
