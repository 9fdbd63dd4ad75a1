"""Tumbling windows (developer guide, "Tumbling windows"): which one a record is of, and what the event says."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.events.mappings.store import Window

MAX_STATE_BYTES = 1_048_576


def find_start(at: float, size_s: float) -> float:
    return math.floor(at / size_s) * size_s


def read_state(payload: bytes) -> str | None:
    """The `state` that the function returned; None when there is none, which is a failure."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("state"), dict):
        return None
    return msgspec.json.encode(answer["state"]).decode()


def is_over(window: Window) -> bool:
    """Whether the state has grown beyond what is carried on, so that the window ends early."""
    return len(window.state.encode()) > MAX_STATE_BYTES


def window_members(window: Window, size_s: float, *, shard: str, arn: str, final: bool, early: bool) -> dict[str, Any]:
    return {
        "window": {"start": _show(window.start_at), "end": _show(window.start_at + size_s)},
        "state": msgspec.Raw(window.state.encode()),
        "shardId": shard,
        "eventSourceARN": arn,
        "isFinalInvokeForWindow": final,
        "isWindowTerminatedEarly": early,
    }


def _show(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
