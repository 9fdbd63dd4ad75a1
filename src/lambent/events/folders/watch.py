"""What the kernel tells of a folder and of those below it (inotify(7))."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NamedTuple

from asyncinotify import Event, Inotify, Mask, Watch

from lambent.events.folders.tree import folders_below
from lambent.model.errors import OperatorError

_MASK = (
    Mask.CLOSE_WRITE | Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF
    | Mask.ONLYDIR | Mask.DONT_FOLLOW | Mask.EXCL_UNLINK
)  # fmt: skip
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT


class Notice(NamedTuple):
    """Something happened at a path: of a file, or of a folder and all below it. The empty path is the root."""

    path: str
    moved_in: bool = False
    """Another file may be there now that looks like the former."""


class RootGone(Exception):
    """The root was removed, moved or unmounted: nothing more will be told."""


class TreeWatch:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._inotify = Inotify()
        self._paths: dict[int, tuple[str, Watch]] = {}
        """By the kernel's number of the watch."""

    def open(self) -> None:
        """Before the first look at what is there: what changes in between is told. Blocks. Raises OperatorError."""
        self._watch_below("")

    def close(self) -> None:
        self._inotify.close()

    async def next(self) -> Notice | None:
        """None for what does not matter. Raises RootGone."""
        event = await self._inotify.get()
        if event.mask & Mask.Q_OVERFLOW:
            # Some were not told: everything is to be looked at.
            return Notice("")
        return self._read(event)

    def _read(self, event: Event) -> Notice | None:
        number = event.watch.wd if event.watch is not None else -1
        path, _ = self._paths.get(number, (None, None))
        if path is None:
            return None
        if event.mask & Mask.IGNORED:
            del self._paths[number]
            if not path:
                raise RootGone
            return None
        if event.mask & _GONE:
            if not path:
                raise RootGone
            return None
        name = event.name
        if name is None:
            return None
        below = f"{path}/{name}" if path else str(name)
        if event.mask & Mask.ISDIR:
            return self._read_of_folder(event, below)
        if event.mask & Mask.CREATE:
            # It is told again when whoever writes it closes it.
            return None
        return Notice(below, moved_in=bool(event.mask & Mask.MOVED_TO))

    def _read_of_folder(self, event: Event, path: str) -> Notice:
        if event.mask & (Mask.CREATE | Mask.MOVED_TO):
            # What came into it before it was watched is found by looking.
            self._watch_below(path)
        elif event.mask & Mask.MOVED_FROM:
            self._forget_below(path)
        return Notice(path)

    def _watch_below(self, path: str) -> None:
        for folder in folders_below(self._root, path):
            try:
                watch = self._inotify.add_watch(self._root / folder if folder else self._root, _MASK)
            except OSError as exc:
                if exc.errno == errno.ENOSPC:
                    raise OperatorError(
                        f"{self._root} has more folders than may be watched: "
                        "raise fs.inotify.max_user_watches (sysctl)."
                    ) from exc
                if not folder:
                    raise OperatorError(f"{self._root} cannot be watched: {exc.strerror}.") from exc
                continue
            self._paths[watch.wd] = folder, watch

    def _forget_below(self, path: str) -> None:
        """A folder that was moved away takes its watches along."""
        for number, (known, watch) in list(self._paths.items()):
            if known == path or known.startswith(path + "/"):
                del self._paths[number]
                self._inotify.rm_watch(watch)
