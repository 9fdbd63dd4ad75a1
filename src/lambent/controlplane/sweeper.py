"""Removes code that no version needs any more, some time after the last one that needed it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from lambent.controlplane.packages import CodeStore, Collected, merged_name
from lambent.controlplane.registry import Registry

log = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""An environment may be starting from a version that was deleted this moment."""


class Sweeper:
    """Sleeps until `wake`, then collects until nothing is left to wait for."""

    def __init__(
        self,
        registry: Registry,
        code: CodeStore,
        *,
        in_use: Callable[[str], bool] = lambda _name: False,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        grace_s: float = GRACE_SECONDS,
    ) -> None:
        """`in_use` tells whether a living environment has the tree of that name mounted."""
        self._registry = registry
        self._code = code
        self._in_use = in_use
        self._sleep = sleep
        self._grace_s = grace_s
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Code may have become unneeded."""
        self._woken.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweep code")

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def collect(self, *, grace_s: float | None = None) -> Collected:
        """Remove what is unneeded now. At the node's start no environment lives: a grace of 0 is safe then."""
        grace = self._grace_s if grace_s is None else grace_s
        return await self._code.collect(self.read_referenced, in_use=self._in_use, grace_s=grace)

    async def read_referenced(self) -> set[str]:
        """The zips and merged trees that versions and layers need."""
        referenced = {layer.value.digest for layer in await self._registry.all_layers() if not layer.value.deleted}
        for stored in await self._registry.all_versions():
            layers = [layer.digest for layer in stored.value.layers]
            referenced.update((stored.value.digest, merged_name(layers), *layers))
        return referenced

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                collected = await self.collect()
            except OSError:
                # A tree that cannot be removed now is found again by the next collection.
                log.exception("code not removed", extra={"action": "sweep_failed"})
                continue
            if collected.removed:
                log.info("code removed", extra={"action": "code_removed", "count": len(collected.removed)})
            if collected.waiting:
                await self._sleep(self._grace_s)
                self._woken.set()
