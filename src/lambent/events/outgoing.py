"""What the event plane needs of the network: a request to a URL that a user gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Its first 64 KB."""


class Outgoing(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """Follows no redirect. Raises CallerError for a URL that may not be called or is none, and PlatformError when
        there was no answer."""
        ...
