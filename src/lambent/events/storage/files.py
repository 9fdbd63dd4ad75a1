"""The bytes of objects, as files named by their SHA-256.

ROOT/ab/abcdef...    a whole piece: a name appears only by rename, after its bytes were synced
ROOT/incoming/*      being written; what a killed node left there is removed at the next start

Which files are needed stands in the tables (`storage_pieces`), never here. A file goes when no object uses it and
nobody holds it: whoever writes a piece holds it until its object is committed, whoever reads one until it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
)
from pathlib import Path
from typing import IO, NamedTuple

from lambent.events.storage.checksums import Checksum
from lambent.model.errors import PlatformError

BUFFER_BYTES = 1_048_576
"""What of a body is in memory: it is written, and sent, in pieces of this size."""


class Piece(NamedTuple):
    digest: str
    size: int


class Written(NamedTuple):
    piece: Piece
    md5: bytes


class Files:
    """One node owns `root`; its folders are 0700 and its files 0600."""

    def __init__(self, root: Path, drop_unused: Callable[[str], Awaitable[bool]]) -> None:
        """`drop_unused` removes a digest from the tables unless it is used, and says whether it is not there now."""
        self._root = root
        self._incoming = root / "incoming"
        self._drop_unused = drop_unused
        self._held: Counter[str] = Counter()
        self._postponed: set[str] = set()
        """Not needed when it was looked, but held."""

    def open(self) -> None:
        """Raises OSError. Blocks."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def prefixes(self) -> list[str]:
        """The first two letters of the files that are there. Blocks."""
        return [folder.name for folder in self._root.iterdir() if folder != self._incoming and folder.is_dir()]

    def sweep(self, prefix: str, used: Collection[str]) -> None:
        """Remove the files of a prefix that are not used. Before anything else runs. Blocks."""
        for file in (self._root / prefix).iterdir():
            if file.name not in used:
                file.unlink()

    @contextlib.asynccontextmanager
    async def writing(self, body: AsyncIterable[bytes], checks: Iterable[Checksum]) -> AsyncIterator[Written]:
        """Write a body and keep it inside the block, in which it must be committed; else it goes again.

        `checks` are given every byte. Raises what the body raises, and PlatformError when the disk does not take it.
        """
        writer = await asyncio.to_thread(_Writer, self._incoming, list(checks))
        try:
            await _pump(body, writer)
            written = await asyncio.to_thread(writer.finish)
            with self._holding([written.piece.digest]):
                await asyncio.to_thread(writer.publish, self._place(written.piece.digest))
                yield written
        except BaseException:
            self._postponed.add(writer.digest)
            raise
        finally:
            await asyncio.to_thread(writer.close)
            await self._collect_postponed([writer.digest])

    @contextlib.asynccontextmanager
    async def holding(self, pieces: Collection[Piece]) -> AsyncIterator[bool]:
        """Keep pieces from being removed inside the block. Whether all are there."""
        digests = [piece.digest for piece in pieces]
        try:
            with self._holding(digests):
                yield await asyncio.to_thread(self._has_all, digests)
        finally:
            await self._collect_postponed(digests)

    async def read(self, pieces: Iterable[Piece], start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Some bytes of the whole that pieces make. They must be held. Raises PlatformError."""
        for piece in pieces:
            if length <= 0:
                return
            if start >= piece.size:
                start -= piece.size
                continue
            wanted = min(piece.size - start, length)
            async with contextlib.aclosing(self._read_piece(piece, start, wanted)) as opened:
                async for data in opened:
                    yield data
            start, length = 0, length - wanted

    async def collect(self, digests: Iterable[str]) -> None:
        """Remove files that nothing needs any more."""
        for digest in set(digests):
            # Between the last look and the removal there is no waiting, in which somebody might take hold of it.
            unused = digest not in self._held and await self._drop_unused(digest)
            if digest in self._held:
                self._postponed.add(digest)
            elif unused:
                self._place(digest).unlink(missing_ok=True)

    async def _collect_postponed(self, digests: Iterable[str]) -> None:
        found = {digest for digest in digests if digest in self._postponed and digest not in self._held}
        self._postponed -= found
        await self.collect(found - {""})

    @contextlib.contextmanager
    def _holding(self, digests: Collection[str]) -> Iterator[None]:
        self._held.update(digests)
        try:
            yield
        finally:
            self._held.subtract(digests)
            for digest in digests:
                if not self._held[digest]:
                    del self._held[digest]

    def _has_all(self, digests: Iterable[str]) -> bool:
        return all(self._place(digest).exists() for digest in digests)

    async def _read_piece(self, piece: Piece, start: int, length: int) -> AsyncGenerator[bytes, None]:
        file = await asyncio.to_thread(self._open_at, piece, start)
        try:
            while length > 0:
                data = await asyncio.to_thread(file.read, min(length, BUFFER_BYTES))
                if not data:
                    raise PlatformError(f"The file {piece.digest} of an object is shorter than it was.")
                length -= len(data)
                yield data
        finally:
            file.close()

    def _open_at(self, piece: Piece, start: int) -> IO[bytes]:
        try:
            file = self._place(piece.digest).open("rb", buffering=0)
        except OSError as exc:
            raise PlatformError(f"The file {piece.digest} of an object cannot be read: {exc.strerror}") from exc
        file.seek(start)
        return file

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest


class _Writer:
    """A file being written. Its methods block."""

    def __init__(self, folder: Path, checks: list[Checksum]) -> None:
        self._checks = checks
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self.digest = ""
        """Of what was published."""
        with _naming_the_disk(folder):
            self._descriptor, name = tempfile.mkstemp(dir=folder)
        self._path = Path(name)

    def write(self, data: bytes) -> None:
        for check in (self._sha256, self._md5, *self._checks):
            check.update(data)
        with _naming_the_disk(self._path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._size += len(data)

    def finish(self) -> Written:
        with _naming_the_disk(self._path):
            os.fsync(self._descriptor)
        return Written(Piece(self._sha256.hexdigest(), self._size), self._md5.digest())

    def publish(self, place: Path) -> None:
        self.digest = place.name
        with _naming_the_disk(place):
            if not place.parent.exists():
                place.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(place.parent.parent)
            self._path.rename(place)
            _sync_folder(place.parent)

    def close(self) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


async def _pump(body: AsyncIterable[bytes], writer: _Writer) -> None:
    buffer = bytearray()
    async for data in body:
        buffer += data
        if len(buffer) >= BUFFER_BYTES:
            await asyncio.to_thread(writer.write, bytes(buffer))
            buffer.clear()
    if buffer:
        await asyncio.to_thread(writer.write, bytes(buffer))


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming_the_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise PlatformError(f"An object could not be stored at {path}: {exc.strerror}", retry_safe=True) from exc
