"""The kernel calls that the standard library of Python 3.9 does not offer, by name.

Every function raises OSError. ctypes is safe here because zygotes and their children are single-threaded until
user code runs, and each call below takes only integers, bytes and buffers that outlive it.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Optional

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_NUMBERS = {
    # name: (x86_64, aarch64)
    "pivot_root": (155, 41),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "close_range": (436, 436),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
_MACHINE = {"x86_64": 0, "aarch64": 1}.get(platform.machine())

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
_UNSIGNED_LONG = ctypes.c_ulong


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, "{}: {}".format(what, os.strerror(number)))
    return result


def call(name: str, *arguments: object) -> int:
    """A system call by name; arguments as ctypes takes them."""
    if _MACHINE is None:
        raise OSError("no system call numbers are known for " + platform.machine())
    return _check(libc.syscall(ctypes.c_long(_NUMBERS[name][_MACHINE]), *arguments), name)


def unshare(flags: int) -> None:
    _check(libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(libc.setns(fd, kind), "setns")


def _text(value: Optional[str]) -> Optional[bytes]:
    return None if value is None else os.fsencode(value)


def mount(
    source: Optional[str], target: str, filesystem: Optional[str], flags: int = 0, data: Optional[str] = None
) -> None:
    result = libc.mount(_text(source), _text(target), _text(filesystem), _UNSIGNED_LONG(flags), _text(data))
    _check(result, "mount " + target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _check(libc.umount2(_text(target), flags), "umount " + target)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def set_mount_attributes(target: str, attributes: int) -> None:
    """Add attributes to a mount and to every mount below it (Linux 5.12)."""
    attr = _MountAttr(attributes, 0, 0, 0)
    call(
        "mount_setattr",
        ctypes.c_int(AT_FDCWD),
        _text(target),
        ctypes.c_uint(AT_RECURSIVE),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )


def move_mount(mount_fd: int, target: str) -> None:
    """Attach a detached mount (from fsmount or open_tree) at `target`."""
    call("move_mount", mount_fd, b"", AT_FDCWD, _text(target), MOVE_MOUNT_F_EMPTY_PATH)


def pivot_root(new: str, old: str) -> None:
    call("pivot_root", _text(new), _text(old))


def prctl(option: int, value: int = 0) -> None:
    _check(libc.prctl(option, _UNSIGNED_LONG(value), 0, 0, 0), "prctl {}".format(option))


def prctl_ambient_clear() -> None:
    _check(libc.prctl(PR_CAP_AMBIENT, _UNSIGNED_LONG(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0), "prctl ambient")


def setfsuid(uid: int) -> None:
    """Its result is the former one, never an error."""
    libc.setfsuid(uid)


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    call("close_range", ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), 0)


def sethostname(name: str) -> None:
    data = name.encode()
    _check(libc.sethostname(data, len(data)), "sethostname")
