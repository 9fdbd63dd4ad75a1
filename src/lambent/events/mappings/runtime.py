"""Keeps a poller for each mapping that is enabled, and brings every mapping to the state that was asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from lambent.events.deliveries import Deliver
from lambent.events.mappings import model, store
from lambent.events.mappings.batching import pause_s
from lambent.events.mappings.model import Asked, State
from lambent.events.mappings.queue_poller import QueuePoller
from lambent.events.mappings.sources.ports import Connections, Measured, QueueSource, SourceKind, StreamSource
from lambent.events.mappings.stream_poller import StreamPoller
from lambent.events.mappings.work import Invoke, IsLoop, Sleep, Work
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.substrate.ports import Tables

log = logging.getLogger(__name__)

LAG_PATIENCE_S = 2.0
MAX_DROPS = 3
"""Attempts to remove what a deleted mapping holds at its source."""
_LOST = (CallerError, PlatformError, OperatorError, OSError)


async def never_loops(_mapping: model.Mapping, _trace_id: str) -> bool:
    return False


class Runtime:
    def __init__(
        self,
        tables: Tables,
        kinds: Mapping[str, SourceKind],
        *,
        invoke: Invoke,
        deliver: Deliver,
        is_loop: IsLoop = never_loops,
        connections: Connections | None = None,
        now: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._tables = tables
        self._kinds = kinds
        self._invoke = invoke
        self._deliver = deliver
        self._is_loop = is_loop
        self._connections = connections or {}
        self._now = now
        self._sleep = sleep
        self._keepers: dict[str, _Keeper] = {}
        self._sources: dict[str, QueueSource | StreamSource] = {}
        """Those that are being read."""
        self._stopped = False

    async def start(self) -> None:
        for mapping in await self._tables.read(store.list_all):
            self.changed(mapping.uuid)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Batches under way may finish within `grace_s`; what is broken off then comes again at the next start."""
        self._stopped = True
        tasks = [keeper.task for keeper in self._keepers.values()]
        if tasks and grace_s:
            for keeper in self._keepers.values():
                keeper.bell.set()
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self, uuid: str) -> None:
        """A mapping was created, changed or is to be deleted, and that is durable."""
        if self._stopped:
            return
        keeper = self._keepers.get(uuid)
        if keeper is None:
            keeper = self._keepers[uuid] = _Keeper()
            keeper.task = asyncio.create_task(self._keep(uuid, keeper), name=f"mapping {uuid}")
        keeper.bell.set()

    async def _keep(self, uuid: str, keeper: _Keeper) -> None:
        try:
            while not self._stopped:
                # Before the read: a change after it rings again.
                keeper.bell.clear()
                mapping = await self._settle(uuid)
                if mapping is None:
                    if keeper.bell.is_set():
                        continue
                    return
                if mapping.enabled:
                    await self._poll(mapping, keeper.bell)
                else:
                    await keeper.bell.wait()
        finally:
            del self._keepers[uuid]

    async def _settle(self, uuid: str) -> model.Mapping | None:
        """The mapping as it is to run now; no poller of it runs. None when it is gone."""
        failures = 0
        while True:
            try:
                mapping = await self._tables.read(lambda connection: store.get(connection, uuid))
                if mapping is None:
                    return None
                if mapping.state is State.DELETING:
                    await self._drop(mapping)
                    await self._tables.write(lambda connection: store.delete(connection, uuid))
                    return None
                if mapping.state in (State.ENABLED, State.DISABLED):
                    return mapping
                begun = mapping.start
                await self._mark_start(mapping)

                def settle(found: model.Mapping, begun: int = begun) -> model.Mapping | None:
                    return model.move(found, Asked.SETTLED) if found.start == begun else None

                return await self._tables.write(lambda connection: store.change(connection, uuid, settle))
            except PlatformError as exc:
                # A full disk, say. The mapping goes on as soon as its state can be written.
                failures += 1
                log.error("mapping", extra={"action": "mapping_stuck", "mapping": uuid, "reason": str(exc)})
                await self._sleep(pause_s(failures))

    async def _mark_start(self, mapping: model.Mapping) -> None:
        """Who reads Enabled may rely on every later change being seen. A source that cannot be opened is told by its
        poller, again and again; the mapping is enabled all the same."""
        if not (mapping.enabled and self._kinds[mapping.kind].marks_start):
            return
        try:
            source = await self._open(mapping)
        except Exception as exc:
            said = {"action": "start_not_marked", "mapping": mapping.uuid, "reason": str(exc)}
            log.warning("the start of a mapping could not be marked at its source", extra=said)
        else:
            await source.close()

    async def _poll(self, mapping: model.Mapping, stopping: asyncio.Event) -> None:
        """Until `stopping`; a source that is lost is opened again after a pause."""
        work = self._work(mapping, stopping)
        failures = 0
        while not stopping.is_set():
            opened_at = self._now()
            try:
                await self._poll_once(work)
            except _LOST as exc:
                # It had worked for a while: this is a new trouble.
                failures = 1 if self._now() - opened_at > 60 else failures + 1
                await work.report(f"PROBLEM: {exc}")
                await work.pause(pause_s(failures))
            except Exception as exc:
                # Named loop: a defect in one source must not end the others' pollers, nor this one's for good.
                failures += 1
                log.exception("poller", extra={"action": "poller_failed", "mapping": mapping.uuid})
                await work.report(f"PROBLEM: {type(exc).__name__}; the node's log has the details")
                await work.pause(pause_s(failures))

    async def _poll_once(self, work: Work) -> None:
        source = await work.unless_stopping(self._open(work.mapping))
        if source is None:
            return
        self._sources[work.mapping.uuid] = source
        try:
            if self._kinds[work.mapping.kind].style == "queue":
                await QueuePoller(work, cast(QueueSource, source)).run()
            else:
                await StreamPoller(work, cast(StreamSource, source)).run()
        finally:
            self._sources.pop(work.mapping.uuid, None)
            await source.close()

    async def lag(self, uuid: str) -> Mapping[str, int]:
        """How far behind a mapping is, by what its source measures; nothing while it is not read."""
        source = self._sources.get(uuid)
        if not isinstance(source, Measured):
            return {}
        try:
            async with asyncio.timeout(LAG_PATIENCE_S):
                return await source.lag()
        # It may be lost at this moment, which the poller finds out and tells.
        except Exception:
            return {}

    async def _open(self, mapping: model.Mapping) -> QueueSource | StreamSource:
        return await self._kinds[mapping.kind].open(mapping.configuration, self._connections)

    async def _drop(self, mapping: model.Mapping) -> None:
        for attempt in range(1, MAX_DROPS + 1):
            try:
                source = await self._open(mapping)
                try:
                    await source.drop()
                finally:
                    await source.close()
            except Exception as exc:
                # Whatever a source raises: the mapping is deleted all the same, and the operator can read what is left.
                log.warning(
                    "a deleted mapping left something at its source",
                    extra={"action": "source_not_dropped", "mapping": mapping.uuid, "reason": str(exc)},
                )
                if attempt < MAX_DROPS:
                    await self._sleep(pause_s(attempt))
            else:
                return

    def _work(self, mapping: model.Mapping, stopping: asyncio.Event) -> Work:
        said = mapping.result

        async def report(result: str) -> None:
            nonlocal said
            if result == said:
                return
            said = result

            def change(found: model.Mapping) -> model.Mapping:
                return msgspec.structs.replace(found, result=result)

            try:
                await self._tables.write(lambda connection: store.change(connection, mapping.uuid, change))
            except PlatformError:
                said = ""

        return Work(
            mapping=mapping,
            kind=self._kinds[mapping.kind],
            tables=self._tables,
            invoke=self._invoke,
            is_loop=self._is_loop,
            deliver=self._deliver,
            report=report,
            now=self._now,
            sleep=self._sleep,
            stopping=stopping,
        )


class _Keeper:
    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.bell = asyncio.Event()
