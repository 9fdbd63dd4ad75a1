"""Environments' way out, with real namespaces, a real egress process and a small network of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from lambent.dataplane.sandbox.network.egress_link import Egress
from lambent.dataplane.sandbox.network.maker import NamespaceMaker
from lambent.dataplane.sandbox.network.networks import EnvironmentNetworks
from lambent.dataplane.sandbox.network.policy import AllowedHost, EgressPolicy
from lambent.dataplane.sandbox.network.resolvers import Resolver
from lambent.testing import network_world
from lambent.testing.network_world import HOST, OUTSIDE, OUTSIDE_IPV6, OUTSIDE_PRIVATE, World, serve_echo, visit

pytestmark = pytest.mark.skipif(bool(network_world.missing()), reason=network_world.missing())

RESOLVER = Resolver("127.0.0.1", 5353)


@pytest.fixture
def world() -> Iterator[World]:
    with network_world.open_world() as opened:
        yield opened


@pytest.fixture
async def egress(world: World) -> AsyncIterator[Egress]:
    link = Egress(log_level="error", resolvers=[RESOLVER])
    await link.start()
    yield link
    await link.stop()


@pytest.fixture
async def maker(world: World) -> AsyncIterator[NamespaceMaker]:
    made = NamespaceMaker()
    yield made
    await made.stop()


@pytest.fixture
async def networks(egress: Egress, maker: NamespaceMaker) -> AsyncIterator[EnvironmentNetworks]:
    policy = EgressPolicy(allow_hosts=(AllowedHost.parse(f"{HOST}:7070"),))
    opened = EnvironmentNetworks(egress, maker=maker, policy=policy, spare={"outgoing": 2, "none": 1})
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def echo(listener: socket.socket) -> AsyncIterator[None]:
    server = await serve_echo(listener)
    async with server:
        yield


async def test_an_environment_reaches_a_server_outside(networks: EnvironmentNetworks, world: World) -> None:
    async with echo(world.listen_outside(OUTSIDE, 7000)):
        lease = await networks.acquire("outgoing", environment_id="a")
        assert await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE}', 7000)))") == "open"
        lease.release()


async def test_it_reaches_ipv6_where_the_host_does(networks: EnvironmentNetworks, world: World) -> None:
    async with echo(world.listen_outside(OUTSIDE_IPV6, 7000)):
        lease = await networks.acquire("outgoing", environment_id="a")
        assert await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE_IPV6}', 7000)))") == "open"
        lease.release()


async def test_an_exception_of_the_operator_opens_one_port_of_the_host_and_no_other(
    networks: EnvironmentNetworks, world: World
) -> None:
    async with echo(world.listen(HOST, 7070)), echo(world.listen(HOST, 7071)):
        lease = await networks.acquire("outgoing", environment_id="a")
        code = f"print(json.dumps([attempt('{HOST}', 7070), attempt('{HOST}', 7071)]))"
        assert await visit(lease.fd, code) == ["open", "ECONNRESET"]
        lease.release()


async def test_private_addresses_are_reached_only_where_the_policy_lets(
    egress: Egress, maker: NamespaceMaker, world: World
) -> None:
    answers = []
    async with echo(world.listen_outside(OUTSIDE_PRIVATE, 7000)):
        for allow_private in (False, True):
            policy = EgressPolicy(allow_private=allow_private)
            networks = EnvironmentNetworks(egress, maker=maker, policy=policy, spare={"outgoing": 1})
            lease = await networks.acquire("outgoing", environment_id=f"private {allow_private}")
            answers.append(await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE_PRIVATE}', 7000)))"))
            lease.release()
            await networks.close()
    assert answers == ["ECONNRESET", "open"]


async def test_fifty_megabytes_arrive_unchanged_in_both_directions(networks: EnvironmentNetworks, world: World) -> None:
    code = f"""
s = socket.create_connection(('{OUTSIDE}', 7000), 30)
total, sent, got, block = 50 << 20, 0, 0, os.urandom(1 << 20)
up, down = hashlib.sha256(), hashlib.sha256()
pending = b''
s.setblocking(False)
while got < total:
    r, w, _ = select.select([s], [s] if sent < total else [], [], 30)
    if w:
        pending = pending or block
        n = s.send(pending)
        up.update(pending[:n]); pending = pending[n:]; sent += n
        if sent >= total: pending = b''
    if r:
        data = s.recv(1 << 18)
        if not data: break
        down.update(data); got += len(data)
        if got >= total and sent <= got: break
print(json.dumps([sent, got, up.hexdigest() == down.hexdigest()]))
"""
    async with echo(world.listen_outside(OUTSIDE, 7000)):
        lease = await networks.acquire("outgoing", environment_id="a")
        sent, got, same = await visit(lease.fd, code)
        lease.release()
    assert sent == got >= 50 << 20
    assert same


async def test_the_end_of_one_direction_leaves_the_other_open(networks: EnvironmentNetworks, world: World) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(b"%d" % len(received))
        writer.close()

    code = f"""
s = socket.create_connection(('{OUTSIDE}', 7000), 30)
s.sendall(bytes(1000000)); s.shutdown(socket.SHUT_WR)
answer = b''
while data := s.recv(99): answer += data
print(json.dumps(answer.decode()))
"""
    server = await asyncio.start_server(count, sock=world.listen_outside(OUTSIDE, 7000), limit=1 << 21)
    async with server:
        lease = await networks.acquire("outgoing", environment_id="a")
        assert await visit(lease.fd, code) == "1000000"
        lease.release()


async def test_a_reset_by_the_server_is_a_reset_at_the_client(networks: EnvironmentNetworks, world: World) -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(slam, sock=world.listen_outside(OUTSIDE, 7000))
    async with server:
        lease = await networks.acquire("outgoing", environment_id="a")
        assert await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE}', 7000)))") == "ECONNRESET"
        lease.release()


async def test_a_port_where_nobody_listens_fails_at_once(networks: EnvironmentNetworks, egress: Egress) -> None:
    lease = await networks.acquire("outgoing", environment_id="a")
    assert await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE}', 7999)))") == "ECONNRESET"
    assert (await egress.traffic())["a"]["failed"] == 1
    lease.release()


async def test_two_hundred_connections_at_once_are_all_served(
    networks: EnvironmentNetworks, egress: Egress, world: World
) -> None:
    code = f"""
every = []
for i in range(200):
    s = socket.socket(); s.setblocking(False); s.connect_ex(('{OUTSIDE}', 7000)); every.append(s)
for s in every: s.setblocking(True); s.settimeout(30)
for i, s in enumerate(every): s.sendall(b'%04d' % i)
print(json.dumps(sum(s.recv(4) == b'%04d' % i for i, s in enumerate(every))))
"""
    async with echo(world.listen_outside(OUTSIDE, 7000)):
        lease = await networks.acquire("outgoing", environment_id="a")
        assert await visit(lease.fd, code) == 200
        assert (await egress.traffic())["a"]["connections"] == 200
        lease.release()


class FakeResolver(asyncio.DatagramProtocol):
    """Answers every query with its own bytes, marked as a response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[:2] + b"\x81\x80" + data[4:] + b"answer", addr)


DNS_QUERY = r"b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01'"


@pytest.mark.parametrize("server", ["127.0.0.1", "9.9.9.9", "127.0.0.53", "2001:db8::53"])
async def test_a_dns_query_to_any_server_is_answered_by_the_resolver_of_the_host(
    networks: EnvironmentNetworks, world: World, server: str
) -> None:
    loop = asyncio.get_running_loop()
    bound = world.listen(RESOLVER.host, RESOLVER.port, kind=socket.SOCK_DGRAM)
    transport, _ = await loop.create_datagram_endpoint(FakeResolver, sock=bound)
    code = f"""
s = socket.socket(socket.AF_INET6 if ':' in '{server}' else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10); s.connect(('{server}', 53)); s.send({DNS_QUERY})
print(json.dumps(s.recv(999)[-6:].decode()))
"""
    lease = await networks.acquire("outgoing", environment_id="a")
    assert await visit(lease.fd, code) == "answer"
    lease.release()
    transport.close()


async def test_dns_over_tcp_reaches_the_resolver_of_the_host(networks: EnvironmentNetworks, world: World) -> None:
    async with echo(world.listen(RESOLVER.host, RESOLVER.port)):
        lease = await networks.acquire("outgoing", environment_id="a")
        code = "print(json.dumps([attempt('9.9.9.9', 53), attempt('127.0.0.1', 53)]))"
        assert await visit(lease.fd, code) == ["open", "open"]
        lease.release()


async def test_without_a_resolver_a_query_is_answered_with_servfail(networks: EnvironmentNetworks) -> None:
    code = f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); s.connect(('9.9.9.9', 53)); s.send({DNS_QUERY})
print(json.dumps(s.recv(999)[3] & 15))
"""
    lease = await networks.acquire("outgoing", environment_id="a")
    assert await visit(lease.fd, code) == 2
    lease.release()


async def test_programs_that_ask_for_configured_addresses_get_them(networks: EnvironmentNetworks) -> None:
    code = "print(json.dumps(socket.getaddrinfo('203.0.113.7', 80, socket.AF_INET, 1, 0, socket.AI_ADDRCONFIG)[0][4]))"
    lease = await networks.acquire("outgoing", environment_id="a")
    assert await visit(lease.fd, code) == ["203.0.113.7", 80]
    lease.release()


async def test_other_udp_is_refused_at_once(networks: EnvironmentNetworks) -> None:
    code = f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); s.connect(('{OUTSIDE}', 123)); s.send(b'x')
try: s.recv(9); print('"answered"')
except OSError as exc: print(json.dumps(errno.errorcode[exc.errno]))
"""
    lease = await networks.acquire("outgoing", environment_id="a")
    assert await visit(lease.fd, code) == "ECONNREFUSED"
    lease.release()


async def test_the_runtime_api_listener_is_reached_from_inside_in_both_kinds(networks: EnvironmentNetworks) -> None:
    for kind in ("outgoing", "none"):
        lease = await networks.acquire(kind, environment_id=kind)
        async with echo(lease.take_runtime_api()):
            assert await visit(lease.fd, "print(json.dumps(attempt('127.0.0.1', 9001)))") == "open"
        lease.release()


async def test_connections_end_when_the_environment_goes(networks: EnvironmentNetworks, world: World) -> None:
    ended = asyncio.Event()
    opened = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.set()
        with contextlib.suppress(OSError):
            await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(hold, sock=world.listen_outside(OUTSIDE, 7000))
    async with server:
        lease = await networks.acquire("outgoing", environment_id="a")
        # It may be reset before the call that opened it has returned.
        code = f"try: s = socket.create_connection(('{OUTSIDE}', 7000), 30); s.recv(1); print('\"end\"')\n"
        code += "except OSError as exc: print(json.dumps(errno.errorcode[exc.errno]))"
        visitor = asyncio.create_task(visit(lease.fd, code))
        await opened.wait()
        lease.release()
        assert await visitor == "ECONNRESET"
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_killed_egress_process_is_replaced_and_living_environments_go_on(
    networks: EnvironmentNetworks, egress: Egress, world: World
) -> None:
    async with echo(world.listen_outside(OUTSIDE, 7000)):
        lease = await networks.acquire("outgoing", environment_id="a")
        first = egress.pid
        os.kill(first, signal.SIGKILL)
        # The connect waits in the listener's backlog until the next process takes it.
        assert await visit(lease.fd, f"print(json.dumps(attempt('{OUTSIDE}', 7000, 30)))") == "open"
        assert egress.pid != first
        assert egress.restarts == 1
        lease.release()


async def test_a_killed_maker_is_replaced(networks: EnvironmentNetworks, maker: NamespaceMaker) -> None:
    leases = [await networks.acquire("none", environment_id="first")]
    os.kill(maker.pid, signal.SIGKILL)
    leases += [await networks.acquire("none", environment_id=f"later {number}") for number in range(4)]
    assert maker.restarts == 1
    for lease in leases:
        lease.release()


async def test_fifty_environments_leave_no_descriptor_and_no_namespace(
    networks: EnvironmentNetworks, egress: Egress, maker: NamespaceMaker
) -> None:
    own = _read_descriptors()

    async def cycle(count: int) -> None:
        for number in range(count):
            lease = await networks.acquire("outgoing", environment_id=f"cycle {number}")
            lease.release()
        # Answered after everything before it was done.
        assert await egress.traffic() == {}

    await cycle(5)
    before = _count_descriptors(egress.pid)
    await cycle(50)
    assert _count_descriptors(egress.pid) == before
    # It may be making the next ones just now: a namespace and its seven sockets.
    assert _count_descriptors(maker.pid) < 20
    await networks.close()
    assert not [link for link in _read_descriptors() if link.startswith("net:") and link not in own]


def _count_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _read_descriptors() -> list[str]:
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(entry.readlink()))
    return links


async def test_the_egress_process_gives_up_root(egress: Egress) -> None:
    fields = _read_status(egress.pid)
    assert fields["Uid"].split() == ["65534"] * 4
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    "unread", ["", "egress._run._send(b'Q{}', '', ()); select.select([egress._run._link], [], [])"]
)
async def test_the_egress_process_ends_with_its_link(world: World, unread: str) -> None:
    """A node that is killed leaves none behind, also when it had not read all that it was told."""
    code = (
        "import asyncio, os, select; from lambent.dataplane.sandbox.network.egress_link import Egress\n"
        "async def main():\n"
        "    egress = Egress(log_level='error'); await egress.start()\n"
        "    print(egress.pid, flush=True)\n"
        f"    {unread}\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    node = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(node.communicate(), 30)
    with contextlib.suppress(ProcessLookupError):
        await asyncio.wait_for(_wait_gone(os.pidfd_open(int(out))), 10)


async def _wait_gone(pidfd: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
