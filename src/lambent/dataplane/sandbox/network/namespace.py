"""One network namespace in the hands of the node: entered by one environment, then never again."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence


class Namespace:
    """Owns its descriptors. The kernel removes the namespace when they and its processes are gone."""

    def __init__(self, kind: str, fds: Sequence[int]) -> None:
        """`fds` as `make_namespace` gives them: the namespace, the Runtime API's listener, the outgoing sockets."""
        self.kind = kind
        self.fd = fds[0]
        self._runtime_api: socket.socket | None = socket.socket(fileno=fds[1])
        self.outgoing = tuple(socket.socket(fileno=fd) for fd in fds[2:])
        """Listeners of TCP and sockets of DNS, told apart by type and port; empty for `none`."""

    def take_runtime_api(self) -> socket.socket:
        """The listener at 127.0.0.1:9001 inside; it becomes the caller's to close."""
        listener, self._runtime_api = self._runtime_api, None
        assert listener is not None, "the Runtime API's listener can be taken once"
        return listener

    def release(self) -> None:
        """May be called again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        with contextlib.ExitStack() as closing:
            for item in self.outgoing:
                closing.callback(item.close)
            if self._runtime_api is not None:
                closing.callback(self._runtime_api.close)
