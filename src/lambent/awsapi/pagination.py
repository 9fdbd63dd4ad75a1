"""Opaque markers for operations that list."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar

from lambent.model.errors import CallerError

_Item = TypeVar("_Item")


def encode_marker(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def decode_marker(marker: str | None) -> str:
    """The key to go on after; empty for none. Raises CallerError `InvalidParameterValueException`."""
    if not marker:
        return ""
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise CallerError(
            "InvalidParameterValueException", "The Marker is not one that a list operation returned."
        ) from None


def cut_page(
    items: Sequence[_Item], *, marker: str | None, max_items: int | None, key: Callable[[_Item], str], most: int = 50
) -> tuple[list[_Item], str | None]:
    """The items after the marker, at most `max_items` and `most`, and the marker of the next page."""
    after = decode_marker(marker)
    rest = [item for item in items if key(item) > after]
    size = min(max_items or most, most)
    page = rest[:size]
    return page, encode_marker(key(page[-1])) if len(rest) > size else None
