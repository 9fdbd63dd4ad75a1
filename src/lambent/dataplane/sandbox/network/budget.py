"""What all gates of the egress process may have open together."""

from __future__ import annotations


class Budget:
    """Counts what is taken, connections and DNS queries alike; the descriptors of the process must suffice for all."""

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self) -> bool:
        """False when nothing is left."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1
