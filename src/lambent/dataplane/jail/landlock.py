"""Landlock: a second wall around the file system, should a mount ever show more than it ought to.

Linux 5.13; scopes for abstract sockets and signals from ABI 6. A kernel without it is no failure: the zygote finds
out once, `lambent doctor` says so. With it, every failing call stops the child.
"""

from __future__ import annotations

import ctypes
import os
from typing import Tuple

from lambent.dataplane.jail import syscalls as sc

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_READ = EXECUTE | READ_FILE | READ_DIR
_IOCTL_DEV = 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_SCOPES = 0b11
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def find_abi() -> int:
    """The kernel's Landlock ABI; 0 when it has none."""
    try:
        return sc.call("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_VERSION))
    except OSError:
        return 0


def _rights(abi: int) -> Tuple[int, int]:
    handled = _RIGHTS_BY_ABI.get(abi, (1 << 16) - 1)
    return handled, handled & ~_IOCTL_DEV


def restrict(abi: int) -> None:
    """Reading and running goes on everywhere in the small root; writing is for /tmp and devices alone."""
    handled, everything = _rights(abi)
    ruleset = _Ruleset(handled, 0, _SCOPES if abi >= 6 else 0)
    size = ctypes.sizeof(ruleset) if abi >= 6 else 16 if abi >= 4 else 8
    fd = sc.call("landlock_create_ruleset", ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint(0))
    try:
        _allow(fd, "/", _READ)
        _allow(fd, "/dev", READ_FILE | READ_DIR | WRITE_FILE)
        # A process writes its own /proc/self/{comm,oom_score_adj,...}; hidepid keeps the rest away.
        _allow(fd, "/proc", READ_FILE | READ_DIR | WRITE_FILE)
        _allow(fd, "/tmp", everything)
        sc.call("landlock_restrict_self", ctypes.c_int(fd), ctypes.c_uint(0))
    finally:
        os.close(fd)


def _allow(ruleset_fd: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = _PathBeneath(rights, parent)
        sc.call(
            "landlock_add_rule",
            ctypes.c_int(ruleset_fd),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(beneath),
            ctypes.c_uint(0),
        )
    finally:
        os.close(parent)
