"""A custom domain: a name of the user's own, and what is served below it.

Collection `domains`, key: the name in lower case, over all accounts, since a request names nothing else.
"""

from __future__ import annotations

from typing import Any

import msgspec

COLLECTION = "domains"


class Domain(msgspec.Struct, kw_only=True):
    name: str
    account: str
    region: str
    settings: dict[str, Any] = {}
    tags: dict[str, str] = {}
    mappings: dict[str, dict[str, str]] = {}
    """By their ids: ApiId, ApiMappingId, ApiMappingKey (a path, or empty), Stage."""
