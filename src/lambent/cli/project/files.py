"""The files that a package is made of."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from lambent.cli.failures import USAGE, Failure
from lambent.cli.project.ignores import FILE_NAME, Ignores


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    name: str
    """In the package, with slashes."""
    path: Path
    """On disk."""
    link: str = ""
    """Where it points, for a symbolic link that stays inside the package."""

    @property
    def is_executable(self) -> bool:
        return os.access(self.path, os.X_OK)


def collect_files(folder: Path) -> list[PackageFile]:
    """Every file that belongs into the package, by name. Raises Failure."""
    ignores = Ignores(_read_ignores(folder / FILE_NAME))
    root = folder.resolve()
    return sorted(_walk(folder, "", ignores, root, frozenset({root})), key=lambda file: file.name)


def _read_ignores(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise Failure(f"{path} cannot be read: {exc}.") from exc


def _walk(folder: Path, prefix: str, ignores: Ignores, root: Path, entered: frozenset[Path]) -> Iterator[PackageFile]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise Failure(f"{folder} cannot be read: {exc.strerror}.") from exc
    for entry in entries:
        name, path = prefix + entry.name, Path(entry.path)
        if ignores.leave_out(name, is_folder=entry.is_dir()):
            continue
        if entry.is_symlink():
            yield from _follow(path, name, ignores, root, entered)
        elif entry.is_dir():
            # Whatever it is called, a virtual environment holds this machine's paths.
            if not (path / "pyvenv.cfg").exists():
                yield from _walk(path, name + "/", ignores, root, entered)
        elif entry.is_file():
            yield PackageFile(name=name, path=path)


def _follow(path: Path, name: str, ignores: Ignores, root: Path, entered: frozenset[Path]) -> Iterator[PackageFile]:
    """A link that stays inside stays a link; what one leads to outside is taken in at its place."""
    target = path.resolve()
    if not target.exists():
        raise Failure(f"{path} is a link to nothing; remove it, or name it in {FILE_NAME}.", code=USAGE)
    link = path.readlink()
    if target.is_relative_to(root) and not link.is_absolute():
        yield PackageFile(name=name, path=path, link=str(link))
    elif target.is_file():
        yield PackageFile(name=name, path=target)
    elif target in entered or root.is_relative_to(target):
        raise Failure(f"{path} leads back to where it is; remove it, or name it in {FILE_NAME}.", code=USAGE)
    elif target.is_dir():
        yield from _walk(target, name + "/", ignores, root, entered | {target})
