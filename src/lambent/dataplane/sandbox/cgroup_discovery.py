"""Which control groups this machine has and this user may use."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from pathlib import Path

from lambent.dataplane.sandbox import cgroup_files
from lambent.dataplane.sandbox.cgroup_files import Files, read_pids, read_words
from lambent.dataplane.sandbox.cgroup_versions import Flavour, VersionOne, VersionTwo, controllers_to_enable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked for; `hint` says how to mend what is missing."""

    name: str
    usable: bool
    detail: str
    hint: str = ""


def find_v1(places: dict[str, Path], files: Files | None) -> tuple[Flavour | None, Finding]:
    name = "cgroup v1"
    missing = [controller for controller in ("memory", "pids") if controller not in places]
    if missing:
        return None, Finding(name=name, usable=False, detail=f"not mounted: {', '.join(missing)}")
    denied = [str(place) for place in places.values() if not os.access(place, os.W_OK)]
    if denied:
        hint = "run the node as root, or let systemd delegate cgroup v2 to this user"
        return None, Finding(name=name, usable=False, detail=f"no right to write {', '.join(denied)}", hint=hint)
    cpu = places.get("cpu")
    swap = (places["memory"] / "memory.memsw.limit_in_bytes").exists()
    notes = [note for note, wanted in (("no cpu controller", cpu is None), ("no swap accounting", not swap)) if wanted]
    detail = ", ".join(("memory and pids", *notes)) if notes else "memory, pids and cpu"
    flavour = VersionOne(str(places["memory"]), str(places["pids"]), str(cpu) if cpu else None, swap, files or Files())
    return flavour, Finding(name=name, usable=True, detail=detail)


def find_v2(mount: Path | None, membership: Path, files: Files | None) -> tuple[Flavour | None, Finding]:
    """With `files` None nothing is changed: whether controllers can be enabled is then taken from permissions."""
    name = "cgroup v2"
    if mount is None:
        return None, Finding(name=name, usable=False, detail="not mounted")
    offered = read_words(mount / "cgroup.controllers")
    missing = [controller for controller in ("memory", "pids") if controller not in offered]
    if missing:
        detail = f"{mount} has no {' and no '.join(missing)} controller"
        return None, Finding(name=name, usable=False, detail=detail, hint="they are in use by cgroup v1")
    own = mount / cgroup_files.read_own_group(membership)
    if not own.exists():
        # A container that shares its host's view of groups: what is mounted is all there is.
        own = mount
    base = _find_base(mount, own)
    if base is None:
        hint = "start the node with `systemd-run --user --scope -p Delegate=yes lambent up`, or as root"
        return None, Finding(name=name, usable=False, detail=f"{own} is not delegated to this user", hint=hint)
    delegated = read_words(base / "cgroup.controllers")
    if not {"memory", "pids"} <= set(delegated):
        hint = "set Delegate=memory pids cpu for the unit that the node runs in"
        return None, Finding(name=name, usable=False, detail=f"{base} was not given memory and pids", hint=hint)
    has_cpu = "cpu" in delegated
    if files is not None:
        problem = _enable_controllers(base, own, has_cpu, files)
        if problem:
            return None, Finding(name=name, usable=False, detail=problem)
    detail = f"{'memory, pids and cpu' if has_cpu else 'memory and pids, no cpu controller'} below {base}"
    return VersionTwo(str(base), has_cpu, files or Files()), Finding(name=name, usable=True, detail=detail)


def _find_base(mount: Path, own: Path) -> Path | None:
    """The outermost group around this process in which this user may make groups and move processes.

    A process may only be moved within a subtree that its mover may write as a whole, so for an ordinary user the
    search goes outward from its own group. For root that ends at the mount point, whose children systemd leaves alone.
    """
    base = None
    for group in (own, *own.parents):
        if not all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs")):
            break
        base = group
        if group == mount:
            break
    return base


def _enable_controllers(base: Path, own: Path, has_cpu: bool, files: Files) -> str:
    """Have `base` give its controllers to its children. Returns what went wrong, empty if nothing did."""
    enabled = read_words(base / "cgroup.subtree_control")
    if {"memory", "pids"} <= set(enabled) and ("cpu" in enabled or not has_cpu):
        return ""
    control = f"{base}/cgroup.subtree_control"
    try:
        files.write(control, controllers_to_enable(has_cpu))
    except OSError as exc:
        if exc.errno != errno.EBUSY or base != own:
            return f"{control}: {exc.strerror}"
    else:
        return ""
    # A group with processes of its own cannot have controlled children, so its processes get a child for themselves.
    try:
        leaf = f"{base}/lambent-node"
        with contextlib.suppress(FileExistsError):
            files.make(leaf)
        for pid in read_pids(str(base)):
            with contextlib.suppress(ProcessLookupError):
                files.write(f"{leaf}/cgroup.procs", str(pid))
        files.write(control, controllers_to_enable(has_cpu))
    except OSError as exc:
        return f"{control}: {exc.strerror}"
    return ""
