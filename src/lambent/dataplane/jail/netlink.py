"""Network interfaces, addresses and routes over rtnetlink, by hand: no `ip` program is needed.

Standard library only, Python 3.9. Every function acts on the network namespace of the caller and raises OSError.
The message layouts are those of linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Iterator, List, NamedTuple, Optional, Tuple

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLMSG_ERROR = 2
NESTED = 0x8000

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 16, 20, 24, 26
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST = 255, 4, 254
RTN_LOCAL = 2

LOOPBACK_INDEX = 1
"""The loopback interface is the first of every network namespace."""
_HEADER = struct.Struct("=IHHII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_PATIENCE_S = 10.0
"""The kernel answers at once, unless it has to load a module first."""


class Reply(NamedTuple):
    kind: int
    sequence: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One type-length-value, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def parse_replies(data: bytes) -> Iterator[Reply]:
    while len(data) >= _HEADER.size:
        length, kind, _, sequence, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield Reply(kind, sequence, data[_HEADER.size : length])
        data = data[(length + 3) & ~3 :]


def error_of(reply: Reply) -> int:
    """The errno of an NLMSG_ERROR, 0 for an acknowledgement."""
    number: int = struct.unpack_from("=i", reply.body)[0]
    return -number


def open_socket(protocol: int) -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    link.settimeout(_PATIENCE_S)
    return link


def _request(kind: int, flags: int, body: bytes, what: str) -> List[Reply]:
    with open_socket(socket.NETLINK_ROUTE) as link:
        link.send(message(kind, NLM_F_REQUEST | flags, 1, body))
        replies = list(parse_replies(link.recv(65536)))
    for reply in replies:
        if reply.kind == NLMSG_ERROR and error_of(reply):
            raise OSError(error_of(reply), "{}: {}".format(what, os.strerror(error_of(reply))))
    return replies


def bring_up_loopback() -> None:
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, LOOPBACK_INDEX, _IFF_UP, _IFF_UP)
    _request(_RTM_NEWLINK, NLM_F_ACK, body, "bring up lo")


def _pack_address(address: str) -> Tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def add_loopback_address(address: str) -> None:
    """Give lo a further address, for this host alone (/32, /128)."""
    family, packed = _pack_address(address)
    # Without NODAD an IPv6 address is not usable at once.
    flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
    body = struct.pack("=BBBBI", family, len(packed) * 8, flags, 0, LOOPBACK_INDEX)
    body += attribute(_IFA_ADDRESS, packed) + attribute(_IFA_LOCAL, packed)
    _request(_RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, "add address " + address)


def add_local_route(source: str, *, destination: Optional[str] = None) -> None:
    """Deliver packets to lo that would leave: to every address of `source`'s family, or to one `destination`.

    `source` is the address that programs then see as their own.
    """
    family, packed_source = _pack_address(source)
    packed = b"" if destination is None else _pack_address(destination)[1]
    body = _RTMSG.pack(family, len(packed) * 8, 0, 0, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST, RTN_LOCAL, 0)
    if packed:
        body += attribute(_RTA_DST, packed)
    body += attribute(_RTA_OIF, struct.pack("=I", LOOPBACK_INDEX)) + attribute(_RTA_PREFSRC, packed_source)
    _request(_RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, "add local route")


def is_local(address: str) -> bool:
    """Whether a connection to `address` would end on this machine, whatever interface carries the address.

    The kernel is asked as `connect` would ask it, so the answer is right for addresses added a moment ago too.
    """
    family, packed = _pack_address(address)
    body = _RTMSG.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, packed)
    try:
        replies = _request(_RTM_GETROUTE, 0, body, "look up " + address)
    except OSError as exc:
        if exc.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES):
            return False
        raise
    return any(reply.kind == _RTM_NEWROUTE and _RTMSG.unpack_from(reply.body)[7] == RTN_LOCAL for reply in replies)


def has_ipv6_default_route() -> bool:
    """Whether this network namespace reaches the IPv6 world at all."""
    try:
        # As bytes: a zygote may no longer see the modules of text encodings.
        with open("/proc/net/ipv6_route", "rb") as routes:
            return any(_is_default_route(line.split()) for line in routes)
    except OSError:
        return False


def _is_default_route(fields: List[bytes]) -> bool:
    # destination, prefix length, source, its length, next hop, metric, references, use, flags, device
    up, reject = 0x1, 0x200
    return fields[1] == b"00" and fields[9] != b"lo" and int(fields[8], 16) & (up | reject) == up
