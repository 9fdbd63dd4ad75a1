"""Makes one network namespace, mostly in a short-lived child, and takes out of it what the host side serves.

The caller stays in its own namespace. It may be root, or a process with CAP_SYS_ADMIN in a user namespace, which then
owns what is made: only processes of that user namespace can enter it. Standard library only, Python 3.9.

`none`      lo is up, nothing else is there. Sockets: the listener of the Runtime API, 127.0.0.1:9001.
`outgoing`  every TCP connection to another machine ends at a local listener, every DNS query at a local socket; both
            are served from outside. No other UDP and no ICMP leaves. Sockets: the Runtime API; then for IPv4, and for
            IPv6 where this machine has it, TCP port 15001, UDP port 53, TCP port 53.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from typing import Callable, Dict, List, NoReturn, Optional, Tuple

from lambent.dataplane.jail import descriptors, netlink, nftables
from lambent.dataplane.jail import syscalls as sc

RUNTIME_API_PORT, EGRESS_PORT, DNS_PORT = 9001, 15001, 53
# A program that asks for addresses "as configured" (AI_ADDRCONFIG) gets none while there is only loopback, so lo has
# an address of its own: one of those set aside for such ends (RFC 7335), and a unique local one.
OWN_IPV4, OWN_IPV6 = "192.0.0.2", "fd6c:616d:6265::2"
MAX_SOCKETS = 7
_BACKLOG = 1024
_LOOPBACK: Dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_SO_ORIGINAL_DST = 80
_VERIFY_TARGET = ("198.51.100.7", 443)


class NamespaceFailed(OSError):
    """A network namespace could not be made; `step` says how far it came."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__("network namespace, {}: {}".format(step, reason))
        self.step = step
        self.reason = reason


class _Making:
    """What the steps share."""

    def __init__(self, ipv6: bool) -> None:
        self.ipv6 = ipv6
        self.sockets: List[socket.socket] = []


Step = Callable[[_Making], None]


def unshare_network(_: _Making) -> None:
    sc.unshare(sc.CLONE_NEWNET)


def bring_up_loopback(_: _Making) -> None:
    netlink.bring_up_loopback()


def listen_runtime_api(making: _Making) -> None:
    making.sockets.append(_listen(socket.AF_INET, RUNTIME_API_PORT))


def redirect_ipv4(_: _Making) -> None:
    # Before the route: at no moment may a packet find a way that is not redirected.
    _redirect(socket.AF_INET, OWN_IPV4)


def route_ipv4(_: _Making) -> None:
    netlink.add_loopback_address(OWN_IPV4)
    netlink.add_local_route(OWN_IPV4)


def listen_ipv4(making: _Making) -> None:
    making.sockets += _listen_outgoing(socket.AF_INET)


def add_ipv6(making: _Making) -> None:
    # Only where the machine itself has IPv6: a redirected connect always succeeds, so a program that tries IPv6 first
    # would never fall back. Without a route it gets ENETUNREACH and does.
    if not making.ipv6:
        return
    try:
        _redirect(socket.AF_INET6, OWN_IPV6)
        netlink.add_loopback_address(OWN_IPV6)
        listeners = _listen_outgoing(socket.AF_INET6)
    except OSError:
        # No NAT for IPv6 in this kernel. The route is missing, which is all that is needed.
        return
    making.sockets += listeners
    netlink.add_local_route(OWN_IPV6)


def verify_redirect(making: _Making) -> None:
    """Connect to an address elsewhere and see the listener get it, with that address (for probes)."""
    listener = making.sockets[1]
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(_VERIFY_TARGET)
        listener.settimeout(2)
        accepted, _ = listener.accept()
        listener.settimeout(0)
        with accepted:
            told = accepted.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    port, packed = struct.unpack_from("!2xH4s", told)
    if (socket.inet_ntoa(packed), port) != _VERIFY_TARGET:
        raise OSError("the original destination of a redirected connection is not told")


STEPS: Dict[str, Tuple[Step, ...]] = {
    "none": (unshare_network, bring_up_loopback, listen_runtime_api),
    "outgoing": (
        unshare_network,
        bring_up_loopback,
        listen_runtime_api,
        redirect_ipv4,
        route_ipv4,
        listen_ipv4,
        add_ipv6,
    ),
    "verify": (
        unshare_network,
        bring_up_loopback,
        listen_runtime_api,
        redirect_ipv4,
        route_ipv4,
        listen_ipv4,
        verify_redirect,
    ),
}


def make_namespace(kind: str, *, ipv6: Optional[bool] = None, fail_step: str = "") -> Tuple[int, List[socket.socket]]:
    """The descriptor of a new namespace and its sockets, non-blocking, in the order that the module names.

    `kind` is `none`, `outgoing` or, for probes, `verify`: as outgoing, and tried. `ipv6` None: if this machine has
    it. `fail_step` makes a step fail, for tests. Blocks 1 to 5 ms. Raises NamespaceFailed.
    """
    if kind not in STEPS:
        raise NamespaceFailed("kind", "there is no kind of network " + kind)
    making = _Making(netlink.has_ipv6_default_route() if ipv6 is None else ipv6)
    try:
        _stay_in_pid_namespace()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as exc:
        raise NamespaceFailed("prepare", str(exc)) from exc
    with ours:
        with theirs:
            pid = _fork(STEPS[kind], making, theirs, fail_step)
        try:
            message, fds = descriptors.receive(ours, 4096, MAX_SOCKETS + 1)
        except OSError as exc:
            raise NamespaceFailed("receive", str(exc)) from exc
        finally:
            _, status = os.waitpid(pid, 0)
    if not fds:
        step, _, reason = message.decode("utf-8", "replace").partition("\0")
        raise NamespaceFailed(step or "child", reason or "ended with status {}".format(status))
    return fds[0], [socket.socket(fileno=fd) for fd in fds[1:]]


def furnish(kind: str, *, ipv6: bool) -> List[socket.socket]:
    """Make the caller's new and empty namespace one of the kind; its sockets as `make_namespace` orders them.

    Raises OSError.
    """
    making = _Making(ipv6)
    for step in STEPS[kind]:
        if step is not unshare_network:
            step(making)
    return making.sockets


def make_namespace_here(
    kind: str, *, ipv6: Optional[bool] = None, fail_step: str = ""
) -> Tuple[int, List[socket.socket]]:
    """As `make_namespace`, by this process itself: a child costs more than all that it would do.

    For root outside any user namespace, with one thread: only then is there a way back into its own network. When the
    way back fails the process ends, for what it did next would be done in the wrong one.
    """
    if kind not in STEPS:
        raise NamespaceFailed("kind", "there is no kind of network " + kind)
    making = _Making(netlink.has_ipv6_default_route() if ipv6 is None else ipv6)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    name = "start"
    try:
        for step in STEPS[kind]:
            name = step.__name__
            if name == fail_step:
                raise OSError("failure asked for by a test")
            step(making)
        name = "descriptor"
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), making.sockets
    except Exception as exc:
        for item in making.sockets:
            item.close()
        raise NamespaceFailed(name, str(exc)) from exc
    finally:
        try:
            sc.setns(own, sc.CLONE_NEWNET)
        except OSError:
            os._exit(1)
        os.close(own)


def _stay_in_pid_namespace() -> None:
    """A zygote may have asked for another pid namespace for its next child, whose init may even have ended."""
    try:
        if os.readlink("/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid_for_children"):
            return
    except OSError:
        pass  # Asked for and not made yet: there is nothing to read.
    own = os.pidfd_open(os.getpid())
    try:
        sc.setns(own, sc.CLONE_NEWPID)
    finally:
        os.close(own)


def _fork(steps: Tuple[Step, ...], making: _Making, link: socket.socket, fail_step: str) -> int:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as exc:
        raise NamespaceFailed("fork", str(exc)) from exc
    if pid == 0:
        _make_in_child(steps, making, link, parent=parent, fail_step=fail_step)
    return pid


def _make_in_child(
    steps: Tuple[Step, ...], making: _Making, link: socket.socket, *, parent: int, fail_step: str
) -> NoReturn:
    name = "start"
    try:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It ended before it could take us along.
            os._exit(1)
        for step in steps:
            name = step.__name__
            if name == fail_step:
                raise OSError("failure asked for by a test")
            step(making)
        name = "descriptor"
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(link, [b"made"], [namespace, *(item.fileno() for item in making.sockets)])
        os._exit(0)
    except BaseException as exc:
        link.send((name + "\0" + str(exc)).encode("utf-8", "replace")[:4096])
    finally:
        os._exit(1)


def _redirect(family: int, own_address: str) -> None:
    nftables.install_redirect(family, own_address=own_address, tcp_port=EGRESS_PORT, dns_port=DNS_PORT)


def _listen(family: int, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((_LOOPBACK[family], port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _listen_outgoing(family: int) -> List[socket.socket]:
    # Redirected packets go to the loopback address; bound to any, answers would come from another one.
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((_LOOPBACK[family], DNS_PORT))
    datagrams.setblocking(False)
    return [_listen(family, EGRESS_PORT), datagrams, _listen(family, DNS_PORT)]
