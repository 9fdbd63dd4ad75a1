# Documents with one writer and several followers, each with a copy of what it needs in memory.
#
# Rule 1: a commit returns when every follower that can be reached has applied it.
# Rule 2: a follower serves nothing before it has a whole copy, and asks for one when it starts.
# Rule 3: what is sent is read after it was committed, by one pump per follower, so a copy never goes back in time.
# Rule 4: whoever was away gets a whole copy again; only differences become changes.
from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import msgspec

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Change, Document, Documents, Write
from lambent.substrate.watches import Watches

log = logging.getLogger(__name__)

FOLLOWED = (
    "accounts",
    "access_keys",
    "identity",
    "functions",
    "versions",
    "aliases",
    "provisioned",
    "function_urls",
    "policies",
    "http_apis",
    "rest_apis",
    "rest_api_deployments",
    "api_keys",
    "usage_plans",
    "domains",
)
RETRY_S = 0.1
SETTLE_PATIENCE_S = 5.0
"""How long a commit waits for a follower that is connected but does not answer."""
_TURNS = 1_000

_Place = tuple[str, str]
"""Collection, key."""
Send = Callable[[str, bytes], Awaitable[bytes]]
"""(follower, update) to its acknowledgement. Raises PlatformError at once for one that cannot be reached."""


class Update(msgspec.Struct, kw_only=True):
    """What a follower is sent. `epoch` grows with each start of the writer."""

    epoch: int
    whole: bool
    changes: list[Change]


class Feed:
    """The writer's end: keeps every follower's copy current."""

    def __init__(self, documents: Documents, followers: Iterable[str], send: Send) -> None:
        self._pumps = {name: _Pump(name, documents, send, time.time_ns()) for name in followers}

    def start(self) -> None:
        for pump in self._pumps.values():
            pump.start()

    async def stop(self) -> None:
        for pump in self._pumps.values():
            await pump.stop()

    def renew(self, follower: str) -> None:
        """The follower has no copy."""
        self._pumps[follower].renew()

    def mark(self, places: Iterable[_Place]) -> None:
        """These were committed, or may have been."""
        places = list(places)
        for pump in self._pumps.values():
            pump.mark(places)

    async def settle(self) -> None:
        """Until every follower that can be reached has what was marked before this call."""
        await asyncio.gather(*(pump.settle() for pump in self._pumps.values()))


class _Pump:
    def __init__(self, name: str, documents: Documents, send: Send, epoch: int) -> None:
        self._name = name
        self._documents = documents
        self._send = send
        self._epoch = epoch
        self._dirty: dict[_Place, None] = {}
        self._has_copy = False
        self._marked = self._applied = 0
        self._is_away = True
        """Not asked yet or unreachable when last asked, and not being asked: what comes next is a whole, new copy."""
        self._stirred = asyncio.Event()
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._stirred.set()
        self._task = asyncio.create_task(self._run(), name=f"feed {self._name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def renew(self) -> None:
        self._has_copy = False
        self._marked += 1
        self._stirred.set()

    def mark(self, places: Sequence[_Place]) -> None:
        self._dirty.update(dict.fromkeys(places))
        self._marked += 1
        self._stirred.set()

    async def settle(self) -> None:
        wanted = self._marked
        try:
            async with asyncio.timeout(SETTLE_PATIENCE_S), self._moved:
                await self._moved.wait_for(lambda: self._applied >= wanted or self._is_away)
        except TimeoutError:
            log.error("a process does not follow", extra={"action": "not_followed", "index": self._name})

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            self._is_away = False
            marked, whole = self._marked, not self._has_copy
            places, self._dirty = list(self._dirty), {}
            # Assumed before it is tried: `renew` may come in between and must win.
            self._has_copy = True
            try:
                changes = await self._read_all() if whole else await self._read(places)
                body = msgspec.msgpack.encode(Update(epoch=self._epoch, whole=whole, changes=changes))
                await self._send(self._name, body)
            except PlatformError:
                self._has_copy = False
                self._is_away = True
                async with self._moved:
                    self._moved.notify_all()
                await asyncio.sleep(RETRY_S)
                self._stirred.set()
                continue
            async with self._moved:
                self._applied = marked
                self._moved.notify_all()

    async def _read_all(self) -> list[Change]:
        return [
            Change(collection=collection, key=document.key, document=document)
            for collection in FOLLOWED
            for document in await self._documents.list(collection)
        ]

    async def _read(self, places: Sequence[_Place]) -> list[Change]:
        return [
            Change(collection=collection, key=key, document=await self._documents.get(collection, key))
            for collection, key in places
        ]


class FedDocuments:
    """Implements `Documents` for the writer: a commit is seen by all when it returns."""

    def __init__(self, documents: Documents, feed: Feed) -> None:
        self._documents = documents
        self._feed = feed
        self._commits: set[asyncio.Task[None]] = set()

    async def get(self, collection: str, key: str) -> Document | None:
        return await self._documents.get(collection, key)

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        return await self._documents.list(collection, prefix=prefix, after=after, limit=limit)

    async def commit(self, writes: Sequence[Write]) -> None:
        places = [(write.collection, write.key) for write in writes if write.collection in FOLLOWED]
        if not places:
            await self._documents.commit(writes)
            return
        # A task of its own: a caller that is cancelled must not leave a commit that nobody was told of.
        task = asyncio.create_task(self._commit(writes, places))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        await asyncio.shield(task)

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        return self._documents.watch(*collections)

    async def close(self) -> None:
        if self._commits:
            await asyncio.wait(self._commits)
        await self._documents.close()

    async def _commit(self, writes: Sequence[Write], places: Sequence[_Place]) -> None:
        try:
            await self._documents.commit(writes)
        finally:
            self._feed.mark(places)
        await self._feed.settle()


class FollowedDocuments:
    """Implements `Documents` for a follower: reads and watches of what is followed, from memory; writes nothing."""

    def __init__(self) -> None:
        self._copy: dict[str, dict[str, Document]] = {collection: {} for collection in FOLLOWED}
        self._watches = Watches()
        self._epoch = 0
        self._has_copy = asyncio.Event()

    async def apply(self, body: bytes) -> bytes:
        """Take an update; returns when those who watch have taken it too. Raises PlatformError without a copy."""
        update = msgspec.msgpack.decode(body, type=Update)
        if update.epoch < self._epoch:
            return b""
        if not update.whole and (update.epoch != self._epoch or not self._has_copy.is_set()):
            raise PlatformError("This process has no copy yet.", retry_safe=True)
        self._epoch = update.epoch
        changes = self._differences(update.changes) if update.whole else update.changes
        for change in changes:
            self._store(change)
        self._watches.publish(changes)
        self._has_copy.set()
        for _ in range(_TURNS):
            if not self._watches.are_behind():
                break
            await asyncio.sleep(0)
        return b""

    async def get(self, collection: str, key: str) -> Document | None:
        await self._has_copy.wait()
        return self._copy[collection].get(key)

    async def list(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[Document]:
        await self._has_copy.wait()
        keys = sorted(key for key in self._copy[collection] if key.startswith(prefix) and key > after)
        return [self._copy[collection][key] for key in keys[:limit]]

    async def commit(self, writes: Sequence[Write]) -> None:
        raise PlatformError("Only the first process of the node writes.", retry_safe=True)

    def watch(self, *collections: str) -> AsyncIterator[Change]:
        return self._watches.open(collections)

    async def close(self) -> None:
        self._watches.close()

    def _differences(self, whole: Sequence[Change]) -> Sequence[Change]:
        kept = {(change.collection, change.key) for change in whole}
        gone = [
            Change(collection=collection, key=key, document=None)
            for collection, documents in self._copy.items()
            for key in documents
            if (collection, key) not in kept
        ]
        new = [change for change in whole if self._copy[change.collection].get(change.key) != change.document]
        return [*gone, *new]

    def _store(self, change: Change) -> None:
        if change.document is None:
            self._copy[change.collection].pop(change.key, None)
        else:
            self._copy[change.collection][change.key] = change.document
