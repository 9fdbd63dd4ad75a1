"""Parameter mapping of HTTP APIs (developer guide, "Transforming API requests and responses for HTTP APIs").

    append:header.NAME, overwrite:header.NAME, remove:header.NAME, the same of querystring.NAME, overwrite:path,
    overwrite:statuscode (of responses)

Values are `$request.header.NAME`, `$request.querystring.NAME`, `$request.path`, `$request.path.NAME`,
`$request.body.PATH`, `$context.NAME`, `$stageVariables.NAME`, for responses `$response.header.NAME` and
`$response.body.PATH`; or texts with any of them as `${...}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from lambent.frontdoor.call import HttpAnswer, HttpCall, is_field

IN_A_PATH = "/%!$&'()*+,;=:@~"
_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_KEY = re.compile(r"(append|overwrite|remove):(?:(header|querystring)\.(.+)|(path|statuscode))")


class Variables(msgspec.Struct, kw_only=True):
    call: HttpCall
    path_parameters: Mapping[str, str]
    context: Mapping[str, str]
    stage_variables: Mapping[str, str]
    answer: HttpAnswer | None = None

    def fill(self, text: str) -> str:
        """The value of one expression, or of a text with several; what is not there is empty."""
        if text.startswith("$") and not text.startswith("${"):
            return self.find(text[1:])
        return _TEMPLATE.sub(lambda matched: self.find(matched[1].lstrip("$")), text)

    def find(self, expression: str) -> str:
        area, _, name = expression.partition(".")
        if area == "context":
            return self.context.get(name, "")
        if area == "stageVariables":
            return self.stage_variables.get(name, "")
        kind, _, rest = name.partition(".")
        if area == "request":
            return self._find_in_request(kind, rest)
        if area == "response" and self.answer is not None:
            if kind == "header":
                return next((value for key, value in self.answer.headers if key == rest.lower()), "")
            if kind == "body":
                return find_in_body(self.answer.body if isinstance(self.answer.body, bytes) else b"", rest)
        return ""

    def _find_in_request(self, kind: str, rest: str) -> str:
        call = self.call
        if kind == "header":
            return ",".join(call.header_lists.get(rest.lower(), []))
        if kind == "querystring":
            return ",".join(value for key, value in call.query if key == rest)
        if kind == "path":
            return self.path_parameters.get(rest, "") if rest else call.path
        if kind == "body":
            return find_in_body(call.body, rest)
        return ""


class Mapped(NamedTuple):
    url: str
    headers: list[tuple[str, str]]


def find_in_body(body: bytes, path: str) -> str:
    """A value of a JSON body by its members and indices: `order.items[0].id`; empty path for all of it."""
    if not path:
        return body.decode("utf-8", "replace")
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ""
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def map_request(
    url: str, headers: list[tuple[str, str]], query: str, rules: Mapping[str, str], variables: Variables
) -> Mapped:
    """Where a request goes and with which headers. `query` is the caller's."""
    pairs = parse_qsl(query, keep_blank_values=True)
    has_query_rules = False
    parts = urlsplit(url)
    path = parts.path
    for key, value in rules.items():
        matched = _KEY.fullmatch(key)
        if matched is None:
            continue
        action, area, name, whole = matched.groups()
        if whole == "path":
            path = quote(variables.fill(value), safe=IN_A_PATH)
        elif area == "header":
            headers = _change(headers, action, name.lower(), variables.fill(value))
        elif area == "querystring":
            pairs = _change(pairs, action, name, variables.fill(value))
            has_query_rules = True
    # Untouched, the query goes on byte by byte as it came.
    own = urlencode(pairs) if has_query_rules else query
    joined = "&".join(text for text in (parts.query, own) if text)
    if not path.startswith("/"):
        path = "/" + path
    headers = [(name, value) for name, value in headers if is_field(name, value)]
    return Mapped(urlunsplit((parts.scheme, parts.netloc, path, joined, "")), headers)


def map_response(answer: HttpAnswer, rules: Mapping[str, str], variables: Variables) -> HttpAnswer:
    headers, status = list(answer.headers), answer.status
    known = msgspec.structs.replace(variables, answer=answer)
    for key, value in rules.items():
        matched = _KEY.fullmatch(key)
        if matched is None:
            continue
        action, area, name, whole = matched.groups()
        text = known.fill(value)
        if whole == "statuscode":
            status = int(text) if text.isdigit() and 100 <= int(text) <= 599 else status
        elif area == "header" and (action == "remove" or is_field(name, text)):
            headers = _change(headers, action, name.lower(), text)
    return HttpAnswer(status=status, headers=headers, body=answer.body)


def _change(pairs: list[tuple[str, str]], action: str, name: str, value: str) -> list[tuple[str, str]]:
    if action == "append":
        return [*pairs, (name, value)]
    kept = [pair for pair in pairs if pair[0] != name]
    return kept if action == "remove" else [*kept, (name, value)]
