"""The NAT rules of an outgoing network namespace over nfnetlink, by hand: no `nft` program is needed.

The same as this, in one transaction (linux/netfilter/nf_tables.h):

    table ip lambent {
      chain output {
        type nat hook output priority -100;
        udp dport 53 redirect to :53                # before the next rule: also to 127.0.0.53
        ip daddr 127.0.0.0/8 accept
        ip daddr OWN accept
        tcp dport 53 redirect to :53
        meta l4proto tcp redirect to :15001
      }
    }

Standard library only, Python 3.9. Acts on the network namespace of the caller.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Dict, List, NamedTuple, Tuple

from lambent.dataplane.jail import netlink
from lambent.dataplane.jail.netlink import attribute, nested

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_NFPROTO: Dict[int, int] = {socket.AF_INET: 2, socket.AF_INET6: 10}
_HOOK_LOCAL_OUT = 3
_PRIORITY_DSTNAT = -100
_NF_ACCEPT = 1
_REGISTER = 1
_VERDICT_REGISTER = 0
_META_L4PROTO = 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_RANGE_PROTO_SPECIFIED = 2
_TABLE, _CHAIN = b"lambent\0", b"output\0"


class _Part(NamedTuple):
    name: str
    kind: int
    flags: int
    body: bytes


def install_redirect(family: int, *, own_address: str, tcp_port: int, dns_port: int) -> None:
    """Send outgoing TCP of `family` to a local port, DNS to another. Raises OSError naming the part refused."""
    rules = (
        ("dns over udp", [*_match_port(socket.IPPROTO_UDP, 53), *_redirect(dns_port)]),
        ("loopback", [*_match_loopback(family), _accept()]),
        ("own address", [*_match_destination(family, own_address), _accept()]),
        ("dns over tcp", [*_match_port(socket.IPPROTO_TCP, 53), *_redirect(dns_port)]),
        ("tcp", [*_match_protocol(socket.IPPROTO_TCP), *_redirect(tcp_port)]),
    )
    parts = [_table(), _chain(), *(_rule(name, expressions) for name, expressions in rules)]
    _commit(family, parts)


def _commit(family: int, parts: List[_Part]) -> None:
    begin_and_end = struct.pack("=BB", socket.AF_UNSPEC, 0) + struct.pack("!H", _SUBSYSTEM)
    of_family = struct.pack("=BBH", _NFPROTO[family], 0, 0)
    messages = [netlink.message(_BATCH_BEGIN, netlink.NLM_F_REQUEST, 0, begin_and_end)]
    for number, part in enumerate(parts, 1):
        flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK | part.flags
        messages.append(netlink.message(_SUBSYSTEM << 8 | part.kind, flags, number, of_family + part.body))
    messages.append(netlink.message(_BATCH_END, netlink.NLM_F_REQUEST, len(parts) + 1, begin_and_end))
    with netlink.open_socket(_NETLINK_NETFILTER) as link:
        link.send(b"".join(messages))
        missing = len(parts)
        while missing:
            for reply in netlink.parse_replies(link.recv(65536)):
                _check(reply, parts)
                missing -= 1


def _check(reply: netlink.Reply, parts: List[_Part]) -> None:
    number = netlink.error_of(reply) if reply.kind == netlink.NLMSG_ERROR else 0
    if number:
        name = parts[reply.sequence - 1].name if 1 <= reply.sequence <= len(parts) else "transaction"
        raise OSError(number, "nftables {}: {}".format(name, os.strerror(number)))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value))


def _table() -> _Part:
    return _Part("table", _NEWTABLE, netlink.NLM_F_CREATE, attribute(1, _TABLE) + _number(2, 0))


def _chain() -> _Part:
    hook = nested(4, _number(1, _HOOK_LOCAL_OUT), _number(2, _PRIORITY_DSTNAT))
    body = attribute(1, _TABLE) + attribute(3, _CHAIN) + hook + _number(5, _NF_ACCEPT) + attribute(7, b"nat\0")
    return _Part("nat chain", _NEWCHAIN, netlink.NLM_F_CREATE, body)


def _rule(name: str, expressions: List[bytes]) -> _Part:
    body = attribute(1, _TABLE) + attribute(2, _CHAIN) + nested(4, *expressions)
    return _Part("rule for " + name, _NEWRULE, netlink.NLM_F_CREATE | netlink.NLM_F_APPEND, body)


def _expression(name: bytes, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name + b"\0"), nested(2, *attributes))


def _equals(value: bytes) -> bytes:
    return _expression(b"cmp", _number(1, _REGISTER), _number(2, 0), nested(3, attribute(1, value)))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _number(1, _REGISTER), _number(2, base), _number(3, offset), _number(4, length))


def _match_protocol(protocol: int) -> Tuple[bytes, ...]:
    meta = _expression(b"meta", _number(2, _META_L4PROTO), _number(1, _REGISTER))
    return meta, _equals(bytes([protocol]))


def _match_port(protocol: int, port: int) -> Tuple[bytes, ...]:
    return (*_match_protocol(protocol), _payload(_TRANSPORT_HEADER, 2, 2), _equals(struct.pack("!H", port)))


def _match_destination(family: int, address: str) -> Tuple[bytes, ...]:
    packed = socket.inet_pton(family, address)
    offset = 16 if family == socket.AF_INET else 24
    return _payload(_NETWORK_HEADER, offset, len(packed)), _equals(packed)


def _match_loopback(family: int) -> Tuple[bytes, ...]:
    if family == socket.AF_INET6:
        return _match_destination(family, "::1")
    return _payload(_NETWORK_HEADER, 16, 1), _equals(b"\x7f")


def _accept() -> bytes:
    verdict = nested(2, nested(2, _number(1, _NF_ACCEPT)))
    return _expression(b"immediate", _number(1, _VERDICT_REGISTER), verdict)


def _redirect(port: int) -> Tuple[bytes, ...]:
    load = _expression(b"immediate", _number(1, _REGISTER), nested(2, attribute(1, struct.pack("!H", port))))
    return load, _expression(b"redir", _number(1, _REGISTER), _number(3, _RANGE_PROTO_SPECIFIED))
