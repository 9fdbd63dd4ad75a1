"""Immutable bytes in files named by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path


class FileBlobs:
    """Implements `Blobs` below one folder, fanned out by the first two digits of the hash."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, data: bytes) -> str:
        return await asyncio.to_thread(self._put, data)

    async def get(self, digest: str) -> bytes:
        try:
            return await asyncio.to_thread(self._path(digest).read_bytes)
        except FileNotFoundError:
            raise KeyError(digest) from None

    async def delete(self, digest: str) -> None:
        await asyncio.to_thread(self._path(digest).unlink, missing_ok=True)

    def path(self, digest: str) -> Path | None:
        path = self._path(digest)
        return path if path.exists() else None

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise KeyError(digest)
        return self._root / digest[:2] / digest

    def _put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(mode=0o700, exist_ok=True)
        making = path.with_name(f"{digest}.{os.getpid()}.{os.urandom(4).hex()}")
        fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            making.rename(path)
        except BaseException:
            making.unlink(missing_ok=True)
            raise
        # Both folders: a name is only durable when the folder that holds it is.
        sync_folder(path.parent)
        sync_folder(self._root)
        return digest


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
