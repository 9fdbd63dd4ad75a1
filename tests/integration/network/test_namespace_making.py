"""One network namespace: made step by step, as root and as an ordinary user, and tried from inside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lambent
from lambent.dataplane.jail import netns
from lambent.dataplane.sandbox.network.namespace import Namespace
from lambent.testing.network_world import visit

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")
ALL_STEPS = [(kind, step.__name__) for kind, steps in netns.STEPS.items() for step in steps]
Make = Callable[..., tuple[int, list[socket.socket]]]
by_either = pytest.mark.parametrize("make", [netns.make_namespace, netns.make_namespace_here])
SOURCE = str(Path(lambent.__file__).parent.parent)
PYTHON = str(getattr(sys, "_base_executable", sys.executable))

_ORDINARY_USER = """
import json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from lambent.dataplane.jail import netns, privileges
from lambent.dataplane.jail import syscalls as sc
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    sc.prctl(sc.PR_SET_DUMPABLE, 1)
real = os.getuid()
privileges.enter_user_namespace()
# As a zygote: the first process of a pid namespace, with a /proc of that.
sc.unshare(sc.CLONE_NEWPID | sc.CLONE_NEWNS)
init = os.fork()
if init:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))
sc.mount(None, '/', None, sc.MS_REC | sc.MS_PRIVATE)
sc.mount('proc', '/proc', 'proc')
# An environment came and went: the next child is bound for its pid namespace, whose init has ended.
sc.unshare(sc.CLONE_NEWPID)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
fd, sockets = netns.make_namespace('outgoing')
pid = os.fork()
if pid == 0:
    sc.setns(fd, sc.CLONE_NEWNET)
    client = socket.socket(); client.connect(('198.51.100.7', 443)); client.sendall(b'from inside'); client.recv(1)
    os._exit(0)
sockets[1].settimeout(5)
accepted, _ = sockets[1].accept()
told = accepted.getsockopt(0, 80, 16)
print(json.dumps([real, socket.inet_ntoa(told[4:8]), accepted.recv(99).decode()]), flush=True)
accepted.close()
os._exit(0)
"""


@needs_root
@by_either
@pytest.mark.parametrize(("kind", "step"), ALL_STEPS)
def test_a_failing_step_is_named_and_leaves_nothing(make: Make, kind: str, step: str) -> None:
    own = Path("/proc/self/ns/net").readlink()
    before, children = len(list(Path("/proc/self/fd").iterdir())), own_children()
    with pytest.raises(netns.NamespaceFailed, match="failure asked for by a test") as failed:
        make(kind, fail_step=step)
    assert failed.value.step == step
    assert Path("/proc/self/ns/net").readlink() == own
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert own_children() == children


def own_children() -> set[str]:
    """Those of this process, zombies too: the test run may have a node of its own."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@by_either
def test_an_unknown_kind_is_refused(make: Make) -> None:
    with pytest.raises(netns.NamespaceFailed, match="no kind of network bridge"):
        make("bridge")


@needs_root
@by_either
def test_what_is_handed_out_does_not_survive_exec(make: Make) -> None:
    fd, sockets = make("none")
    assert not os.get_inheritable(fd)
    assert not any(item.get_inheritable() for item in sockets)
    Namespace("none", [fd, *(item.detach() for item in sockets)]).release()


@needs_root
@by_either
def test_the_caller_stays_in_its_own_namespace(make: Make) -> None:
    before = Path("/proc/self/ns/net").readlink()
    fd, sockets = make("outgoing")
    assert Path("/proc/self/ns/net").readlink() == before
    assert Path(f"/proc/self/fd/{fd}").readlink() != before
    Namespace("outgoing", [fd, *(item.detach() for item in sockets)]).release()


@needs_root
@by_either
@pytest.mark.parametrize(("ipv6", "count"), [(False, 4), (True, 7)])
async def test_ipv6_has_its_sockets_and_its_route_only_where_the_machine_has_ipv6(
    make: Make, ipv6: bool, count: int
) -> None:
    fd, sockets = make("outgoing", ipv6=ipv6)
    namespace = Namespace("outgoing", [fd, *(item.detach() for item in sockets)])
    code = """
s = socket.socket(socket.AF_INET6); s.setblocking(False)
print(json.dumps(errno.errorcode[s.connect_ex(('2001:db8::7', 443))]))
"""
    assert len(namespace.outgoing) == count - 1
    assert await visit(namespace.fd, code) == ("EINPROGRESS" if ipv6 else "ENETUNREACH")
    namespace.release()


@needs_root
@pytest.mark.skipif(shutil.which("nft") is None, reason="compares with what nft prints")
async def test_the_rules_read_by_nft_are_the_rules_meant() -> None:
    fd, sockets = netns.make_namespace("outgoing", ipv6=True)
    namespace = Namespace("outgoing", [fd, *(item.detach() for item in sockets)])
    code = "import subprocess; print(json.dumps(subprocess.check_output(['nft', 'list', 'ruleset']).decode()))"
    text = await visit(namespace.fd, code)
    namespace.release()
    rules = [line.strip() for line in text.splitlines()]
    assert rules == [
        "table ip lambent {",
        "chain output {",
        "type nat hook output priority -100; policy accept;",
        "udp dport 53 redirect to :53",
        "ip daddr 127.0.0.0/8 accept",
        "ip daddr 192.0.0.2 accept",
        "tcp dport 53 redirect to :53",
        "meta l4proto tcp redirect to :15001",
        "}",
        "}",
        "table ip6 lambent {",
        "chain output {",
        "type nat hook output priority -100; policy accept;",
        "udp dport 53 redirect to :53",
        "ip6 daddr ::1 accept",
        "ip6 daddr fd6c:616d:6265::2 accept",
        "tcp dport 53 redirect to :53",
        "meta l4proto tcp redirect to :15001",
        "}",
        "}",
    ]


def test_an_ordinary_user_gets_the_same_in_a_user_namespace_from_a_zygote_that_has_forked_before() -> None:
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-c", _ORDINARY_USER, SOURCE], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    real_uid, host, text = json.loads(done.stdout)
    assert real_uid == (65534 if AS_ROOT else os.getuid())
    assert (host, text) == ("198.51.100.7", "from inside")
