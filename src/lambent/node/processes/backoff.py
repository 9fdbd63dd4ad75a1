"""How long a process that died stays dead."""

from __future__ import annotations

FIRST_S, MOST_S = 0.1, 5.0
STEADY_S = 30.0
"""A process that lived so long did not die of its start."""


class Backoff:
    def __init__(self) -> None:
        self._next_s = FIRST_S

    def delay_s(self, lived_s: float) -> float:
        """Before the next start, of a process that lived for `lived_s`."""
        if lived_s >= STEADY_S:
            self._next_s = FIRST_S
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, MOST_S)
        return delay_s
