"""Network namespaces made ahead, so that an environment starts without waiting for one."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from typing import Protocol

from lambent.dataplane.sandbox.network.namespace import Namespace
from lambent.model.errors import PlatformError

log = logging.getLogger(__name__)

DEFAULT_SPARE: Mapping[str, int] = {"outgoing": 8, "none": 2}


class NamespaceSource(Protocol):
    """Who makes namespaces: the maker as root, a zygote for its own environments as an ordinary user."""

    @property
    def alive(self) -> bool: ...

    async def make_namespace(self, kind: str) -> list[int]:
        """Descriptors as `jail.netns.make_namespace` orders them. Raises PlatformError."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    ready: int
    immediate: int
    """Acquired without waiting."""
    waited: int
    failed: int
    """Namespaces that could not be made."""


class NetworkPool:
    """Keeps `spare` namespaces of each kind ready. Each is given out once and never comes back."""

    def __init__(self, source: NamespaceSource, *, spare: Mapping[str, int] = DEFAULT_SPARE) -> None:
        self.source = source
        self._shelves = {kind: _Shelf(source, kind, count) for kind, count in spare.items()}

    async def start(self) -> None:
        """Make one of each kind, so that a machine that cannot says so now. Raises PlatformError."""
        for shelf in self._shelves.values():
            shelf.put_back(await shelf.acquire())

    async def acquire(self, kind: str) -> Namespace:
        """At once when one is ready. Raises PlatformError when none can be made, CancelledError after `close`."""
        return await self._shelves[kind].acquire()

    def statistics(self) -> Mapping[str, PoolStatistics]:
        return {kind: shelf.statistics() for kind, shelf in self._shelves.items()}

    async def close(self) -> None:
        for shelf in self._shelves.values():
            await shelf.close()


class _Shelf:
    """The ready ones of one kind, and those who wait for one, first come first served."""

    def __init__(self, source: NamespaceSource, kind: str, spare: int) -> None:
        self._source = source
        self._kind = kind
        self._spare = spare
        self._ready: collections.deque[Namespace] = collections.deque()
        self._waiting: collections.deque[asyncio.Future[Namespace]] = collections.deque()
        self._refill: asyncio.Task[None] | None = None
        self._closed = False
        self._immediate = self._waited = self._failed = 0

    async def acquire(self) -> Namespace:
        if self._closed:
            raise PlatformError("the pool of network namespaces is closed", retry_safe=True)
        if self._ready:
            self._immediate += 1
            namespace = self._ready.popleft()
            self._fill_up()
            return namespace
        self._waited += 1
        turn: asyncio.Future[Namespace] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._fill_up()
        try:
            return await turn
        except asyncio.CancelledError:
            # Given to us in the moment in which we were told to stop: nobody has used it yet.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.put_back(turn.result())
            raise

    def put_back(self, namespace: Namespace) -> None:
        """Only one that no environment has entered."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(namespace)
                return
        if self._closed:
            namespace.release()
        else:
            self._ready.append(namespace)

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            ready=len(self._ready), immediate=self._immediate, waited=self._waited, failed=self._failed
        )

    async def close(self) -> None:
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refill
        for turn in self._waiting:
            turn.cancel()
        self._waiting.clear()
        while self._ready:
            self._ready.popleft().release()

    def _fill_up(self) -> None:
        if self._refill is None or self._refill.done():
            self._refill = asyncio.create_task(self._fill(), name=f"make network namespaces ({self._kind})")

    async def _fill(self) -> None:
        while self._waiting or len(self._ready) < self._spare:
            try:
                fds = await self._source.make_namespace(self._kind)
            except PlatformError as exc:
                # The next acquire tries again; until then a machine that refuses is left in peace.
                self._failed += 1
                log.error(
                    "no network namespace",
                    extra={"action": "namespace_failed", "kind": self._kind, "reason": str(exc)},
                )
                self._fail_waiting(exc)
                return
            self.put_back(Namespace(self._kind, fds))

    def _fail_waiting(self, error: PlatformError) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(PlatformError(str(error), retry_safe=True))
