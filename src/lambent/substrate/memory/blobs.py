"""Blobs that live as long as the process."""

from __future__ import annotations

import hashlib
from pathlib import Path


class MemoryBlobs:
    """Implements `Blobs`."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self._blobs.setdefault(digest, bytes(data))
        return digest

    async def get(self, digest: str) -> bytes:
        return self._blobs[digest]

    async def delete(self, digest: str) -> None:
        self._blobs.pop(digest, None)

    def path(self, digest: str) -> Path | None:
        """Always None: these bytes are in no file."""
        return None
