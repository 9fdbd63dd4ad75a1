"""Carries versions from Pending to Active and from InProgress to Successful, after the caller has his answer."""

from __future__ import annotations

import asyncio
import logging

from lambent.controlplane import states
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry, put, repeat
from lambent.model.errors import CallerError
from lambent.model.function import Version

log = logging.getLogger(__name__)


class Activation:
    """Owns the tasks that settle versions. Code is unpacked before a version is written, so that these are short."""

    def __init__(self, registry: Registry, code: CodeStore) -> None:
        self._registry = registry
        self._code = code
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, version: Version) -> None:
        """Settle a version that was just written as being created or updated."""
        task = asyncio.create_task(self._settle(version), name=f"activate {version.version_arn}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait_idle(self) -> None:
        """Until every version begun so far is settled. Raises what a task raised."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def recover(self) -> None:
        """Finish or fail what a killed node left under way, and make every tree again that is missing."""
        for stored in await self._registry.all_versions():
            await self._settle(stored.value)

    async def _settle(self, version: Version) -> None:
        event = await self._prepare(version)
        await repeat(lambda: self._write(version, event))

    async def _prepare(self, version: Version) -> states.Event:
        try:
            await self._code.ensure(version.digest, [layer.digest for layer in version.layers])
        except (KeyError, CallerError):
            log.error("code package lost", extra={"action": "code_lost", "version": version.version_arn})
            return states.Event.BROKEN
        return states.Event.PREPARED

    async def _write(self, version: Version, event: states.Event) -> None:
        stored = await self._registry.version(version.account, version.name, version.version)
        # Deleted, or changed again meanwhile: whoever changed it settles it.
        if stored is None or stored.value.revision_id != version.revision_id:
            return
        phase = states.phase_of(stored.value)
        if (phase, event) in states.TRANSITIONS:
            settled = states.enter(stored.value, states.next_phase(phase, event))
            await self._registry.commit(put(settled, expect=stored.revision))
