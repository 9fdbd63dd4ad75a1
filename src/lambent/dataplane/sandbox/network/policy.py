"""Where an environment may connect to. No I/O: the one fact only the kernel knows is asked through a function."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from lambent.model.errors import OperatorError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


API_ADDRESS, API_PORT = ipaddress.IPv4Address("169.254.100.1"), 8700
"""Where an environment finds the node's API. Nothing is there: the gate takes what connects to it to the node."""


class Denial(enum.Enum):
    """Why a connection is refused."""

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    HOST = "address of this host"
    PRIVATE = "private"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_NEVER: tuple[tuple[Denial, tuple[Network, ...]], ...] = (
    (Denial.LOOPBACK, _networks("127.0.0.0/8", "::1/128")),
    # 169.254.169.254 and fd00:ec2::254 are where clouds hand out the machine's own credentials.
    (Denial.LINK_LOCAL, _networks("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32")),
    (Denial.MULTICAST, _networks("224.0.0.0/4", "ff00::/8")),
    # 0.0.0.0 and :: connect to this host; 192.0.0.0/24 holds the address environments have themselves.
    (Denial.RESERVED, _networks("0.0.0.0/8", "192.0.0.0/24", "240.0.0.0/4", "::/128")),
)
_PRIVATE = _networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10", "64:ff9b:1::/48"
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclasses.dataclass(frozen=True, slots=True)
class AllowedHost:
    """An exception that an operator makes; `port` 0 is every port."""

    network: Network
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """`10.1.2.3:5432`, `10.0.0.0/8`, `[fd00::/8]:443`, `fd00::1`. Raises OperatorError."""
        host, port = text.strip(), ""
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            host, port = (host, port.removeprefix(":")) if bracket else ("", "")
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        try:
            number = int(port) if port else 0
            network = ipaddress.ip_network(host, strict=False)
        except ValueError:
            number = -1
        if not 0 <= number <= 65535:
            raise OperatorError(
                f"network.allow_hosts: {text!r} is not ADDRESS, ADDRESS:PORT or CIDR:PORT, like 10.1.2.3:5432"
            )
        if network.is_loopback:
            raise OperatorError(f"network.allow_hosts: {text!r} cannot be reached, loopback is each environment's own")
        return cls(network, number)

    def __str__(self) -> str:
        return f"[{self.network}]:{self.port}"

    def holds(self, address: Address, port: int) -> bool:
        return self.port in (0, port) and address in self.network


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    allow_private: bool = False
    """Private ranges may be reached; never the addresses of the host itself."""
    allow_hosts: Sequence[AllowedHost] = ()
    """Stronger than every denial."""
    api: tuple[str, int] | None = None
    """Where the node's API really listens; reached by the address above and by no other."""

    def encode(self) -> dict[str, Any]:
        return {
            "allow_private": self.allow_private,
            "allow_hosts": [str(host) for host in self.allow_hosts],
            "api": self.api,
        }

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> EgressPolicy:
        hosts = tuple(AllowedHost.parse(text) for text in fields["allow_hosts"])
        api = (fields["api"][0], fields["api"][1]) if fields["api"] is not None else None
        return cls(allow_private=fields["allow_private"], allow_hosts=hosts, api=api)

    def deny(self, address: Address, port: int, *, is_local: Callable[[str], bool]) -> Denial | None:
        """Why a TCP connection to `address` is refused, None when it is not.

        `is_local` tells whether a connection to an address would end on this machine.
        """
        embedded = _embedded_ipv4(address)
        if any(host.holds(address, port) for host in self.allow_hosts):
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            return self.deny(address.ipv4_mapped, port, is_local=is_local)
        for denial, networks in _NEVER:
            if any(address in network for network in networks):
                return denial
        if embedded is not None:
            inner = self.deny(embedded, port, is_local=is_local)
            if inner is not None:
                return inner
        if is_local(str(address)):
            return Denial.HOST
        if not self.allow_private and any(address in network for network in _PRIVATE):
            return Denial.PRIVATE
        return None


def _embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway on the way would make of an IPv6 one (NAT64, 6to4, compatible)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
