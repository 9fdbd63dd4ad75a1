"""The port through which the front door asks other servers: an issuer for its keys, a server behind an API."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Fetched(msgspec.Struct, kw_only=True):
    status: int
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes


class NotReached(Exception):
    """No answer: refused by the node's policy, not resolved, not connected, broken off. The message says which."""


class TooSlow(NotReached):
    """No answer within the time limit."""


class Outgoing(Protocol):
    async def request(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Fetched:
        """Only to where functions of the node may connect. Raises NotReached, also for more than `max_bytes`."""
        ...
