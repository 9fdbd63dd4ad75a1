"""Who calls, and under which id: handed to every operation of every service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec


class RequestContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    account: str
    region: str
    access_key: str
    request_id: str
    host: str = ""
    """The Host header, for URLs in answers that must lead back here."""


Operation = Callable[[RequestContext, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Takes the validated members of the operation's input, returns the members of its output.

Blobs are `bytes`, timestamps `datetime`, structures and maps `dict`; members that are None are left out.
Raises CallerError for what the contract lists and PlatformError for the rest.
"""
