"""DNS queries of environments, asked on their behalf of the resolvers of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lambent.dataplane.sandbox.network.budget import Budget

DNS_PORT = 53
MAX_RESOLVERS = 3
"""As resolv.conf(5)."""
ATTEMPT_TIMEOUT_S = 2.0
MAX_IN_FLIGHT = 128
"""Queries of one environment; those beyond are answered SERVFAIL."""
_MAX_DATAGRAM_BYTES = 65_535
_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _RECURSION, _SERVFAIL = 0x8000, 0x0100, 2
_BURST = 32
"""Datagrams taken at once before others get their turn."""


class Resolver(NamedTuple):
    host: str
    port: int = DNS_PORT

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def read_resolvers(path: Path = Path("/etc/resolv.conf")) -> list[Resolver]:
    """The name servers of resolv.conf(5); this machine itself when none is named."""
    found: list[Resolver] = []
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
                found.append(Resolver(words[1]))
    return found[:MAX_RESOLVERS] or [Resolver("127.0.0.1")]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def open_connection_socket(resolver: Resolver, kind: socket.SocketKind) -> tuple[socket.socket, tuple[Any, ...]]:
    """A non-blocking socket and the address to connect it to, its zone (fe80::1%eth0) resolved. Raises OSError."""
    address: tuple[Any, ...] = (resolver.host, resolver.port)
    host, _, zone = resolver.host.partition("%")
    if zone:
        address = (host, resolver.port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone))
    connection = socket.socket(resolver.family, kind)
    connection.setblocking(False)
    return connection, address


def refuse(query: bytes) -> bytes:
    """The query answered with SERVFAIL, so that the asker does not wait. Empty when it is no query."""
    if len(query) < _HEADER.size:
        return b""
    identity, flags, questions, *_ = _HEADER.unpack_from(query)
    end = _end_of_question(query)
    if flags & _RESPONSE or questions != 1 or end is None:
        return b""
    header = _HEADER.pack(identity, _RESPONSE | (flags & (0x7800 | _RECURSION)) | _SERVFAIL, 1, 0, 0, 0)
    return header + query[_HEADER.size : end]


def _end_of_question(query: bytes) -> int | None:
    at = _HEADER.size
    while at < len(query):
        length = query[at]
        at += 1 + length
        if length == 0:
            return at + 4 if at + 4 <= len(query) else None
        if length > 63:
            return None
    return None


class DnsForwarder:
    """Serves one UDP socket of one environment. Each query has a socket, so a source port, of its own."""

    def __init__(self, server: socket.socket, resolvers: Sequence[Resolver], *, budget: Budget) -> None:
        """`server` stays the caller's."""
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._resolvers = resolvers
        self._budget = budget
        self._tasks: set[asyncio.Task[None]] = set()
        self.queries = 0
        self.failed = 0

    def open(self) -> None:
        self._loop.add_reader(self._server.fileno(), self._receive)

    def close(self) -> None:
        self._loop.remove_reader(self._server.fileno())
        for task in self._tasks:
            task.cancel()

    def _receive(self) -> None:
        for _ in range(_BURST):
            try:
                query, client = self._server.recvfrom(_MAX_DATAGRAM_BYTES)
            except OSError:
                # Nothing more; or the error of an earlier answer whose asker has gone.
                return
            self.queries += 1
            if len(self._tasks) >= MAX_IN_FLIGHT or not self._budget.take():
                self.failed += 1
                self._send(refuse(query), client)
                continue
            task = self._loop.create_task(self._answer(query, client), name="dns query")
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._budget.give_back()

    async def _answer(self, query: bytes, client: tuple[str, int]) -> None:
        if len(query) < _HEADER.size:
            return
        for resolver in self._resolvers:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    answer = await self._ask(resolver, query)
            except (OSError, TimeoutError):
                continue
            self._send(answer, client)
            return
        self.failed += 1
        self._send(refuse(query), client)

    async def _ask(self, resolver: Resolver, query: bytes) -> bytes:
        connection, address = open_connection_socket(resolver, socket.SOCK_DGRAM)
        with connection:
            connection.connect(address)
            connection.send(query)
            while True:
                answer = await self._loop.sock_recv(connection, _MAX_DATAGRAM_BYTES)
                if answer[:2] == query[:2]:
                    return answer

    def _send(self, answer: bytes, client: tuple[str, int]) -> None:
        if answer:
            with contextlib.suppress(OSError):
                self._server.sendto(answer, client)
