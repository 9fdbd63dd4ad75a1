"""Where code lies: zips as blobs, and each unpacked once into `ROOT/trees/SHA256`, shared by all its environments.

Nothing in `trees` is ever half made: a tree grows in `ROOT/making` and is renamed when it is complete and on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import hashlib
import os
import shutil
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path

from lambent.controlplane import archives
from lambent.controlplane.refusals import too_large
from lambent.model import limits
from lambent.substrate.ports import Blobs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An accepted zip. `digest` is its SHA-256 in lower-case hex."""

    digest: str
    code_size: int
    unzipped_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection removed, and how many trees it will remove later: too young, or in use."""

    removed: frozenset[str]
    waiting: int


class CodeStore:
    """One per data folder; the only writer of its folder and, for code, of the blobs."""

    def __init__(self, root: Path, blobs: Blobs, *, clock: Callable[[], float]) -> None:
        """`clock` tells monotonic seconds."""
        self._trees = root / "trees"
        self._making = root / "making"
        self._blobs = blobs
        self._clock = clock
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._held: Counter[str] = Counter()
        self._touched: set[str] = set()
        self._idle_since: dict[str, float] = {}
        self._collecting = asyncio.Lock()
        # Closed to others; the trees below are open, because functions read them under foreign uids.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._trees, self._making):
            folder.mkdir(mode=0o755, exist_ok=True)

    @property
    def trees(self) -> Path:
        """The folder of all trees."""
        return self._trees

    def tree(self, name: str) -> Path:
        """Where the tree of a zip or of merged layers lies."""
        return self._trees / name

    @contextlib.asynccontextmanager
    async def adding(self, data: bytes, *, zipped_limit: int = limits.ZIPPED_CODE_BYTES) -> AsyncIterator[Package]:
        """Check, keep and unpack a zip, and hold it against collection until the caller has written who uses it.

        Raises CallerError `InvalidParameterValueException`, or `RequestEntityTooLargeException` (413).
        """
        if len(data) > zipped_limit:
            raise too_large(f"Zipped size must be smaller than {zipped_limit} bytes")
        digest = await asyncio.to_thread(_hash, data)
        with self._holding([digest]):
            async with self._lock(digest):
                # The tree first: a zip that is refused leaves no blob.
                size = await asyncio.to_thread(self._unpack, digest, data)
                await self._blobs.put(data)
            yield Package(digest=digest, code_size=len(data), unzipped_bytes=size)

    async def check(self, data: bytes, *, zipped_limit: int = limits.ZIPPED_CODE_BYTES) -> Package:
        """As `adding`, for a dry run: nothing is kept."""
        if len(data) > zipped_limit:
            raise too_large(f"Zipped size must be smaller than {zipped_limit} bytes")
        digest = await asyncio.to_thread(_hash, data)
        size = await asyncio.to_thread(self._try, data)
        return Package(digest=digest, code_size=len(data), unzipped_bytes=size)

    async def ensure(self, digest: str, layers: Sequence[str] = ()) -> None:
        """Have the tree of a kept zip, and of its layers merged, on disk. Raises KeyError when a zip is lost."""
        with self._holding([digest, *layers]):
            for name in (digest, *layers):
                await self._ensure_one(name)
            await self.merge_layers(layers)

    async def merge_layers(self, digests: Sequence[str]) -> str:
        """The name of the tree of these layers over one another, later ones winning; made when it is not there.

        Raises KeyError when a layer's zip is lost.
        """
        name = merged_name(digests)
        with self._holding([name, *digests]):
            if len(digests) > 1 and not self.tree(name).is_dir():
                for digest in digests:
                    await self._ensure_one(digest)
                async with self._lock(name):
                    await asyncio.to_thread(self._merge, name, [self.tree(digest) for digest in digests])
        return name

    async def read(self, digest: str) -> bytes:
        """The zip as it was uploaded. Raises KeyError."""
        return await self._blobs.get(digest)

    async def unzipped_bytes(self, digest: str) -> int:
        """Raises KeyError."""
        source = self._blobs.path(digest) or await self._blobs.get(digest)
        return await asyncio.to_thread(archives.unzipped_bytes, source)

    async def collect(
        self,
        read_referenced: Callable[[], Awaitable[Collection[str]]],
        *,
        in_use: Callable[[str], bool] = lambda _name: False,
        grace_s: float = 0.0,
    ) -> Collected:
        """Remove the zips and trees that no version needs.

        `read_referenced` tells the names that are needed. What is held, or was touched since it was asked, or was
        needed less than `grace_s` seconds ago, stays.
        """
        async with self._collecting:
            self._touched = set(self._held)
            candidates = set(await asyncio.to_thread(os.listdir, self._trees))
            candidates -= set(await read_referenced())
            for name in set(self._idle_since) - candidates:
                del self._idle_since[name]
            removed: set[str] = set()
            for name in sorted(candidates):
                since = self._idle_since.setdefault(name, self._clock())
                if self._clock() - since < grace_s or in_use(name):
                    continue
                if await self._remove(name):
                    removed.add(name)
                    self._idle_since.pop(name, None)
            return Collected(removed=frozenset(removed), waiting=len(candidates) - len(removed))

    async def recover(self, referenced: Collection[str]) -> None:
        """Remove what a killed node left half made or half removed. Only at start, before anything is added."""
        for folder in await asyncio.to_thread(lambda: list(self._making.iterdir())):
            digest = folder.name.partition(".")[0]
            if digest not in referenced and not self.tree(digest).is_dir():
                await self._blobs.delete(digest)
            await asyncio.to_thread(_remove, folder)

    async def _ensure_one(self, digest: str) -> None:
        if self.tree(digest).is_dir():
            return
        async with self._lock(digest):
            data = await self._blobs.get(digest)
            await asyncio.to_thread(self._unpack, digest, data)

    async def _remove(self, name: str) -> bool:
        async with self._lock(name):
            if name in self._touched or self._held[name]:
                return False
            # Renamed first: the name is gone at once, the files take their time.
            gone = self._making / f"{name}.{os.urandom(4).hex()}"
            (self._trees / name).rename(gone)
            await self._blobs.delete(name)
            await asyncio.to_thread(shutil.rmtree, gone)
        return True

    @contextlib.contextmanager
    def _holding(self, names: Sequence[str]) -> Iterator[None]:
        self._held.update(names)
        self._touched.update(names)
        try:
            yield
        finally:
            self._held.subtract(names)
            self._held = +self._held

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _unpack(self, digest: str, data: bytes) -> int:
        if (self._trees / digest).is_dir():
            return archives.unzipped_bytes(data)
        with self._growing(digest) as folder:
            return archives.unpack(data, folder)

    def _merge(self, name: str, trees: list[Path]) -> None:
        if not (self._trees / name).is_dir():
            with self._growing(name) as folder:
                archives.merge(trees, folder)

    def _try(self, data: bytes) -> int:
        folder = self._new_folder("check")
        try:
            return archives.unpack(data, folder)
        finally:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def _growing(self, name: str) -> Iterator[Path]:
        """A folder that becomes the tree of that name when the block ends well, and nothing otherwise."""
        folder = self._new_folder(name)
        try:
            yield folder
            _sync(folder)
            folder.rename(self._trees / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _sync_folder(self._trees)

    def _new_folder(self, name: str) -> Path:
        folder = self._making / f"{name}.{os.urandom(4).hex()}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder


def _remove(folder: Path) -> None:
    """Remove a tree however deep it is: a start must not fail because of what an earlier one left."""
    left = [folder]
    while left:
        emptied = left.pop()
        for entry in list(emptied.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                left.append(entry.rename(folder.with_name(f"{folder.name}.{os.urandom(4).hex()}")))
            else:
                entry.unlink()
        emptied.rmdir()


def merged_name(digests: Sequence[str]) -> str:
    """The name of the tree that is mounted at /opt: empty without layers, the layer's own with one."""
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256(":".join(digests).encode()).hexdigest()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync(folder: Path) -> None:
    """Write a whole tree to disk with one call: a package of thousands of files would need as many fsyncs."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
