"""A task that reads something whole and then follows its changes: `start` returns when the first is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

Follow = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Reads, sets the event, follows without end."""


class Follower:
    def __init__(self, follow: Follow, name: str) -> None:
        self._follow = follow
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises what ended the reading."""
        loaded = asyncio.Event()
        self._task = asyncio.create_task(self._follow(loaded), name=self._name)
        waiter = asyncio.create_task(loaded.wait())
        await asyncio.wait({self._task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
