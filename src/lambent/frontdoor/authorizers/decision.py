"""What an authorizer says of a request."""

from __future__ import annotations

from typing import Any

import msgspec


class Allowed(msgspec.Struct, kw_only=True):
    context: dict[str, Any]
    """What the event's `requestContext.authorizer` has."""
    account_id: str = ""
    """Of the caller, where the authorizer knows one."""


class Unauthorized(Exception):
    """Nobody that the authorizer knows: 401."""


class Forbidden(Exception):
    """Somebody who may not: 403."""
