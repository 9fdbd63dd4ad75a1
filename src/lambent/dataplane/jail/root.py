"""The template root: what the file system of every environment of one zygote starts from.

Built once per zygote, in its own mount namespace, of a small tmpfs and read-only binds. Nothing of the host is in
it that is not named here. Each child then adds only what is its own (`mounts.py`).
"""

from __future__ import annotations

import os
from typing import List, NamedTuple

from lambent.dataplane.jail import syscalls as sc

READ_ONLY = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
DEVICES = ("null", "zero", "full", "random", "urandom")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
SYSTEM_TREES = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
# Only what resolving libraries, certificates and time zones needs.
ETC_PATHS = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "ca-certificates",
    "localtime",
    "alternatives",
    "mime.types",
    "services",
    "protocols",
)
ETC_FILES = {
    "passwd": "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n",
    "group": "root:x:0:\nsbx_user1051:x:990:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
OWN_FOLDERS = ("var/task", "opt", "var/runtime", "tmp", "proc", "store", "old", "dev", "etc")


class RootPlan(NamedTuple):
    """`base` is an empty folder to mount on; `prefixes` are interpreter trees bound at their own paths;
    `store` holds the unpacked trees; `runtime` is what lies in /var/runtime: one folder that is it, or files and
    folders that lie in it under their own names."""

    base: str
    prefixes: List[str]
    store: str
    runtime: List[str]


def build_root(plan: RootPlan) -> None:
    """Build the template root and make it `/`. The caller has its own mount namespace."""
    # Before anything else: no mount made here may travel back to the host.
    sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
    sc.mount("tmpfs", plan.base, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "size=1m,nr_inodes=1k,mode=755")
    for folder in OWN_FOLDERS:
        os.makedirs(plan.base + "/" + folder, exist_ok=True)
    for path in SYSTEM_TREES:
        _take_system_tree(plan.base, path)
    for prefix in plan.prefixes:
        _bind(prefix, plan.base + prefix)
    _fill_etc(plan.base)
    _fill_dev(plan.base)
    # Read-only here, so that every bind made from it later is read-only from its first moment.
    _bind(plan.store, plan.base + "/store")
    for path in plan.runtime:
        alone = len(plan.runtime) == 1
        _bind(path, plan.base + "/var/runtime" + ("" if alone else "/" + os.path.basename(path)))
    # While the host's proc is still in sight: a user namespace may only mount what it could see anyway.
    sc.mount("proc", plan.base + "/proc", "proc", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
    _pivot(plan.base)
    sc.mount(None, "/", None, sc.MS_REMOUNT | sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV)


def _take_system_tree(base: str, path: str) -> None:
    if os.path.islink(path):
        os.symlink(os.readlink(path), base + path)
    elif os.path.isdir(path):
        _bind(path, base + path)


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w"):
            pass
    # Recursive, because a user namespace may not uncover what is mounted below.
    sc.mount(source, target, None, sc.MS_BIND | sc.MS_REC)
    sc.set_mount_attributes(target, READ_ONLY)


def _fill_etc(base: str) -> None:
    for name, text in ETC_FILES.items():
        with open(base + "/etc/" + name, "w") as file:
            file.write(text)
    for name in ETC_PATHS:
        source = os.path.realpath("/etc/" + name)
        if os.path.exists(source):
            _bind(source, base + "/etc/" + name)


def _fill_dev(base: str) -> None:
    for name in DEVICES:
        target = base + "/dev/" + name
        with open(target, "w"):
            pass
        sc.mount("/dev/" + name, target, None, sc.MS_BIND)
    for name, link in DEVICE_LINKS.items():
        os.symlink(link, base + "/dev/" + name)


def _pivot(base: str) -> None:
    os.chdir(base)
    sc.pivot_root(".", "old")
    os.chdir("/")
    sc.umount("/old")
