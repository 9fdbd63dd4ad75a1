"""The contract's quotas (AWS Lambda developer guide, "Lambda quotas"; security/report P1-P18 for sources)."""

from __future__ import annotations

SYNC_PAYLOAD_BYTES = 6_291_556
"""Request and response of a synchronous invocation: 6 MiB and 100 bytes."""
STREAMED_RESPONSE_BYTES = 209_715_200
"""Of a response that is streamed: 200 MiB."""
ASYNC_PAYLOAD_BYTES = 1_048_576
ZIPPED_CODE_BYTES = 52_428_800
UNZIPPED_CODE_BYTES = 262_144_000
"""Unzipped function code together with all its layers."""
CREATE_REQUEST_BYTES = 70_167_211
ENVIRONMENT_BYTES = 4_096
ENVIRONMENT_CONCURRENCY = 1_000
"""Requests that one environment of a web application may take at a time."""
MAX_LAYERS = 5
MEMORY_MB_MIN, MEMORY_MB_MAX = 128, 10_240
TIMEOUT_SECONDS_MIN, TIMEOUT_SECONDS_MAX = 1, 900
EPHEMERAL_MB_MIN, EPHEMERAL_MB_MAX = 512, 10_240
INIT_TIMEOUT_MS = 10_000
LOG_TAIL_BYTES = 4_096
OPEN_FILES = 1_024
PROCESSES = 1_024
DEFAULT_ACCOUNT_CONCURRENCY = 1_000
UNRESERVED_CONCURRENCY_MIN = 100
