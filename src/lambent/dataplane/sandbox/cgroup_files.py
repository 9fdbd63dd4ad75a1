"""Where control groups are mounted here, and the few file operations that they are made of."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclasses.dataclass(frozen=True, slots=True)
class Mounts:
    v1: dict[str, Path]
    """Mount point of each version 1 controller."""
    v2: Path | None


class Files:
    """The kernel's side; a test puts a directory tree in its place."""

    def make(self, group: str) -> None:
        os.mkdir(group, 0o755)  # noqa: PTH102 - on the path of a cold start

    def remove(self, group: str) -> None:
        os.rmdir(group)  # noqa: PTH106

    def write(self, path: str, value: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def kill(self, pid: int, number: int) -> None:
        os.kill(pid, number)


def read_mounts(path: Path = MOUNTS) -> Mounts:
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in path.read_text().splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        place, kind, options = Path(fields[1].replace("\\040", " ")), fields[2], fields[3].split(",")
        if kind == "cgroup2" and v2 is None:
            v2 = place
        if kind == "cgroup":
            v1.update({controller: place for controller in ("memory", "cpu", "pids") if controller in options})
    return Mounts(v1, v2)


def read_own_group(path: Path = MEMBERSHIP) -> str:
    """The version 2 group of this process, as a path below the mount point without a leading slash."""
    for line in path.read_text().splitlines():
        if line.startswith("0::"):
            return line[3:].strip("/")
    return ""


def read_words(path: Path) -> Sequence[str]:
    """The words of a control file, none if it is not there."""
    try:
        return path.read_text().split()
    except OSError:
        return ()


def read_pids(group: str) -> list[int]:
    """Processes of a group that this process can see; none when the group is gone."""
    return [int(word) for word in read_words(Path(group) / "cgroup.procs") if word.isdigit() and word != "0"]


def read_again(fd: int) -> str:
    """A control file from its start; empty for a descriptor that is not open."""
    if fd < 0:
        return ""
    with contextlib.suppress(OSError):
        return os.pread(fd, 4_096, 0).decode().strip()
    return ""
