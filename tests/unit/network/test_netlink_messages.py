from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from lambent.dataplane.jail import descriptors, netlink


def test_attributes_are_padded_but_their_length_is_not() -> None:
    assert netlink.attribute(3, b"abcde") == struct.pack("=HH", 9, 3) + b"abcde\0\0\0"
    assert netlink.nested(4, netlink.attribute(1, b"ab")) == struct.pack("=HHHH", 12, 4 | 0x8000, 6, 1) + b"ab\0\0"


def test_replies_are_cut_apart_and_errors_read() -> None:
    error = netlink.message(netlink.NLMSG_ERROR, 0, 7, struct.pack("=i", -errno.EPERM) + bytes(16))
    done = netlink.message(netlink.NLMSG_ERROR, 0, 8, struct.pack("=i", 0) + bytes(17)) + bytes(3)
    replies = list(netlink.parse_replies(error + done))
    assert [(reply.sequence, netlink.error_of(reply)) for reply in replies] == [(7, errno.EPERM), (8, 0)]


def test_rubbish_ends_the_parsing() -> None:
    assert list(netlink.parse_replies(bytes(64))) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_the_kernel_knows_its_own_addresses(address: str) -> None:
    assert netlink.is_local(address)


def test_an_address_elsewhere_is_not_local() -> None:
    assert not netlink.is_local("198.51.100.7")
    assert not netlink.is_local("2001:db8:ffff::7")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"0 00 0 00 fe80 400 1 0 00000003 eth0", True),
        (b"0 00 0 00 0 ffffffff 1 0 00200200 lo", False),
        (b"0 00 0 00 0 400 1 0 00000201 eth0", False),
        (b"2001 40 0 00 0 400 1 0 00000001 eth0", False),
    ],
)
def test_a_default_route_is_told_from_a_rejecting_one(line: bytes, answer: bool) -> None:
    assert netlink._is_default_route(line.split()) is answer


def test_received_descriptors_do_not_survive_exec() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"x"], [0, 1])
        message, fds = descriptors.receive(ours, 10, 2)
    assert message == b"x"
    assert [os.get_inheritable(fd) for fd in fds] == [False, False]
    descriptors.close_all(fds)


def test_descriptors_that_do_not_fit_are_an_error_and_none_is_kept() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"x"], [0] * 9)
        with pytest.raises(OSError, match="ulimit") as failed:
            descriptors.receive(ours, 10, 2)
    assert failed.value.errno == errno.EMFILE
    assert len(list(Path("/proc/self/fd").iterdir())) == before
