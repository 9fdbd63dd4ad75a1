"""One invocation: what is asked for, and what came of it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from lambent.model.function import Version
from lambent.model.streams import ResponseStream

PoolKey = tuple[str, str, str]
"""Version ARN, revision, network: environments are never shared across any of them."""


class Target(msgspec.Struct, kw_only=True):
    """A version resolved from what the caller named, with the limits that hold for it now."""

    version: Version
    invoked_arn: str
    """The ARN as invoked: with the alias or version when one was named, without when not."""
    reserved_concurrency: int | None = None
    max_wait_ms: int = 0
    """How long an invocation beyond the limits may wait for its turn; 0 throttles at once."""
    network: str = "outgoing"
    """`outgoing` or `none`."""
    provisioned: str = ""
    """The share of provisioned concurrency that it may use; empty for none."""
    pool_key: PoolKey = ("", "", "")
    """Made of the others."""

    def __post_init__(self) -> None:
        self.pool_key = (self.version.version_arn, self.version.revision_id, self.network)


class Invocation(msgspec.Struct, kw_only=True, gc=False):
    """`payload` passes through untouched: nothing between the edge and the runtime parses it."""

    request_id: str
    payload: bytes
    trace_id: str = ""
    client_context: str = ""
    """JSON text, already decoded from the header's base64."""
    cognito_identity: str = ""
    wants_log_tail: bool = False


class Outcome(msgspec.Struct, kw_only=True, gc=False):
    """What the runtime answered. `function_error` is empty when the function succeeded."""

    payload: bytes
    function_error: str = ""
    error_type: str = ""
    executed_version: str
    duration_ms: float = 0.0
    billed_ms: int = 0
    init_ms: float | None = None
    max_memory_mb: int = 0
    log_tail: bytes = b""
    """The last 4 KB of this invocation's log, platform lines included."""


class Invoker(Protocol):
    """The one way into the data plane, for the HTTP edge, queues, sources and workflows alike."""

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome:
        """Run the function once and return what came of it.

        With a `stream` its answer is read while it is written: the outcome then has the payload of a function that did
        not stream, or the error that ended one that did. The stream has ended when this returns or raises.

        Raises CallerError `TooManyRequestsException` (429) beyond a concurrency limit, CallerError
        `InvalidRuntimeException` (502) for a runtime this machine lacks, PlatformError when Lambent failed.
        """
        ...
