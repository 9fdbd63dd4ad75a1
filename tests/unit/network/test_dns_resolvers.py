from __future__ import annotations

from pathlib import Path

import pytest

from lambent.dataplane.sandbox.network.resolvers import Resolver, read_resolvers, refuse

QUESTION = b"\x03www\x07example\x00\x00\x01\x00\x01"
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" + QUESTION + b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


def test_the_first_three_name_servers_are_used(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# a comment\nsearch example\nnameserver 10.0.0.2\nnameserver nonsense\nnameserver fe80::1%eth0\n"
        "nameserver 2001:db8::53\nnameserver 9.9.9.9\n"
    )
    assert read_resolvers(path) == [Resolver("10.0.0.2"), Resolver("fe80::1%eth0"), Resolver("2001:db8::53")]


def test_without_a_name_server_it_is_this_machine(tmp_path: Path) -> None:
    assert read_resolvers(tmp_path / "missing") == [Resolver("127.0.0.1")]


def test_a_refusal_repeats_the_question_and_nothing_else() -> None:
    answer = refuse(QUERY)
    assert answer[:2] == QUERY[:2]
    assert answer[2] & 0x80
    assert answer[3] & 15 == 2
    assert answer[4:12] == b"\x00\x01\x00\x00\x00\x00\x00\x00"
    assert answer[12:] == QUESTION


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUERY[:11],
        QUERY[:20],
        QUERY[:12] + b"\xc0\x0c\x00\x01\x00\x01",
        QUERY[:2] + b"\x81" + QUERY[3:],
        QUERY[:5] + b"\x02" + QUERY[6:],
    ],
)
def test_what_is_no_query_is_not_answered(data: bytes) -> None:
    assert refuse(data) == b""
