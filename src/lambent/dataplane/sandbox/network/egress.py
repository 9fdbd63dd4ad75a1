"""The process through which environments reach the network: `python -m lambent.dataplane.sandbox.network.egress FD`.

Apart from the node, so that bulk traffic never delays an invocation. As root it becomes nobody before it serves.

Messages over the link, a SOCK_SEQPACKET pair:

    to egress   first of all: JSON {"log_level": str, "resolvers": [[host, port], ...]}
                'A' JSON {"id": str, "policy": {...}} + descriptors: serve an environment
                'R' JSON {"id": str}: it is gone
                'Q' JSON {}: tell what was carried
    to node     'Y' JSON {}: ready
                'T' JSON {environment id: Traffic}
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import resource
import signal
import socket
import sys
from typing import Any

import uvloop

from lambent.dataplane.jail import descriptors, netlink, netns, privileges
from lambent.dataplane.sandbox.network.budget import Budget
from lambent.dataplane.sandbox.network.gate import Gate
from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.dataplane.sandbox.network.resolvers import Resolver
from lambent.telemetry.logging import set_up_logging

log = logging.getLogger(__name__)

NOBODY = 65_534
MESSAGE_BYTES = 65_536
MAX_FDS = netns.MAX_SOCKETS
_WANTED_OPEN_FILES = 262_144
_TRAFFIC_AT_ONCE = 100
"""Environments told of in one message, which must stay below the size of the link's buffer."""


class EgressServer:
    """Does what the link says until it closes."""

    def __init__(self, link: socket.socket, resolvers: list[Resolver], *, connections: int) -> None:
        self._link = link
        self._resolvers = resolvers
        self._budget = Budget(connections)
        self._gates: dict[str, Gate] = {}
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._link.setblocking(False)
        loop.add_reader(self._link.fileno(), self._receive)
        self._link.send(b"Y{}")
        await self._ended.wait()
        loop.remove_reader(self._link.fileno())
        for gate in self._gates.values():
            gate.close()

    def _receive(self) -> None:
        while not self._ended.is_set():
            try:
                message, fds = descriptors.receive(self._link, MESSAGE_BYTES, MAX_FDS)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # The node was killed with an answer of ours unread; uvloop would not call again to tell of the end.
                self._ended.set()
                return
            except OSError as exc:
                log.error("environment without network", extra={"action": "egress_add_failed", "reason": str(exc)})
                return
            if not message:
                self._ended.set()
                return
            self._take(message[:1], json.loads(message[1:]), fds)

    def _take(self, kind: bytes, body: dict[str, Any], fds: list[int]) -> None:
        if kind == b"A":
            self._add(body["id"], EgressPolicy.decode(body["policy"]), fds)
        elif kind == b"R":
            gate = self._gates.pop(body["id"], None)
            if gate is not None:
                gate.close()
        elif kind == b"Q":
            self._tell()

    def _add(self, environment_id: str, policy: EgressPolicy, fds: list[int]) -> None:
        gate = self._gates[environment_id] = Gate(
            environment_id,
            [socket.socket(fileno=fd) for fd in fds],
            policy,
            resolvers=self._resolvers,
            is_local=netlink.is_local,
            budget=self._budget,
        )
        gate.open()

    def _tell(self) -> None:
        told = [(name, dataclasses.asdict(gate.traffic())) for name, gate in self._gates.items()]
        chunks = [dict(told[at : at + _TRAFFIC_AT_ONCE]) for at in range(0, len(told), _TRAFFIC_AT_ONCE)]
        self._link.setblocking(True)
        for chunk in [*chunks, {}]:
            self._link.send(b"T" + json.dumps(chunk).encode())
        self._link.setblocking(False)


def raise_open_files() -> int:
    """As many as the system lets us have; the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    return wanted


def drop_privileges() -> None:
    """It connects, nothing more, and reads what untrusted programs send."""
    if os.geteuid() == 0:
        privileges.change_user(NOBODY)
    privileges.forbid_new_privileges()


def main(link: socket.socket) -> None:
    # A terminal's Ctrl-C is for the node; it ends us by closing the link.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = json.loads(link.recv(MESSAGE_BYTES))
    set_up_logging(config["log_level"])
    open_files = raise_open_files()
    drop_privileges()
    resolvers = [Resolver(host, port) for host, port in config["resolvers"]]

    async def serve() -> None:
        # A connection takes two descriptors; the last third is for listeners and queries.
        await EgressServer(link, resolvers, connections=open_files // 3).serve()

    uvloop.run(serve())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
