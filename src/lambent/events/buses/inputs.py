"""What a rule's target receives of an event: all, a part, a constant or a template ("Input transformer")."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lambent.events.schedules.expressions import at_text

_NAME = re.compile(r"<([A-Za-z0-9_.-]+)>")


def make_input(target: Mapping[str, Any], event: Mapping[str, Any], rule: Mapping[str, Any], at: float) -> str:
    """JSON text. `at` is when the event came in, in seconds since 1970."""
    if target.get("Input") is not None:
        return str(target["Input"])
    if target.get("InputPath") is not None:
        found, value = _find(target["InputPath"], event)
        return _dump(value if found else None)
    transformer = target.get("InputTransformer")
    if transformer is None:
        return _dump(event)
    values: dict[str, Any] = {}
    for name, path in transformer.get("InputPathsMap", {}).items():
        found, value = _find(path, event)
        if found:
            values[name] = value
    values["aws.events.rule-arn"] = rule["Arn"]
    values["aws.events.rule-name"] = rule["Name"]
    values["aws.events.event.ingestion-time"] = at_text(at)
    values["aws.events.event"] = {name: value for name, value in event.items() if name != "detail"}
    values["aws.events.event.json"] = event
    return _fill(transformer["InputTemplate"], values)


def check_path(path: str) -> None:
    """Raises ValueError."""
    _compile(path)


@lru_cache(maxsize=4096)
def _compile(path: str) -> Any:
    """Raises ValueError."""
    import jsonpath  # noqa: PLC0415 - it takes long to import, and few targets have a path

    try:
        return jsonpath.compile(path)
    except jsonpath.JSONPathError as exc:
        raise ValueError(str(exc)) from exc


def _find(path: str, event: Mapping[str, Any]) -> tuple[bool, Any]:
    """A path that may name several values gives their list."""
    compiled = _compile(path)
    found = compiled.findall(event)
    if compiled.singular_query():
        return bool(found), found[0] if found else None
    return True, found


def _fill(template: str, values: Mapping[str, Any]) -> str:
    """Within quotes a value is its text, elsewhere it is JSON."""
    filled: list[str] = []
    quoted, at = False, 0
    while at < len(template):
        named = _NAME.match(template, at) if template[at] == "<" else None
        if named is not None:
            filled.append(_text(values.get(named[1], "")) if quoted else _dump(values.get(named[1])))
            at = named.end()
            continue
        step = 2 if quoted and template[at] == "\\" else 1
        if template[at] == '"':
            quoted = not quoted
        filled.append(template[at : at + step])
        at += step
    return "".join(filled)


def _text(value: Any) -> str:
    """Inside a JSON string: a string is escaped, what is not a string loses its quotes, as the contract has it."""
    if isinstance(value, str):
        return _dump(value)[1:-1]
    return _dump(value).replace("\\", "").replace('"', "")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
