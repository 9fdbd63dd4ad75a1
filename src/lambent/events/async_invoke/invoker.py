"""Asynchronous invocation: an event is durable before its 202, and is tried until it succeeded or has run out.

Functions take turns: each with something waiting has a lane, which takes a slot, claims what is due for it, and queues
up again for the next. Nothing of an event is in memory before it is claimed, so backlogs cost disk alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from lambent.events import outbox
from lambent.events.async_invoke import lineage, records, store
from lambent.events.async_invoke.model import (
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    RETRY_WAITS_S,
    Event,
    Verdict,
)
from lambent.events.async_invoke.store import Claimed, Filter, Lane
from lambent.events.deliveries import Deliveries
from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Invocation, Invoker, Outcome, Target
from lambent.substrate.ports import Connection, Tables

log = logging.getLogger(__name__)

MAX_RUNNING = 256
"""Events tried at once, of all functions."""
MAX_OF_A_LANE = 64
"""Of one function; fewer where its reserved concurrency says so."""
KEPT_S = 86_400.0
KEPT_EVENTS = 100_000
"""How long, and how many, ended events can be shown and replayed; dead ones stay until they are dropped."""
STUCK_S = 5.0
"""Until a lane goes on whose store failed."""
_FORGET_EVERY = 500
_DELIVERY_AGE_S = 6 * 3600.0
_CHUNK = 500
_MOST_CLAIMED = 16

Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier) to what is to be invoked now. Raises CallerError."""

Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]
"""Until the bell rings or so many seconds have passed; None waits for the bell alone."""


async def wait_for_bell(bell: asyncio.Event, timeout_s: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(bell.wait(), timeout_s)


class _Lane:
    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()
        self.room = MAX_OF_A_LANE
        """How many may run at once, by what the function's reserved concurrency was last."""
        self.task: asyncio.Task[None] | None = None


class AsyncInvoker:
    """`recover` before anything is accepted, `start` when every kind of destination can be delivered to."""

    def __init__(
        self,
        tables: Tables,
        invoker: Invoker,
        resolve: Resolve,
        deliveries: Deliveries,
        *,
        now: Callable[[], float] = time.time,
        wait: Wait = wait_for_bell,
        max_running: int = MAX_RUNNING,
        kept_s: float = KEPT_S,
        kept_events: int = KEPT_EVENTS,
    ) -> None:
        self._tables = tables
        self._invoker = invoker
        self._resolve = resolve
        self._deliveries = deliveries
        self._now = now
        self._wait = wait
        self._slots = asyncio.Semaphore(max_running)
        self._kept_s = kept_s
        self._kept_events = kept_events
        self._lanes: dict[Lane, _Lane] = {}
        self._started = False
        self._ended = 0
        self._outbox = outbox.Outbox(
            store.BOX, tables, self._send, next_wait=self._next_wait, give_up=self._give_up, now=now
        )

    async def recover(self) -> None:
        """What the last end of the node interrupted is due again."""
        now = self._now()
        found = await self._tables.write(lambda c: store.recover(c, now))
        if found:
            log.info("events taken up", extra={"action": "events_recovered", "events": found})

    async def start(self) -> None:
        self._started = True
        await self._outbox.start()
        for lane in await self._tables.read(store.read_lanes):
            self._ring(lane)

    async def stop(self) -> None:
        """Attempts under way are broken off; the next start makes them again."""
        self._started = False
        lanes = list(self._lanes.values())
        tasks = [task for lane in lanes for task in (lane.task, *lane.running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._outbox.stop()

    async def accept(self, target: Target, invocation: Invocation) -> None:
        """Returns when the event is on disk. Raises PlatformError when it could not be written."""
        now = self._now()
        version = target.version
        event = Event(
            account=version.account,
            region=version.region,
            function=version.name,
            qualifier=target.invoked_arn[len(version.function_arn) + 1 :],
            request_id=invocation.request_id,
            payload=invocation.payload,
            trace_id=lineage.extend(invocation.trace_id, version.function_arn),
            client_context=invocation.client_context,
            accepted_at=now,
        )
        await self._tables.write(lambda c: store.accept(c, event, now))
        self._ring((event.account, event.function))

    async def redrive(self, account: str, chosen: Filter, to: str | None = None) -> int:
        """How many became due again. `to` is another qualifier to run them at."""
        total = after = 0
        now = self._now()

        def work(connection: Connection) -> list[tuple[int, str]]:
            return store.redrive(connection, account, chosen, to=to, now=now, after=after, limit=_CHUNK)

        while True:
            rows = await self._tables.write(work)
            for function in {function for _, function in rows}:
                self._ring((account, function))
            total += len(rows)
            if len(rows) < _CHUNK:
                return total
            after = rows[-1][0]

    async def drop(self, account: str, chosen: Filter) -> int:
        total = 0
        while True:
            dropped = await self._tables.write(lambda c: store.drop(c, account, chosen, _CHUNK))
            total += dropped
            if dropped < _CHUNK:
                return total

    def _ring(self, name: Lane) -> None:
        if not self._started:
            return
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
            lane.task = asyncio.create_task(self._run_lane(name, lane), name=f"events of {name[1]}")
        lane.bell.set()

    async def _run_lane(self, name: Lane, lane: _Lane) -> None:
        while True:
            lane.bell.clear()
            try:
                due_at = await self._tables.read(lambda c: store.next_due(c, name))
                if due_at is not None and due_at > self._now() + MAX_BACKOFF_S:
                    await self._bring_back(name)
                    continue
                if due_at is not None and due_at <= self._now():
                    if await self._claim(name, lane):
                        continue
                    due_at = None if lane.running else due_at
            except PlatformError:
                log.exception("the events of a function wait", extra={"action": "events_stuck", "function": name[1]})
                due_at = self._now() + STUCK_S
            if due_at is None and not lane.running and not lane.bell.is_set():
                del self._lanes[name]
                return
            await self._wait(lane.bell, None if due_at is None else max(0.0, due_at - self._now()))

    async def _bring_back(self, name: Lane) -> None:
        """Nothing waits for longer than the longest backing off, but when the clock was set back since."""
        now = self._now()
        await self._tables.write(lambda c: store.bring_back(c, name, after=now + MAX_BACKOFF_S, now=now, limit=_CHUNK))

    async def _claim(self, name: Lane, lane: _Lane) -> bool:
        """Whether the lane may look for more at once; an end of one of its attempts rings otherwise."""
        room = min(lane.room - len(lane.running), _MOST_CLAIMED)
        if room <= 0:
            return False
        # The semaphore serves in the order of asking, so lanes take turns however long their backlogs are.
        await self._slots.acquire()
        taken = 1
        now = self._now()
        try:
            while taken < room and not self._slots.locked():
                await self._slots.acquire()
                taken += 1
            claimed = await self._tables.write(lambda c: store.claim(c, name, now, taken))
            for each in claimed:
                self._begin(lane, each)
                taken -= 1
        finally:
            for _ in range(taken):
                self._slots.release()
        return True

    def _begin(self, lane: _Lane, claimed: Claimed) -> None:
        task = asyncio.create_task(self._carry_out(lane, claimed), name=f"event {claimed.event.request_id}")
        lane.running.add(task)

        def end(ended: asyncio.Task[None]) -> None:
            lane.running.discard(ended)
            self._slots.release()
            lane.bell.set()

        task.add_done_callback(end)

    async def _carry_out(self, lane: _Lane, claimed: Claimed) -> None:
        try:
            await self._attempt(lane, claimed)
        except PlatformError:
            # It stays `running` on disk, and is due again at the next start.
            log.exception("the end of an event could not be written", extra={"action": "event_unwritten"})

    async def _attempt(self, lane: _Lane, claimed: Claimed) -> None:
        event, settings, is_too_old, allows_recursion = claimed
        if is_too_old:
            await self._run_out(claimed, records.TOO_OLD, None, "the event is too old")
            return
        function_arn = event.arn.rpartition(":")[0]
        if not allows_recursion and lineage.count_rounds(event.trace_id, function_arn) > lineage.MAX_ROUNDS:
            await self._run_out(claimed, records.EXHAUSTED, None, "the function calls itself in a loop")
            return
        invocation = Invocation(
            request_id=event.request_id,
            payload=event.payload,
            trace_id=event.trace_id,
            client_context=event.client_context,
        )
        try:
            target = self._resolve(event.account, event.region, event.function, event.qualifier)
            lane.room = min(MAX_OF_A_LANE, max(1, target.reserved_concurrency or MAX_OF_A_LANE))
            outcome = await self._invoker.invoke(target, invocation)
        except CallerError as exc:
            if exc.code == "ResourceNotFoundException":
                await self._run_out(claimed, records.EXHAUSTED, None, "the function is gone")
            else:
                await self._back_off(claimed, exc.code)
            return
        except PlatformError as exc:
            await self._back_off(claimed, str(exc))
            return
        now = self._now()
        if not outcome.function_error:
            parcels = []
            if settings.on_success:
                parcels = [records.to_destination(event, settings.on_success, records.SUCCESS, outcome, now)]
            await self._end(event, Verdict.SUCCEEDED, "", parcels)
            return
        error = outcome.error_type or outcome.function_error
        event = msgspec.structs.replace(event, errors=event.errors + 1, backoffs=0)
        claimed = claimed._replace(event=event)
        if event.errors > settings.retries:
            await self._run_out(claimed, records.EXHAUSTED, outcome, error)
            return
        await self._try_again(claimed, RETRY_WAITS_S[event.errors - 1], error, outcome)

    async def _back_off(self, claimed: Claimed, error: str) -> None:
        event = claimed.event
        wait_s = min(FIRST_BACKOFF_S * 2.0 ** min(event.backoffs, 20), MAX_BACKOFF_S)
        waiting = msgspec.structs.replace(event, backoffs=event.backoffs + 1)
        await self._try_again(claimed._replace(event=waiting), wait_s, error, None)

    async def _try_again(self, claimed: Claimed, wait_s: float, error: str, outcome: Outcome | None) -> None:
        event, now = claimed.event, self._now()
        if now + wait_s > event.accepted_at + claimed.settings.age_s:
            await self._run_out(claimed, records.TOO_OLD, outcome, error)
            return
        await self._tables.write(lambda c: store.try_again(c, event, error, now=now, due_at=now + wait_s))

    async def _run_out(self, claimed: Claimed, condition: str, outcome: Outcome | None, error: str) -> None:
        event, settings = claimed.event, claimed.settings
        now = self._now()
        parcels = []
        if settings.on_failure:
            parcels.append(records.to_destination(event, settings.on_failure, condition, outcome, now))
        dead_letters = self._dead_letters(event)
        if dead_letters:
            parcels.append(records.to_dead_letters(event, dead_letters, error))
        log.error(
            "event ran out",
            extra={
                "action": "event_ran_out",
                "request": event.request_id,
                "function": event.function,
                "attempts": event.attempts,
                "condition": condition,
                "reason": error,
            },
        )
        await self._end(event, Verdict.RAN_OUT if parcels else Verdict.UNDELIVERED, error, parcels)

    def _dead_letters(self, event: Event) -> str:
        try:
            version = self._resolve(event.account, event.region, event.function, event.qualifier).version
        except CallerError:
            return ""
        return version.dead_letters

    async def _end(self, event: Event, verdict: Verdict, error: str, parcels: list[store.Parcel]) -> None:
        now = self._now()
        self._ended += 1
        forgets = self._ended % _FORGET_EVERY == 0

        def work(connection: Connection) -> None:
            store.end(connection, event, verdict, error, parcels=parcels, now=now)
            if forgets:
                store.forget_ended(connection, before=now - self._kept_s, keep=self._kept_events)

        await self._tables.write(work)
        for parcel in parcels:
            self._outbox.ring(parcel.target)

    async def _send(self, parcel: outbox.Parcel) -> None:
        await self._deliveries.deliver(msgspec.msgpack.decode(parcel.body, type=records.Envelope).delivery)

    async def _next_wait(self, parcel: outbox.Parcel) -> float | None:
        if self._now() - parcel.put_at > _DELIVERY_AGE_S:
            return None
        return min(FIRST_BACKOFF_S * 2.0 ** min(parcel.attempts, 20), MAX_BACKOFF_S)

    async def _give_up(self, parcel: outbox.Parcel, reason: str) -> None:
        envelope = msgspec.msgpack.decode(parcel.body, type=records.Envelope)
        log.error(
            "a destination did not take its record",
            extra={"action": "event_undelivered", "target": parcel.lane, "reason": reason},
        )
        if envelope.event:
            said = f"{parcel.lane} did not take the record: {reason}"
            await self._tables.write(lambda c: store.mark_undelivered(c, envelope.event, said))
