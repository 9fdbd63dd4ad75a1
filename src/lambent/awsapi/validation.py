"""Checks of parsed parameters against a shape's constraints, in the service's own words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from lambent.awsapi.models import Shape
from lambent.model.errors import CallerError


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
        _problem(None, _join(path, name), "Member must not be null")
        for name in shape.required
        if value.get(name) is None
    ]
    for name, member in shape.members.items():
        inner = value.get(name)
        if inner is not None:
            _check(inner, member, _join(path, name), problems)


def _check(value: Any, shape: Shape, path: str, problems: list[str]) -> None:
    kind = shape.kind
    if kind == "structure":
        _check_structure(value, shape, path, problems)
    elif kind == "list":
        _check_length(value, shape, path, problems)
        for number, item in enumerate(value, 1):
            _check(item, shape.item, f"{path}.{number}.member", problems)
    elif kind == "map":
        _check_length(value, shape, path, problems)
        for key, item in value.items():
            _check(key, shape.key, f"{path}.{key}.key", problems)
            _check(item, shape.value, f"{path}.{key}", problems)
    elif kind in ("string", "blob"):
        _check_text(value, shape, path, problems)
    elif kind in ("integer", "long", "float", "double"):
        _check_range(value, shape, path, problems)


def _check_text(value: Any, shape: Shape, path: str, problems: list[str]) -> None:
    _check_length(value, shape, path, problems)
    if isinstance(value, bytes):
        return
    allowed = shape.trait("enum")
    if allowed and value not in allowed:
        problems.append(_problem(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]"))
    pattern = shape.trait("pattern")
    if pattern and not _compile(pattern).fullmatch(value):
        problems.append(_problem(value, path, f"Member must satisfy regular expression pattern: {pattern}"))


def _check_length(value: Any, shape: Shape, path: str, problems: list[str]) -> None:
    least, most = shape.trait("min"), shape.trait("max")
    if least is not None and len(value) < least:
        problems.append(_problem(value, path, f"Member must have length greater than or equal to {least}"))
    if most is not None and len(value) > most:
        problems.append(_problem(value, path, f"Member must have length less than or equal to {most}"))


def _check_range(value: float, shape: Shape, path: str, problems: list[str]) -> None:
    least, most = shape.trait("min"), shape.trait("max")
    if least is not None and value < least:
        problems.append(_problem(value, path, f"Member must have value greater than or equal to {least}"))
    if most is not None and value > most:
        problems.append(_problem(value, path, f"Member must have value less than or equal to {most}"))


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else "java.nio.HeapByteBuffer" if isinstance(value, bytes) else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    # The models are written for Java, whose classes \p{..} Python does not know.
    pattern = pattern.replace(r"\p{L}", r"[^\W\d_]").replace(r"\p{Z}", r"\s").replace(r"\p{N}", r"\d")
    pattern = pattern.replace(r"[[^\W\d_]\s\d", r"[\w\s").replace(r"[^\W\d_]\s\d", r"\w\s")
    return re.compile(pattern, re.DOTALL)
