"""Who the environment is, and that it can never be more: uid, user namespace, capabilities, no_new_privs."""

from __future__ import annotations

import ctypes
import os
import struct

from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.wire.spec import EnvironmentSpec

INSIDE_UID, INSIDE_GID = 993, 990
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 40


def drop_bounding_set() -> None:
    """Must run while CAP_SETPCAP is still there, so before the uid changes."""
    for capability in range(64):
        try:
            sc.prctl(sc.PR_CAPBSET_DROP, capability)
        except OSError:
            if capability <= _LAST_CAPABILITY:
                raise
            return


def change_user(uid: int) -> None:
    """Groups before gid before uid: each step needs the privilege that the next one gives up."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def map_user() -> None:
    """A user namespace of its own, in which the function has an ordinary uid and no power over its mounts."""
    uid, gid = os.getuid(), os.getgid()
    sc.unshare(sc.CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", "{} {} 1".format(INSIDE_UID, uid))
    _write("/proc/self/gid_map", "{} {} 1".format(INSIDE_GID, gid))


def own_user_namespace(uid: int) -> None:
    """Into a new user namespace that `uid` owns and in which it keeps its number; for root, who gives up all else.

    The maps are written as `uid` but with root's right to open them, for the process is not dumpable all along.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(0, uid, 0)
    sc.setfsuid(0)
    sc.unshare(sc.CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", "{} {} 1".format(uid, uid))
    _write("/proc/self/gid_map", "{} {} 1".format(uid, uid))
    os.setresuid(uid, uid, uid)


def become(spec: EnvironmentSpec) -> None:
    if spec.confine == "user":
        map_user()
    drop_bounding_set()
    if spec.confine == "root":
        change_user(spec.uid)


def drop_capabilities() -> None:
    sc.prctl_ambient_clear()
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    sc.call("capset", header, nothing)


def forbid_new_privileges() -> None:
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)


def enter_user_namespace() -> None:
    """The zygote of an ordinary user: root inside a namespace, nothing more outside."""
    uid, gid = os.getuid(), os.getgid()
    sc.unshare(sc.CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", "0 {} 1".format(uid))
    _write("/proc/self/gid_map", "0 {} 1".format(gid))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
