"""The filter is run by a small interpreter of the instructions it uses, for both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from lambent.dataplane.jail import seccomp
from lambent.dataplane.jail.seccomp_table import ALLOWED, DENIED, SPECIAL

ALLOW, KILL = 0x7FFF0000, 0x80000000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def run(program: bytes, number: int, architecture: int, *arguments: int) -> int:
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *padded)
    at, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, value = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return int(value)
        elif code == 0x05:
            at += value
        elif code == 0x54:
            accumulator &= value
        else:
            held = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += jump_true if held else jump_false


def error(number: int) -> int:
    return 0x00050000 | number


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_allowed_call_is_allowed_and_every_dangerous_one_refused(machine: str) -> None:
    column, architecture = MACHINES[machine]
    program = seccomp.compile_filter(machine)
    for table, expected in ((ALLOWED, ALLOW), (DENIED, error(errno.EPERM))):
        for name, numbers in table.items():
            number = numbers[column]
            if number is not None:
                assert run(program, number, architecture) == expected, name


def test_a_call_in_no_table_does_not_exist(machine: str) -> None:
    column, architecture = MACHINES[machine]
    known = {numbers[column] for table in (ALLOWED, DENIED, SPECIAL) for numbers in table.values()}
    program = seccomp.compile_filter(machine)
    for number in range(700):
        if number not in known:
            assert run(program, number, architecture) == error(errno.ENOSYS), number


def test_a_foreign_architecture_is_killed(machine: str) -> None:
    program = seccomp.compile_filter(machine)
    assert run(program, 0, 0x40000003) == KILL


def test_the_x32_numbers_are_killed() -> None:
    program = seccomp.compile_filter("x86_64")
    assert run(program, 0x40000000 | 39, 0xC000003E) == KILL


def test_clone_may_make_threads_but_no_namespaces() -> None:
    program = seccomp.compile_filter("x86_64")
    threads = 0x3D0F00
    assert run(program, 56, 0xC000003E, threads) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(program, 56, 0xC000003E, threads | flag) == error(errno.EPERM), hex(flag)


def test_clone3_is_unknown_so_that_libc_falls_back() -> None:
    assert run(seccomp.compile_filter("x86_64"), 435, 0xC000003E) == error(errno.ENOSYS)


@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [
        (1, 0, ALLOW),
        (2, 0, ALLOW),
        (10, 0, ALLOW),
        (16, 0, ALLOW),
        (16, 12, error(errno.EAFNOSUPPORT)),
        (17, 0, error(errno.EAFNOSUPPORT)),
        (38, 0, error(errno.EAFNOSUPPORT)),
        (40, 0, error(errno.EAFNOSUPPORT)),
    ],
)
def test_only_the_usual_socket_families_open(family: int, protocol: int, expected: int) -> None:
    assert run(seccomp.compile_filter("x86_64"), 41, 0xC000003E, family, 1, protocol) == expected


def test_keys_cannot_be_typed_into_a_terminal() -> None:
    program = seccomp.compile_filter("x86_64")
    assert run(program, 16, 0xC000003E, 0, 0x5412) == error(errno.EPERM)
    assert run(program, 16, 0xC000003E, 0, 0x5401) == ALLOW


def test_a_templates_filter_differs_in_what_it_names_alone(machine: str) -> None:
    column, architecture = MACHINES[machine]
    ordinary, template = seccomp.compile_filter(machine), seccomp.compile_filter(machine, template=True)
    setns = DENIED["setns"][column]
    assert setns is not None
    for number in range(700):
        if number != setns:
            assert run(template, number, architecture) == run(ordinary, number, architecture), number
    assert run(template, setns, architecture) == ALLOW


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("socket", (2, 1, 0), ALLOW),
        ("socket", (10, 2 | 0o2000000, 0), ALLOW),
        ("socket", (2, 3, 1), error(errno.EPERM)),
        ("socket", (10, 3 | 0o2000000, 58), error(errno.EPERM)),
        ("socket", (16, 3, 0), ALLOW),
        ("socket", (16, 3, 12), error(errno.EAFNOSUPPORT)),
        ("socket", (17, 2, 0), error(errno.EAFNOSUPPORT)),
        ("setsockopt", (3, 1, 64), ALLOW),
        ("setsockopt", (3, 6, 64), ALLOW),
        ("setsockopt", (3, 0, 2), ALLOW),
        ("setsockopt", (3, 41, 67), ALLOW),
        ("setsockopt", (3, 0, 64), error(errno.EPERM)),
        ("setsockopt", (3, 41, 64), error(errno.EPERM)),
        ("setsockopt", (3, 0, 129), error(errno.EPERM)),
    ],
)
def test_a_template_reaches_neither_raw_sockets_nor_packet_filters(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    column, architecture = MACHINES[machine]
    number = {**ALLOWED, **SPECIAL}[name][column]
    assert number is not None
    assert run(seccomp.compile_filter(machine, template=True), number, architecture, *arguments) == expected
