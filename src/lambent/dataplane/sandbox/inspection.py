"""What an initialised process holds that its forks cannot each have for themselves, seen from outside.

Read from /proc by the node, since the process itself may be hostile and is not asked.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

_OWN_FDS = frozenset((0, 1, 2, 3, 5))
"""Standard streams, the channel to the node and the commands."""
_MOST_LOOKED_AT = 64
"""Processes, and threads of each: whoever starts more has been seen to work."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    obstacle: str
    """Why forks of the process would share more than memory; empty when they would not."""
    sockets: int
    """Sockets that init left open; each fork gets closed ones in their place."""


class Gone(Exception):
    """The process ended while it was looked at."""


def child_of(pid: int) -> int:
    """The only child of a process. Raises Gone."""
    children = _children(pid)
    if not children:
        raise Gone
    return children[0]


def inspect(pid: int, *, orphans_of: int) -> Findings:
    """`orphans_of`: the init of its pid namespace, which inherits what was left behind. Blocks. Raises Gone."""
    try:
        sockets, open_files = _look_at_descriptors(pid)
        obstacle = (
            _count(len(_list(f"/proc/{pid}/task")) - 1, "thread", "threads")
            or _count(len(_children(pid)) + len(_children(orphans_of)), "child process", "child processes")
            or open_files
            or _find_shared_memory(pid)
            or _count(
                len([name for name in _list(f"/proc/{pid}/root/tmp") if name != "lost+found"]),
                "file in /tmp",
                "files in /tmp",
            )
        )
    except OSError as exc:
        raise Gone from exc
    return Findings(obstacle=f"init left {obstacle}" if obstacle else "", sockets=sockets)


def is_confined(pid: int) -> bool:
    """Whether a fork has given up what it had on its way, and wears both filters. Raises Gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as exc:
        raise Gone from exc
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    powers = [int(fields[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    return not any(powers) and fields["NoNewPrivs"] == "1" and int(fields.get("Seccomp_filters", "2")) >= 2


def busy_ms(pid: int) -> float:
    """How long a process and all that it has started have run or waited for a processor; sleep does not count. Of what
    is gone nothing is counted."""
    total_ns, waiting = 0, [pid]
    for each in waiting:
        try:
            for thread in _list(f"/proc/{each}/task")[:_MOST_LOOKED_AT]:
                running, queued, _ = Path(f"/proc/{each}/task/{thread}/schedstat").read_text().split()
                total_ns += int(running) + int(queued)
            waiting += _children(each)[: _MOST_LOOKED_AT - len(waiting)]
        except (OSError, Gone):
            continue
    return total_ns / 1e6


def anonymous_mb(pid: int) -> int:
    """Memory of a process that only its end gives back; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError as exc:
        raise Gone from exc


def _list(folder: str) -> list[str]:
    return [entry.name for entry in Path(folder).iterdir()]


def _count(number: int, one: str, many: str) -> str:
    return "" if number <= 0 else f"1 {one}" if number == 1 else f"{number} {many}"


def _look_at_descriptors(pid: int) -> tuple[int, str]:
    """(sockets, what else is shared by forks: pipes, event queues, offsets of files that are written)."""
    sockets = 0
    for name in _list(f"/proc/{pid}/fd"):
        if int(name) in _OWN_FDS:
            continue
        target = str(Path(f"/proc/{pid}/fd/{name}").readlink())
        if target.startswith("socket:"):
            sockets += 1
        elif target.startswith(("pipe:", "anon_inode:")):
            return sockets, f"an open {target.partition('[')[2].rstrip(']') if 'anon' in target else 'pipe'}"
        elif not target.startswith("/dev/") and _is_writable(pid, name):
            return sockets, f"{target} open for writing"
    return sockets, ""


def _is_writable(pid: int, fd: str) -> bool:
    for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return True


def _find_shared_memory(pid: int) -> str:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        permissions = line.split(maxsplit=2)[1]
        if permissions[1] == "w" and permissions[3] == "s":
            return "writable shared memory"
    return ""
