"""What an idle environment is worth keeping when there is no room: the one worth least goes first."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Price(NamedTuple):
    """What it takes to have an environment again, and what it takes to keep it."""

    cost_ms: float
    size_mb: float


class Worth(Protocol):
    def of(self, uses: int, price: Price) -> float:
        """For an environment that becomes idle now."""

    def note_evicted(self, worth: float) -> None: ...


class GreedyDual:
    """Frequency x cost of a cold start / size, over a clock that rises with every eviction, so that what was worth much
    but is not used any more goes in the end ("FaasCache", ASPLOS 2021, section 4)."""

    def __init__(self) -> None:
        self._clock = 0.0

    def of(self, uses: int, price: Price) -> float:
        return self._clock + uses * price.cost_ms / max(price.size_mb, 1.0)

    def note_evicted(self, worth: float) -> None:
        self._clock = max(self._clock, worth)


class OldestFirst:
    """The order in which they became idle, whatever they are."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, uses: int, price: Price) -> float:
        self._count += 1
        return self._count

    def note_evicted(self, worth: float) -> None:
        """Age alone decides."""
