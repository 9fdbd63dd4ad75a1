"""The port through which the front door asks other servers: an issuer for its keys, a server behind an API."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

import msgspec


class Fetched(msgspec.Struct, kw_only=True):
    status: int
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes


def write_part(value: str, *, is_greedy: bool) -> str | None:
    """What a client gave for a variable, as a part of the path of another server; None for what would lead out of the
    place that the variable has there."""
    if is_greedy and any(part in (".", "..") for part in value.split("/")):
        return None
    # Encoded: it is a part of the path and nothing else.
    return quote(value, safe="/" if is_greedy else "") if value not in (".", "..") else None


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
