"""FilterCriteria of event source mappings (developer guide, "Control which events Lambda sends to your function").

A pattern sees the record with its data in place of the encoded text: parsed when the pattern looks below the data key,
as plain text when it lists conditions for it. A record of the other kind does not match:

| data is | pattern below the data key | pattern lists conditions for it | no pattern on it |
| --- | --- | --- | --- |
| a JSON object | by its fields | dropped | by the rest of the record |
| plain text | dropped | as text | by the rest of the record |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.events.patterns.pattern import MAPPING, Pattern, compile_pattern


class Filters:
    """Of one mapping: a record passes when any of its patterns matches; without patterns all pass."""

    def __init__(self, patterns: Sequence[Pattern], data_key: str) -> None:
        self._looks = [(pattern, _looks_below(pattern.tree, data_key)) for pattern in patterns]
        self._data_key = data_key

    def passes(self, record: Mapping[str, Any], data: bytes) -> bool:
        if not self._looks:
            return True
        parsed = _parse(data)
        seen = {**record, self._data_key: parsed}
        is_object = isinstance(parsed, dict)
        # An object where text was expected, and the other way round, is no match: the record is dropped.
        return any(pattern.matches(seen) for pattern, below in self._looks if below is None or below == is_object)


def compile_filters(patterns: Sequence[str], data_key: str) -> Filters:
    """Raises PatternRefused, in the words of the Lambda API."""
    return Filters([compile_pattern(text, MAPPING) for text in patterns], data_key)


def _looks_below(tree: Mapping[str, Any], key: str) -> bool | None:
    """Whether a pattern looks into the data as JSON; None when it does not, or only in an alternative."""
    return isinstance(tree[key], dict) if key in tree else None


def _parse(data: bytes) -> Any:
    """A JSON object, or the data as text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")
    if text.lstrip()[:1] != "{":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
