"""Fills a small disk, frees it and goes on; run by test_disk_full.py where the disk (or the file limit) is small.

Arguments: the store's path, and `disk` or `limit` for how room is made again. Exits 0 when every promise held.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from lambent.model.errors import PlatformError
from lambent.substrate.ports import Write
from lambent.substrate.sqlite import SqliteDocuments, open_documents


async def fill(documents: SqliteDocuments) -> list[str]:
    """Commit pairs until the disk refuses. Returns the keys that were acknowledged."""
    acknowledged: list[str] = []
    while True:
        key = f"{len(acknowledged):05d}"
        writes = [Write(collection=side, key=key, value=b"x" * 5_000, expect=0) for side in ("left", "right")]
        try:
            await documents.commit(writes)
        except PlatformError as error:
            print("refused:", error, flush=True)
            return acknowledged
        acknowledged.append(key)


async def keys(documents: SqliteDocuments, collection: str) -> list[str]:
    return [document.key for document in await documents.list(collection)]


async def main(path: Path, room: str) -> None:
    ballast = path.with_name("ballast")
    if room == "disk":
        ballast.write_bytes(b"x" * 300_000)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    documents = open_documents(path)
    acknowledged = await fill(documents)
    assert len(acknowledged) > 10, acknowledged
    assert await keys(documents, "left") == await keys(documents, "right") == acknowledged

    if room == "disk":
        ballast.unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await documents.commit([Write(collection="left", key="z", value=b"room again")])
    await documents.close()

    documents = open_documents(path)
    assert await keys(documents, "left") == [*acknowledged, "z"]
    assert await keys(documents, "right") == acknowledged
    await documents.close()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
