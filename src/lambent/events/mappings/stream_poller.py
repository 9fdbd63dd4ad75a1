"""From a stream to a function: partitions beside each other, the records of each in order, progress on disk.

A partition's progress moves on when a record and all before it are done with (handled, filtered out, or given up), and
is durable before the source hears of it: after a crash records may come again, and none is passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from lambent.events.deliveries import Delivery
from lambent.events.mappings import store
from lambent.events.mappings.batching import Gathering, cut, pause_s, split_lanes
from lambent.events.mappings.failures import write_failure
from lambent.events.mappings.outcomes import GivenUp, Piece, Retries, after_failure, failed_ids, split_aged
from lambent.events.mappings.sources.ports import Record, Start, StreamSource
from lambent.events.mappings.store import Progress, Window
from lambent.events.mappings.windows import find_start, is_over, read_state, window_members
from lambent.events.mappings.work import FUNCTION_FAILED, LONG_POLL_S, OK, Work
from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Outcome

log = logging.getLogger(__name__)


class StreamPoller:
    def __init__(self, work: Work, source: StreamSource) -> None:
        self._work = work
        self._source = source

    async def run(self) -> None:
        """Until it is to stop; invocations under way are finished. Raises SourceLost."""
        readers: dict[str, asyncio.Task[None]] = {}
        try:
            while not self._work.stopping.is_set():
                wanted = set(await self._source.partitions())
                await _cancel([readers.pop(name) for name in readers.keys() - wanted])
                for name in sorted(wanted - readers.keys()):
                    reader = PartitionReader(self._work, self._source, name)
                    readers[name] = asyncio.create_task(reader.run(), name=f"read {self._work.mapping.uuid} {name}")
                await self._wait(readers)
            await asyncio.gather(*readers.values())
        finally:
            await _cancel(list(readers.values()))

    async def _wait(self, readers: dict[str, asyncio.Task[None]]) -> None:
        """For other partitions, a reader that failed, or the end."""
        changed = asyncio.create_task(self._source.wait_change())
        stop = asyncio.create_task(self._work.stopping.wait())
        try:
            await asyncio.wait({changed, stop, *readers.values()}, return_when=asyncio.FIRST_COMPLETED)
            for name, reader in list(readers.items()):
                if reader.done():
                    del readers[name]
                    reader.result()
            if changed.done():
                changed.result()
        finally:
            await _cancel([changed, stop])


class PartitionReader:
    """One partition; with a parallelisation factor, several lanes of it beside each other."""

    def __init__(self, work: Work, source: StreamSource, partition: str) -> None:
        values = work.mapping.values
        self._work = work
        self._source = source
        self._partition = partition
        self._lanes = int(values.get("ParallelizationFactor") or 1)
        self._window_s = float(values.get("TumblingWindowInSeconds") or 0)
        self._retries = Retries(
            max_attempts=values.get("MaximumRetryAttempts", -1),
            max_age_s=values.get("MaximumRecordAgeInSeconds", -1),
            bisect=bool(values.get("BisectBatchOnFunctionError")),
        )
        self._progress = Progress()

    async def run(self) -> None:
        uuid = self._work.mapping.uuid
        self._progress = await self._work.tables.read(
            lambda connection: store.get_progress(connection, uuid, self._partition)
        )
        await self._source.open(self._partition, self._progress.checkpoint or _start(self._work))
        while not self._work.stopping.is_set():
            records = await self._gather()
            # Only a partition with nothing left to read is asked by the clock: one that lags still has records of
            # windows that have passed.
            if not await (self._process(records) if records else self._close_window()):
                return

    async def _gather(self) -> list[Record]:
        gathering = Gathering(size=self._work.batch_size * self._lanes, window_s=self._work.window_s)
        batch: list[Record] = []
        wait_s = LONG_POLL_S
        if self._progress.window is not None:
            wait_s = min(wait_s, max(0.0, self._progress.window.start_at + self._window_s - self._work.now()))
        while True:
            found = await self._work.unless_stopping(self._source.read(self._partition, gathering.room, wait_s))
            if found is None:
                # To be stopped: what was gathered lies beyond the checkpoint, and is read again.
                return []
            batch += found
            if not batch:
                return batch
            gathering.add(found, self._work.now())
            wait_s = min(LONG_POLL_S, gathering.wait_s(self._work.now()))
            if wait_s <= 0:
                return batch

    async def _process(self, records: Sequence[Record]) -> bool:
        """False when it was stopped before all of them were done with."""
        kept, _ = self._work.sift(records)
        if self._window_s:
            finished = await self._run_windows(kept)
        elif self._lanes == 1:
            finished = await self._run(kept)
        else:
            results = await asyncio.gather(
                *(self._run(lane, alone=False) for lane in split_lanes(kept, self._lanes)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            finished = all(results)
        if finished:
            await self._advance(records[-1], self._progress.window)
        return finished

    async def _advance(self, last: Record, window: Window | None) -> None:
        await self._save(Progress(checkpoint=last.checkpoint, window=window))
        await self._source.commit(self._partition, last.checkpoint)

    async def _save(self, progress: Progress) -> None:
        uuid, partition = self._work.mapping.uuid, self._partition
        await self._work.tables.write(lambda connection: store.put_progress(connection, uuid, partition, progress))
        self._progress = progress

    async def _run(self, records: Sequence[Record], *, alone: bool = True) -> bool:
        """Records of one lane in order, each until it is done or given up. `alone`: progress is noted on the way."""
        pieces = deque(Piece(tuple(batch)) for batch in cut(records, size=self._work.batch_size))
        troubles = 0
        while pieces and not self._work.stopping.is_set():
            piece = pieces.popleft()
            aged, rest = split_aged(piece.records, self._retries, self._work.now())
            if aged:
                await self._give_up(aged, GivenUp.AGE, piece.failures, None)
                if rest:
                    pieces.appendleft(Piece(rest, piece.failures))
                continue
            outcome = await self._invoke(piece.records)
            if outcome is None:
                troubles += 1
                pieces.appendleft(piece)
                await self._work.pause(pause_s(troubles))
                continue
            troubles = 0
            failed = self._judge(outcome, piece.records)
            if not failed:
                if alone and pieces:
                    await self._advance(piece.records[-1], self._progress.window)
                continue
            step = after_failure(piece, failed, self._retries)
            if alone and step.done:
                await self._advance(step.done[-1], self._progress.window)
            if step.given_up and step.reason is not None:
                await self._give_up(step.given_up, step.reason, piece.failures + 1, outcome)
            pieces.extendleft(reversed(step.todo))
            if len(step.todo) == 1:
                await self._work.pause(pause_s(step.todo[0].failures))
        return not pieces

    def _judge(self, outcome: Outcome, records: Sequence[Record]) -> frozenset[str]:
        ids = [record.id for record in records]
        if outcome.function_error:
            return frozenset(ids)
        failed = failed_ids(outcome.payload, ids) if self._work.reports_failures else frozenset[str]()
        if self._window_s and not failed:
            state = read_state(outcome.payload)
            if state is None:
                return frozenset(ids)
            assert self._progress.window is not None
            self._progress = msgspec.structs.replace(
                self._progress, window=msgspec.structs.replace(self._progress.window, state=state)
            )
        return failed

    async def _invoke(self, records: Sequence[Record], *, final: bool = False, early: bool = False) -> Outcome | None:
        """None when the function could not be run."""
        extra = None
        if self._progress.window is not None:
            arn = self._work.mapping.configuration.source_arn
            extra = window_members(
                self._progress.window, self._window_s, shard=self._partition, arn=arn, final=final, early=early
            )
        try:
            outcome = await self._work.invoke(self._work.mapping, self._work.payload(records, extra), "")
        except (CallerError, PlatformError) as exc:
            await self._work.report(f"PROBLEM: {exc}")
            return None
        await self._work.report(FUNCTION_FAILED if outcome.function_error else OK)
        return outcome

    async def _run_windows(self, records: Sequence[Record]) -> bool:
        at = 0
        while at < len(records):
            start_at = find_start(records[at].at, self._window_s)
            window = self._progress.window
            # A record that comes late belongs to the window that is open: what was closed is not opened again.
            if window is not None and start_at > window.start_at and not await self._finish_window():
                return False
            if self._progress.window is None:
                self._progress = msgspec.structs.replace(self._progress, window=Window(start_at=start_at))
            end_at = at
            assert self._progress.window is not None
            open_at = self._progress.window.start_at
            while end_at < len(records) and find_start(records[end_at].at, self._window_s) <= open_at:
                end_at += 1
            if not await self._run(records[at:end_at]):
                return False
            await self._advance(records[end_at - 1], self._progress.window)
            at = end_at
            too_large = self._progress.window is not None and is_over(self._progress.window)
            if too_large and not await self._finish_window(early=True):
                return False
        return True

    async def _close_window(self) -> bool:
        window = self._progress.window
        if window is None or self._work.now() < window.start_at + self._window_s:
            return True
        return await self._finish_window()

    async def _finish_window(self, *, early: bool = False) -> bool:
        """The last invocation of a window, with its state and without records."""
        failures = 0
        while not self._work.stopping.is_set():
            outcome = await self._invoke((), final=True, early=early)
            if outcome is not None and not outcome.function_error:
                break
            failures += 1
            if outcome is not None and 0 <= self._retries.max_attempts < failures:
                await self._give_up((), GivenUp.RETRIES, failures, outcome)
                break
            await self._work.pause(pause_s(failures))
        else:
            return False
        await self._save(msgspec.structs.replace(self._progress, window=None))
        return True

    async def _give_up(
        self, records: Sequence[Record], reason: GivenUp, invocations: int, outcome: Outcome | None
    ) -> None:
        """Hand what is given up to the on-failure destination, however long that takes; then it is done with."""
        mapping = self._work.mapping
        log.info(
            "records given up",
            extra={
                "action": "records_given_up",
                "mapping": mapping.uuid,
                "count": len(records),
                "reason": reason.value,
            },
        )
        target = ((mapping.values.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        if not target:
            return
        delivery = Delivery(
            account=mapping.account,
            region=mapping.region,
            target=target,
            source_arn=mapping.function_arn,
            body=write_failure(
                self._work,
                self._partition,
                records,
                reason=reason,
                invocations=invocations,
                outcome=outcome,
            ),
        )
        failures = 0
        while True:
            try:
                await self._work.deliver(delivery)
            except (CallerError, PlatformError) as exc:
                failures += 1
                await self._work.report(f"PROBLEM: the on-failure destination took no record: {exc}")
                await self._work.sleep(pause_s(failures))
            else:
                return


def _start(work: Work) -> Start:
    values = work.mapping.values
    return Start(position=values.get("StartingPosition", "LATEST"), timestamp=values.get("StartingPositionTimestamp"))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
