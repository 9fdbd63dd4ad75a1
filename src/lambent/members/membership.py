"""Who the members of a node are, and which of them is the home of a key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

_REMEMBERED = 16_384


class Membership(Protocol):
    """Every member must give the same answers: what has two homes has two limits."""

    @property
    def me(self) -> str: ...

    @property
    def members(self) -> Sequence[str]: ...

    @property
    def owner(self) -> str:
        """The member that alone writes state."""
        ...

    def home_of(self, key: str) -> str: ...


class FixedMembership:
    """Implements `Membership` for members that are always the same: the processes of one machine.

    A member that died keeps its keys and gets them back with its replacement. While it is away they have no home:
    giving them to others would let two members count one function's invocations.
    """

    def __init__(self, me: str, members: Sequence[str]) -> None:
        """The first member is the owner."""
        self._me = me
        self._members = tuple(members)
        self._homes: dict[str, str] = {}

    @property
    def me(self) -> str:
        return self._me

    @property
    def members(self) -> Sequence[str]:
        return self._members

    @property
    def owner(self) -> str:
        return self._members[0]

    @property
    def others(self) -> Sequence[str]:
        return [member for member in self._members if member != self._me]

    def home_of(self, key: str) -> str:
        home = self._homes.get(key)
        if home is None:
            if len(self._homes) >= _REMEMBERED:
                self._homes.clear()
            home = self._homes[key] = choose_home(key, self._members)
        return home


def choose_home(key: str, members: Sequence[str]) -> str:
    """Rendezvous hashing: a member more or less moves only the keys that it gets or had."""
    return max(members, key=lambda member: hashlib.blake2b(f"{member}/{key}".encode(), digest_size=8).digest())
