"""A shell: an environment that is confined as far as it can be without knowing for whom, and waits there.

It belongs to nobody until it is used, once, and has run no line of user code until then. Over its channel it says that
it waits, then hears what it is to be: the whole spec, and the descriptors that only the version could decide.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Tuple

from lambent.dataplane.jail import contain, descriptors
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.spec import EnvironmentSpec

_CHUNK_BYTES = 65_536
_MAX_FDS = 4


def wait_and_contain(means: contain.Means, control_fd: int) -> EnvironmentSpec:
    """Both halves of confinement, with the wait between them. Ends with the node's end of the channel."""
    contain.contain_ahead(means)
    control = socket.socket(fileno=control_fd)
    try:
        control.sendall(frames.encode(frames.WAITING, b""))
        spec, scratch_fd = _hear(control)
        # From here on an end is the environment's; without this the node takes another one.
        control.sendall(frames.encode(frames.TAKEN, b""))
    finally:
        control.detach()
    contain.contain_on_use(means._replace(spec=spec, scratch_fd=scratch_fd))
    return spec


def _hear(control: socket.socket) -> Tuple[EnvironmentSpec, int]:
    data, fds = descriptors.receive(control, _CHUNK_BYTES, _MAX_FDS)
    size = frames.HEAD.size
    while data and (len(data) < size or len(data) < size + frames.HEAD.unpack_from(data)[1]):
        more = control.recv(_CHUNK_BYTES)
        data = data + more if more else b""
    if not data:
        # Never used, and the node wants us gone or is gone itself.
        os._exit(0)
    if data[:1] != frames.USE:
        raise OSError("a shell was sent something else than its use")
    told = json.loads(data[size:])
    return EnvironmentSpec(**told["spec"]), dict(zip(told["fds"], fds)).get("scratch", -1)
