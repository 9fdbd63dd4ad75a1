from __future__ import annotations

import io
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lambent.controlplane import archives
from lambent.model import limits
from lambent.model.errors import CallerError

MakeZip = Callable[..., bytes]
LINK = stat.S_IFLNK | 0o777
REFUSED = "Could not unzip uploaded file. Please check your file, then try to upload again."


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    into = tmp_path / "making" / "tree"
    into.mkdir(parents=True)
    return into


def check_refused(data: bytes, tree: Path, message: str = REFUSED) -> None:
    with pytest.raises(CallerError) as caught:
        archives.unpack(data, tree)
    assert caught.value.code == "InvalidParameterValueException"
    assert caught.value.message == message
    # Nothing may be written beside the tree, whatever was refused.
    assert [entry.name for entry in tree.parent.iterdir()] == ["tree"]


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "a/../../evil.py", "/evil.py", "a/../b.py", "..\\evil.py", "..", "a//../../b"],
)
def test_a_zip_that_climbs_out_of_its_tree_is_refused(name: str, tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"app.py": "", name: "evil"}), tree)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc", "a/../../x", "..", "lib/../.."])
def test_a_link_out_of_the_tree_is_refused(target: str, tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"lib/x": "", "link": target}, modes={"link": LINK}), tree)


def test_a_link_that_only_climbs_out_through_another_link_is_refused(tree: Path, zip_of: MakeZip) -> None:
    files = {"deep/a/b/top": "../../../top", "top/x": "", "out": "deep/a/b/top/../../x"}
    check_refused(zip_of(files, modes={"deep/a/b/top": LINK, "out": LINK}), tree)


def test_a_file_below_a_link_is_refused(tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"lib": "other", "lib/app.py": "x"}, modes={"lib": LINK}), tree)


@pytest.mark.parametrize("name", ["/".join(["a"] * 2_000), "/".join(["a" * 250] * 12)])
def test_a_path_that_nothing_could_walk_is_refused_before_anything_is_written(
    name: str, tree: Path, zip_of: MakeZip
) -> None:
    # Left half made, it would end the node at every start: removing a tree is recursive.
    check_refused(zip_of({"app.py": "", name: "x"}), tree)
    assert list(tree.iterdir()) == []


def test_links_that_go_round_are_refused(tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"a": "b", "b": "a"}, modes={"a": LINK, "b": LINK}), tree)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_device_a_pipe_or_a_socket_is_refused(kind: int, tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"odd": ""}, modes={"odd": kind | 0o666}), tree)


def test_one_name_twice_is_refused(tree: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("app.py", "one")
        archive.writestr("app.py", "two")
    check_refused(buffer.getvalue(), tree)


@pytest.mark.parametrize("other", ["./app.py", "app.py/", "app.py/x"])
def test_two_spellings_of_one_path_are_refused(other: str, tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"app.py": "one", other: "two"}), tree)


def test_a_name_with_a_nul_is_refused(tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({"app_py": "x"}).replace(b"app_py", b"app\0py"), tree)


@pytest.mark.parametrize("name", ["x" * 256, "/".join(["d" * 200] * 25)])
def test_a_name_that_no_file_can_have_is_refused(name: str, tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({name: "x"}), tree)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 50, b"PK\x05\x06"])
def test_what_is_no_zip_is_refused(data: bytes, tree: Path) -> None:
    check_refused(data, tree)


def test_a_zip_cut_off_or_damaged_is_refused(tree: Path, zip_of: MakeZip) -> None:
    data = zip_of({"app.py": "print('hello')\n" * 100})
    check_refused(data[: len(data) // 2], tree)
    damaged = bytearray(data)
    damaged[45] ^= 0xFF
    check_refused(bytes(damaged), tree)


def test_an_empty_zip_is_refused_in_the_contracts_words(tree: Path, zip_of: MakeZip) -> None:
    check_refused(zip_of({}), tree, "Uploaded file must be a non-empty zip")


def test_a_bomb_is_refused_by_what_it_declares(tree: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        zeros = bytes(64 << 20)
        for number in range(4):
            archive.writestr(f"zeros{number}", zeros)
    assert len(buffer.getvalue()) < 1 << 20
    check_refused(buffer.getvalue(), tree, "Unzipped size must be smaller than 262144000 bytes")
    assert not list(tree.iterdir())


def test_a_bomb_that_lies_about_its_size_is_refused(tree: Path, zip_of: MakeZip) -> None:
    data = zip_of({"zeros": bytes(10 << 20)})
    lying = data.replace((10 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    check_refused(lying, tree)
    assert sum(path.stat().st_size for path in tree.iterdir()) <= 10


def test_too_many_entries_are_refused_before_they_are_parsed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    check_refused(b"PK\x01\x02" * 11, tree)


def test_too_many_implied_folders_are_refused(tree: Path, zip_of: MakeZip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    check_refused(zip_of({"/".join(str(n) for n in range(12)): "x"}), tree)


def test_a_zip_becomes_a_tree_with_plain_modes_and_its_own_times(tree: Path, zip_of: MakeZip) -> None:
    data = zip_of(
        {"app.py": "code", "bin/run": "#!/bin/sh", "suid": "x", "lib/link": "../bin/run", "empty/": ""},
        modes={"bin/run": stat.S_IFREG | 0o100, "suid": stat.S_IFREG | 0o6644, "lib/link": LINK},
    )
    assert archives.unpack(data, tree) == len("code") + len("#!/bin/sh") + len("x")
    modes = {
        str(path.relative_to(tree)): stat.S_IMODE(path.lstat().st_mode)
        for path in tree.rglob("*")
        if not path.is_symlink()
    }
    assert modes == {
        "app.py": 0o644,
        "bin": 0o755,
        "bin/run": 0o755,
        "suid": 0o644,
        "lib": 0o755,
        "empty": 0o755,
    }
    assert (tree / "lib/link").readlink() == Path("../bin/run")
    assert (tree / "lib/link").read_text() == "#!/bin/sh"
    assert (tree / "app.py").stat().st_mtime == pytest.approx(time.mktime((2026, 1, 2, 3, 4, 6, 0, 0, -1)))


def test_the_biggest_allowed_package_is_the_contracts() -> None:
    assert limits.UNZIPPED_CODE_BYTES == 262_144_000
