"""What mapping templates see: `$input`, `$context`, `$stageVariables`, `$util` (developer guide, "Variables")."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import jsonpath

from lambent.frontdoor.rest_apis.request import Request
from lambent.frontdoor.rest_apis.templates import Tool, to_json

_PATTERNS = ("=~", "match(", "search(")
"""Regular expressions of a tenant's in paths: they may take any time, and are not looked for."""


def build_variables(request: Request, body: str, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`body` is what `$input` reads: of the request, or of what the integration answered."""
    return {
        "input": _build_input(request, body),
        "context": {**request.context, **(context or {})},
        "stageVariables": dict(request.served.variables),
        "util": _UTIL,
    }


def find_path(document: Any, path: str) -> Any:
    """The value of a path that names one place, else the list of all values; None for what is not there."""
    if any(pattern in path for pattern in _PATTERNS):
        return None
    try:
        query = jsonpath.compile(path)
        found = query.findall(document)
    except (jsonpath.JSONPathError, RecursionError):
        return None
    if isinstance(query, jsonpath.JSONPath) and query.singular_query():
        return found[0] if found else None
    return found


def _build_input(request: Request, body: str) -> Tool:
    held: list[Any] = []

    def document() -> Any:
        if not held:
            try:
                held.append(json.loads(body) if body else {})
            except (ValueError, RecursionError):
                held.append({})
        return held[0]

    def read_params(name: Any = None) -> Any:
        places = {
            "path": request.path_parameters,
            "querystring": dict(request.call.query),
            "header": {key: values[-1] for key, values in request.call.header_lists.items()},
        }
        if name is None:
            return {place: dict(values) for place, values in places.items()}
        if name in places:
            return dict(places[name])
        for place in ("path", "querystring", "header"):
            key = str(name).lower() if place == "header" else str(name)
            if key in places[place]:
                return places[place][key]
        return ""

    return Tool(
        methods={
            "json": lambda path: to_json(find_path(document(), str(path))),
            "path": lambda path: find_path(document(), str(path)),
            "params": read_params,
        },
        members={"body": body},
    )


def _escape(text: Any) -> str:
    """As in a JavaScript text: also the single quote, and the slash."""
    escaped = json.dumps("" if text is None else str(text))[1:-1]
    return escaped.replace("'", "\\'").replace("/", "\\/")


def _parse(text: Any) -> Any:
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        return None


def _decode(text: Any) -> str | None:
    try:
        return base64.b64decode(str(text)).decode("utf-8", "replace")
    except binascii.Error:
        return None


_UTIL = Tool(
    methods={
        "escapeJavaScript": _escape,
        "parseJson": _parse,
        "urlEncode": lambda text: quote_plus(str(text)),
        "urlDecode": lambda text: unquote_plus(str(text)),
        "base64Encode": lambda text: base64.b64encode(str(text).encode()).decode(),
        "base64Decode": _decode,
    }
)
