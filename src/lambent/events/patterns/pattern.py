"""Patterns over JSON events (EventBridge user guide, "Event patterns").

Rule 1: fields that stand beside each other must all match; of the conditions in a field's array one is enough.
Rule 2: an array in the event stands for any one of its elements; an object within an array matches as a whole, so that
        no match is put together from two of them.
Rule 3: `exists` looks at leaves. An object or an empty array is none, and what lies below a field that is absent is
        absent too.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lambent.events.patterns.matchers import Match, Refused, compile_condition, compile_exact
from lambent.model.errors import CallerError

OR = "$or"


class Dialect(enum.Enum):
    """Whose words a refusal is in; the language is the same."""

    BUS = "bus"
    MAPPING = "mapping"
    TOPIC = "topic"


BUS, MAPPING, TOPIC = Dialect.BUS, Dialect.MAPPING, Dialect.TOPIC

Test = Callable[[Mapping[str, Any]], bool]


class PatternRefused(CallerError):
    """`reason` is what is wrong, without the words around it."""

    def __init__(self, reason: str, dialect: Dialect) -> None:
        self.reason = reason
        if dialect is Dialect.BUS:
            super().__init__("InvalidEventPatternException", f"Event pattern is not valid. Reason: {reason}")
        elif dialect is Dialect.TOPIC:
            super().__init__("InvalidParameter", f"Invalid parameter: FilterPolicy: {reason}")
        else:
            super().__init__(
                "InvalidParameterValueException",
                f"Invalid filter pattern definition. Reason: {reason}",
                members={"Type": "User"},
            )


class Pattern:
    """A compiled pattern; `tree` is its JSON."""

    __slots__ = ("_test", "tree")

    def __init__(self, tree: Mapping[str, Any], test: Test) -> None:
        self.tree = tree
        self._test = test

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the parsed JSON of an event matches."""
        return self._test(event)


def compile_pattern(text: str, dialect: Dialect = BUS) -> Pattern:
    """Raises PatternRefused."""
    try:
        tree = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise PatternRefused(f"Invalid JSON: {exc}" if text.strip() else "Filter is not an object", dialect) from None
    try:
        if not isinstance(tree, dict):
            raise Refused("Filter is not an object")
        return Pattern(tree, _compile_object(tree))
    except Refused as exc:
        raise PatternRefused(str(exc), dialect) from None
    except RecursionError:
        raise PatternRefused("Event pattern is nested too deeply", dialect) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _compile_object(tree: Mapping[str, Any]) -> Test:
    if not tree:
        raise Refused("Empty objects are not allowed")
    tests = [_compile_or(wanted) if name == OR else _compile_field(name, wanted) for name, wanted in tree.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda event: all(test(event) for test in tests)


def _compile_or(wanted: Any) -> Test:
    if not isinstance(wanted, list) or len(wanted) < 2 or not all(isinstance(branch, dict) for branch in wanted):
        raise Refused('There must have at least 2 Objects in "$or" relationship.')
    branches = [_compile_object(branch) for branch in wanted]
    return lambda event: any(branch(event) for branch in branches)


def _compile_field(name: str, wanted: Any) -> Test:
    if isinstance(wanted, dict):
        inner = _compile_object(wanted)
        return lambda event: any(inner(found) for found in _objects(event.get(name)))
    if not isinstance(wanted, list):
        raise Refused(f'"{name}" must be an object or an array')
    if not wanted:
        raise Refused("Empty arrays are not allowed")
    matches, when_there, when_absent = _compile_conditions(wanted)

    def test(event: Mapping[str, Any]) -> bool:
        there = False
        for leaf in _leaves(event, name):
            there = True
            if when_there or any(match(leaf) for match in matches):
                return True
        return when_absent and not there

    return test


def _compile_conditions(wanted: list[Any]) -> tuple[list[Match], bool, bool]:
    """What matches a leaf, whether any leaf does, whether there being none does."""
    matches: list[Match] = []
    when_there = when_absent = False
    for condition in wanted:
        if not isinstance(condition, dict):
            matches.append(compile_exact(condition))
        elif list(condition) == ["exists"]:
            if not isinstance(condition["exists"], bool):
                raise Refused("exists match pattern must be either true or false.")
            when_there = when_there or condition["exists"]
            when_absent = when_absent or not condition["exists"]
        else:
            matches.append(compile_condition(condition))
    return matches, when_there, when_absent


def _leaves(event: Mapping[str, Any], name: str) -> Iterator[Any]:
    if name not in event:
        return
    found = event[name]
    if isinstance(found, list):
        yield from _leaves_of(found)
    elif not isinstance(found, dict):
        yield found


def _leaves_of(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list):
            yield from _leaves_of(item)
        elif not isinstance(item, dict):
            yield item


def _objects(found: Any) -> Iterator[Mapping[str, Any]]:
    """What a nested pattern is asked about: never nothing, since `exists: false` holds below what is absent."""
    objects = list(_objects_of(found))
    yield from objects or [{}]


def _objects_of(found: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(found, dict):
        yield found
    elif isinstance(found, list):
        for item in found:
            yield from _objects_of(item)
