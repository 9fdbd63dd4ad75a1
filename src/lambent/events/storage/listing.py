"""Listings: keys in order, those with a common prefix rolled up to one entry (ListObjectsV2).

What is rolled up is stepped over, not read: a listing of a million keys below one prefix costs one seek.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lambent.events.storage.model import Listed

Walk = Callable[[str, bool], Iterator[Listed]]
"""(key, inclusive): the objects from a key on, in order."""

_LAST = "\U0010ffff"


class Page(NamedTuple):
    objects: list[Listed]
    prefixes: list[str]
    last: str
    """The last key or prefix of the page."""
    truncated: bool


def list_page(walk: Walk, *, prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """`after` is a key or a common prefix of an earlier page; empty for the first page."""
    objects: list[Listed] = []
    prefixes: list[str] = []
    last = ""
    start, inclusive = (after, False) if after >= prefix else (prefix, True)
    if after and after.startswith(prefix):
        rolled = _roll_up(after, prefix, delimiter)
        if rolled == after:
            start, inclusive = successor(rolled), True
    while True:
        for found in walk(start, inclusive):
            if not found.key.startswith(prefix):
                return Page(objects, prefixes, last, truncated=False)
            if len(objects) + len(prefixes) >= limit:
                return Page(objects, prefixes, last, truncated=limit > 0)
            last = rolled = _roll_up(found.key, prefix, delimiter)
            if rolled:
                prefixes.append(rolled)
                start, inclusive = successor(rolled), True
                break
            objects.append(found)
            last = found.key
        else:
            return Page(objects, prefixes, last, truncated=False)


def _roll_up(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix that a key falls under; empty when it stands for itself."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: at + len(delimiter)] if at >= 0 else ""


def successor(prefix: str) -> str:
    """The first key, in the order of code points, after all that begin with a prefix."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return _LAST * 400
    following = ord(kept[-1]) + 1
    # Surrogates are no characters.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
