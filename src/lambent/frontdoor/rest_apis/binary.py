"""Binary media types, and compression (developer guide, "Binary media types", "Payload compression")."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

from lambent.frontdoor.call import HttpAnswer, HttpCall


def is_binary_request(call: HttpCall, types: Iterable[str]) -> bool:
    return _names(types, call.header("content-type") or "application/json")


def takes_binary(call: HttpCall, types: Iterable[str]) -> bool:
    """By the first type that the client accepts."""
    return _names(types, (call.header("accept") or "").partition(",")[0])


def compress(answer: HttpAnswer, call: HttpCall, least_bytes: int | None) -> HttpAnswer:
    """With gzip, for clients that take it, from so many bytes on; None for never."""
    body = answer.body
    if least_bytes is None or not isinstance(body, bytes) or len(body) < max(1, least_bytes):
        return answer
    offered = {part.partition(";")[0].strip() for part in (call.header("accept-encoding") or "").split(",")}
    if "gzip" not in offered or any(name == "content-encoding" for name, _ in answer.headers):
        return answer
    headers = [*answer.headers, ("content-encoding", "gzip"), ("vary", "Accept-Encoding")]
    return HttpAnswer(status=answer.status, headers=headers, body=gzip.compress(body, compresslevel=6, mtime=0))


def _names(types: Iterable[str], given: str) -> bool:
    kind = given.partition(";")[0].strip().lower()
    main = kind.partition("/")[0]
    return any(each.lower() in ("*/*", kind, f"{main}/*") for each in types) if kind else "*/*" in types
