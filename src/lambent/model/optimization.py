"""What came of initialising a version ahead of its first invocation (SnapStart)."""

from __future__ import annotations

import msgspec


class Optimization(msgspec.Struct, frozen=True, kw_only=True):
    on: bool = False
    init_ms: float = 0.0
    reason: str = ""
    """Why it is off, for people."""
    failure: str = ""
    """What the function's own init said; the version has failed."""
    failure_code: str = ""
    """The contract's `StateReasonCode` of it."""
    abandoned: bool = False
    """The node stopped, or the version went, before it could be told."""
