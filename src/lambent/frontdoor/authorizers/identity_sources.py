"""Where a request says who makes it: `$request.header.Authorization`, `$request.querystring.token`, ...

Source: API Gateway developer guide, "Identity sources" of HTTP API and WebSocket API authorizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lambent.frontdoor.call import HttpCall

PREFIXES = ("$request.", "route.request.", "method.request.")


def read_sources(
    sources: Iterable[str], call: HttpCall, *, context: Mapping[str, str], stage_variables: Mapping[str, str]
) -> list[str] | None:
    """The values in order; None when one of them is not there or empty."""
    values = []
    for source in sources:
        value = _read(source.strip(), call, context, stage_variables)
        if not value:
            return None
        values.append(value)
    return values


def _read(source: str, call: HttpCall, context: Mapping[str, str], stage_variables: Mapping[str, str]) -> str | None:
    for prefix in ("$context.", "context."):
        if source.startswith(prefix):
            return context.get(source[len(prefix) :])
    for prefix in ("$stageVariables.", "stageVariables."):
        if source.startswith(prefix):
            return stage_variables.get(source[len(prefix) :])
    for prefix in PREFIXES:
        if source.startswith(prefix):
            kind, _, name = source[len(prefix) :].partition(".")
            if kind == "header":
                return call.header(name.lower())
            if kind == "querystring":
                return next((value for key, value in call.query if key == name), None)
    return None
