"""From a queue to a function: one receiver, and as many batches at once as there is work for and the limits allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from lambent.events.mappings.batching import Concurrency, Gathering, cut, pause_s
from lambent.events.mappings.outcomes import failed_ids
from lambent.events.mappings.sources.ports import Message, QueueSource
from lambent.events.mappings.work import FUNCTION_FAILED, LONG_POLL_S, OK, Work
from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Outcome

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 100
"""Batches at once where no ScalingConfig says otherwise; the function's and the account's limits hold beside it."""
MAX_THROTTLED = 3
"""Attempts of a batch while it is throttled; then its messages go back, before they become visible by themselves."""


class QueuePoller:
    def __init__(self, work: Work, source: QueueSource) -> None:
        self._work = work
        self._source = source
        scaling = work.mapping.values.get("ScalingConfig") or {}
        self._concurrency = Concurrency(most=scaling.get("MaximumConcurrency") or DEFAULT_CONCURRENCY)
        self._batches: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Until it is to stop; batches under way are finished. Raises SourceLost."""
        try:
            while not self._work.stopping.is_set():
                if not self._concurrency.has_room:
                    self._freed.clear()
                    await self._work.unless_stopping(self._freed.wait())
                    continue
                batch = await self._gather()
                if batch:
                    self._start(batch)
        except asyncio.CancelledError:
            for task in self._batches:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*self._batches, return_exceptions=True)

    async def _gather(self) -> list[Message]:
        gathering = Gathering(size=self._work.batch_size, window_s=self._work.window_s)
        batch: list[Message] = []
        wait_s = LONG_POLL_S
        while True:
            found = await self._work.unless_stopping(self._source.receive(gathering.room, wait_s))
            batch += found or ()
            if not batch or found is None:
                return batch
            gathering.add(found, self._work.now())
            wait_s = min(LONG_POLL_S, gathering.wait_s(self._work.now()))
            if wait_s <= 0:
                return batch

    def _start(self, batch: list[Message]) -> None:
        self._concurrency.running += 1
        task = asyncio.create_task(self._handle(batch), name=f"batch of {self._work.mapping.uuid}")
        self._batches.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._concurrency.running -= 1
        self._freed.set()
        if not task.cancelled() and task.exception() is not None:
            # Its messages are not settled, so they come again; the source itself is judged by the receiver.
            log.warning(
                "a batch was not settled",
                extra={"action": "batch_lost", "mapping": self._work.mapping.uuid, "reason": str(task.exception())},
            )

    async def _handle(self, messages: list[Message]) -> None:
        kept, dropped = self._work.sift(messages)
        if dropped:
            await self._source.settle(dropped, ())
        # What did not fit into one invocation: a group in which something failed goes no further.
        halted: set[str] = set()
        for batch in cut(kept, size=self._work.batch_size):
            held = [message for message in batch if message.group and message.group in halted]
            if held:
                await self._source.settle((), held)
            ready = [message for message in batch if message not in held]
            if ready:
                halted |= await self._try(ready)

    async def _try(self, batch: list[Message]) -> set[str]:
        """The groups of what failed."""
        batch, looping = await self._part_loops(batch)
        if looping:
            # Not run, not lost: it goes the way of what fails too often, to the queue's dead letters.
            await self._source.settle((), looping)
            await self._work.report("PROBLEM: the function sends to its own source in a loop")
        if not batch:
            self._failures += 1
            await self._work.pause(pause_s(self._failures))
            return {message.group for message in looping}
        outcome = await self._invoke(batch)
        ids = [message.id for message in batch]
        if outcome is None or outcome.function_error:
            failed = frozenset(ids)
        else:
            failed = failed_ids(outcome.payload, ids) if self._work.reports_failures else frozenset()
        done = [message for message in batch if message.id not in failed]
        again = [message for message in batch if message.id in failed]
        await self._source.settle(done, again)
        if outcome is not None:
            await self._work.report(FUNCTION_FAILED if outcome.function_error else OK)
        if done:
            self._failures = 0
            self._concurrency.succeeded()
            return {message.group for message in (*again, *looping)}
        # Nothing of it succeeded: this one of the batches at once waits, so that a broken function is not stormed.
        self._failures += 1
        await self._work.pause(pause_s(self._failures))
        return {message.group for message in (*again, *looping)}

    async def _part_loops(self, batch: list[Message]) -> tuple[list[Message], list[Message]]:
        looping = [
            message
            for message in batch
            if (trace := _trace_of(message)) and await self._work.is_loop(self._work.mapping, trace)
        ]
        return ([message for message in batch if message not in looping], looping) if looping else (batch, [])

    async def _invoke(self, batch: Sequence[Message]) -> Outcome | None:
        """None when the function could not be run."""
        payload = self._work.payload(batch)
        trace = next(filter(None, map(_trace_of, batch)), "")
        for attempt in range(1, MAX_THROTTLED + 1):
            try:
                return await self._work.invoke(self._work.mapping, payload, trace)
            except (CallerError, PlatformError) as exc:
                await self._work.report(f"PROBLEM: {exc}")
                if not (isinstance(exc, CallerError) and exc.status == 429):
                    return None
            self._concurrency.throttled()
            await self._work.pause(pause_s(attempt))
        return None


def _trace_of(message: Message) -> str:
    """The trace id that came with a message of a queue."""
    attributes = message.event.get("attributes")
    return str(attributes.get("AWSTraceHeader", "")) if isinstance(attributes, dict) else ""
