from __future__ import annotations

import ipaddress

import pytest

from lambent.dataplane.sandbox.network.policy import AllowedHost, Denial, EgressPolicy
from lambent.model.errors import OperatorError

HOST_ADDRESSES = {"203.0.113.1", "10.0.0.1", "2001:db8::1"}


def _deny(address: str, policy: EgressPolicy | None = None, port: int = 443) -> Denial | None:
    chosen = policy or EgressPolicy()
    return chosen.deny(ipaddress.ip_address(address), port, is_local=HOST_ADDRESSES.__contains__)


@pytest.mark.parametrize(
    ("address", "denial"),
    [
        ("127.0.0.1", Denial.LOOPBACK),
        ("127.255.255.254", Denial.LOOPBACK),
        ("::1", Denial.LOOPBACK),
        ("0.0.0.0", Denial.RESERVED),
        ("0.1.2.3", Denial.RESERVED),
        ("::", Denial.RESERVED),
        ("240.0.0.1", Denial.RESERVED),
        ("255.255.255.255", Denial.RESERVED),
        ("192.0.0.2", Denial.RESERVED),
        ("169.254.169.254", Denial.LINK_LOCAL),
        ("fe80::1", Denial.LINK_LOCAL),
        ("fd00:ec2::254", Denial.LINK_LOCAL),
        ("224.0.0.1", Denial.MULTICAST),
        ("ff02::1", Denial.MULTICAST),
        ("203.0.113.1", Denial.HOST),
        ("10.0.0.1", Denial.HOST),
        ("2001:db8::1", Denial.HOST),
        ("10.1.2.3", Denial.PRIVATE),
        ("172.31.0.1", Denial.PRIVATE),
        ("192.168.1.1", Denial.PRIVATE),
        ("100.64.0.1", Denial.PRIVATE),
        ("fd12::1", Denial.PRIVATE),
        ("198.51.100.7", None),
        ("172.32.0.1", None),
        ("2001:db8::7", None),
    ],
)
def test_what_is_refused_and_why(address: str, denial: Denial | None) -> None:
    assert _deny(address) is denial


@pytest.mark.parametrize("inner", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "203.0.113.1"])
@pytest.mark.parametrize("form", ["mapped", "compatible", "nat64", "6to4"])
def test_an_ipv4_address_inside_an_ipv6_one_is_refused_as_itself(inner: str, form: str) -> None:
    number = int(ipaddress.IPv4Address(inner))
    prefix = {"mapped": 0xFFFF << 32, "compatible": 0, "nat64": 0x64FF9B << 96, "6to4": 0x2002 << 112}[form]
    shifted = number << 80 if form == "6to4" else number
    assert _deny(str(ipaddress.IPv6Address(prefix | shifted))) is _deny(inner)


def test_private_networks_open_by_setting_but_not_the_host_within() -> None:
    policy = EgressPolicy(allow_private=True)
    assert _deny("10.1.2.3", policy) is None
    assert _deny("fd12::1", policy) is None
    assert _deny("10.0.0.1", policy) is Denial.HOST
    assert _deny("169.254.169.254", policy) is Denial.LINK_LOCAL


def test_an_exception_holds_for_its_port_alone_and_beats_every_denial() -> None:
    policy = EgressPolicy(allow_hosts=(AllowedHost.parse("10.0.0.1:5432"), AllowedHost.parse("192.168.0.0/16")))
    assert _deny("10.0.0.1", policy, 5432) is None
    assert _deny("::ffff:10.0.0.1", policy, 5432) is None
    assert _deny("10.0.0.1", policy, 5433) is Denial.HOST
    assert _deny("192.168.7.7", policy, 1) is None


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.1.2.3:5432", "10.1.2.3/32", 5432),
        ("10.1.2.3", "10.1.2.3/32", 0),
        ("10.0.0.0/8:443", "10.0.0.0/8", 443),
        ("[fd00::/8]:443", "fd00::/8", 443),
        ("[fd00::1]", "fd00::1/128", 0),
        ("fd00::1", "fd00::1/128", 0),
    ],
)
def test_exceptions_as_operators_write_them(text: str, network: str, port: int) -> None:
    parsed = AllowedHost.parse(text)
    assert (str(parsed.network), parsed.port) == (network, port)
    assert AllowedHost.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "db.internal:5432", "10.1.2.3:http", "10.1.2.3:65536", "10.1.2.3:-1", "[fd00::1"])
def test_an_exception_that_is_none_names_the_form(text: str) -> None:
    with pytest.raises(OperatorError, match=r"is not ADDRESS, ADDRESS:PORT or CIDR:PORT"):
        AllowedHost.parse(text)


def test_an_exception_for_loopback_is_refused_since_it_could_not_work() -> None:
    with pytest.raises(OperatorError, match="each environment's own"):
        AllowedHost.parse("127.0.0.1:5432")


def test_a_policy_arrives_as_it_was_sent() -> None:
    policy = EgressPolicy(allow_private=True, allow_hosts=(AllowedHost.parse("10.0.0.0/8:443"),))
    assert EgressPolicy.decode(policy.encode()) == policy
