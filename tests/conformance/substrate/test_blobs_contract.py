"""What every `Blobs` adapter promises."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lambent.substrate.blobs import FileBlobs
from lambent.substrate.memory import MemoryBlobs
from lambent.substrate.ports import Blobs

ADAPTERS: dict[str, Callable[[Path], Blobs]] = {"memory": lambda folder: MemoryBlobs(), "files": FileBlobs}


@pytest.fixture(params=ADAPTERS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return ADAPTERS[request.param](tmp_path)


@pytest.mark.parametrize("data", [b"", b"code", bytes(range(256)) * 5000])
async def test_bytes_are_found_by_their_digest(blobs: Blobs, data: bytes) -> None:
    digest = await blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await blobs.get(digest) == data


async def test_the_same_bytes_may_be_stored_at_the_same_time(blobs: Blobs) -> None:
    digests = await asyncio.gather(*(blobs.put(b"same" * 1000) for _ in range(20)))
    assert len(set(digests)) == 1
    assert await blobs.get(digests[0]) == b"same" * 1000


async def test_a_deleted_blob_is_gone_and_can_be_stored_again(blobs: Blobs) -> None:
    digest = await blobs.put(b"code")
    await blobs.delete(digest)
    await blobs.delete(digest)
    with pytest.raises(KeyError):
        await blobs.get(digest)
    assert blobs.path(digest) is None
    assert await blobs.put(b"code") == digest
    assert await blobs.get(digest) == b"code"


async def test_a_path_if_there_is_one_holds_the_bytes(blobs: Blobs) -> None:
    path = blobs.path(await blobs.put(b"code"))
    assert path is None or path.read_bytes() == b"code"


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "0" * 63, "G" * 64, "0" * 64, "A" * 64, "0" * 64 + "\n"]
)
async def test_what_is_no_stored_digest_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(KeyError):
        await blobs.get(name)
    await blobs.delete(name)
    assert blobs.path(name) is None
