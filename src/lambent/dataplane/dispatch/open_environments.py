# The environments that take several invocations at a time, have some and have room for more.
#
# Rule 1: one with no invocation is not here: it is idle, like any other.
# Rule 2: who has the fewest is given the next, so that what is there is used; a new one is started when all are full.
# Rule 3: this file knows no process: its members only count.
from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from lambent.model.invocation import PoolKey


class Counted(Protocol):
    concurrency: int
    running: int
    retire: bool


Member = TypeVar("Member", bound=Counted)


class OpenEnvironments(Generic[Member]):
    def __init__(self) -> None:
        self._of_key: dict[PoolKey, dict[Member, None]] = {}

    def find(self, key: PoolKey) -> Member | None:
        """Who takes the next invocation."""
        members = self._of_key.get(key)
        return min(members, key=_running) if members else None

    def note(self, key: PoolKey, member: Member) -> None:
        """To be called when what it runs, or whether it goes on, has changed."""
        if 0 < member.running < member.concurrency and not member.retire:
            self._of_key.setdefault(key, {})[member] = None
        else:
            self.remove(key, member)

    def remove(self, key: PoolKey, member: Member) -> None:
        members = self._of_key.get(key)
        if members is not None and member in members:
            del members[member]
            if not members:
                del self._of_key[key]

    def forget(self, member: Member) -> None:
        """Wherever it is."""
        for key in [key for key, members in self._of_key.items() if member in members]:
            self.remove(key, member)


def _running(member: Counted) -> int:
    return member.running
