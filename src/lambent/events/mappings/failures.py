"""The record that an on-failure destination gets (developer guide, "Retain discarded batch records")."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.events.mappings.outcomes import GivenUp
from lambent.events.mappings.sources.ports import Record
from lambent.events.mappings.work import Work
from lambent.model.invocation import Outcome


def write_failure(
    work: Work,
    partition: str,
    records: Sequence[Record],
    *,
    reason: GivenUp,
    invocations: int,
    outcome: Outcome | None,
) -> bytes:
    """It names the records and, unlike that of an asynchronous invocation, does not hold them."""
    mapping = work.mapping
    body: dict[str, Any] = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": mapping.function_arn,
            "condition": reason.value,
            "approximateInvokeCount": invocations,
        },
        "version": "1.0",
        "timestamp": show_time(work.now()),
    }
    if outcome is not None:
        body["responseContext"] = {
            "statusCode": 200,
            "executedVersion": outcome.executed_version,
            "functionError": outcome.function_error or None,
        }
    if work.kind.batch_info is not None and records:
        name, value = work.kind.batch_info(mapping.configuration, partition, records)
    else:
        name, value = "StreamBatchInfo", _describe(mapping.configuration.source_arn, partition, records)
    body[name] = value
    return msgspec.json.encode(body)


def show_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _describe(arn: str, partition: str, records: Sequence[Record]) -> dict[str, Any]:
    described: dict[str, Any] = {"shardId": partition, "batchSize": len(records), "streamArn": arn}
    if records:
        described |= {
            "startSequenceNumber": records[0].id,
            "endSequenceNumber": records[-1].id,
            "approximateArrivalOfFirstRecord": show_time(records[0].at),
            "approximateArrivalOfLastRecord": show_time(records[-1].at),
        }
    return described
