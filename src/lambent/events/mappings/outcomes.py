# What an invocation of a batch means for its records.
#
# Rule 1: this file knows no clock, no source and no asyncio; it is told what came back and answers what is to be done.
# Rule 2: a record leaves a stream in order only: what failed, and all behind it, is tried again or given up first.
from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Generic, TypeVar

from lambent.events.mappings.sources.ports import Message, Record

Item = TypeVar("Item", Message, Record)


def failed_ids(payload: bytes, ids: Sequence[str]) -> frozenset[str]:
    """Which items a function that reports batch item failures says have failed (developer guide, "Reporting batch item
    failures"): none for null, an empty object and an empty or null list; all for an answer that is not understood or
    that names an item which was not in the batch, since silence about a failure would lose it."""
    everything = frozenset(ids)
    try:
        answer = json.loads(payload) if payload.strip() else None
    except (ValueError, RecursionError):
        return everything
    if answer is None or answer in ("", {}):
        return frozenset()
    if not isinstance(answer, dict):
        return everything
    failures = answer.get("batchItemFailures")
    if failures is None:
        return frozenset()
    if not isinstance(failures, list):
        return everything
    named: set[str] = set()
    for failure in failures:
        name = _read_name(failure.get("itemIdentifier")) if isinstance(failure, dict) else None
        if name is None or name not in everything:
            return everything
        named.add(name)
    return frozenset(named)


def _read_name(identifier: object) -> str | None:
    """Text; of Kafka an object, `{"partition": "orders-0", "offset": 15}`, for a record with the id `orders-0-15`."""
    if isinstance(identifier, dict) and identifier.keys() == {"partition", "offset"}:
        return f"{identifier['partition']}-{identifier['offset']}"
    return identifier if isinstance(identifier, str) else None


class GivenUp(enum.Enum):
    """The `condition` of an on-failure record."""

    RETRIES = "RetryAttemptsExhausted"
    AGE = "RecordAgeExceeded"


@dataclasses.dataclass(frozen=True, slots=True)
class Piece(Generic[Item]):
    """Records of a stream that are tried together. `failures` counts the invocations that failed, splits aside."""

    records: tuple[Item, ...]
    failures: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """-1: no limit."""

    max_attempts: int = -1
    max_age_s: int = -1
    bisect: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Next(Generic[Item]):
    """`done` comes before `todo` in the stream. `given_up` is what `todo` would have been."""

    done: tuple[Item, ...] = ()
    todo: tuple[Piece[Item], ...] = ()
    given_up: tuple[Item, ...] = ()
    reason: GivenUp | None = None


def after_failure(piece: Piece[Record], failed: frozenset[str], retries: Retries) -> Next[Record]:
    """What follows an invocation in which `failed` (ids; all for a function error) of a piece failed.

    Records before the first that failed are done. The rest is split where that is asked for and possible, which costs
    no attempt, or tried again, or given up.
    """
    first = next(at for at, record in enumerate(piece.records) if record.id in failed)
    done, rest = piece.records[:first], piece.records[first:]
    if retries.bisect and len(rest) > 1:
        # Records before the failing one being done is a split already.
        middle = len(rest) if done else len(rest) // 2
        halves = [half for half in (rest[:middle], rest[middle:]) if half]
        return Next(done=done, todo=tuple(Piece(half, piece.failures) for half in halves))
    failures = piece.failures + 1
    if 0 <= retries.max_attempts < failures:
        return Next(done=done, given_up=rest, reason=GivenUp.RETRIES)
    # Other records now come first than those that used up the attempts.
    return Next(done=done, todo=(Piece(rest, 1 if done else failures),))


def split_aged(
    records: Sequence[Record], retries: Retries, now: float
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Those beyond the maximum age, which are at the front, and the rest."""
    if retries.max_age_s < 0:
        return (), tuple(records)
    at = 0
    while at < len(records) and now - records[at].at > retries.max_age_s:
        at += 1
    return tuple(records[:at]), tuple(records[at:])
