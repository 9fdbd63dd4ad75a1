"""Changes as lists of patch operations (API reference, "PatchOperation"; developer guide, "patch operations").

What may be changed, and as what, is a table for each kind of thing: paths with `*` for one name, to the kind of value.
A tilde escape in a path stands for a slash: `/~1pets/GET/throttling/rateLimit`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from lambent.frontdoor.answers import bad_request

Members = dict[str, Any]

TEXT, INTEGER, NUMBER, BOOLEAN, ITEMS = "text", "integer", "number", "boolean", "items"
"""ITEMS: a list whose values are added and removed, named by the path's end or by `value`."""

Rules = Mapping[str, str]
"""Path to the kind of value."""

_OPERATIONS = ("add", "remove", "replace", "copy")


def apply(members: Members, operations: Iterable[Mapping[str, Any]] | None, rules: Rules) -> Members:
    """A changed copy. Raises CallerError `BadRequestException` naming the operation and what is permitted."""
    changed = copy.deepcopy(members)
    for operation in operations or ():
        _apply(changed, operation, rules)
    return changed


def split(path: str) -> list[str]:
    """A path's names. Raises CallerError."""
    if not path.startswith("/"):
        raise bad_request(f"Invalid patch path '{path}' specified: it must begin with a slash.")
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def convert(kind: str, value: Any, path: str) -> Any:
    """Raises CallerError."""
    if value is None:
        raise bad_request(f"Invalid patch operation specified for '{path}': a value is needed.")
    try:
        if kind == INTEGER:
            return int(value)
        if kind == NUMBER:
            return float(value)
    except ValueError:
        raise bad_request(f"Invalid value '{value}' for '{path}': it must be a number.") from None
    if kind == BOOLEAN:
        if str(value).lower() not in ("true", "false"):
            raise bad_request(f"Invalid value '{value}' for '{path}': it must be true or false.")
        return str(value).lower() == "true"
    return value


def _apply(members: Members, operation: Mapping[str, Any], rules: Rules) -> None:
    action, path = operation.get("op"), operation.get("path") or ""
    if action not in _OPERATIONS:
        raise bad_request(f"Invalid patch operation '{action}' specified: it must be add, remove, replace or copy.")
    names = split(path)
    kind = _find(names, rules, path)
    value = operation.get("value")
    if action == "copy":
        source = split(operation.get("from") or "")
        _find(source, rules, operation.get("from") or "")
        value = _read(members, source)
        if value is None:
            raise bad_request(f"Invalid patch operation specified: there is nothing at '{operation['from']}'.")
        _write(members, names, copy.deepcopy(value))
    elif kind == ITEMS:
        _change_items(members, names, action, value, rules)
    elif action == "remove" or (value == "" and kind in (INTEGER, NUMBER)):
        # A number that is replaced by nothing is taken away.
        _remove(members, names)
    else:
        _write(members, names, convert(kind, value, path))


def _find(names: list[str], rules: Rules, path: str) -> str:
    for pattern, kind in rules.items():
        expected = pattern[1:].split("/")
        if len(expected) == len(names) and all(part in ("*", name) for part, name in zip(expected, names, strict=True)):
            return kind
    permitted = ", ".join(rules)
    raise bad_request(f"Invalid patch path '{path}' specified. Must be one of: [{permitted}]")


def _change_items(members: Members, names: list[str], action: str, value: Any, rules: Rules) -> None:
    """`/list/VALUE`, or `/list` with the value in the operation."""
    if "/" + "/".join(names) not in rules:
        *names, last = names
        value = last if value is None or action != "replace" else value
        if action == "replace":
            _take(members, names, last)
    items = _read(members, names) or []
    if action == "remove" and value is None:
        _remove(members, names)
        return
    if value is None:
        raise bad_request(f"Invalid patch operation specified for '/{'/'.join(names)}': a value is needed.")
    if action == "remove":
        if value not in items:
            raise bad_request(f"Invalid patch operation specified: '{value}' is not in '/{'/'.join(names)}'.")
        _take(members, names, value)
    elif value not in items:
        _write(members, names, [*items, value])


def _take(members: Members, names: list[str], value: str) -> None:
    _write(members, names, [item for item in _read(members, names) or [] if item != value])


def _read(members: Members, names: list[str]) -> Any:
    value: Any = members
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _write(members: Members, names: list[str], value: Any) -> None:
    for name in names[:-1]:
        inner = members.get(name)
        if not isinstance(inner, dict):
            inner = members[name] = {}
        members = inner
    members[names[-1]] = value


def _remove(members: Members, names: list[str]) -> None:
    for name in names[:-1]:
        inner = members.get(name)
        if not isinstance(inner, dict):
            return
        members = inner
    members.pop(names[-1], None)
