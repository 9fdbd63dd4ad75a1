"""Asynchronous invocation: an event is durable before its 202, and is tried until it succeeded or has run out.

The contract's defaults (developer guide, "How Lambda handles errors and retries with asynchronous invocation"): a
function error is retried twice, after one and after two minutes; a throttle or an error of ours backs off from one
second to five minutes until the event is six hours old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Invocation, Invoker, Target
from lambent.substrate.ports import Documents, Write

log = logging.getLogger(__name__)

COLLECTION = "async_events"
RETRY_WAITS_S = (60.0, 120.0)
MAX_AGE_S = 6 * 3600.0
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 300.0
MAX_RUNNING = 256
"""Events tried at once; those beyond wait in the order in which they were accepted."""

Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier) to what is to be invoked now. Raises CallerError."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted event. `attempts` counts those that were started, so it survives a crash within one."""

    id: str
    account: str
    region: str
    function: str
    qualifier: str
    request_id: str
    payload: bytes
    trace_id: str
    client_context: str
    accepted_at: float
    """Seconds since 1970."""
    attempts: int = 0
    errors: int = 0
    """Attempts that the function itself failed."""
    next_at: float = 0.0


class AsyncInvoker:
    def __init__(
        self,
        documents: Documents,
        invoker: Invoker,
        resolve: Resolve,
        *,
        now: Callable[[], float] = time.time,
        retry_waits_s: tuple[float, ...] = RETRY_WAITS_S,
    ) -> None:
        self._documents = documents
        self._invoker = invoker
        self._resolve = resolve
        self._now = now
        self._retry_waits_s = retry_waits_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_RUNNING)

    async def start(self) -> None:
        """Take up what was accepted before this node started."""
        for document in await self._documents.list(COLLECTION):
            self._begin(msgspec.msgpack.decode(document.value, type=Event))

    async def stop(self) -> None:
        """Leave what is not finished for the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def accept(self, target: Target, invocation: Invocation) -> None:
        """Returns when the event is on disk. Raises PlatformError when it could not be written."""
        now = self._now()
        version = target.version
        event = Event(
            id=f"{int(now * 1000):013d}-{invocation.request_id}",
            account=version.account,
            region=version.region,
            function=version.name,
            qualifier=target.invoked_arn[len(version.function_arn) + 1 :],
            request_id=invocation.request_id,
            payload=invocation.payload,
            trace_id=invocation.trace_id,
            client_context=invocation.client_context,
            accepted_at=now,
        )
        await self._write(event)
        self._begin(event)

    def _begin(self, event: Event) -> None:
        task = asyncio.create_task(self._carry_out(event), name=f"event {event.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, event: Event) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            await asyncio.sleep(max(0.0, event.next_at - self._now()))
            async with self._slots:
                # Before the attempt: an event that takes the node down with it still runs out of attempts.
                event = msgspec.structs.replace(event, attempts=event.attempts + 1)
                await self._write(event)
                failure = await self._try(event)
            if failure is None:
                await self._forget(event)
                return
            if failure == "function":
                event = msgspec.structs.replace(event, errors=event.errors + 1)
                if event.errors > len(self._retry_waits_s):
                    await self._drop(event, "the function failed too often")
                    return
                wait_s = self._retry_waits_s[event.errors - 1]
            else:
                wait_s, backoff_s = backoff_s, min(backoff_s * 2, MAX_BACKOFF_S)
            if self._now() + wait_s > event.accepted_at + MAX_AGE_S:
                await self._drop(event, "the event is too old")
                return
            event = msgspec.structs.replace(event, next_at=self._now() + wait_s)
            await self._write(event)

    async def _try(self, event: Event) -> str | None:
        """None for success, `function` when it failed, `later` when it could not be run now."""
        invocation = Invocation(
            request_id=event.request_id,
            payload=event.payload,
            trace_id=event.trace_id,
            client_context=event.client_context,
        )
        try:
            target = self._resolve(event.account, event.region, event.function, event.qualifier)
            outcome = await self._invoker.invoke(target, invocation)
        except CallerError as exc:
            if exc.code == "ResourceNotFoundException":
                await self._drop(event, "the function is gone")
                return None
            return "later"
        except PlatformError:
            return "later"
        return "function" if outcome.function_error else None

    async def _write(self, event: Event) -> None:
        value = msgspec.msgpack.encode(event)
        await self._documents.commit([Write(collection=COLLECTION, key=event.id, value=value)])

    async def _forget(self, event: Event) -> None:
        await self._documents.commit([Write(collection=COLLECTION, key=event.id, value=None)])

    async def _drop(self, event: Event, reason: str) -> None:
        log.error(
            "event dropped",
            extra={
                "action": "event_dropped",
                "request": event.request_id,
                "function": event.function,
                "attempts": event.attempts,
                "reason": reason,
            },
        )
        await self._forget(event)
