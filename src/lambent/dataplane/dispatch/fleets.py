# Provisioned concurrency: environments that are initialised ahead and kept, each for one share of it.
#
# Rule 1: an environment of a fleet serves the invocations of its share alone, and the idle pool does not know it.
# Rule 2: what is wanted is told to `follow`; a fleet starts what it lacks and stops what it has too many.
# Rule 3: a fleet that cannot be filled keeps the reason and tries again, after pauses that double.
# Rule 4: this file knows no process: it is given how an environment is started and how it is stopped.
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from lambent.dataplane.sandbox.states import Event
from lambent.model.errors import PlatformError
from lambent.model.invocation import Target
from lambent.model.provisioned import Allocation, Share

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
PARALLEL = 4
"""Starts at the same time for all fleets: what invocations wait for comes first."""


class NoRoom(PlatformError):
    """The node's limit of environments or of memory is reached by those that cannot end for this one."""

    def __init__(self) -> None:
        super().__init__(
            "The node has no room for more environments; raise max_environments or memory_budget_mb, or provision "
            "less.",
            retry_safe=True,
        )


class Kept(Protocol):
    """An environment, as far as a fleet knows it."""

    @property
    def id(self) -> str: ...

    retire_at: float
    invocations: int

    def take(self, event: Event) -> object: ...


Member = TypeVar("Member", bound=Kept)


class Fleet(Generic[Member]):
    """The environments of one share."""

    def __init__(self, share: Share) -> None:
        self.id = share.id
        self.qualifier = share.qualifier
        self.target: Target = share.target
        self.wanted = share.slots
        self.idle: list[Member] = []
        """Ready; the one used last at the end."""
        self.living: dict[str, Member] = {}
        """Ready or at work, by id."""
        self.starting = 0
        self.renewing = 0
        """How many are started to take the place of those that have become too old."""
        self.failure = ""
        """Why the last start failed; empty after one that went well."""
        self.lacks_room = False
        self.pause_s = FIRST_PAUSE_S
        self.retry: asyncio.TimerHandle | None = None
        self.renewal: asyncio.TimerHandle | None = None

    @property
    def lack(self) -> int:
        return self.wanted + self.renewing - len(self.living) - self.starting

    def try_at_once(self) -> None:
        """What stood in the way is gone, or is of no interest any more."""
        self.failure, self.lacks_room, self.pause_s = "", False, FIRST_PAUSE_S
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None


class Fleets(Generic[Member]):
    def __init__(
        self,
        start: Callable[[Target], Awaitable[Member]],
        stop: Callable[[Member], None],
        *,
        parallel: int = PARALLEL,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` gives one whose init went well, or raises; `stop` begins its end. `now` tells `retire_at`'s time."""
        self._start = start
        self._stop = stop
        self._now = now
        self._turns = asyncio.Semaphore(parallel)
        self._parallel = parallel
        self._fleets: dict[str, Fleet[Member]] = {}
        self._of_function: dict[str, list[str]] = {}
        self._home: dict[str, Fleet[Member]] = {}
        """By environment, also of fleets that nobody wants any more."""
        self._cramped: set[Fleet[Member]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def follow(self, function: str, shares: Sequence[Share]) -> None:
        """All shares that the function (ACCOUNT/NAME) has from now on."""
        wanted = {share.id: share for share in shares}
        for id_ in self._of_function.pop(function, []):
            fleet = self._fleets[id_]
            share = wanted.get(id_)
            if share is None or share.target.pool_key != fleet.target.pool_key:
                self._dismiss(fleet)
        if wanted:
            self._of_function[function] = list(wanted)
        for share in shares:
            fleet = self._fleets.get(share.id) or self._fleets.setdefault(share.id, Fleet(share))
            fleet.target = share.target
            if fleet.wanted != share.slots:
                fleet.wanted = share.slots
                fleet.try_at_once()
            self._trim(fleet)
            self._fill(fleet)

    def find(self, share_id: str) -> Fleet[Member] | None:
        return self._fleets.get(share_id)

    def take(self, fleet: Fleet[Member]) -> Member | None:
        """One that is ready."""
        if not fleet.idle:
            return None
        member = fleet.idle.pop()
        member.take(Event.LEASED)
        return member

    def give_back(self, member: Member) -> None:
        """It has answered, and may serve the next."""
        fleet = self._home.get(member.id)
        if fleet is None:
            self._stop(member)
        elif self._stopped or len(fleet.living) > fleet.wanted or self._now() > member.retire_at:
            self._part(fleet, member)
            self._fill(fleet)
        else:
            member.take(Event.FINISHED)
            fleet.idle.append(member)

    def remove(self, member: Member) -> bool:
        """It ended by itself. True if it was ready, and what is left of it is the caller's to clear away."""
        fleet = self._home.pop(member.id, None)
        if fleet is None:
            return False
        del fleet.living[member.id]
        was_ready = member in fleet.idle
        if was_ready:
            fleet.idle.remove(member)
            if not member.invocations:
                self._note_failure(fleet, "The environment ended before it was used.")
        self._fill(fleet)
        return was_ready

    def note_room(self) -> None:
        """Some environment has ended."""
        cramped, self._cramped = self._cramped, set()
        for fleet in cramped:
            fleet.try_at_once()
            self._fill(fleet)

    def allocations(self, function: str) -> dict[str, Allocation]:
        """By qualifier, of what the function (ACCOUNT/NAME) has provisioned."""
        found: dict[str, list[Fleet[Member]]] = {}
        for id_ in self._of_function.get(function, ()):
            fleet = self._fleets[id_]
            found.setdefault(fleet.qualifier, []).append(fleet)
        return {
            qualifier: Allocation(
                allocated=sum(min(fleet.wanted, len(fleet.living) + fleet.starting) for fleet in fleets),
                available=sum(min(fleet.wanted, len(fleet.living)) for fleet in fleets),
                failure=next((fleet.failure for fleet in fleets if fleet.failure), ""),
            )
            for qualifier, fleets in found.items()
        }

    def close(self) -> None:
        """Start nothing more. The environments are stopped by whoever gave the way to start them."""
        self._stopped = True
        for fleet in self._fleets.values():
            fleet.try_at_once()
            if fleet.renewal is not None:
                fleet.renewal.cancel()

    async def wait_closed(self) -> None:
        """Until no start is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _dismiss(self, fleet: Fleet[Member]) -> None:
        """Those at work are stopped when they are given back."""
        del self._fleets[fleet.id]
        fleet.wanted = fleet.renewing = 0
        fleet.try_at_once()
        self._cramped.discard(fleet)
        if fleet.renewal is not None:
            fleet.renewal.cancel()
        self._trim(fleet)

    def _trim(self, fleet: Fleet[Member]) -> None:
        while fleet.idle and len(fleet.living) > fleet.wanted + fleet.renewing:
            oldest = min(fleet.idle, key=lambda member: member.retire_at)
            fleet.idle.remove(oldest)
            self._part(fleet, oldest)

    def _part(self, fleet: Fleet[Member], member: Member) -> None:
        del fleet.living[member.id]
        del self._home[member.id]
        self._stop(member)

    def _fill(self, fleet: Fleet[Member]) -> None:
        while not self._stopped and fleet.retry is None and fleet.lack > 0 and fleet.starting < self._parallel:
            fleet.starting += 1
            task = asyncio.create_task(self._add_one(fleet), name=f"provision {fleet.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _add_one(self, fleet: Fleet[Member]) -> None:
        try:
            async with self._turns:
                # Its turn may have come too late.
                wanted = fleet.lack >= 0 and not self._stopped
                member = await self._start(fleet.target) if wanted else None
        except Exception as exc:
            fleet.starting -= 1
            if fleet.lack > 0 and not self._stopped:
                fleet.lacks_room = isinstance(exc, NoRoom)
                self._note_failure(fleet, str(exc) or type(exc).__name__)
            return
        fleet.starting -= 1
        if member is None:
            return
        if self._stopped or fleet.lack <= 0:
            self._stop(member)
            return
        fleet.try_at_once()
        fleet.living[member.id] = member
        self._home[member.id] = fleet
        member.take(Event.FINISHED)
        fleet.idle.append(member)
        if fleet.renewing:
            fleet.renewing -= 1
            self._trim(fleet)
        self._plan_renewal(fleet)
        self._fill(fleet)

    def _note_failure(self, fleet: Fleet[Member], reason: str) -> None:
        fleet.failure = reason
        if fleet.lacks_room:
            self._cramped.add(fleet)
        if fleet.retry is not None or self._stopped:
            return
        log.warning("not provisioned", extra={"action": "provision_failed", "share": fleet.id, "reason": reason})
        fleet.retry = asyncio.get_running_loop().call_later(fleet.pause_s, self._try_again, fleet)
        fleet.pause_s = min(2 * fleet.pause_s, LONGEST_PAUSE_S)

    def _try_again(self, fleet: Fleet[Member]) -> None:
        fleet.retry = None
        self._fill(fleet)

    def _plan_renewal(self, fleet: Fleet[Member]) -> None:
        """One that is at work when its time comes is replaced when it is given back."""
        if fleet.renewal is not None:
            fleet.renewal.cancel()
            fleet.renewal = None
        now = self._now()
        due = [member.retire_at for member in fleet.idle]
        due += [member.retire_at for member in fleet.living.values() if member.retire_at > now]
        if due and not self._stopped:
            wait_s = max(0.0, min(due) - now)
            fleet.renewal = asyncio.get_running_loop().call_later(wait_s, self._renew, fleet)

    def _renew(self, fleet: Fleet[Member]) -> None:
        """One after the other: the next is planned when the new one is there."""
        fleet.renewal = None
        now = self._now()
        if any(member.retire_at <= now for member in fleet.idle):
            fleet.renewing = 1
            self._fill(fleet)
        else:
            self._plan_renewal(fleet)
