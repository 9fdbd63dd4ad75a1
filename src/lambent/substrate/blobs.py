"""Blobs as files named by their digest.

ROOT/ab/abcdef...    a whole blob: a name appears only by rename, after its bytes were synced
ROOT/incoming/*      being written; what a killed node left there is removed at the next start
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from pathlib import Path

from lambent.model.errors import PlatformError

_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """Implements `Blobs`. One node owns `root`; its folders are 0700 and its files 0600."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    async def put(self, data: bytes) -> str:
        """Raises PlatformError when the disk does not take it; nothing is left behind then."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, digest: str) -> bytes:
        return await asyncio.to_thread(self._get, digest)

    async def delete(self, digest: str) -> None:
        await asyncio.to_thread(self._delete, digest)

    async def verify(self, digest: str) -> bool:
        """Whether the bytes on disk still have this digest. Raises KeyError."""
        return await asyncio.to_thread(self._verify, digest)

    def path(self, digest: str) -> Path | None:
        place = self._place(digest)
        return place if place is not None and place.is_file() else None

    def _place(self, digest: str) -> Path | None:
        # Only what looks like a digest becomes a path: digests also come in from outside.
        return self._root / digest[:2] / digest if _DIGEST.fullmatch(digest) else None

    def _put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        folder = self._root / digest[:2]
        try:
            self._store(data, folder, folder / digest)
        except OSError as exc:
            raise PlatformError(f"The blob could not be stored in {self._root}: {exc.strerror}") from exc
        return digest

    def _store(self, data: bytes, folder: Path, place: Path) -> None:
        if not _holds(place, len(data)):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self._root)
            self._write(data, place)
        # Also when the blob was there: whoever renamed it may not have come to this line yet.
        _sync_folder(folder)

    def _write(self, data: bytes, place: Path) -> None:
        fd, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _get(self, digest: str) -> bytes:
        place = self._place(digest)
        if place is None:
            raise KeyError(digest)
        try:
            return place.read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None
        except OSError as exc:
            raise PlatformError(f"The blob {digest} could not be read: {exc.strerror}") from exc

    def _delete(self, digest: str) -> None:
        place = self._place(digest)
        if place is not None:
            place.unlink(missing_ok=True)

    def _verify(self, digest: str) -> bool:
        return hashlib.sha256(self._get(digest)).hexdigest() == digest


def _holds(place: Path, size: int) -> bool:
    """Whether the whole blob seems to be there; one cut short by a damaged disk is written anew."""
    try:
        return place.stat().st_size == size
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
