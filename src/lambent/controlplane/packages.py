"""Code packages: checked as if an enemy had made them, unpacked once per content, shared read-only by all.

Below one folder: `trees/DIGEST` is the unpacked tree of a zip, `trees/layers-HASH` several layers merged in order.
A tree is made under another name and renamed, so that whoever sees it sees all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.substrate.ports import Blobs

MAX_ENTRIES = 100_000
MAX_NAME_BYTES = 255
_CHUNK_BYTES = 1 << 20
_MAKING = ".making-"


class BadPackage(CallerError):
    """A zip that is none, or that reaches out of its tree."""

    def __init__(self, detail: str = "") -> None:
        message = "Could not unzip uploaded file. Please check your file, then try to upload again."
        super().__init__("InvalidParameterValueException", f"{message} ({detail})" if detail else message)


class PackageTooLarge(CallerError):
    def __init__(self) -> None:
        super().__init__(
            "InvalidParameterValueException",
            f"Unzipped size must be smaller than {limits.UNZIPPED_CODE_BYTES} bytes",
        )


class CodeStore:
    """The blobs of all packages and the trees made of them."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self.trees = root / "trees"
        self._blobs = blobs
        self._making: dict[str, asyncio.Task[int]] = {}
        # Closed to others: what is below is open, because functions read it under foreign uids.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.trees.mkdir(mode=0o755, exist_ok=True)

    async def add(self, data: bytes) -> str:
        """Check, keep and unpack a zip; returns its digest. Raises CallerError and changes nothing."""
        if len(data) > limits.ZIPPED_CODE_BYTES:
            raise CallerError(
                "RequestEntityTooLargeException",
                f"Zipped size must be smaller than {limits.ZIPPED_CODE_BYTES} bytes",
                status=413,
            )
        digest = hashlib.sha256(data).hexdigest()
        # Unpacked first: a zip that does not unpack is never kept.
        await self._unpack_once(digest, data)
        await self._blobs.put(data)
        return digest

    async def read(self, digest: str) -> bytes:
        """The zip as it was uploaded. Raises KeyError."""
        return await self._blobs.get(digest)

    async def merge_layers(self, digests: Sequence[str]) -> str:
        """Make the tree that is mounted at /opt; returns its name, empty for no layers."""
        name = layer_tree_name(digests)
        if len(digests) > 1 and not (self.trees / name).exists():
            await asyncio.to_thread(self._merge, name, digests)
        return name

    async def unpacked_bytes(self, digests: Iterable[str]) -> int:
        return await asyncio.to_thread(lambda: sum(_size_of(self.trees / digest) for digest in digests))

    async def recover(self, referenced: set[str], layer_sets: Iterable[Sequence[str]]) -> None:
        """At start: remove what a killed node left and what no version uses, make again what is missing."""
        merged = [digests for digests in layer_sets if len(digests) > 1]
        wanted = referenced | {layer_tree_name(digests) for digests in merged}
        await asyncio.to_thread(self._sweep, wanted)
        for digest in sorted(referenced):
            if not (self.trees / digest).exists():
                await self._unpack_once(digest, await self._blobs.get(digest))
        for digests in merged:
            await self.merge_layers(digests)

    async def _unpack_once(self, digest: str, data: bytes) -> None:
        if (self.trees / digest).exists():
            return
        task = self._making.get(digest)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._unpack, digest, data), name=f"unpack {digest}")
            self._making[digest] = task
            task.add_done_callback(lambda _: self._making.pop(digest, None))
        await asyncio.shield(task)

    def _unpack(self, digest: str, data: bytes) -> int:
        making = self._new_folder(digest)
        try:
            size = unpack(data, making)
            _publish(making, self.trees / digest)
            return size
        except BaseException:
            remove_tree(making)
            raise

    def _merge(self, name: str, digests: Sequence[str]) -> None:
        making = self._new_folder(name)
        try:
            for digest in digests:
                _overlay(self.trees / digest, making)
            _publish(making, self.trees / name)
        except BaseException:
            remove_tree(making)
            raise

    def _new_folder(self, name: str) -> Path:
        folder = self.trees / f"{_MAKING}{name[:16]}-{os.urandom(6).hex()}"
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        return folder

    def _sweep(self, wanted: set[str]) -> None:
        for entry in self.trees.iterdir():
            if entry.name not in wanted:
                remove_tree(entry)


def layer_tree_name(digests: Sequence[str]) -> str:
    """One layer is its own tree; several are merged under a name made of theirs, in order."""
    if len(digests) < 2:
        return digests[0] if digests else ""
    return "layers-" + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def unpack(data: bytes, folder: Path) -> int:
    """Unpack a zip into an empty folder; returns the bytes written. Raises CallerError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            budget = limits.UNZIPPED_CODE_BYTES
            for entry in entries:
                budget -= _unpack_entry(archive, entry, folder, budget)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as exc:
        raise BadPackage from exc
    except UnicodeError as exc:
        raise BadPackage("a file name is not text") from exc
    _sync_tree(folder)
    return limits.UNZIPPED_CODE_BYTES - budget


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if not entries:
        raise CallerError("InvalidParameterValueException", "Uploaded file must be a non-empty zip")
    if len(entries) > MAX_ENTRIES:
        raise BadPackage(f"more than {MAX_ENTRIES} entries")
    # What the directory claims; what comes out is counted again while it is inflated.
    if sum(entry.file_size for entry in entries) > limits.UNZIPPED_CODE_BYTES:
        raise PackageTooLarge
    seen: set[str] = set()
    for entry in entries:
        path = _safe_path(entry.filename)
        if str(path) in seen and not entry.is_dir():
            raise BadPackage(f"two entries are named {entry.filename!r}")
        seen.add(str(path))
        if entry.flag_bits & 0x1:
            raise BadPackage("it is encrypted")


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if not name or path.is_absolute() or drive or "\\" in name or "\0" in name or ".." in path.parts:
        raise BadPackage(f"the entry {name!r} reaches out of the package")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
        raise BadPackage("a file name is too long")
    return path


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, budget: int) -> int:
    target = folder / _safe_path(entry.filename)
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if entry.is_dir():
        _make_folder(target, folder)
        return 0
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise BadPackage(f"{entry.filename!r} is neither a file, a folder nor a link")
    _make_folder(target.parent, folder)
    if kind == stat.S_IFLNK:
        return _unpack_link(archive.read(entry), target, folder)
    return _unpack_file(archive, entry, target, budget, executable=bool(mode & 0o111))


def _unpack_file(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, budget: int, *, executable: bool
) -> int:
    written = 0
    # O_EXCL and O_NOFOLLOW: never through a link that an earlier entry made.
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file, archive.open(entry) as source:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > budget:
                raise PackageTooLarge
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
    return written


def _unpack_link(data: bytes, target: Path, folder: Path) -> int:
    destination = data.decode()
    if len(data) > 4096 or PurePosixPath(destination).is_absolute() or "\0" in destination:
        raise BadPackage(f"the link {target.name!r} leads out of the package")
    inside = Path(os.path.normpath(target.parent / destination))
    if inside != folder and folder not in inside.parents:
        raise BadPackage(f"the link {target.name!r} leads out of the package")
    target.symlink_to(destination)
    return 0


def _make_folder(path: Path, root: Path) -> None:
    """Make each missing part; a part that is a link or a file is an attack."""
    at = root
    for part in path.relative_to(root).parts:
        at = at / part
        try:
            at.mkdir(mode=0o755)
            at.chmod(0o755)
        except FileExistsError:
            if at.is_symlink() or not at.is_dir():
                raise BadPackage(f"{part!r} is both a folder and something else") from None


def _overlay(source: Path, target: Path) -> None:
    for entry in os.scandir(source):
        destination = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            if destination.is_symlink() or destination.is_file():
                destination.unlink()
            destination.mkdir(mode=0o755, exist_ok=True)
            destination.chmod(0o755)
            _overlay(Path(entry.path), destination)
            continue
        if destination.is_dir() and not destination.is_symlink():
            remove_tree(destination)
        destination.unlink(missing_ok=True)
        os.link(entry.path, destination, follow_symlinks=False)


def _publish(making: Path, final: Path) -> None:
    try:
        making.rename(final)
    except OSError:
        # Another made the same tree meanwhile; it is the same to the byte.
        if not final.exists():
            raise
        remove_tree(making)


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                _sync(path)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _size_of(tree: Path) -> int:
    total = 0
    for parent, _, files in os.walk(tree):
        total += sum((Path(parent) / name).lstat().st_size for name in files)
    return total


def remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
