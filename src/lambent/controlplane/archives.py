"""One zip of code: what it may hold, and how it becomes a tree. No asyncio; runs in a thread.

Order: everything that can be known from the names is checked before the first byte is written; files are
created with O_EXCL while nothing in the tree is a link; links come last, so that no write can pass through one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lambent.controlplane.refusals import invalid
from lambent.model import limits
from lambent.model.errors import CallerError

MAX_ENTRIES = 100_000
"""Files, links and folders, folders that are only implied by names included."""
MAX_DEPTH = 200
"""Folders within folders: what walks a tree of code does so recursively."""
MAX_NAME_BYTES = 2_048
"""Well below the kernel's limit for a path, wherever the tree lies."""
MAX_LINK_BYTES = 4_096
_MAX_HOPS = 40
_MAX_STEPS = 1_000_000
_CHUNK_BYTES = 1 << 20
_CENTRAL_ENTRY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,
)

Parts = tuple[str, ...]


@dataclasses.dataclass(slots=True)
class Plan:
    """What a zip will become: folders, files and links by their path in the tree."""

    folders: set[Parts]
    files: dict[Parts, zipfile.ZipInfo]
    links: dict[Parts, str]


def not_a_package() -> CallerError:
    """The contract's one answer for whatever is wrong with a zip."""
    return invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")


def too_big() -> CallerError:
    return invalid(f"Unzipped size must be smaller than {limits.UNZIPPED_CODE_BYTES} bytes")


def unpack(data: bytes, into: Path) -> int:
    """Unpack into an empty folder and return the bytes inflated; what was written before an error stays behind.

    Raises CallerError `InvalidParameterValueException` for whatever is wrong with the zip.
    """
    with _refusing(), _open(data) as archive:
        plan = _plan(archive)
        _make_folders(into, plan)
        size = _write_files(archive, plan, into)
        _make_links(into, plan)
    return size


def unzipped_bytes(data: bytes | Path) -> int:
    """What a zip that was accepted before holds, from its directory alone."""
    with zipfile.ZipFile(data if isinstance(data, Path) else io.BytesIO(data)) as archive:
        return sum(info.file_size for info in archive.infolist())


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
        # Two names that this file system takes for one.
        raise not_a_package() from exc
    except OSError as exc:
        if exc.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise not_a_package() from exc
        raise
    except _BROKEN as exc:
        raise not_a_package() from exc


def _open(data: bytes) -> zipfile.ZipFile:
    # Before parsing: every entry of the directory costs memory many times its size.
    if data.count(_CENTRAL_ENTRY) > MAX_ENTRIES:
        raise not_a_package()
    return zipfile.ZipFile(io.BytesIO(data))


def _plan(archive: zipfile.ZipFile) -> Plan:
    infos = archive.infolist()
    if not infos:
        raise invalid("Uploaded file must be a non-empty zip")
    plan = Plan(folders=set(), files={}, links={})
    if sum(info.file_size for info in infos) > limits.UNZIPPED_CODE_BYTES:
        raise too_big()
    for info in infos:
        _place(archive, info, plan)
    for path in list(plan.files) + list(plan.links):
        _add_parents(path, plan)
    for path in plan.folders:
        if path in plan.files or path in plan.links:
            raise not_a_package()
    steps = 0
    for path in plan.links:
        steps += _follow(path, plan.links)
        if steps > _MAX_STEPS:
            raise not_a_package()
    return plan


def _place(archive: zipfile.ZipFile, info: zipfile.ZipInfo, plan: Plan) -> None:
    path = _parse_name(info)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise not_a_package()
    if info.is_dir():
        _add_parents((*path, ""), plan)
        return
    if not path or path in plan.files or path in plan.links:
        raise not_a_package()
    if kind == stat.S_IFLNK:
        plan.links[path] = _read_link(archive, info)
    elif kind in (0, stat.S_IFREG):
        plan.files[path] = info
    else:
        raise not_a_package()


def _parse_name(info: zipfile.ZipInfo) -> Parts:
    name = info.orig_filename
    if "\0" in name or name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        raise not_a_package()
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise not_a_package() from None
    path = tuple(part for part in name.split("/") if part not in ("", "."))
    if size > MAX_NAME_BYTES or len(path) > MAX_DEPTH:
        raise not_a_package()
    return path


def _add_parents(path: Parts, plan: Plan) -> None:
    for depth in range(len(path) - 1, 0, -1):
        if path[:depth] in plan.folders:
            return
        plan.folders.add(path[:depth])
        if len(plan.folders) > MAX_ENTRIES:
            raise not_a_package()


def _read_link(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    if info.file_size > MAX_LINK_BYTES:
        raise not_a_package()
    with archive.open(info) as file:
        target = file.read(MAX_LINK_BYTES + 1).decode()
    if not target or "\0" in target or target.startswith("/"):
        raise not_a_package()
    return target


def _follow(link: Parts, links: dict[Parts, str]) -> int:
    """Walk a link as the kernel would, through other links, and return the steps taken.

    Refuses one that climbs out of the tree or goes round.
    """
    here = list(link[:-1])
    left = links[link].split("/")[::-1]
    hops = steps = 0
    while left:
        steps += 1
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise not_a_package()
            here.pop()
            continue
        target = links.get((*here, part))
        if target is None:
            here.append(part)
            continue
        hops += 1
        if hops > _MAX_HOPS:
            raise not_a_package()
        left.extend(target.split("/")[::-1])
    return steps


def _make_folders(into: Path, plan: Plan) -> None:
    for path in sorted(plan.folders):
        folder = into.joinpath(*path)
        folder.mkdir()
        folder.chmod(0o755)


def _write_files(archive: zipfile.ZipFile, plan: Plan, into: Path) -> int:
    total = 0
    for path, info in plan.files.items():
        mode = 0o755 if (info.external_attr >> 16) & 0o111 else 0o644
        target = into.joinpath(*path)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as file, archive.open(info) as source:
            # What the directory says of a size is a claim: only inflated bytes count.
            total += _copy(source, file, limits.UNZIPPED_CODE_BYTES - total)
            os.fchmod(file.fileno(), mode)
        # Compiled files shipped beside their sources are only used when the times agree.
        _set_time(target, info)
    return total


def _copy(source: IO[bytes], target: IO[bytes], room: int) -> int:
    copied = 0
    while chunk := source.read(_CHUNK_BYTES):
        copied += len(chunk)
        if copied > room:
            raise too_big()
        target.write(chunk)
    return copied


def _set_time(target: Path, info: zipfile.ZipInfo) -> None:
    with contextlib.suppress(ValueError, OverflowError):
        seconds = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(target, (seconds, seconds), follow_symlinks=False)


def _make_links(into: Path, plan: Plan) -> None:
    for path, target in plan.links.items():
        into.joinpath(*path).symlink_to(target)


def merge(trees: list[Path], into: Path) -> None:
    """Lay trees over one another into an empty folder, later ones winning; files are hard links where possible."""
    for tree in trees:
        _overlay(tree, into)


def _overlay(tree: Path, into: Path) -> None:
    for entry in sorted(os.scandir(tree), key=lambda entry: entry.name):
        target = into / entry.name
        if entry.is_dir(follow_symlinks=False):
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(exist_ok=True)
            target.chmod(0o755)
            _overlay(Path(entry.path), target)
            continue
        _clear(target)
        _link(Path(entry.path), target)


def _clear(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
