"""Which route of an HTTP API a request takes (developer guide, "Routing API requests").

The most specific path wins, segment by segment: a literal before a variable before a greedy variable; then the route
that names the method before one of ANY; `$default` is last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

DEFAULT = "$default"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ANY")
_KEY = re.compile(rf"({'|'.join(METHODS)}) (/.*)")
_VARIABLE = re.compile(r"\{([A-Za-z0-9._:-]+)(\+?)\}")
_LITERAL, _ONE, _GREEDY = 0, 1, 2


class Segment(NamedTuple):
    kind: int
    text: str
    """The literal, or the variable's name."""


class Route(msgspec.Struct, kw_only=True):
    key: str
    method: str
    segments: list[Segment]
    members: dict[str, Any]


class Match(NamedTuple):
    route: Route
    parameters: dict[str, str]
    """Of the path, decoded."""


class BadKey(ValueError):
    """The message says why."""


def parse_key(key: str) -> tuple[str, list[Segment]]:
    """Method and path of a route key. Raises BadKey."""
    matched = _KEY.fullmatch(key)
    if matched is None:
        raise BadKey(
            f"The provided route key '{key}' is not formatted properly for HTTP protocol. Format should be "
            '"<HTTP METHOD> /<RESOURCE PATH>" or "$default"'
        )
    segments: list[Segment] = []
    parts = _split(matched[2])
    for number, part in enumerate(parts):
        variable = _VARIABLE.fullmatch(part)
        if variable is None:
            if "{" in part or "}" in part:
                raise BadKey(f"The path of '{key}' has braces that are no variable: '{part}'")
            segments.append(Segment(_LITERAL, part))
            continue
        if variable[2] and number != len(parts) - 1:
            raise BadKey(f"A greedy variable must be the last part of the path: '{key}'")
        if any(segment.kind and segment.text == variable[1] for segment in segments):
            raise BadKey(f"The path of '{key}' has the variable '{variable[1]}' twice")
        segments.append(Segment(_GREEDY if variable[2] else _ONE, variable[1]))
    return matched[1], segments


class Router:
    """The routes of one deployment."""

    def __init__(self, routes: Mapping[str, dict[str, Any]]) -> None:
        self._default: Route | None = None
        self._routes: list[Route] = []
        for members in routes.values():
            key = members["RouteKey"]
            if key == DEFAULT:
                self._default = Route(key=key, method="ANY", segments=[], members=members)
                continue
            method, segments = parse_key(key)
            self._routes.append(Route(key=key, method=method, segments=segments, members=members))
        # The first that matches is the most specific: shorter greedy paths come after longer ones.
        self._routes.sort(key=_rank)

    def find(self, method: str, raw_path: bytes) -> Match | None:
        """`raw_path` is percent-encoded: an encoded slash is no separator."""
        parts = _split(raw_path.decode("latin-1"))
        for route in self._routes:
            if route.method not in (method, "ANY"):
                continue
            parameters = _match(route.segments, parts)
            if parameters is not None:
                return Match(route, parameters)
        return Match(self._default, {}) if self._default is not None else None


def _rank(route: Route) -> tuple[list[int], bool]:
    # Longer than any path, so that of two with the same beginning the one that goes on literally is first.
    return [segment.kind for segment in route.segments], route.method == "ANY"


def _match(segments: list[Segment], parts: list[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for number, segment in enumerate(segments):
        if segment.kind == _GREEDY:
            rest = "/".join(parts[number:])
            if not rest:
                return None
            parameters[segment.text] = _decode(rest)
            return parameters
        if number >= len(parts):
            return None
        if segment.kind == _ONE:
            if not parts[number]:
                return None
            parameters[segment.text] = _decode(parts[number])
        elif _decode(parts[number]) != segment.text:
            return None
    return parameters if len(parts) == len(segments) else None


def _split(path: str) -> list[str]:
    return path[1:].split("/") if path not in ("", "/") else []


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")
