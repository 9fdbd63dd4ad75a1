"""A small network of its own for tests of environments' networks: a host, and an outside joined to it by a wire.

Needs root and the `ip` program. The calling thread lives on the host while the world is open, and so does every
process that it starts; nothing of the machine's real network is seen or changed.

    environments  --(egress)-->  host 203.0.113.1, 10.9.0.1, 2001:db8:1::1
                                   | wire
                                 outside 203.0.113.7, 10.9.0.7, 2001:db8:1::7
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from lambent.dataplane.jail import netlink
from lambent.dataplane.jail import syscalls as sc

HOST, HOST_PRIVATE, HOST_IPV6 = "203.0.113.1", "10.9.0.1", "2001:db8:1::1"
OUTSIDE, OUTSIDE_PRIVATE, OUTSIDE_IPV6 = "203.0.113.7", "10.9.0.7", "2001:db8:1::7"
_PRELUDE = """
import ctypes, errno, hashlib, json, os, select, socket, struct, sys, time
for _path in sys.argv[2:]:
    _fd = os.open(_path, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(_fd, 0):
        raise OSError(ctypes.get_errno(), 'setns ' + _path)
def attempt(host, port, timeout=5, family=None):
    'connected, and still so after a moment; else the name of the error'
    try:
        with socket.create_connection((host, port), timeout) as s:
            s.sendall(b'hello')
            return 'open' if s.recv(5) == b'hello' else 'closed'
    except OSError as exc:
        return errno.errorcode.get(exc.errno, repr(exc))
"""


def missing() -> str:
    """Why there can be no world here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("ip") else "needs the ip program"


class World:
    def __init__(self, host_fd: int, outside_fd: int) -> None:
        self._host_fd = host_fd
        self._outside_fd = outside_fd

    def listen(self, address: str, port: int, *, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the host."""
        bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(512)
        bound.setblocking(False)
        return bound

    def listen_outside(self, address: str, port: int) -> socket.socket:
        with self._outside():
            return self.listen(address, port)

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        sc.setns(self._outside_fd, sc.CLONE_NEWNET)
        try:
            yield
        finally:
            sc.setns(self._host_fd, sc.CLONE_NEWNET)

    def lay_wire(self) -> None:
        _run("ip link add wire type veth peer name wire-end")
        _run(f"ip link set wire-end netns /proc/{os.getpid()}/fd/{self._outside_fd}")
        self._set_up("wire", HOST, HOST_PRIVATE, HOST_IPV6)
        with self._outside():
            self._set_up("wire-end", OUTSIDE, OUTSIDE_PRIVATE, OUTSIDE_IPV6)
        _run(f"ip -6 route add default via {OUTSIDE_IPV6}")

    def _set_up(self, interface: str, public: str, private: str, ipv6: str) -> None:
        netlink.bring_up_loopback()
        _run(f"ip addr add {public}/24 dev {interface}")
        _run(f"ip addr add {private}/24 dev {interface}")
        _run(f"ip addr add {ipv6}/64 dev {interface} nodad")
        _run(f"ip link set {interface} up")


@contextlib.contextmanager
def open_world() -> Iterator[World]:
    with contextlib.ExitStack() as closing:
        real_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        closing.callback(os.close, real_fd)
        closing.callback(sc.setns, real_fd, sc.CLONE_NEWNET)
        fds = []
        for _ in range(2):
            sc.unshare(sc.CLONE_NEWNET)
            fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
            closing.callback(os.close, fds[-1])
        world = World(fds[1], fds[0])
        world.lay_wire()
        yield world


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


async def visit(namespace_fd: int, code: str, *, user_namespace: str = "", timeout_s: float = 60.0) -> Any:
    """Run Python code in a process inside a network namespace; what it prints, as JSON.

    `user_namespace` is a path under /proc that is entered first: that of the maker, for an ordinary user's.
    """
    paths = [user_namespace] if user_namespace else []
    paths.append(f"/proc/{os.getpid()}/fd/{namespace_fd}")
    command = [str(getattr(sys, "_base_executable", sys.executable)), "-I", "-S", "-c", _PRELUDE + code, "", *paths]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def serve_echo(listener: socket.socket) -> asyncio.Server:
    """What comes goes back; the end too."""
    return await asyncio.start_server(_echo, sock=listener)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
