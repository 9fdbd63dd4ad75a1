"""Checks of parsed parameters against a shape's constraints, in the service's own words.

The words for lists and maps, where one message states every constraint of the elements, are as recorded from AWS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lambent.awsapi.models import Shape
from lambent.model.errors import CallerError

_NUMBERS = ("integer", "long", "float", "double")
_SIZED = ("string", "blob", "list", "map")
_CONTAINERS = ("structure", "list", "map")


def validate(parameters: dict[str, Any], shape: Shape) -> None:
    """Raises CallerError `ValidationException` that names every member at fault."""
    problems: list[str] = []
    _check_structure(parameters, shape, "", problems)
    if not problems:
        return
    plural = "s" if len(problems) > 1 else ""
    raise CallerError(
        "ValidationException", f"{len(problems)} validation error{plural} detected: " + "; ".join(problems)
    )


def _check_structure(value: dict[str, Any], shape: Shape, path: str, problems: list[str]) -> None:
    problems += [
        f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
        for name in shape.required
        if value.get(name) is None
    ]
    for name, member in shape.members.items():
        inner = value.get(name)
        if inner is not None:
            _check(inner, member, _join(path, name), problems)


def _check(value: Any, shape: Shape, path: str, problems: list[str]) -> None:
    if shape.kind == "structure":
        _check_structure(value, shape, path, problems)
        return
    problems += [_problem(value, shape, path, stated) for stated, holds in _judge(value, shape) if not holds]
    if shape.kind == "list":
        _check_list(value, shape, path, problems)
    elif shape.kind == "map":
        _check_map(value, shape, path, problems)


def _check_list(items: list[Any], shape: Shape, path: str, problems: list[str]) -> None:
    item = shape.item
    if item.kind in _CONTAINERS:
        for number, inner in enumerate(items, 1):
            _check(inner, item, f"{path}.{number}.member", problems)
        return
    stated = _state_broken(items, item)
    if stated:
        joined = ", ".join([*stated, "Member must not be null"])
        problems.append(_problem(items, shape, path, f"Member must satisfy constraint: [{joined}]"))


def _check_map(entries: dict[str, Any], shape: Shape, path: str, problems: list[str]) -> None:
    stated = _state_broken(list(entries), shape.key)
    if stated:
        problems.append(_problem(entries, shape, path, f"Map keys must satisfy constraint: [{', '.join(stated)}]"))
    item = shape.value
    if item.kind in _CONTAINERS:
        for key, inner in entries.items():
            _check(inner, item, f"{path}.{key}.member", problems)
        return
    stated = _state_broken(list(entries.values()), item)
    if stated:
        problems.append(_problem(entries, shape, path, f"Map value must satisfy constraint: [{', '.join(stated)}]"))


def _state_broken(values: list[Any], shape: Shape) -> list[str]:
    """All constraints of the elements when one of them breaks any; none when all hold."""
    for value in values:
        judged = list(_judge(value, shape))
        if not all(holds for _, holds in judged):
            return [stated for stated, _ in judged]
    return []


def _judge(value: Any, shape: Shape) -> Iterator[tuple[str, bool]]:
    """Each constraint of a shape in words, and whether a value keeps it."""
    if shape.kind in _NUMBERS:
        yield from _judge_bounds(value, shape, "value")
    elif shape.kind in _SIZED:
        yield from _judge_bounds(len(value), shape, "length")
    if shape.kind != "string":
        return
    allowed = shape.trait("enum")
    if allowed:
        yield f"Member must satisfy enum value set: [{', '.join(allowed)}]", value in allowed
    pattern = shape.trait("pattern")
    if pattern:
        holds = _compile(pattern).fullmatch(value) is not None
        yield f"Member must satisfy regular expression pattern: {pattern}", holds


def _judge_bounds(size: float, shape: Shape, what: str) -> Iterator[tuple[str, bool]]:
    least, most = shape.trait("min"), shape.trait("max")
    if most is not None:
        yield f"Member must have {what} less than or equal to {most}", size <= most
    if least is not None:
        yield f"Member must have {what} greater than or equal to {least}", size >= least


def _problem(value: Any, shape: Shape, path: str, stated: str) -> str:
    # What the model calls sensitive (environment variables, say) is not repeated, here as with the service.
    shown = "Value" if _is_sensitive(shape) else f"Value '{_show(value)}'"
    return f"{shown} at '{path}' failed to satisfy constraint: {stated}"


def _is_sensitive(shape: Shape) -> bool:
    if shape.trait("sensitive"):
        return True
    if shape.kind == "list":
        return bool(shape.item.trait("sensitive"))
    return shape.kind == "map" and bool(shape.key.trait("sensitive") or shape.value.trait("sensitive"))


def _show(value: Any) -> str:
    """A value as the service, written in Java, prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    if isinstance(value, list):
        return f"[{', '.join(_show(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_show(item)}" for key, item in value.items()) + "}"
    return str(value)


def _join(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    # The models are written for Java, whose classes \p{..} Python does not know.
    pattern = pattern.replace(r"\p{L}", r"[^\W\d_]").replace(r"\p{Z}", r"\s").replace(r"\p{N}", r"\d")
    pattern = pattern.replace(r"[[^\W\d_]\s\d", r"[\w\s").replace(r"[^\W\d_]\s\d", r"\w\s")
    return re.compile(pattern, re.DOTALL)
