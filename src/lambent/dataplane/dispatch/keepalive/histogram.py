"""How long a version was idle before it was wanted again, counted in bins of a minute."""

from __future__ import annotations

import array

BIN_S = 60.0
BINS = 240
"""Four hours, as in "Serverless in the Wild" (USENIX ATC 2020), section 4.2."""
MAX_SAMPLES = 4_096
"""Beyond it everything is halved: what is new counts more than what is old, and a bin never overflows."""


class IdleTimes:
    """Less than a kilobyte, whatever happens."""

    __slots__ = ("__weakref__", "_bins", "changes", "outside", "total")

    def __init__(self) -> None:
        self._bins = array.array("H", bytes(2 * BINS))
        self.total = 0
        """Samples within the bins."""
        self.outside = 0
        """Samples beyond the last bin."""
        self.changes = 0
        """Grows with every sample."""

    def add(self, idle_s: float) -> None:
        self.changes += 1
        number = int(idle_s / BIN_S)
        if number >= BINS:
            self.outside += 1
        else:
            self._bins[number] += 1
            self.total += 1
        if self.total + self.outside >= MAX_SAMPLES:
            self._halve()

    def percentile_bin(self, percent: float) -> int:
        """The bin that holds this percentile of what is within. Needs at least one sample."""
        wanted, seen = self.total * percent / 100, 0
        for number, count in enumerate(self._bins):
            seen += count
            if count and seen >= wanted:
                return number
        raise ValueError("no samples")

    def held_s(self, until_s: float) -> float:
        """Mean of the idle times, each cut at `until_s`: what keeping for that long costs in an idle period."""
        samples = self.total + self.outside
        within = sum(count * min(until_s, (number + 0.5) * BIN_S) for number, count in enumerate(self._bins) if count)
        return (within + self.outside * until_s) / samples if samples else 0.0

    def last_bin_within(self, head: int, tail: int, budget_s: float) -> int:
        """The last bin up to `tail` through which keeping from the start of `head` is within; below `head` if none."""
        samples = self.total + self.outside
        left = samples - sum(self._bins[:head])
        spent_s = 0.0
        for number in range(head, tail + 1):
            count = self._bins[number]
            spent_s += BIN_S * (left - count / 2) / samples
            if spent_s > budget_s:
                return number - 1
            left -= count
        return tail

    def variation(self) -> float:
        """Standard deviation of the counts over their mean: high when few bins hold most, near 0 when all are alike."""
        if not self.total:
            return 0.0
        mean = self.total / BINS
        squares = sum(count * count for count in self._bins) / BINS
        return float(max(0.0, squares - mean * mean) ** 0.5 / mean)

    def _halve(self) -> None:
        self._bins = array.array("H", (count // 2 for count in self._bins))
        self.total = sum(self._bins)
        self.outside //= 2
