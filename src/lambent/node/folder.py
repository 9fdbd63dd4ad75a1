"""The data folder: one node at a time, and what a killed node left in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lambent.model.errors import OperatorError


class DataFolder:
    """Holds the folder's lock until `close`."""

    def __init__(self, path: Path) -> None:
        """Raises OperatorError when the folder cannot be used or another node uses it."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise OperatorError(
                f"The data folder {path} cannot be used: {exc.strerror}; choose another with --data-dir."
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(self._lock)
            raise OperatorError(
                f"The data folder {path} is in use by another node; stop it or choose another with --data-dir."
            ) from exc

    @classmethod
    def inherited(cls, path: Path, lock: int) -> DataFolder:
        """The folder of the parent process, whose lock is then held until both have ended."""
        folder = cls.__new__(cls)
        folder.path, folder._lock = path, lock
        return folder

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        return self._lock

    def folder(self, name: str) -> Path:
        """A folder within, made if need be, closed to other users."""
        path = self.path / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @property
    def node_id(self) -> str:
        """Names what this folder's node owns outside of it (cgroups), over restarts."""
        path = self.path / "node-id"
        if not path.exists():
            path.write_text(os.urandom(6).hex())
        return path.read_text().strip()

    def close(self) -> None:
        os.close(self._lock)
