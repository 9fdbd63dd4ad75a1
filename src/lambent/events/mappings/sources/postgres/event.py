"""The event of changed rows. AWS has none; this is in the spirit of DynamoDB Streams (docs/events.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lambent.events.mappings.sources.ports import Configuration, Record, Values
from lambent.events.mappings.sources.postgres.pgoutput import Begin, Change


def show_lsn(lsn: int) -> str:
    """As PostgreSQL writes it: `0/16B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def make_record(arn: str, region: str, begin: Begin, index: int, change: Change) -> Record:
    """`index` counts the changes of the transaction from 0."""
    body = {
        "schema": change.relation.schema,
        "table": change.relation.table,
        "keys": _keys(change),
        "old": change.old,
        "new": change.new,
        "unchanged": list(change.unchanged),
        "transactionId": begin.transaction_id,
        "lsn": show_lsn(begin.final_lsn),
        "committedAt": round(begin.committed_at * 1000),
    }
    identifier = f"{show_lsn(begin.final_lsn)}/{index}"
    event = {
        "eventID": identifier,
        "eventName": change.kind,
        "eventSource": "lambent:postgres",
        "eventSourceARN": arn,
        "awsRegion": region,
        "postgres": body,
    }
    data = json.dumps(body).encode()
    key = json.dumps([body["schema"], body["table"], body["keys"]])
    checkpoint = write_checkpoint(begin.final_lsn, index)
    return Record(id=identifier, event=event, data=data, at=begin.committed_at, checkpoint=checkpoint, group=key)


def _keys(change: Change) -> dict[str, Any]:
    row = change.new or change.old or {}
    return {column.name: row[column.name] for column in change.relation.columns if column.is_key and column.name in row}


def write_checkpoint(final_lsn: int, index: int) -> str:
    return f"{final_lsn:016X}.{index}"


def read_checkpoint(text: str) -> tuple[int, int]:
    lsn, _, index = text.partition(".")
    return int(lsn, 16), int(index)


def shape_event(configuration: Configuration, records: Sequence[Values]) -> Values:
    return {"Records": list(records)}
