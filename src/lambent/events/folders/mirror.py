# A bucket follows a folder: files that were written to its end become objects, and objects go with their files.
#
# Rule 1: an object and the note that its file was taken are one transaction. What was not noted is taken again, so
#         every content of a file is told at least once, whatever dies in between.
# Rule 2: what the kernel tells is only where to look; what counts is what is there and what was noted.
# Rule 3: a file that is found, not told of, may still be written: it is looked at again when it has been left alone
#         for a while. One that changes while it is read is read again.
# Rule 4: a folder that is gone, or is another than before and empty, takes nothing away: a disk may not be mounted.
from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Protocol

from lambent.events.folders import store, tree
from lambent.events.folders.store import Root, Stamp
from lambent.events.folders.watch import RootGone, TreeWatch
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.substrate.ports import Connection, Tables

log = logging.getLogger(__name__)

ALONE_S = 2.0
"""How long a file that was found must have been left alone."""
PARALLEL = 8
"""Files that are taken at the same time."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
_CHUNK_BYTES = 1_048_576

Also = Callable[[Connection], None]
"""To be written in the same transaction."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFolder:
    """`[folders.NAME]` of lambent.toml."""

    name: str
    path: str
    bucket: str
    prefix: str = ""
    """What the keys of its objects begin with."""
    account: str


class Objects(Protocol):
    """See `storage.StorageService`."""

    async def put_stream(
        self, account: str, bucket: str, key: str, data: AsyncIterator[bytes], *, size: int, also: Also
    ) -> None: ...

    async def delete_object(self, account: str, bucket: str, key: str, *, also: Also) -> None: ...


class _Why(enum.IntEnum):
    """Why a path is looked at; the higher says more."""

    FOUND = 0
    TOLD = 1
    """It was closed by who wrote it, or is gone."""
    MOVED_IN = 2
    """What is there is another file, even if it looks like the former."""


class _Changed(Exception):
    """A file was written to while it was read."""


class FolderMirror:
    """Started, it takes what is in the folder, and what comes into it until it is stopped."""

    def __init__(
        self, folder: WatchedFolder, tables: Tables, objects: Objects, *, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._root = Path(folder.path)
        self._tables = tables
        self._objects = objects
        self._now = now
        self._watch = TreeWatch(self._root)
        self._identity = Root(0, 0)
        self._dirty: dict[str, _Why] = {}
        self._wake = asyncio.Event()
        self._pause_s = FIRST_PAUSE_S
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Raises OperatorError for a folder that cannot be read."""
        setting = f"folders.{self._folder.name}"
        try:
            await asyncio.to_thread(self._watch.open)
            self._identity = await asyncio.to_thread(self._identify)
            is_empty = await asyncio.to_thread(lambda: not any(self._root.iterdir()))
        except OSError as exc:
            raise OperatorError(f"{setting}: {self._root} cannot be read: {exc.strerror}.") from exc
        except OperatorError as exc:
            raise OperatorError(f"{setting}: {exc}") from None
        if await self._is_to_be_trusted(is_empty=is_empty):
            self._look("", _Why.FOUND)
        self._tasks = [
            asyncio.create_task(self._listen(), name=f"watch {self._root}"),
            asyncio.create_task(self._work(), name=f"take files of {self._root}"),
        ]

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watch.close()

    async def _is_to_be_trusted(self, *, is_empty: bool) -> bool:
        name = self._folder.name
        known = await self._tables.read(lambda connection: store.find_root(connection, name))
        if known not in (None, self._identity) and is_empty:
            log.warning(
                "the folder is empty and another than before: no object is removed; is its disk mounted?",
                extra={"action": "folder_replaced", "folder": name, "path": str(self._root)},
            )
            return False
        await self._tables.write(lambda connection: store.put_root(connection, name, self._identity))
        return True

    def _identify(self) -> Root:
        found = self._root.stat()
        return Root(found.st_dev, found.st_ino)

    def _look(self, path: str, why: _Why) -> None:
        self._dirty[path] = max(why, self._dirty.get(path, why))
        self._wake.set()

    def _look_later(self, path: str, wait_s: float) -> None:
        """The first planned look at a path stands."""
        if path not in self._timers:
            self._timers[path] = asyncio.get_running_loop().call_later(wait_s, self._take_timer, path)

    def _take_timer(self, path: str) -> None:
        del self._timers[path]
        self._look(path, _Why.FOUND)

    async def _listen(self) -> None:
        while True:
            try:
                notice = await self._watch.next()
            except RootGone:
                self._say_gone()
                return
            except OperatorError as exc:
                log.error(str(exc), extra={"action": "folder_not_watched", "folder": self._folder.name})
                continue
            if notice is not None:
                self._look(notice.path, _Why.MOVED_IN if notice.moved_in else _Why.TOLD)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            try:
                failed = await self._settle(dirty)
            except RootGone:
                self._say_gone()
                return
            except (OSError, PlatformError) as exc:
                self._note_failure("", exc)
                failed = dirty
            for path, why in failed.items():
                self._dirty[path] = max(why, self._dirty.get(path, why))
            if failed:
                asyncio.get_running_loop().call_later(self._pause_s, self._wake.set)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            else:
                self._pause_s = FIRST_PAUSE_S

    async def _settle(self, dirty: dict[str, _Why]) -> dict[str, _Why]:
        """Take and remove what differs from what was noted. Returns what is to be tried again."""

        def find() -> dict[str, dict[str, Stamp]]:
            found = {path: tree.find(self._root, path) for path in dirty}
            # Looked at afterwards: what was not there may have been another folder's.
            if self._identify() != self._identity:
                raise RootGone
            return found

        try:
            found = await asyncio.to_thread(find)
        except FileNotFoundError:
            raise RootGone from None
        name = self._folder.name
        noted = await self._tables.read(
            lambda connection: {path: store.list_below(connection, name, path) for path in dirty}
        )
        wanted: dict[str, _Why] = {}
        gone: set[str] = set()
        for path, why in dirty.items():
            for file, stamp in found[path].items():
                if stamp != noted[path].get(file) or (why is _Why.MOVED_IN and file == path):
                    told = why if file == path else _Why.FOUND
                    wanted[file] = max(told, wanted.get(file, told))
            gone |= noted[path].keys() - found[path].keys()
        work = [*((path, why) for path, why in wanted.items()), *((path, None) for path in gone - wanted.keys())]
        return await self._carry_out(work, {file: stamp for files in found.values() for file, stamp in files.items()})

    async def _carry_out(self, work: Iterable[tuple[str, _Why | None]], found: dict[str, Stamp]) -> dict[str, _Why]:
        turns = asyncio.Semaphore(PARALLEL)
        failed: dict[str, _Why] = {}

        async def one(path: str, why: _Why | None) -> None:
            async with turns:
                try:
                    if why is None:
                        await self._remove(path)
                    elif why is _Why.FOUND and self._is_young(found[path]):
                        self._look_later(path, ALONE_S)
                    else:
                        await self._take(path)
                except _Changed:
                    self._look_later(path, ALONE_S)
                except FileNotFoundError:
                    # Gone since it was looked at, of which we are told too.
                    self._look(path, _Why.TOLD)
                except PermissionError as exc:
                    self._note_failure(path, exc)
                except (CallerError, PlatformError, OSError) as exc:
                    self._note_failure(path, exc)
                    failed[path] = why if why is not None else _Why.TOLD

        await asyncio.gather(*(one(path, why) for path, why in work))
        return failed

    def _is_young(self, stamp: Stamp) -> bool:
        return 0 <= self._now() - stamp.modified_ns / 1e9 < ALONE_S

    async def _take(self, path: str) -> None:
        folder = self._folder
        fd = await asyncio.to_thread(_open_beneath, self._root, path)
        try:
            found = os.fstat(fd)
            stamp = Stamp(found.st_size, found.st_mtime_ns)
            await self._objects.put_stream(
                folder.account,
                folder.bucket,
                folder.prefix + path,
                _read(fd, stamp),
                size=stamp.size,
                also=lambda connection: store.put(connection, folder.name, path, stamp),
            )
        finally:
            os.close(fd)

    async def _remove(self, path: str) -> None:
        folder = self._folder
        await self._objects.delete_object(
            folder.account,
            folder.bucket,
            folder.prefix + path,
            also=lambda connection: store.drop(connection, folder.name, path),
        )

    def _note_failure(self, path: str, exc: Exception) -> None:
        log.error(
            "a file of a watched folder was not taken",
            extra={
                "action": "folder_failed",
                "folder": self._folder.name,
                "path": str(self._root / path),
                "reason": str(exc),
            },
        )

    def _say_gone(self) -> None:
        log.error(
            "a watched folder is gone: nothing more is taken from it until the node starts again, nor removed",
            extra={"action": "folder_gone", "folder": self._folder.name, "path": str(self._root)},
        )


def _open_beneath(root: Path, path: str) -> int:
    """A regular file below the root, on whose way there is no link: whoever may write there may not choose others'.

    Raises OSError.
    """
    above = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *folders, name = path.split("/")
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            os.close(above)
            above = below
        # Not to wait for the other end of a pipe.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


async def _read(fd: int, stamp: Stamp) -> AsyncGenerator[bytes, None]:
    """Raises _Changed when it is not what it was."""
    while data := await asyncio.to_thread(os.read, fd, _CHUNK_BYTES):
        yield data
    found = os.fstat(fd)
    if (found.st_size, found.st_mtime_ns) != stamp:
        raise _Changed
