"""A process that makes network namespaces for a node that runs as root, and does nothing else.

Apart from the node because making one blocks for milliseconds. Standard library only, single-threaded.

Messages over the link, a SOCK_SEQPACKET pair; the same as those of a zygote, so that either can be asked:

    to maker   first of all: JSON {"source": str, "user": bool}
               'N' JSON {"kind": str}: make a network namespace
    to node    'M' JSON {} + descriptors (the namespace, then its sockets), or {"step": str, "error": str}
"""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import NoReturn

from lambent.dataplane.jail import descriptors, netns, privileges

_MESSAGE_BYTES = 4096


def main(link: socket.socket, user: bool) -> NoReturn:
    """`user`: work in a user namespace of its own, as an ordinary user must (for probes and tests).

    Ends with the link, so with the node.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if user:
        privileges.enter_user_namespace()
    while True:
        message, _ = descriptors.receive(link, _MESSAGE_BYTES, 0)
        if not message:
            os._exit(0)
        answer(link, json.loads(message[1:])["kind"], user)


def answer(link: socket.socket, kind: str, user: bool) -> None:
    make = netns.make_namespace if user else netns.make_namespace_here
    try:
        fd, sockets = make(kind)
    except netns.NamespaceFailed as exc:
        link.send(b"M" + json.dumps({"step": exc.step, "error": str(exc)}).encode())
        return
    socket.send_fds(link, [b"M{}"], [fd, *(item.fileno() for item in sockets)])
    os.close(fd)
    for item in sockets:
        item.close()
