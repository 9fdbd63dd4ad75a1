from __future__ import annotations

from collections.abc import Iterator

import pytest

from lambent.events.storage.listing import list_page, successor
from lambent.events.storage.model import Listed

KEYS = sorted(["a", "a/1", "a/2", "a//", "b/x/1", "b/x/2", "b/y", "c", "ü/1", "\U0010ffff/z"])


def walk(start: str, inclusive: bool) -> Iterator[Listed]:
    return (
        Listed(key=key, size=0, etag="", modified_at=0) for key in KEYS if key > start or (inclusive and key == start)
    )


def list_all(prefix: str, delimiter: str, limit: int) -> list[str]:
    found: list[str] = []
    after, truncated = "", True
    while truncated:
        page = list_page(walk, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        found += sorted([entry.key for entry in page.objects] + page.prefixes)
        after, truncated = page.last, page.truncated
        assert len(page.objects) + len(page.prefixes) <= limit
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("prefix", "delimiter", "expected"),
    [
        ("", "", KEYS),
        ("", "/", ["a", "a/", "b/", "c", "ü/", "\U0010ffff/"]),
        ("a/", "/", ["a/1", "a/2", "a//"]),
        ("b/", "/", ["b/x/", "b/y"]),
        ("b/x", "", ["b/x/1", "b/x/2"]),
        ("none", "/", []),
    ],
)
def test_pages_of_any_size_make_the_same_listing(prefix: str, delimiter: str, expected: list[str], limit: int) -> None:
    assert list_all(prefix, delimiter, limit) == sorted(expected)


def test_a_page_of_nothing_is_not_truncated() -> None:
    assert list_page(walk, prefix="", delimiter="", after="", limit=0).truncated is False


def test_the_successor_of_a_prefix_is_behind_all_that_begin_with_it() -> None:
    assert (successor("a/"), successor("a\ud7ff"), successor("a\U0010ffff")) == ("a0", "a\ue000", "b")
