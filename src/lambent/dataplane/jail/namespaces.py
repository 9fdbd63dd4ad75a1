"""Namespaces of one environment."""

from __future__ import annotations

import fcntl
import socket
import struct

from lambent.dataplane.jail import syscalls as sc

HOST_NAME = "lambent"
_SIOCSIFFLAGS = 0x8914
_IFF_UP_AND_RUNNING = 0x41


def enter_network(kind: str, fd: int) -> None:
    """`pooled`: a namespace made ahead; `none`: a fresh one with loopback only; `host`: stay."""
    if kind == "pooled":
        sc.setns(fd, sc.CLONE_NEWNET)
    elif kind == "none":
        sc.unshare(sc.CLONE_NEWNET)
        raise_loopback()
    elif kind != "host":
        raise ValueError("unknown network kind " + kind)


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", _IFF_UP_AND_RUNNING, b"")
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)


def unshare_rest() -> None:
    sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP)
    sc.sethostname(HOST_NAME)
