"""Cross-origin rules that are configured, not programmed: the preflight is answered here, and what the function says of
origins does not count (Lambda API reference, "Cors"; API Gateway developer guide, "Configure CORS for HTTP APIs").
"""

from __future__ import annotations

import fnmatch
import re

from lambent.frontdoor.call import HttpAnswer, HttpCall
from lambent.model.function import Cors

_PREFIX = "access-control-"
_WILDCARD = re.compile(r"\*")


def answer_preflight(cors: Cors, call: HttpCall, *, status: int) -> HttpAnswer | None:
    """None for a request that is none. An origin that is not allowed is answered without the headers."""
    if call.method != "OPTIONS" or call.header("origin") is None:
        return None
    if call.header("access-control-request-method") is None:
        return None
    headers = _origin_headers(cors, call)
    if headers:
        if cors.allow_methods:
            headers.append(("access-control-allow-methods", ",".join(cors.allow_methods)))
        asked = call.header("access-control-request-headers")
        if "*" in cors.allow_headers and cors.allow_credentials and asked:
            # With credentials browsers take a star for a header of that name.
            headers.append(("access-control-allow-headers", asked))
        elif cors.allow_headers:
            headers.append(("access-control-allow-headers", ",".join(cors.allow_headers)))
        if cors.max_age_s is not None:
            headers.append(("access-control-max-age", str(cors.max_age_s)))
    return HttpAnswer(status=status, headers=[*headers, ("vary", "Origin")])


def apply(cors: Cors, call: HttpCall, answer: HttpAnswer) -> HttpAnswer:
    """The answer with the configured headers instead of the function's own."""
    if call.header("origin") is None:
        return answer
    headers = [(name, value) for name, value in answer.headers if not name.startswith(_PREFIX)]
    allowed = _origin_headers(cors, call)
    if allowed and cors.expose_headers:
        allowed.append(("access-control-expose-headers", ",".join(cors.expose_headers)))
    if not any(name == "vary" and "origin" in value.lower() for name, value in headers):
        allowed.append(("vary", "Origin"))
    return HttpAnswer(status=answer.status, headers=[*headers, *allowed], body=answer.body)


def _origin_headers(cors: Cors, call: HttpCall) -> list[tuple[str, str]]:
    origin = call.header("origin") or ""
    if not any(_matches(origin, pattern) for pattern in cors.allow_origins):
        return []
    everybody = cors.allow_origins == ["*"] and not cors.allow_credentials
    headers = [("access-control-allow-origin", "*" if everybody else origin)]
    if cors.allow_credentials:
        headers.append(("access-control-allow-credentials", "true"))
    return headers


def _matches(origin: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if _WILDCARD.search(pattern):
        return fnmatch.fnmatchcase(origin.lower(), pattern.lower().replace("[", "[[]"))
    return origin.lower() == pattern.lower()
