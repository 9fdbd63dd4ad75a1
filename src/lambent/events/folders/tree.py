"""The files of a folder, as they are on disk. Blocks; no link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lambent.events.folders.store import Stamp

UNFINISHED = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp")
"""How names end that programs give to what they have not written to the end."""


def is_wanted(path: str) -> bool:
    """Not hidden, not unfinished, and with a name that can be a key."""
    parts = path.split("/")
    if any(part.startswith(".") for part in parts) or parts[-1].lower().endswith(UNFINISHED):
        return False
    return path.isprintable() and not any("\ud800" <= letter <= "\udfff" for letter in path)


def find(root: Path, path: str) -> dict[str, Stamp]:
    """The file at a path, or all files below the folder at it, by their paths from the root.

    Raises OSError when the root is not there or cannot be read; below it what cannot be read is left out.
    """
    start = root / path if path else root
    try:
        found = start.lstat()
    except FileNotFoundError:
        if not path:
            raise
        return {}
    if stat.S_ISREG(found.st_mode):
        return {path: _stamp(found)} if is_wanted(path) else {}
    if not stat.S_ISDIR(found.st_mode):
        return {}
    return dict(_walk(start, path)) if not path or is_wanted(path) else {}


def folders_below(root: Path, path: str) -> Iterator[str]:
    """Paths of a folder and of those below it that are looked into."""
    start = root / path if path else root
    if path and (not is_wanted(path) or start.is_symlink() or not start.is_dir()):
        return
    yield path
    for folder, names, _ in os.walk(start):
        names[:] = [name for name in names if is_wanted(name)]
        for name in names:
            below = Path(folder, name)
            if not below.is_symlink():
                yield below.relative_to(root).as_posix()


def _walk(start: Path, path: str) -> Iterator[tuple[str, Stamp]]:
    prefix = path + "/" if path else ""
    with os.scandir(start) as entries:
        for entry in entries:
            below = prefix + entry.name
            if not is_wanted(below):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), below)
                elif entry.is_file(follow_symlinks=False):
                    yield below, _stamp(entry.stat(follow_symlinks=False))
            except OSError:
                continue


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_mtime_ns)
