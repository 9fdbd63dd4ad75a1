"""A place for one SnapStart environment, made by trusted code before the template's fork moves in.

A template has given up every privilege, yet each fork of it needs namespaces of its own. The kernel's rule that makes
it possible: a process has all capabilities over a user namespace that is a child of its own and whose owner is its
uid. So the slot is such a user namespace, and it owns the others. Its mounts are a copy of ones made outside it, which
the kernel locks: whoever moves in cannot take off, move or make writable any of them.

    zygote -> maker (this file: mounts, user namespace, network) -> init of the slot's pid namespace (stays)

Standard library only, Python 3.9.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import List, NamedTuple, NoReturn, Tuple

from lambent.dataplane.jail import limits, mounts, namespaces, netlink, netns, privileges
from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.wire.spec import EnvironmentSpec

NAMESPACES = ("user", "cgroup", "ipc", "uts", "net", "pid", "mnt")
"""In the order in which they are joined: the first gives the right to join the others, the last hides our files."""
_FLAGS = (
    sc.CLONE_NEWUSER,
    sc.CLONE_NEWCGROUP,
    sc.CLONE_NEWIPC,
    sc.CLONE_NEWUTS,
    sc.CLONE_NEWNET,
    sc.CLONE_NEWPID,
    sc.CLONE_NEWNS,
)
_STATUS = struct.Struct("!i")
_PID = struct.Struct("!i")


class SlotMeans(NamedTuple):
    spec: EnvironmentSpec
    network: str
    """`outgoing` or `none`."""
    cgroup_fds: Tuple[int, ...]
    scratch_fd: int
    exit_fd: int
    """Where the init reports how the runtime ended."""


class Slot(NamedTuple):
    init_pid: int
    namespace_fds: List[int]
    joined_fd: int
    """Where the runtime tells its pid, once it is in the slot."""
    sockets: List[socket.socket]


def make(means: SlotMeans) -> Slot:
    """Blocks some milliseconds. The caller is a process of its own, in the template's pid namespace, and root.

    Raises OSError.
    """
    spec = means.spec
    # The template has our uid soon, and owns our user namespace: undumpable, so that it cannot reach into our memory.
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    for fd in means.cgroup_fds:
        os.write(fd, b"0")
    ipv6 = netlink.has_ipv6_default_route()
    # While there are rights over the mounts; what is copied into the slot's own namespace afterwards is locked.
    sc.unshare(sc.CLONE_NEWNS)
    mounts.mount_own(spec, means.scratch_fd)
    privileges.own_user_namespace(spec.uid)
    sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP | sc.CLONE_NEWNET)
    sc.sethostname(namespaces.HOST_NAME)
    # Held open: the slot's own /proc, which covers this one, does not show us.
    folder = os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own = {name: os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder) for name in NAMESPACES if name != "pid"}
    sc.unshare(sc.CLONE_NEWPID)
    joined_read, joined_write = os.pipe2(os.O_CLOEXEC)
    mounted_read, mounted_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _be_init(means.exit_fd, joined_read, mounted_write)
    os.close(joined_read)
    os.close(mounted_write)
    # After the fork: what this writes to memory is not the init's, which stays as small as it is now.
    sockets = netns.furnish(means.network, ipv6=ipv6)
    reason = os.read(mounted_read, 4096)
    if reason != b"+":
        raise OSError("init of the slot: " + (reason.decode("utf-8", "replace") or "ended"))
    own["pid"] = os.open("pid_for_children", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    return Slot(pid, [own[name] for name in NAMESPACES], joined_write, sockets)


def join(namespace_fds: List[int]) -> None:
    """Called by user code's process: afterwards its next child is in all of the slot. Raises OSError."""
    for fd, flag in zip(namespace_fds, _FLAGS):
        sc.setns(fd, flag)


def tell_joined(fd: int) -> None:
    os.write(fd, _PID.pack(os.getpid()))


def _be_init(exit_fd: int, joined_fd: int, mounted_fd: int) -> NoReturn:
    """Reap what the slot leaves, and report the end of the runtime. Undumpable: its environment has the same uid."""
    try:
        try:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
            os.setsid()
            mounts.mount_proc()
            limits.set_small_limits()
            privileges.drop_bounding_set()
            privileges.drop_capabilities()
            privileges.forbid_new_privileges()
        except OSError as exc:
            os.write(mounted_fd, str(exc).encode()[:4096])
            os._exit(1)
        os.dup2(exit_fd, 0)
        os.dup2(joined_fd, 1)
        os.dup2(mounted_fd, 2)
        sc.close_from(3)
        os.write(2, b"+")
        os.close(2)
        told = os.read(1, _PID.size)
        if len(told) == _PID.size:
            _reap_until(_PID.unpack(told)[0])
    finally:
        os._exit(0)


def _reap_until(runtime: int) -> None:
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            return
        if ended == runtime:
            os.write(0, _STATUS.pack(status))
            return
