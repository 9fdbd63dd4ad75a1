# Which invocations get an environment started, and which wait.
#
# Rule 1: a place is reserved in the step that decides for a start, and held until its environment has ended, so the
#         limits are exact however many starts are under way.
# Rule 2: first come, first served. Whoever waits takes the next environment of its version that comes free or becomes
#         ready, whether it was started for it or not; a started one that nobody waits for any more becomes idle.
# Rule 3: at most so many starts work at the same time, or all of them are slow. One whose init only waits, for what is
#         not this machine, or works for very long, does not count any more: it must not hold up the others.
# Rule 4: there are no more starts under way for a version than wait for one: whoever comes while a start is under way
#         that nobody waits for any more gets that one. Else an init that takes long is begun again and again.
#         An environment that takes several invocations at a time is enough for that many of those who wait.
# Rule 5: this file knows no clock and no process; it is told what happened and says who is next.
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from lambent.dataplane.sandbox.environment import UNMEASURED_MB
from lambent.model.invocation import PoolKey


class Living(Protocol):
    """An environment, as far as it takes room."""

    @property
    def id(self) -> str: ...

    size_mb: int


Wanting = TypeVar("Wanting")
"""Something that waits for an environment: an invocation."""
Held = TypeVar("Held", bound=Living)


class Starts(Generic[Wanting, Held]):
    def __init__(self, *, max_environments: int, memory_budget_mb: int, max_parallel: int) -> None:
        self._max_environments = max_environments
        self._memory_budget_mb = memory_budget_mb
        self._max_parallel = max_parallel
        self._living: dict[str, Held] = {}
        self._starting = 0
        # Being stopped to make room: their places already belong to starts.
        self._leaving: set[str] = set()
        self._working: set[Wanting] = set()
        # Both first come first; a plain dict is the queue that can also forget from its middle.
        self._queue: dict[Wanting, PoolKey] = {}
        self._queued_of: dict[PoolKey, int] = {}
        self._wanting: dict[PoolKey, dict[Wanting, None]] = {}
        # Starts that have begun and not ended, by who they were begun for.
        self._under_way: dict[Wanting, PoolKey] = {}
        self._under_way_of: dict[PoolKey, int] = {}
        self._concurrency_of: dict[PoolKey, int] = {}
        """How many invocations an environment takes at a time, where it is more than one."""

    # Who waits

    @property
    def queued(self) -> int:
        """How many have no start of their own yet."""
        return len(self._queue)

    @property
    def queued_or_wanted(self) -> bool:
        """Whether anybody waits for an environment."""
        return bool(self._wanting)

    def note_concurrency(self, key: PoolKey, concurrency: int) -> None:
        """How many invocations an environment of this key takes at a time."""
        if concurrency > 1:
            self._concurrency_of[key] = concurrency
        else:
            self._concurrency_of.pop(key, None)

    def want(self, key: PoolKey, wanting: Wanting) -> None:
        has_spare = self._spare(key) > 0
        self._wanting.setdefault(key, {})[wanting] = None
        if not has_spare:
            self._enqueue(key, wanting)

    def is_queued(self, wanting: Wanting) -> bool:
        return wanting in self._queue

    def first(self, key: PoolKey) -> Wanting | None:
        """Who has waited longest for an environment of this key."""
        wanting = self._wanting.get(key)
        return next(iter(wanting)) if wanting else None

    def leave(self, key: PoolKey, wanting: Wanting) -> bool:
        """It has an environment, or none will come. False if it did not wait any more."""
        self._dequeue(wanting)
        of_key = self._wanting.get(key)
        if of_key is None or wanting not in of_key:
            return False
        del of_key[wanting]
        if not of_key:
            del self._wanting[key]
        return True

    def take_queued(self) -> list[Wanting]:
        return list(self._queue)

    def adopt(self) -> list[Wanting]:
        """Those who get a start that is under way instead of one of their own."""
        adopted = [wanting for wanting, key in self._queue.items() if self._spare(key) > 0] if self._under_way else []
        taken = []
        for wanting in adopted:
            if self._spare(self._queue[wanting]) > 0:
                self._dequeue(wanting)
                taken.append(wanting)
        return taken

    def end(self, wanting: Wanting) -> list[Wanting]:
        """The start that was begun for it has ended, and what came of it is given away. Returns who waited for it in
        vain: they are queued again."""
        key = self._under_way.pop(wanting, None)
        if key is None:
            return []
        _count(self._under_way_of, key, -1)
        if key not in self._under_way_of and key not in self._wanting:
            self._concurrency_of.pop(key, None)
        lacking = -self._spare(key)
        orphans: list[Wanting] = []
        for other in reversed(self._wanting.get(key, {})):
            if len(orphans) >= lacking:
                break
            if other not in self._queue and other not in self._under_way:
                orphans.append(other)
        for orphan in reversed(orphans):
            self._enqueue(key, orphan)
        return orphans

    def _spare(self, key: PoolKey) -> int:
        """For how many more the starts under way are enough; below zero, those who wait without one."""
        waiting = len(self._wanting.get(key, ())) - self._queued_of.get(key, 0)
        return self._under_way_of.get(key, 0) * self._concurrency_of.get(key, 1) - waiting

    def _enqueue(self, key: PoolKey, wanting: Wanting) -> None:
        self._queue[wanting] = key
        _count(self._queued_of, key, 1)

    def _dequeue(self, wanting: Wanting) -> None:
        key = self._queue.pop(wanting, None)
        if key is not None:
            _count(self._queued_of, key, -1)

    # Who may start

    def next(self, evict: Callable[[], Held | None]) -> tuple[Wanting, Held | None] | None:
        """Whose start begins now, and the idle environment that has to end for it. Its place is reserved."""
        if not self._queue or len(self._working) >= self._max_parallel:
            return None
        victim = None
        if not self.has_room():
            victim = evict()
            if victim is None:
                return None
        wanting, key = next(iter(self._queue.items()))
        self._dequeue(wanting)
        self._working.add(wanting)
        self._under_way[wanting] = key
        _count(self._under_way_of, key, 1)
        self.reserve(victim)
        return wanting, victim

    def reserve(self, victim: Held | None = None) -> None:
        """A place for one more; with `victim`, its place."""
        self._starting += 1
        if victim is not None and victim.id in self._living:
            self._leaving.add(victim.id)

    def give_up(self) -> None:
        """What a place was reserved for does not come."""
        self._starting -= 1

    def add(self, environment: Held) -> None:
        """It has taken its reserved place."""
        self._starting -= 1
        self._living[environment.id] = environment

    def remove(self, environment: Held) -> None:
        """Its process has ended."""
        self._living.pop(environment.id, None)
        self._leaving.discard(environment.id)

    def rest(self, wanting: Wanting) -> None:
        """Its start has ended, or takes so long that it does not count any more."""
        self._working.discard(wanting)

    def has_room(self) -> bool:
        """Whether another environment may live without an idle one ending for it."""
        taken = len(self._living) + self._starting - len(self._leaving)
        if taken == 0:
            return self._max_environments > 0
        return taken < self._max_environments and self._held_mb() + UNMEASURED_MB <= self._memory_budget_mb

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._living.values()))

    def _held_mb(self) -> int:
        held = sum(environment.size_mb for id_, environment in self._living.items() if id_ not in self._leaving)
        return held + self._starting * UNMEASURED_MB


def _count(counts: dict[PoolKey, int], key: PoolKey, change: int) -> None:
    counts[key] = counts.get(key, 0) + change
    if not counts[key]:
        del counts[key]
