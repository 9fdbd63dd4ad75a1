"""The system call filter, the last step of confinement.

An allow list compiled to a classic BPF binary search over ranges of numbers, so that a call costs some seven
comparisons instead of three hundred. Default: ENOSYS. Named dangerous calls: EPERM. A foreign architecture or the
x32 numbers: the process is killed, because their tables are not checked here.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import Dict, List, Tuple

from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.jail.seccomp_table import ALLOWED, DENIED, SPECIAL

_LOAD, _JEQ, _JGE, _JSET, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_X32_BIT = 0x40000000
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_NAMESPACE_FLAGS = 0x7E020000 | 0x80
"""Every CLONE_NEW flag that clone() takes, CLONE_NEWTIME included."""
_SOCKET_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_NETLINK, _NETLINK_ROUTE = 16, 0
_SOCK_RAW = 3
_TABLE_OPTIONS = (64, 65, 96, 97, 128, 129)
"""Setting packet filter tables: those of IP, ARP and bridges."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

Instruction = Tuple[int, int, int, int]


def _refuse(number: int) -> List[Instruction]:
    return [(_RETURN, 0, 0, _ERRNO | number)]


_PERMIT: List[Instruction] = [(_RETURN, 0, 0, _ALLOW)]


def _argument(index: int) -> Instruction:
    # Little-endian: the low word of a 64-bit argument comes first.
    return (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * index)


def _clone() -> List[Instruction]:
    return [_argument(0), (_JSET, 0, 1, _NAMESPACE_FLAGS), *_refuse(errno.EPERM), *_PERMIT]


def _socket() -> List[Instruction]:
    program = [_argument(0)]
    for family in _SOCKET_FAMILIES:
        program += [(_JEQ, 0, 1, family), *_PERMIT]
    program += [(_JEQ, 1, 0, _NETLINK), *_refuse(errno.EAFNOSUPPORT)]
    program += [_argument(2), (_JEQ, 1, 0, _NETLINK_ROUTE), *_refuse(errno.EAFNOSUPPORT), *_PERMIT]
    return program


def _ioctl() -> List[Instruction]:
    program = [_argument(1)]
    for request in (_TIOCSTI, _TIOCLINUX):
        program += [(_JEQ, 0, 1, request), *_refuse(errno.EPERM)]
    return program + _PERMIT


def _personality() -> List[Instruction]:
    program = [_argument(0)]
    for value in (0, 0xFFFFFFFF):
        program += [(_JEQ, 0, 1, value), *_PERMIT]
    return program + _refuse(errno.EPERM)


def _socket_of_template() -> List[Instruction]:
    # Environments of a template have, until they dropped them, capabilities over a network namespace of their own:
    # raw sockets and packet filter tables must not be reachable by these. Without them both are refused anyway.
    is_raw: List[Instruction] = [_argument(1), (_AND, 0, 0, 0xF), (_JEQ, 0, 1, _SOCK_RAW), *_refuse(errno.EPERM)]
    program = [_argument(0), (_JEQ, len(is_raw), 0, _NETLINK), *is_raw]
    return program + _socket()


def _setsockopt_of_template() -> List[Instruction]:
    tables: List[Instruction] = [_argument(2)]
    for option in _TABLE_OPTIONS:
        tables += [(_JEQ, 0, 1, option), *_refuse(errno.EPERM)]
    levels: List[Instruction] = [_argument(1), (_JEQ, 2, 0, 0), (_JEQ, 1, 0, 41), *_PERMIT]
    return levels + tables + _PERMIT


_DECISIONS = {
    "clone": _clone(),
    # Its flags lie behind a pointer that a filter cannot follow; the C library falls back to clone.
    "clone3": _refuse(errno.ENOSYS),
    "socket": _socket(),
    "ioctl": _ioctl(),
    "personality": _personality(),
}


_TEMPLATE_DECISIONS = {
    "setns": list(_PERMIT),
    "setsockopt": _setsockopt_of_template(),
    "socket": _socket_of_template(),
}


def compile_filter(machine: str, *, template: bool = False) -> bytes:
    """The filter as an array of sock_filter. Raises KeyError for a machine without a table.

    That of a SnapStart template allows setns, and refuses what capabilities over a network namespace would open;
    its environments install the ordinary one on top of it.
    """
    column, architecture = _ARCHITECTURES[machine]
    actions: Dict[int, Tuple[Instruction, ...]] = {}
    for table, action in ((ALLOWED, tuple(_PERMIT)), (DENIED, tuple(_refuse(errno.EPERM)))):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                actions[number] = action
    for name, numbers in SPECIAL.items():
        number = numbers[column]
        if number is not None:
            actions[number] = tuple(_DECISIONS[name])
    for name, decision in _TEMPLATE_DECISIONS.items() if template else ():
        number = {**ALLOWED, **DENIED, **SPECIAL}[name][column]
        if number is not None:
            actions[number] = tuple(decision)
    program: List[Instruction] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JEQ, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JGE, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]
    program += _search(_ranges(actions))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _ranges(actions: Dict[int, Tuple[Instruction, ...]]) -> List[Tuple[int, Tuple[Instruction, ...]]]:
    """(first number, action) of each run of numbers with the same action, up to the next run."""
    default = tuple(_refuse(errno.ENOSYS))
    runs: List[Tuple[int, Tuple[Instruction, ...]]] = []
    for number in range(max(actions) + 2):
        action = actions.get(number, default)
        if not runs or runs[-1][1] != action:
            runs.append((number, action))
    return runs


def _search(runs: List[Tuple[int, Tuple[Instruction, ...]]]) -> List[Instruction]:
    if len(runs) == 1:
        return list(runs[0][1])
    middle = len(runs) // 2
    low, high = _search(runs[:middle]), _search(runs[middle:])
    start = runs[middle][0]
    if len(low) <= 255:
        return [(_JGE, len(low), 0, start), *low, *high]
    # A conditional jump reaches 255 instructions; further ones go by an unconditional one.
    return [(_JGE, 0, 1, start), (0x05, 0, 0, len(low)), *low, *high]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def prepare_filter(*, template: bool = False) -> bytes:
    """The filter of this machine, compiled once by the zygote."""
    return compile_filter(platform.machine(), template=template)


def install_filter(compiled: bytes) -> None:
    """Needs no_new_privs. Holds for this thread and all it will ever start."""
    program = _Program(len(compiled) // 8, compiled)
    sc.call("seccomp", ctypes.c_uint(1), ctypes.c_uint(0), ctypes.byref(program))
