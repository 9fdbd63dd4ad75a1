# How many invocations may run at once, exactly.
#
# Rule 1: a slot is taken before anything of an invocation runs and given back after all of it has ended.
# Rule 2: a function with reserved concurrency uses its own slots only; all others share what is left of the
#         account's. (Developer guide, "Understanding reserved concurrency".)
# Rule 3: this file knows no process and no HTTP. Its only clock is the patience of those who wait.
from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses

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
        self.running = 0
        """Invocations of all functions of the account."""
        self._reserved_total = 0
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
        self._reserved_total = sum(self._reserved.values())
        self._admit_waiting(function)
        self._admit_waiting("")

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

    async def wait(self, function: str, max_wait_ms: int) -> None:
        """Take a slot, first come first served, within `max_wait_ms`. Raises Throttled."""
        with contextlib.suppress(Throttled):
            self.take(function)
            return
        group = function if function in self._reserved else ""
        throttled = Throttled(_RESERVED_REASON if group else _ACCOUNT_REASON)
        queue = self._waiting.setdefault(group, collections.deque())
        if len(queue) >= MAX_WAITERS or max_wait_ms <= 0:
            raise throttled
        waiter = _Waiter(function, asyncio.get_running_loop().create_future(), self._new_ticket())
        queue.append(waiter)
        self._note_queue(group)
        try:
            async with asyncio.timeout(max_wait_ms / 1000):
                await waiter.turn
        except BaseException as exc:
            if waiter.turn.done() and not waiter.turn.cancelled():
                # The slot came in the same moment as the end of patience: it must not be lost.
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
            return self._running.get(function, 0) < reserved
        return self._shared_running < self.limit - self._reserved_total

    def _count(self, function: str, change: int) -> None:
        running = self._running.get(function, 0) + change
        if running:
            self._running[function] = running
        else:
            del self._running[function]
        self.running += change
        if function not in self._reserved:
            self._shared_running += change

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
                waiter.turn.set_result(None)


@dataclasses.dataclass(eq=False, slots=True)
class _Waiter:
    function: str
    turn: asyncio.Future[None]
    ticket: int
