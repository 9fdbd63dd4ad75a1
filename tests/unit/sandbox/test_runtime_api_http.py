from __future__ import annotations

import pytest

from lambent.dataplane.sandbox import runtime_api_http as http
from lambent.dataplane.sandbox.runtime_api_http import Answer, Operation, Route


@pytest.mark.parametrize(
    ("method", "target", "route"),
    [
        (b"GET", b"/2018-06-01/runtime/invocation/next", Route(Operation.NEXT)),
        (b"POST", b"/2018-06-01/runtime/init/error", Route(Operation.INIT_ERROR)),
        (b"POST", b"/2018-06-01/runtime/invocation/a-1/response", Route(Operation.RESPONSE, "a-1")),
        (b"POST", b"/2018-06-01/runtime/invocation/a-1/error?x=/y", Route(Operation.ERROR, "a-1")),
    ],
)
def test_each_operation_is_found_by_its_path(method: bytes, target: bytes, route: Route) -> None:
    assert http.find_route(method, target) == route


@pytest.mark.parametrize("target", [b"", b"*", b"http://", b"//2018-06-01/runtime/invocation/next", b"/2018-06-01"])
def test_what_is_no_path_of_the_api_is_not_found(target: bytes) -> None:
    assert http.find_route(b"GET", target) is http.NOT_FOUND


def test_an_answer_is_one_piece_with_type_and_length() -> None:
    raw = Answer(202, b"body", fields=b"A: b\r\n").render(close=True)
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 202 Accepted"
    assert {b"Content-Type: application/json", b"A: b", b"Connection: close", b"Content-Length: 4"} < set(lines)
    assert body == b"body"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"Runtime.ExitError", "Runtime.ExitError"),
        (b"  Function.Boom  ", "Function.Boom"),
        (b"Runtime.X", "Runtime.Unknown"),
        (b"Function.x", "Function.Unknown"),
        (b"Set-Cookie: a=b", "Runtime.Unknown"),
        (b"Runtime." + b"A" * 100_000, "Runtime." + "A" * 121),
        (b"\xff\xfe", "Runtime.Unknown"),
    ],
)
def test_only_error_types_of_the_documented_form_are_kept(given: bytes, kept: str) -> None:
    assert http.filter_error_type(given) == kept
