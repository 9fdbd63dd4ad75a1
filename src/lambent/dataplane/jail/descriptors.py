"""Descriptors that come over a Unix socket. Standard library only, Python 3.9."""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import List, Tuple


def receive(link: socket.socket, max_bytes: int, max_fds: int) -> Tuple[bytes, List[int]]:
    """One message and the descriptors that came along, which will not survive exec; b"" at the end.

    Raises OSError, EMFILE when this process may not open all of them: then none is kept.
    `socket.recv_fds` cannot be used: it drops MSG_CMSG_CLOEXEC, and tells of no truncation unless asked.
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(max_fds * fds.itemsize)
    message, ancillary, flags, _ = link.recvmsg(max_bytes, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(list(fds))
        raise OSError(errno.EMFILE, "descriptors were lost on the way: raise the limit of open files (ulimit -n)")
    return message, list(fds)


def close_all(fds: List[int]) -> None:
    for fd in fds:
        os.close(fd)
