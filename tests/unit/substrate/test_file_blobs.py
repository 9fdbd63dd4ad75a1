from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lambent.model.errors import PlatformError
from lambent.substrate.blobs import FileBlobs


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_blobs_lie_under_the_first_two_digits_of_their_digest(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    digest = await blobs.put(b"code")
    assert blobs.path(digest) == tmp_path / "blobs" / digest[:2] / digest


async def test_only_the_owner_can_read_blobs(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    blobs = FileBlobs(root)
    path = blobs.path(await blobs.put(b"code"))
    assert path is not None
    assert (mode(path), mode(path.parent), mode(root), mode(root / "incoming")) == (0o600, 0o700, 0o700, 0o700)


async def test_what_a_killed_node_left_half_written_is_removed_at_the_next_start(tmp_path: Path) -> None:
    digest = await FileBlobs(tmp_path).put(b"code")
    (tmp_path / "incoming" / "tmpabc").write_bytes(b"half")
    blobs = FileBlobs(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert await blobs.get(digest) == b"code"


async def test_a_blob_whose_bytes_changed_on_disk_fails_its_verification(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = await blobs.put(b"code")
    assert await blobs.verify(digest)
    path = blobs.path(digest)
    assert path is not None
    path.write_bytes(b"c0de")
    assert not await blobs.verify(digest)
    with pytest.raises(KeyError):
        await blobs.verify("0" * 64)


async def test_a_blob_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = await blobs.put(b"code")
    path = blobs.path(digest)
    assert path is not None
    path.write_bytes(b"co")
    assert await blobs.put(b"code") == digest
    assert await blobs.verify(digest)


async def test_a_disk_that_refuses_is_the_platforms_error_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = await blobs.put(b"code")
    await blobs.delete(digest)
    (tmp_path / digest[:2]).rmdir()
    (tmp_path / digest[:2]).write_bytes(b"a file where the folder should be")
    with pytest.raises(PlatformError, match="could not be stored"):
        await blobs.put(b"code")
    assert list((tmp_path / "incoming").iterdir()) == []
