"""The kinds of sources, in the order in which they are asked whether a mapping is theirs."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.events.mappings.sources import kafka, mqtt, nats, postgres, rabbitmq, redis
from lambent.events.mappings.sources.ports import SourceKind
from lambent.events.mappings.sources.sqs.config import Exists
from lambent.events.mappings.sources.sqs.source import sqs_kind

EXTERNAL: tuple[SourceKind, ...] = (postgres.KIND, kafka.KIND, nats.KIND, redis.KIND, mqtt.KIND, rabbitmq.KIND)
"""Sources beyond this node, each from its folder."""


def make_kinds(queue_operations: Mapping[str, Operation], queue_exists: Exists) -> dict[str, SourceKind]:
    """By name."""
    return {kind.name: kind for kind in (sqs_kind(queue_operations, queue_exists), *EXTERNAL)}
