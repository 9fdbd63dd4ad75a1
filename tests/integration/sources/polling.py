"""What the tests of all sources share: a mapping's configuration, and the simplest of pollers."""

from __future__ import annotations

import uuid
from typing import Any

from lambent.events.mappings.sources.ports import Configuration, Message, QueueSource, Record, StreamSource

ACCOUNT = "123456789012"


def configure(service: str, resource: str = "main", **values: Any) -> Configuration:
    arn = f"arn:aws:{service}:us-east-1:{ACCOUNT}:{resource}"
    function = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
    return Configuration(
        uuid=str(uuid.uuid4()),
        account=ACCOUNT,
        region="us-east-1",
        function_arn=function,
        values={"EventSourceArn": arn, **values},
    )


async def read_all(source: StreamSource, partition: str, count: int) -> list[Record]:
    """Exactly so many records, or what came before ten seconds passed with nothing more."""
    records: list[Record] = []
    while len(records) < count:
        more = await source.read(partition, count - len(records), 10)
        if not more:
            break
        records.extend(more)
    return records


async def receive_all(source: QueueSource, count: int, *, wait_s: float = 10) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        more = await source.receive(count - len(messages), wait_s)
        if not more:
            break
        messages.extend(more)
    return messages
