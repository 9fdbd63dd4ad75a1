"""Recursive loops: each asynchronous hop counts itself in `Lineage=` of X-Amzn-Trace-Id, which SDKs pass on.

Developer guide, "Use Lambda recursive loop detection". `Lineage=HASH:ROUNDS|HASH:ROUNDS`, one entry for each function.
"""

from __future__ import annotations

import hashlib

MAX_ROUNDS = 16
_MOST_FUNCTIONS = 32


def extend(trace_id: str, function_arn: str) -> str:
    """The trace id with one more round of the function."""
    parts, rounds = _split(trace_id)
    key = _key(function_arn)
    # Last among the entries, so that those that are cut are the ones seen longest ago.
    rounds[key] = rounds.pop(key, 0) + 1
    kept = list(rounds.items())[-_MOST_FUNCTIONS:]
    return ";".join([*parts, "Lineage=" + "|".join(f"{name}:{count}" for name, count in kept)])


def count_rounds(trace_id: str, function_arn: str) -> int:
    return _split(trace_id)[1].get(_key(function_arn), 0)


def _split(trace_id: str) -> tuple[list[str], dict[str, int]]:
    parts, rounds = [], dict[str, int]()
    for part in filter(None, trace_id.split(";")):
        if not part.startswith("Lineage="):
            parts.append(part)
            continue
        for entry in part.removeprefix("Lineage=").split("|"):
            name, _, count = entry.rpartition(":")
            if name and count.isascii() and count.isdigit():
                rounds[name] = min(int(count), MAX_ROUNDS + 1)
    return parts, rounds


def _key(function_arn: str) -> str:
    return hashlib.sha256(function_arn.encode()).hexdigest()[:8]
