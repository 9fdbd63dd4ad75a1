# Which invocations get an environment started, and which wait.
#
# Rule 1: a place is reserved in the step that decides for a start, and held until its environment has ended, so the
#         limits are exact however many starts are under way.
# Rule 2: first come, first served. Whoever waits takes the next environment of its version that comes free or becomes
#         ready, whether it was started for it or not; a started one that nobody waits for any more becomes idle.
# Rule 3: at most so many starts work at the same time, or all of them are slow. One whose init takes long does not
#         count any more: it waits for something that is not this machine, and must not hold up the others.
# Rule 4: this file knows no clock and no process; it is told what happened and says who is next.
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
        self._queue: dict[Wanting, None] = {}
        self._wanting: dict[PoolKey, dict[Wanting, None]] = {}

    # Who waits

    @property
    def queued(self) -> int:
        """How many have no start of their own yet."""
        return len(self._queue)

    @property
    def queued_or_wanted(self) -> bool:
        """Whether anybody waits for an environment."""
        return bool(self._wanting)

    def want(self, key: PoolKey, wanting: Wanting) -> None:
        self._wanting.setdefault(key, {})[wanting] = None
        self._queue[wanting] = None

    def is_queued(self, wanting: Wanting) -> bool:
        return wanting in self._queue

    def first(self, key: PoolKey) -> Wanting | None:
        """Who has waited longest for an environment of this key."""
        wanting = self._wanting.get(key)
        return next(iter(wanting)) if wanting else None

    def leave(self, key: PoolKey, wanting: Wanting) -> bool:
        """It has an environment, or none will come. False if it did not wait any more."""
        self._queue.pop(wanting, None)
        of_key = self._wanting.get(key)
        if of_key is None or wanting not in of_key:
            return False
        del of_key[wanting]
        if not of_key:
            del self._wanting[key]
        return True

    def take_queued(self) -> list[Wanting]:
        return list(self._queue)

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
        wanting = next(iter(self._queue))
        del self._queue[wanting]
        self._working.add(wanting)
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
