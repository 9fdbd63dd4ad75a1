"""Carries versions from Pending to Active and from InProgress to Successful, after the caller has his answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from lambent.controlplane import states
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry, put, repeat
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, SNAP_START, Version
from lambent.model.optimization import Optimization

log = logging.getLogger(__name__)


NETWORK_TAG = "lambent:network"

Optimize = Callable[[Version, str], Awaitable[Optimization]]
"""Given the version and its network."""


async def _leave_off(_version: Version, _network: str) -> Optimization:
    return Optimization(reason="SnapStart is off: nothing here makes templates")


class Activation:
    """Owns the tasks that settle versions. Code is unpacked before a version is written, so that these are short."""

    def __init__(self, registry: Registry, code: CodeStore, *, optimize: Optimize = _leave_off) -> None:
        """`optimize` initialises a version that is published with SnapStart."""
        self._registry = registry
        self._code = code
        self._optimize = optimize
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
            if _is_optimized(stored.value):
                # Its init may take minutes, which the node's start must not.
                self.begin(stored.value)
            else:
                await self._settle(stored.value)

    async def _settle(self, version: Version) -> None:
        event = await self._prepare(version)
        optimization = Optimization()
        if event is states.Event.PREPARED and _is_optimized(version):
            optimization = await self._optimize(version, await self._network_of(version))
            if optimization.abandoned:
                return
            if optimization.failure:
                event = states.Event.INIT_FAILED
        await repeat(lambda: self._write(version, event, optimization))

    async def _network_of(self, version: Version) -> str:
        function = await self._registry.function(version.account, version.name)
        return function.value.tags.get(NETWORK_TAG, "outgoing") if function is not None else "outgoing"

    async def _prepare(self, version: Version) -> states.Event:
        try:
            await self._code.ensure(version.digest, [layer.digest for layer in version.layers])
        except (KeyError, CallerError):
            log.error("code package lost", extra={"action": "code_lost", "version": version.version_arn})
            return states.Event.BROKEN
        return states.Event.PREPARED

    async def _write(self, version: Version, event: states.Event, optimization: Optimization) -> None:
        stored = await self._registry.version(version.account, version.name, version.version)
        # Deleted, or changed again meanwhile: whoever changed it settles it.
        if stored is None or stored.value.revision_id != version.revision_id:
            return
        phase = states.phase_of(stored.value)
        if (phase, event) in states.TRANSITIONS:
            settled = states.enter(stored.value, states.next_phase(phase, event))
            if optimization != Optimization():
                settled = _show_optimization(settled, optimization)
            await self._registry.commit(put(settled, expect=stored.revision))


def _is_optimized(version: Version) -> bool:
    return (
        version.snap_start == SNAP_START
        and version.version != LATEST
        and states.phase_of(version) is states.Phase.CREATING
    )


def _show_optimization(version: Version, optimization: Optimization) -> Version:
    """The contract has no place for why SnapStart is off; the reason of the state is where people look."""
    return msgspec.structs.replace(
        version,
        optimization="On" if optimization.on else "Off",
        init_ms=optimization.init_ms,
        state_reason=optimization.failure or optimization.reason,
        state_reason_code=optimization.failure_code or version.state_reason_code,
    )
