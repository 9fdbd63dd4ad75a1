"""The way out of one environment: what it connects to is looked at, then carried or refused."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lambent.dataplane.sandbox.network.budget import Budget
from lambent.dataplane.sandbox.network.policy import API_ADDRESS, API_PORT, Address, EgressPolicy
from lambent.dataplane.sandbox.network.relay import Relay, reset
from lambent.dataplane.sandbox.network.resolvers import DNS_PORT, DnsForwarder, Resolver, open_connection_socket

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 30.0
MAX_CONNECTIONS = 1024
"""Of one environment at a time, as many as it may have open files; those beyond are reset."""
_SO_ORIGINAL_DST = 80
_MAX_LOGGED = 50
"""Different refusals of one environment that are logged; all are counted."""
_BURST = 64
_ACCEPT_PAUSE_S = 0.1


@dataclasses.dataclass(slots=True)
class Traffic:
    """What one environment's gate has seen so far."""

    connections: int = 0
    """Carried to where they wanted."""
    denied: int = 0
    """By the policy."""
    failed: int = 0
    """Allowed, but the target did not answer."""
    over_limit: int = 0
    open: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    dns_queries: int = 0
    dns_failed: int = 0


class Denied(Exception):
    """The policy refuses the connection."""


class Gate:
    """Owns one environment's listeners (as this process has them) and every connection that came through."""

    def __init__(
        self,
        environment_id: str,
        sockets: Iterable[socket.socket],
        policy: EgressPolicy,
        *,
        resolvers: Sequence[Resolver],
        is_local: Callable[[str], bool],
        budget: Budget,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._environment_id = environment_id
        self._sockets = list(sockets)
        self._policy = policy
        self._resolvers = resolvers
        self._is_local = is_local
        self._budget = budget
        self._traffic = Traffic()
        self._logged: set[tuple[str, int]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._closed = False
        self._forwarders = [
            DnsForwarder(item, resolvers, budget=budget) for item in self._sockets if item.type == socket.SOCK_DGRAM
        ]
        self._listeners = [item for item in self._sockets if item.type == socket.SOCK_STREAM]

    def open(self) -> None:
        for forwarder in self._forwarders:
            forwarder.open()
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self) -> None:
        """Reset every connection and close the listeners."""
        self._closed = True
        for forwarder in self._forwarders:
            forwarder.close()
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        for task in self._connections:
            task.cancel()
        for item in self._sockets:
            item.close()

    def traffic(self) -> Traffic:
        return dataclasses.replace(
            self._traffic,
            open=len(self._connections),
            dns_queries=sum(forwarder.queries for forwarder in self._forwarders),
            dns_failed=sum(forwarder.failed for forwarder in self._forwarders),
        )

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._pause(listener, exc)
                return
            if len(self._connections) >= MAX_CONNECTIONS or not self._budget.take():
                self._traffic.over_limit += 1
                reset(client)
                continue
            client.setblocking(False)
            task = self._loop.create_task(self._serve(client, listener), name="outgoing connection")
            self._connections.add(task)
            task.add_done_callback(self._forget)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """The process is out of descriptors: the listener stays readable, so asking on would only burn time."""
        log.error(
            "outgoing connections wait",
            extra={"action": "egress_accept_failed", "environment": self._environment_id, "reason": str(error)},
        )
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(_ACCEPT_PAUSE_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._budget.give_back()

    async def _serve(self, client: socket.socket, listener: socket.socket) -> None:
        """Never raises but when cancelled; the client is closed when it returns."""
        try:
            upstream = await self._reach(client, listener)
        except Denied:
            self._traffic.denied += 1
            reset(client)
            return
        except (OSError, TimeoutError):
            self._traffic.failed += 1
            reset(client)
            return
        except BaseException:
            reset(client)
            raise
        self._traffic.connections += 1
        relay = Relay()
        try:
            await relay.run(client, upstream)
        finally:
            self._traffic.sent_bytes += relay.sent_bytes
            self._traffic.received_bytes += relay.received_bytes

    async def _reach(self, client: socket.socket, listener: socket.socket) -> socket.socket:
        if listener.getsockname()[1] == DNS_PORT:
            return await self._reach_resolver()
        address, port = original_target(client)
        if (address, port) == (API_ADDRESS, API_PORT) and self._policy.api is not None:
            return await self._reach_api(*self._policy.api)
        self._check(address, port)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        upstream = socket.socket(family, socket.SOCK_STREAM)
        upstream.setblocking(False)
        await self._connect(upstream, (str(address), port))
        try:
            # Of what was reached, not of what was asked for.
            reached = upstream.getpeername()
            self._check(ipaddress.ip_address(reached[0]), reached[1])
        except BaseException:
            upstream.close()
            raise
        return upstream

    async def _reach_api(self, host: str, port: int) -> socket.socket:
        upstream = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        upstream.setblocking(False)
        await self._connect(upstream, (host, port))
        return upstream

    async def _reach_resolver(self) -> socket.socket:
        for resolver in self._resolvers:
            try:
                upstream, address = open_connection_socket(resolver, socket.SOCK_STREAM)
                await self._connect(upstream, address)
            except (OSError, TimeoutError):
                continue
            return upstream
        raise OSError("no resolver answers over TCP")

    async def _connect(self, upstream: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connect(upstream, address)
        except BaseException:
            upstream.close()
            raise

    def _check(self, address: Address, port: int) -> None:
        """Raises Denied."""
        denial = self._policy.deny(address, port, is_local=self._is_local)
        if denial is None:
            return
        target = (str(address), port)
        if target not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(target)
            log.warning(
                "outgoing connection denied",
                extra={
                    "action": "egress_denied",
                    "environment": self._environment_id,
                    "target": f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}",
                    "reason": denial.value,
                },
            )
        raise Denied


async def connect(connection: socket.socket, address: tuple[Any, ...]) -> None:
    """Connect a non-blocking socket. Raises OSError.

    `loop.sock_connect` would look up even a numeric address, with modules that cannot be read any more as nobody.
    """
    number = connection.connect_ex(address)
    if number == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        settled = asyncio.Event()
        loop.add_writer(connection.fileno(), settled.set)
        try:
            await settled.wait()
        finally:
            loop.remove_writer(connection.fileno())
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def original_target(client: socket.socket) -> tuple[Address, int]:
    """Where a redirected connection wanted to go (linux/netfilter_ipv4.h). Raises OSError."""
    if client.family == socket.AF_INET:
        told = client.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        port, packed = struct.unpack_from("!2xH4s", told)
        return ipaddress.IPv4Address(packed), port
    if client.family == socket.AF_INET6:
        told = client.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        port, packed = struct.unpack_from("!2xH4x16s", told)
        return ipaddress.IPv6Address(packed), port
    raise OSError(errno.EAFNOSUPPORT, "not an internet socket")
