"""What one environment adds to the template root: its /proc, its code, its layers, its /tmp."""

from __future__ import annotations

import os

from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.wire.spec import EnvironmentSpec

STORE = "/store"


def mount_own(spec: EnvironmentSpec, scratch_fd: int) -> None:
    """`scratch_fd` is a detached mount for /tmp, -1 for a tmpfs."""
    sc.mount(STORE + "/" + spec.code, "/var/task", None, sc.MS_BIND)
    if spec.layers:
        sc.mount(STORE + "/" + spec.layers, "/opt", None, sc.MS_BIND)
    # Only now: after this no other function's code is reachable from here.
    sc.umount(STORE)
    _mount_tmp(spec, scratch_fd)
    os.chdir("/var/task")


def _mount_tmp(spec: EnvironmentSpec, scratch_fd: int) -> None:
    if scratch_fd >= 0:
        sc.move_mount(scratch_fd, "/tmp")
        return
    size = "size={}m,nr_inodes={},mode=1777".format(spec.ephemeral_mb, spec.ephemeral_mb * 128)
    sc.mount("tmpfs", "/tmp", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, size)


def mount_proc() -> None:
    """Of the pid namespace of its own."""
    flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    # Over the zygote's, which must stay: without one in sight a user namespace may not mount another.
    sc.mount("proc", "/proc", "proc", flags, "subset=pid,hidepid=2")
