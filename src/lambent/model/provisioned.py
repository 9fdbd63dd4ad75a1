"""Provisioned concurrency between those who keep it: what is wanted, and what has come of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lambent.model.invocation import Target


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The part of one configuration that a version has: all of it, unless an alias divides its traffic."""

    id: str
    """See `share_id`."""
    qualifier: str
    """What the configuration is for: the number of a version, or an alias."""
    target: Target
    slots: int


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """The environments of one configuration."""

    allocated: int = 0
    """Ready or being initialised."""
    available: int = 0
    """Ready, at work or not."""
    failure: str = ""
    """Why there are not as many as wanted; empty while nothing went wrong."""


def share_id(account: str, function: str, qualifier: str, version: str) -> str:
    return f"{account}/{function}/{qualifier}@{version}"


def divide(slots: int, version: str, weights: Mapping[str, float]) -> dict[str, int]:
    """Slots by version, as an alias divides its invocations; none for a version whose part is less than half of one."""
    parts = {other: min(slots, int(slots * weight + 0.5)) for other, weight in weights.items()}
    parts[version] = max(0, slots - sum(parts.values()))
    return {known: part for known, part in parts.items() if part}
