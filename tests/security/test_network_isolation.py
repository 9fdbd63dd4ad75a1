"""From inside an environment's network: what must not be reached is not, whichever way it is named."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent.dataplane.sandbox.network.egress_link import Egress
from lambent.dataplane.sandbox.network.maker import NamespaceMaker
from lambent.dataplane.sandbox.network.networks import EnvironmentNetworks
from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.dataplane.sandbox.network.resolvers import Resolver
from lambent.testing import network_world
from lambent.testing.network_world import HOST, HOST_IPV6, HOST_PRIVATE, OUTSIDE, World, serve_echo, visit

pytestmark = pytest.mark.skipif(bool(network_world.missing()), reason=network_world.missing())

NODE_PORT = 8700
ANY = "0.0.0.0"


@pytest.fixture
def world() -> Iterator[World]:
    with network_world.open_world() as opened:
        yield opened


@pytest.fixture
async def node_port(world: World) -> AsyncIterator[None]:
    """A server on every address of the host, as a node that listens on all of them."""
    async with await serve_echo(world.listen(ANY, NODE_PORT)), await serve_echo(_listen_any_ipv6()):
        yield


def _listen_any_ipv6() -> socket.socket:
    bound = socket.socket(socket.AF_INET6)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind(("::", NODE_PORT))
    bound.listen()
    bound.setblocking(False)
    return bound


@pytest.fixture
async def egress(world: World) -> AsyncIterator[Egress]:
    link = Egress(log_level="error", resolvers=[Resolver("127.0.0.1")])
    await link.start()
    yield link
    await link.stop()


@pytest.fixture
async def networks(egress: Egress) -> AsyncIterator[EnvironmentNetworks]:
    maker = NamespaceMaker()
    # The most that an operator can open without naming a host.
    policy = EgressPolicy(allow_private=True)
    opened = EnvironmentNetworks(egress, maker=maker, policy=policy, spare={"outgoing": 1, "none": 1})
    yield opened
    await opened.close()
    await maker.stop()


@pytest.mark.parametrize(
    "address",
    [
        HOST,
        HOST_PRIVATE,
        HOST_IPV6,
        "127.0.0.1",
        "127.8.8.8",
        ANY,
        "::1",
        "::",
        "::ffff:127.0.0.1",
        f"::ffff:{HOST}",
        f"64:ff9b::{HOST}",
        "64:ff9b::127.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "192.0.0.2",
    ],
)
async def test_the_port_of_the_node_is_out_of_reach_through(
    networks: EnvironmentNetworks, node_port: None, address: str
) -> None:
    lease = await networks.acquire("outgoing", environment_id="a")
    answer = await visit(lease.fd, f"print(json.dumps(attempt('{address}', {NODE_PORT})))")
    lease.release()
    assert answer in {"ECONNRESET", "ECONNREFUSED", "ENETUNREACH"}


async def test_an_address_that_the_host_gets_later_is_refused_too(
    networks: EnvironmentNetworks, node_port: None, egress: Egress
) -> None:
    from lambent.dataplane.jail import netlink

    lease = await networks.acquire("outgoing", environment_id="a")
    netlink.add_loopback_address("203.0.113.77")
    assert await visit(lease.fd, f"print(json.dumps(attempt('203.0.113.77', {NODE_PORT})))") == "ECONNRESET"
    assert (await egress.traffic())["a"]["denied"] == 1
    lease.release()


async def test_the_egress_port_itself_leads_nowhere(networks: EnvironmentNetworks, egress: Egress) -> None:
    lease = await networks.acquire("outgoing", environment_id="a")
    code = "print(json.dumps([attempt('127.0.0.1', 15001), attempt('192.0.0.2', 15001)]))"
    assert set(await visit(lease.fd, code)) <= {"ECONNRESET", "ECONNREFUSED"}
    lease.release()


async def test_no_environment_reaches_a_port_of_another(networks: EnvironmentNetworks) -> None:
    first = await networks.acquire("outgoing", environment_id="first")
    second = await networks.acquire("outgoing", environment_id="second")
    async with await serve_echo(first.take_runtime_api()):
        code = "print(json.dumps([attempt(host, 9001) for host in ('127.0.0.1', '192.0.0.2')]))"
        assert await visit(first.fd, "print(json.dumps(attempt('127.0.0.1', 9001)))") == "open"
        # Its own listener has nobody behind it here: it does not answer.
        second.take_runtime_api().close()
        assert await visit(second.fd, code) == ["ECONNREFUSED", "ECONNREFUSED"]
    first.release()
    second.release()


async def test_abstract_unix_sockets_of_the_host_are_out_of_reach(networks: EnvironmentNetworks) -> None:
    lease = await networks.acquire("outgoing", environment_id="a")
    code = """
s = socket.socket(socket.AF_UNIX)
try: s.connect(b'\\0lambent-test'); print('"open"')
except OSError as exc: print(json.dumps(errno.errorcode[exc.errno]))
"""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(b"\0lambent-test")
        listener.listen()
        assert await visit(lease.fd, code) == "ECONNREFUSED"
    lease.release()


@pytest.mark.parametrize("address", [OUTSIDE, HOST, "127.0.0.1", "169.254.169.254", "2001:db8:1::7"])
async def test_the_network_none_reaches_nothing(networks: EnvironmentNetworks, world: World, address: str) -> None:
    async with await serve_echo(world.listen_outside(OUTSIDE, 7000)):
        lease = await networks.acquire("none", environment_id="a")
        answer = await visit(lease.fd, f"print(json.dumps(attempt('{address}', 7000)))")
        lease.release()
    assert answer in {"ENETUNREACH", "ECONNREFUSED"}


async def test_the_network_none_resolves_nothing(networks: EnvironmentNetworks) -> None:
    code = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
try: s.connect(('127.0.0.1', 53)); s.send(bytes(12)); s.recv(99); print('"answered"')
except OSError as exc: print(json.dumps(errno.errorcode[exc.errno]))
"""
    lease = await networks.acquire("none", environment_id="a")
    assert await visit(lease.fd, code) == "ECONNREFUSED"
    lease.release()


async def test_a_flood_of_connections_is_cut_off_and_others_go_on(
    networks: EnvironmentNetworks, egress: Egress, world: World
) -> None:
    flood = f"""
import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
every = []
for i in range(1200):
    s = socket.socket(); s.setblocking(False); s.connect_ex(('{OUTSIDE}', 7000)); every.append(s)
open_, reset_ = 0, 0
for s in every:
    s.setblocking(True); s.settimeout(20)
    try: s.sendall(b'x'); s.recv(1); open_ += 1
    except OSError: reset_ += 1
print(json.dumps([open_, reset_]))
"""
    async with await serve_echo(world.listen_outside(OUTSIDE, 7000)):
        hostile = await networks.acquire("outgoing", environment_id="hostile")
        other = await networks.acquire("outgoing", environment_id="other")
        assert await visit(hostile.fd, flood) == [1024, 176]
        assert await visit(other.fd, f"print(json.dumps(attempt('{OUTSIDE}', 7000)))") == "open"
        assert (await egress.traffic())["hostile"]["over_limit"] == 176
        hostile.release()
        other.release()
