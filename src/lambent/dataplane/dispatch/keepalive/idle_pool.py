# The idle environments of a node, and what is known of the demand for them.
#
# Rule 1: this file knows no clock, no process and no asyncio: it is told the time, and what it holds is anything that
#         can be hashed. The dispatcher and bench/keepalive.py both run on it.
# Rule 2: the environment used last is used next. So the environments of a version form a stack whose n-th is wanted
#         only when n invocations run at once: frequency counts by that place, and idle times are those of the first.
# Rule 3: only the first of a version is made ahead: a prediction never scales out.
# Rule 4: everything here is bounded: shelves beyond MAX_SHELVES are forgotten, longest unused first.
from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

from lambent.dataplane.dispatch.keepalive.histogram import IdleTimes
from lambent.dataplane.dispatch.keepalive.policy import KeepAlive
from lambent.dataplane.dispatch.keepalive.worth import Price, Worth
from lambent.model.invocation import PoolKey

MAX_SHELVES = 4_096
MAX_PLACES = 1_000
"""Of one shelf; the demand beyond is served but not learnt from."""

Member = TypeVar("Member", bound=Hashable)
Subject = TypeVar("Subject")
"""What it takes to make a member."""


@dataclasses.dataclass(eq=False, slots=True)
class _Entry(Generic[Member]):
    member: Member
    key: PoolKey
    expires_at: float
    worth: float


class _Shelf(Generic[Member, Subject]):
    """The idle environments of one pool key, the one used last at the end."""

    __slots__ = ("freed_at", "idle", "idle_times", "running", "subject", "used_at", "uses", "warm_at", "warm_until")

    def __init__(self, idle_times: IdleTimes) -> None:
        self.idle_times = idle_times
        """Of the version, over all its revisions."""
        self.idle: list[_Entry[Member]] = []
        self.running = 0
        self.freed_at: float | None = None
        """When the last that ran ended."""
        self.uses: list[int] = []
        """By place: how often it was taken since the last time that no environment of this key was left."""
        self.used_at = 0.0
        self.subject: Subject | None = None
        self.warm_at = math.inf
        self.warm_until = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Due(Generic[Member, Subject]):
    expired: list[Member]
    ahead: list[Subject]
    """To be made now, for arrivals soon to come, and then given to `add_ahead`."""


class IdlePool(Generic[Member, Subject]):
    def __init__(self, keep_alive: KeepAlive, worth: Worth) -> None:
        self._keep_alive = keep_alive
        self._worth = worth
        self._shelves: dict[PoolKey, _Shelf[Member, Subject]] = {}
        self._idle_times: dict[str, IdleTimes] = {}
        self._entries: dict[Member, _Entry[Member]] = {}
        self.due_at = math.inf
        """When `take_due` should be called; moves nearer with `add`."""

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, key: PoolKey, now: float, *, needs_one: bool = True) -> Member | None:
        """An invocation begins: the idle environment for it, if there is one and it needs one. `end` must follow."""
        shelf = self._shelves.get(key) or self._open(key)
        place = shelf.running
        if self._keep_alive.learns and not place and shelf.freed_at is not None:
            shelf.idle_times.add(now - shelf.freed_at)
        shelf.running += 1
        if place < len(shelf.uses):
            shelf.uses[place] += 1
        elif place < MAX_PLACES:
            shelf.uses.append(1)
        shelf.used_at = now
        shelf.warm_at = math.inf
        if not needs_one or not shelf.idle:
            return None
        entry = shelf.idle.pop()
        del self._entries[entry.member]
        return entry.member

    def end(self, key: PoolKey, now: float) -> None:
        """The invocation is over, whether or not its environment is added."""
        shelf = self._shelves.get(key)
        if shelf is None or not shelf.running:
            return
        shelf.running -= 1
        shelf.freed_at = now

    def add(self, member: Member, key: PoolKey, subject: Subject, now: float, price: Price) -> None:
        """It may serve the next; called after `end`."""
        shelf = self._shelves.get(key) or self._open(key)
        plan = self._keep_alive.further if shelf.running else self._keep_alive.plan(shelf.idle_times)
        expires_at = now + plan.keep_until_s
        if plan.warm_after_s > 0:
            shelf.subject = subject
            shelf.warm_at, shelf.warm_until = now + plan.warm_after_s, expires_at
            self.due_at = min(self.due_at, shelf.warm_at)
            expires_at = now
        self._put(shelf, member, key, expires_at=expires_at, price=price)

    def add_ahead(self, member: Member, key: PoolKey, now: float, price: Price) -> None:
        """One that was made ahead. It is kept for as long as the prediction reaches."""
        shelf = self._shelves.get(key) or self._open(key)
        self._put(shelf, member, key, expires_at=max(now, shelf.warm_until), price=price)

    def remove(self, member: Member) -> bool:
        """It ended by itself. False if it was not idle here."""
        entry = self._entries.get(member)
        if entry is None:
            return False
        self._take_out(entry)
        return True

    def evict(self) -> Member | None:
        """Take out the one worth least."""
        if not self._entries:
            return None
        entry = min(self._entries.values(), key=_worth_of)
        self._worth.note_evicted(entry.worth)
        self._take_out(entry)
        return entry.member

    def take_due(self, now: float) -> Due[Member, Subject]:
        expired = [entry for entry in self._entries.values() if entry.expires_at <= now]
        for entry in expired:
            self._take_out(entry)
        ahead = []
        due_at = min((entry.expires_at for entry in self._entries.values()), default=math.inf)
        for shelf in self._shelves.values():
            if shelf.warm_at <= now:
                shelf.warm_at = math.inf
                if shelf.idle:
                    shelf.idle[-1].expires_at = max(shelf.idle[-1].expires_at, shelf.warm_until)
                elif shelf.subject is not None:
                    ahead.append(shelf.subject)
            due_at = min(due_at, shelf.warm_at)
        self.due_at = due_at
        return Due([entry.member for entry in expired], ahead)

    def keep_revision(self, version_arn: str, revision_id: str | None) -> list[Member]:
        """Take out what belongs to any other revision; None forgets the version."""
        if revision_id is None:
            self._idle_times.pop(version_arn, None)
        stale = [key for key in self._shelves if key[0] == version_arn and key[1] != revision_id]
        members = []
        for key in stale:
            for entry in self._shelves.pop(key).idle:
                del self._entries[entry.member]
                members.append(entry.member)
        return members

    def clear(self) -> None:
        self._shelves.clear()
        self._entries.clear()
        self.due_at = math.inf

    def _open(self, key: PoolKey) -> _Shelf[Member, Subject]:
        if len(self._shelves) >= MAX_SHELVES:
            self._forget_unused()
        idle_times = self._idle_times.get(key[0])
        if idle_times is None:
            idle_times = self._idle_times[key[0]] = IdleTimes()
        shelf = self._shelves[key] = _Shelf[Member, Subject](idle_times)
        return shelf

    def _forget_unused(self) -> None:
        """A quarter at once, so that this is rare."""
        unused = [(shelf.used_at, key) for key, shelf in self._shelves.items() if not shelf.running and not shelf.idle]
        for _, key in sorted(unused)[: MAX_SHELVES // 4]:
            del self._shelves[key]
        used = {key[0] for key in self._shelves}
        self._idle_times = {arn: known for arn, known in self._idle_times.items() if arn in used}

    def _put(
        self, shelf: _Shelf[Member, Subject], member: Member, key: PoolKey, *, expires_at: float, price: Price
    ) -> None:
        place = shelf.running
        uses = shelf.uses[place] if place < len(shelf.uses) else 1
        worth = self._worth.of(uses, price)
        entry = self._entries[member] = _Entry(member, key, expires_at, worth)
        shelf.idle.append(entry)
        self.due_at = min(self.due_at, expires_at)

    def _take_out(self, entry: _Entry[Member]) -> None:
        del self._entries[entry.member]
        shelf = self._shelves[entry.key]
        shelf.idle.remove(entry)
        if not shelf.running and not shelf.idle:
            shelf.uses.clear()


def _worth_of(entry: _Entry[Member]) -> float:
    return entry.worth
