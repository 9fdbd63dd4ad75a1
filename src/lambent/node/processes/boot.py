"""What a process of a node of several is told when it starts, and what it and its supervisor say to each other."""

from __future__ import annotations

import socket
import struct

import msgspec

from lambent.node.config import Settings

READY, DRAINED = b"R", b"D"
"""From the process: it serves; no connection is left and it waits for the others."""
DRAIN, NOW, FINISH = b"d", b"n", b"f"
"""To the process: let what runs end; do not wait; all have drained, end."""

_LENGTH = struct.Struct("!I")


class Boot(msgspec.Struct, kw_only=True):
    """Descriptors have the same numbers in both processes."""

    settings: Settings
    confine: str
    index: int
    count: int
    supervisor_pid: int
    listener_fd: int
    lock_fd: int
    ledger_fd: int
    wake_fds: list[int]

    @property
    def fds(self) -> list[int]:
        return [self.listener_fd, self.lock_fd, self.ledger_fd, *self.wake_fds]


def send_boot(link: socket.socket, boot: Boot) -> None:
    body = msgspec.json.encode(boot)
    link.sendall(_LENGTH.pack(len(body)) + body)


def receive_boot(link: socket.socket) -> Boot:
    (length,) = _LENGTH.unpack(link.recv(_LENGTH.size, socket.MSG_WAITALL))
    return msgspec.json.decode(link.recv(length, socket.MSG_WAITALL), type=Boot)
