# How many invocations may run at once, exactly.
#
# Rule 1: a slot is taken before anything of an invocation runs and given back after all of it has ended.
# Rule 2: a function with reserved concurrency uses its own slots only; all others share what is left of the
#         account's. (Developer guide, "Understanding reserved concurrency".)
# Rule 3: provisioned concurrency takes its slots away from the others of its function, or of the account where the
#         function has none reserved, whether it is used or not. What runs in a share beyond what the share has now
#         (it was made smaller meanwhile) counts as any other invocation of the function. ("Configuring provisioned
#         concurrency".)
# Rule 4: this file knows no process and no HTTP. Its only clock is the patience of those who wait.
from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Mapping

from lambent.model import limits
from lambent.model.errors import CallerError

MAX_WAITERS = 10_000
"""Invocations that may wait for one group of slots; the next is throttled at once."""

_RESERVED_REASON = "ReservedFunctionConcurrentInvocationLimitExceeded"
_ACCOUNT_REASON = "ConcurrentInvocationLimitExceeded"


class Throttled(CallerError):
    """429 as the contract has it; `Retry-After` in seconds."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "TooManyRequestsException",
            "Rate Exceeded.",
            status=429,
            members={"Reason": reason, "Type": "User"},
            headers={"Retry-After": "1"},
        )
        self.reason = reason


class AccountAdmission:
    """The slots of one account."""

    def __init__(self, limit: int = limits.DEFAULT_ACCOUNT_CONCURRENCY) -> None:
        self.limit = limit
        self._reserved: dict[str, int] = {}
        self._running: dict[str, int] = {}
        """By function: what runs on slots that are not provisioned."""
        self.running = 0
        """Invocations of all functions of the account."""
        self._reserved_total = 0
        self._shares: dict[str, _Share] = {}
        self._provisioned: dict[str, int] = {}
        self._provisioned_total = 0
        """Of the functions that have nothing reserved."""
        self._shared_running = 0
        self._waiting: dict[str, collections.deque[_Waiter]] = {}

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self._admit_waiting("")

    def set_reserved(self, function: str, reserved: int | None) -> None:
        """None gives the function back to the shared slots. What runs goes on and is counted where it now belongs."""
        if self._reserved.get(function) == reserved:
            return
        was_shared, is_shared = function not in self._reserved, reserved is None
        if reserved is None:
            del self._reserved[function]
        else:
            self._reserved[function] = reserved
        if was_shared != is_shared:
            running = self._running.get(function, 0)
            self._shared_running += running if is_shared else -running
        self._sum_up()
        self._admit_waiting(function)
        self._admit_waiting("")

    def set_provisioned(self, function: str, shares: Mapping[str, int]) -> None:
        """All shares of the function by their ids, and how many slots each has."""
        for share_id in [id_ for id_, share in self._shares.items() if share.function == function]:
            if share_id not in shares:
                self._resize(share_id, 0)
                self._forget_unused(share_id)
        for share_id, slots in shares.items():
            if share_id not in self._shares:
                self._shares[share_id] = _Share(function)
            self._resize(share_id, slots)
        self._provisioned.pop(function, None)
        if shares:
            self._provisioned[function] = sum(shares.values())
        self._sum_up()
        self._admit_waiting(function if function in self._reserved else "")

    def take_provisioned(self, share_id: str) -> bool:
        """Take a slot of a share. False when all are taken, or others still run on what it was given."""
        share = self._shares.get(share_id)
        if share is None or share.running >= share.slots or not self._is_covered(share.function):
            return False
        share.running += 1
        self.running += 1
        return True

    def give_back_provisioned(self, share_id: str) -> None:
        share = self._shares[share_id]
        waiter = self._first_waiting(share_id, share) if self._waiting else None
        if waiter is not None:
            waiter.turn.set_result(True)
            return
        before = share.excess
        share.running -= 1
        self.running -= 1
        if share.excess != before:
            self._charge(share.function, -1)
            self._admit_waiting(share.function if share.function in self._reserved else "")
        self._forget_unused(share_id)

    def is_closed(self, function: str) -> bool:
        """Whether the function is turned off: nothing is reserved for it."""
        return self._reserved.get(function) == 0

    def take(self, function: str) -> None:
        """Take a slot now. Raises Throttled."""
        group = function if function in self._reserved else ""
        if self._waiting.get(group) or not self._has_room(function):
            raise Throttled(_RESERVED_REASON if group else _ACCOUNT_REASON)
        self._count(function, 1)

    def give_back(self, function: str) -> None:
        self._count(function, -1)
        if self._waiting:
            self._admit_waiting(function if function in self._reserved else "")

    async def wait(self, function: str, max_wait_ms: int, share_id: str = "") -> bool:
        """Take a slot, first come first served, within `max_wait_ms`. Raises Throttled.

        True when it is one of the share `share_id`, which must have none left to take now.
        """
        with contextlib.suppress(Throttled):
            self.take(function)
            return False
        group = function if function in self._reserved else ""
        throttled = Throttled(_RESERVED_REASON if group else _ACCOUNT_REASON)
        queue = self._waiting.setdefault(group, collections.deque())
        if len(queue) >= MAX_WAITERS or max_wait_ms <= 0:
            raise throttled
        waiter = _Waiter(function, share_id, asyncio.get_running_loop().create_future(), self._new_ticket())
        queue.append(waiter)
        self._note_queue(group)
        try:
            async with asyncio.timeout(max_wait_ms / 1000):
                return await waiter.turn
        except BaseException as exc:
            if waiter.turn.done() and not waiter.turn.cancelled():
                # The slot came in the same moment as the end of patience: it must not be lost.
                if waiter.turn.result():
                    self.give_back_provisioned(share_id)
                else:
                    self.give_back(function)
            if isinstance(exc, TimeoutError):
                raise throttled from None
            raise
        finally:
            with contextlib.suppress(ValueError):
                queue.remove(waiter)
            if not queue and self._waiting.get(group) is queue:
                del self._waiting[group]
            self._note_queue(group)

    def _has_room(self, function: str) -> bool:
        reserved = self._reserved.get(function)
        if reserved is not None:
            return self._running.get(function, 0) < reserved - self._provisioned.get(function, 0)
        return self._shared_running < self._shared_slots

    @property
    def _shared_slots(self) -> int:
        return self.limit - self._reserved_total - self._provisioned_total

    def _is_covered(self, function: str) -> bool:
        """Whether nothing runs on the slots that are provisioned for others."""
        reserved = self._reserved.get(function)
        if reserved is not None:
            return self._running.get(function, 0) <= reserved - self._provisioned.get(function, 0)
        return self._shared_running <= self._shared_slots

    def _count(self, function: str, change: int) -> None:
        self.running += change
        self._charge(function, change)

    def _charge(self, function: str, change: int) -> None:
        running = self._running.get(function, 0) + change
        if running:
            self._running[function] = running
        else:
            self._running.pop(function, None)
        if function not in self._reserved:
            self._shared_running += change

    def _resize(self, share_id: str, slots: int) -> None:
        share = self._shares[share_id]
        before = share.excess
        share.slots = slots
        if share.excess != before:
            self._charge(share.function, share.excess - before)

    def _forget_unused(self, share_id: str) -> None:
        share = self._shares[share_id]
        if not share.slots and not share.running:
            del self._shares[share_id]

    def _sum_up(self) -> None:
        self._reserved_total = sum(self._reserved.values())
        self._provisioned_total = sum(
            slots for function, slots in self._provisioned.items() if function not in self._reserved
        )

    def _first_waiting(self, share_id: str, share: _Share) -> _Waiter | None:
        """Who has waited longest for a slot of a share that one comes free in."""
        if share.excess:
            return None
        queue = self._waiting.get(share.function if share.function in self._reserved else "", ())
        return next((waiter for waiter in queue if waiter.share_id == share_id and not waiter.turn.done()), None)

    def _new_ticket(self) -> int:
        """Where a new waiter stands among those of other processes; here there are none."""
        return 0

    def _note_queue(self, group: str) -> None:
        """The queue of a group has changed."""

    def _admit_waiting(self, group: str) -> None:
        queue = self._waiting.get(group)
        while queue and self._has_room(queue[0].function):
            waiter = queue.popleft()
            if not waiter.turn.done():
                self._count(waiter.function, 1)
                waiter.turn.set_result(False)


@dataclasses.dataclass(eq=False, slots=True)
class _Waiter:
    function: str
    share_id: str
    turn: asyncio.Future[bool]
    """True: it was given a slot of its share."""
    ticket: int


class _Share:
    """Slots that are provisioned for a version, or for an alias of it."""

    __slots__ = ("function", "running", "slots")

    def __init__(self, function: str) -> None:
        self.function = function
        self.slots = 0
        self.running = 0

    @property
    def excess(self) -> int:
        """What runs in it beyond what it has."""
        return max(0, self.running - self.slots)
