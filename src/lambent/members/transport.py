"""The port over which members ask each other. Adapter: `unix_transport` (processes of one machine)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lambent.model.errors import PlatformError

Done = Callable[[bytes | Exception], None]
Handler = Callable[[bytes, Done], None]
"""Serves one kind of question: calls `done` once, now or later, from the event loop."""

PATIENCE_S = 10.0
"""How long a question waits for a member that is being replaced."""


class MemberGone(PlatformError):
    """The member cannot be reached (`retry_safe`: the question never left), or ended before it answered."""


class Transport(Protocol):
    """Bodies pass through untouched. Questions of one member to another are taken in the order they were asked.

    An exception of the handler comes back as it is where it is a CallerError or a PlatformError.
    """

    def submit(self, member: str, kind: str, body: bytes, done: Done, *, patience_s: float = PATIENCE_S) -> None:
        """`done` is called once, later."""
        ...

    async def ask(self, member: str, kind: str, body: bytes, *, patience_s: float = PATIENCE_S) -> bytes: ...
