"""The platform's own lines in a function's log, as text.

Source: developer guide, "Viewing logs for Lambda functions".
"""

from __future__ import annotations

import math

from lambent.telemetry.records import InvocationRecord


def start_line(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def report_line(record: InvocationRecord, status: str) -> str:
    """`status` is `timeout`, `error` or empty."""
    line = (
        f"REPORT RequestId: {record.request_id}\tDuration: {record.duration_ms:.2f} ms\t"
        f"Billed Duration: {record.billed_ms} ms\tMemory Size: {record.memory_mb} MB\t"
        f"Max Memory Used: {record.max_memory_mb} MB\t"
    )
    if record.init_ms is not None:
        line += f"Init Duration: {record.init_ms:.2f} ms\t"
    if record.restore_ms is not None:
        line += f"Restore Duration: {record.restore_ms:.2f} ms\t"
        line += f"Billed Restore Duration: {math.ceil(record.restore_ms)} ms\t"
    if status:
        line += f"Status: {status}"
    if status == "error" and record.error_type:
        line += f"\tError Type: {record.error_type}"
    return line
