from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lambent.controlplane.packages import CodeStore, merged_name
from lambent.model.errors import CallerError
from lambent.substrate.blobs import FileBlobs

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Clock

MakeZip = Callable[..., bytes]


async def add(code: CodeStore, data: bytes) -> str:
    async with code.adding(data) as package:
        return package.digest


async def nothing() -> set[str]:
    return set()


async def test_a_package_is_unpacked_once_under_its_hash(code: CodeStore, zip_of: MakeZip) -> None:
    data = zip_of({"app.py": "code"})
    digests = await asyncio.gather(*(add(code, data) for _ in range(8)))
    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    assert (code.tree(digests[0]) / "app.py").read_text() == "code"
    assert [path.name for path in code.trees.iterdir()] == [digests[0]]
    assert await code.read(digests[0]) == data


async def test_a_refused_package_leaves_nothing_behind(code: CodeStore, tmp_path: Path, zip_of: MakeZip) -> None:
    with pytest.raises(CallerError):
        await add(code, zip_of({"app.py": "x", "../evil": "x"}))
    assert not list(code.trees.iterdir())
    assert not list((tmp_path / "code" / "making").iterdir())
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_a_zip_above_the_limit_is_refused_with_413(code: CodeStore) -> None:
    with pytest.raises(CallerError) as caught:
        await add(code, bytes(52_428_801))
    assert (caught.value.code, caught.value.status) == ("RequestEntityTooLargeException", 413)
    assert caught.value.message == "Zipped size must be smaller than 52428800 bytes"


async def test_a_dry_run_keeps_nothing(code: CodeStore, tmp_path: Path, zip_of: MakeZip) -> None:
    package = await code.check(zip_of({"app.py": "code"}))
    assert package.unzipped_bytes == 4
    assert not list(code.trees.iterdir())
    assert not list((tmp_path / "code" / "making").iterdir())


async def test_of_merged_layers_the_later_one_wins(code: CodeStore, zip_of: MakeZip) -> None:
    first = await add(code, zip_of({"python/a.py": "1", "python/b.py": "1", "x": "file", "y/z": "folder"}))
    second = await add(code, zip_of({"python/b.py": "2", "x/inner": "folder", "y": "file"}))
    tree = code.tree(await code.merge_layers([first, second]))
    assert {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()} == {
        "python/a.py": "1",
        "python/b.py": "2",
        "x/inner": "folder",
        "y": "file",
    }
    assert (code.tree(first) / "python/b.py").read_text() == "1"
    assert (code.tree(first) / "y/z").read_text() == "folder"


async def test_the_order_of_layers_makes_another_tree(code: CodeStore, zip_of: MakeZip) -> None:
    first, second = await add(code, zip_of({"a": "1"})), await add(code, zip_of({"a": "2"}))
    forth, back = await code.merge_layers([first, second]), await code.merge_layers([second, first])
    assert ((code.tree(forth) / "a").read_text(), (code.tree(back) / "a").read_text()) == ("2", "1")


def test_one_layer_is_its_own_tree_and_no_layer_has_none() -> None:
    assert merged_name([]) == ""
    assert merged_name(["ab" * 32]) == "ab" * 32


async def test_a_missing_tree_is_made_again_from_its_zip(code: CodeStore, zip_of: MakeZip) -> None:
    digest = await add(code, zip_of({"app.py": "code"}))
    code.tree(digest).rename(code.trees.parent / "lost")
    await code.ensure(digest)
    assert (code.tree(digest) / "app.py").read_text() == "code"


async def test_a_lost_zip_is_told(code: CodeStore) -> None:
    with pytest.raises(KeyError):
        await code.ensure("ab" * 32)


async def test_only_what_nobody_needs_is_collected(code: CodeStore, tmp_path: Path, zip_of: MakeZip) -> None:
    kept, gone = await add(code, zip_of({"a": "kept"})), await add(code, zip_of({"a": "gone"}))

    async def referenced() -> set[str]:
        return {kept}

    assert (await code.collect(referenced)).removed == {gone}
    assert [path.name for path in code.trees.iterdir()] == [kept]
    with pytest.raises(KeyError):
        await code.read(gone)
    assert await code.read(kept)
    assert not list((tmp_path / "code" / "making").iterdir())


async def test_a_package_that_is_being_added_is_not_collected(code: CodeStore, zip_of: MakeZip) -> None:
    async with code.adding(zip_of({"a": "new"})) as package:
        assert not (await code.collect(nothing)).removed
        assert code.tree(package.digest).is_dir()
    assert (await code.collect(nothing)).removed == {package.digest}


async def test_a_package_added_while_references_are_read_is_not_collected(code: CodeStore, zip_of: MakeZip) -> None:
    data = zip_of({"a": "old"})
    digest = await add(code, data)

    async def read_while_it_is_deployed_again() -> set[str]:
        await add(code, data)
        return set()

    assert not (await code.collect(read_while_it_is_deployed_again)).removed
    assert await code.read(digest) == data


async def test_code_waits_for_its_grace_and_for_environments_that_use_it(
    code: CodeStore, clock: Clock, zip_of: MakeZip
) -> None:
    digest = await add(code, zip_of({"a": "1"}))
    assert (await code.collect(nothing, grace_s=60)).waiting == 1
    clock.seconds = 59
    assert not (await code.collect(nothing, grace_s=60)).removed
    clock.seconds = 61
    assert not (await code.collect(nothing, grace_s=60, in_use=lambda name: name == digest)).removed
    assert (await code.collect(nothing, grace_s=60)).removed == {digest}


async def test_half_made_trees_are_removed_at_start_and_half_removed_zips_with_them(
    code: CodeStore, tmp_path: Path, zip_of: MakeZip
) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    needed, half_removed = await blobs.put(zip_of({"a": "1"})), await blobs.put(zip_of({"a": "2"}))
    for digest in (needed, half_removed):
        (tmp_path / "code" / "making" / f"{digest}.{os.urandom(4).hex()}" / "sub").mkdir(parents=True)
    await code.recover({needed})
    assert not list((tmp_path / "code" / "making").iterdir())
    assert await code.read(needed)
    with pytest.raises(KeyError):
        await code.read(half_removed)


async def test_recovery_removes_a_tree_however_deep_it_is(code: CodeStore, tmp_path: Path) -> None:
    folder = tmp_path / "code" / "making" / "left.over"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("a", dir_fd=held)
        below = os.open("a", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=held))
    os.close(held)
    await code.recover(set())
    assert not list((tmp_path / "code" / "making").iterdir())


async def test_trees_can_be_reached_by_their_mounts_only(code: CodeStore, tmp_path: Path) -> None:
    assert (tmp_path / "code").stat().st_mode & 0o777 == 0o700
    assert code.trees.stat().st_mode & 0o777 == 0o755
