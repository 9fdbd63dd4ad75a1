"""What the API answers, as it stands on the wire: the members that clients of ours read."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict


class _Variables(TypedDict, total=False):
    Variables: dict[str, str]


class _LayerReference(TypedDict, total=False):
    Arn: str
    CodeSize: int


class FunctionConfiguration(TypedDict, total=False):
    FunctionName: str
    FunctionArn: str
    Runtime: str
    Role: str
    Handler: str
    CodeSize: int
    CodeSha256: str
    Description: str
    Timeout: int
    MemorySize: int
    EphemeralStorage: dict[str, int]
    LastModified: str
    Version: str
    Environment: _Variables
    Layers: list[_LayerReference]
    State: str
    StateReason: str
    LastUpdateStatus: str
    LastUpdateStatusReason: str
    RevisionId: str
    Architectures: list[str]
    LoggingConfig: dict[str, str]
    SnapStart: dict[str, str]


class Function(TypedDict, total=False):
    """GetFunction."""

    Configuration: FunctionConfiguration
    Code: dict[str, str]
    Tags: dict[str, str]
    Concurrency: dict[str, int]


class AliasConfiguration(TypedDict, total=False):
    AliasArn: str
    Name: str
    FunctionVersion: str
    Description: str
    RoutingConfig: dict[str, dict[str, float]]


class LayerVersion(TypedDict, total=False):
    LayerArn: str
    LayerVersionArn: str
    Version: int
    Description: str
    CompatibleRuntimes: list[str]
    CreatedDate: str


class EnvironmentStatus(TypedDict, total=False):
    id: str
    function: str
    version: str
    state: str
    pid: int
    memory_mb: int
    invocations: int
    running: int
    concurrency: int
    idle_s: float | None


class Status(TypedDict, total=False):
    """`GET /_lambent/status`."""

    version: str
    uptime_s: float
    pid: int
    isolation: str
    data_dir: str
    account: str
    region: str
    environments: list[EnvironmentStatus]
    concurrency: dict[str, int]
    counters: dict[str, int]
    zygotes: dict[str, int]
    shells: dict[str, int]
    processes: list[dict[str, int | float | str]]
    """Of a node of several processes."""


class RuntimeStatus(TypedDict, total=False):
    """One entry of `GET /_lambent/runtimes`."""

    name: str
    available: bool
    executable: str
    version: str
    hint: str


class LogLine(TypedDict, total=False):
    """One line of `GET /_lambent/functions/NAME/logs`."""

    sequence: int
    timestamp_ms: int
    stream: str
    request_id: str
    kind: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What Invoke answered. `function_error` is empty when the function succeeded."""

    status: int
    payload: bytes
    function_error: str
    executed_version: str
    request_id: str
    log: str
    """The tail of the log, when it was asked for."""


Document = dict[str, Any]
