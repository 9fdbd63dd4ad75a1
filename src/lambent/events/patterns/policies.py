"""Filter policies of subscriptions to topics (SNS developer guide, "Amazon SNS message filtering").

With the scope MessageAttributes a policy looks at the attributes: String as text, Number by value, String.Array as any
of its elements, Binary not at all. With MessageBody it looks into bodies that are JSON objects; others never match.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lambent.events.patterns.matchers import Refused
from lambent.events.patterns.pattern import OR, TOPIC, Pattern, PatternRefused, compile_pattern

MAX_KEYS = 5
MAX_COMBINATIONS = 150
SCOPES = ("MessageAttributes", "MessageBody")


class Policy:
    def __init__(self, pattern: Pattern | None, scope: str) -> None:
        self._pattern = pattern
        self._scope = scope

    def matches(self, attributes: Mapping[str, tuple[str, Any]], body: str) -> bool:
        """`attributes` by name: the data type (`String`, `Number`, `String.Array`, ...) and the value as text."""
        if self._pattern is None:
            return True
        if self._scope == "MessageAttributes":
            return self._pattern.matches(_read_attributes(attributes))
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            return False
        return isinstance(parsed, dict) and self._pattern.matches(parsed)


def compile_policy(text: str, scope: str = "MessageAttributes") -> Policy:
    """An empty policy (`{}`) lets everything through. Raises PatternRefused (`InvalidParameter`)."""
    if text.strip() in ("", "{}"):
        return Policy(None, scope)
    pattern = compile_pattern(text, TOPIC)
    try:
        _check(pattern.tree, scope)
    except Refused as exc:
        raise PatternRefused(str(exc), TOPIC) from None
    return Policy(pattern, scope)


def _check(tree: Mapping[str, Any], scope: str) -> None:
    leaves = list(_conditions(tree, 1))
    if scope == "MessageAttributes" and any(depth > 1 for _, depth, _ in leaves):
        raise Refused("Filter policy scope MessageAttributes does not support nested filter policy")
    if len({name for name, _, _ in leaves}) > MAX_KEYS:
        raise Refused("Filter policy can not have more than 5 keys")
    combinations = 1
    for _, depth, count in leaves:
        combinations *= count * depth
    if combinations > MAX_COMBINATIONS:
        raise Refused("Filter policy is too complex")


def _conditions(tree: Mapping[str, Any], depth: int, path: str = "") -> Iterator[tuple[str, int, int]]:
    """Path, depth and number of conditions of each field."""
    for name, wanted in tree.items():
        if name == OR:
            for branch in wanted:
                yield from _conditions(branch, depth, path)
        elif isinstance(wanted, dict):
            yield from _conditions(wanted, depth + 1, f"{path}{name}.")
        else:
            yield path + name, depth, len(wanted)


def _read_attributes(attributes: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, (kind, value) in attributes.items():
        base = kind.split(".", 1)[0]
        if kind == "String.Array":
            read[name] = _read_array(value)
        elif base == "Number":
            read[name] = _read_number(value)
        elif base == "String":
            read[name] = value
    return read


def _read_array(value: Any) -> Any:
    try:
        parsed = json.loads(value)
    except (ValueError, TypeError):
        return value
    return parsed if isinstance(parsed, list) else value


def _read_number(value: Any) -> Any:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value
