"""Parameter mapping of HTTP APIs."""

from __future__ import annotations

import pytest

from lambent.frontdoor.call import HttpAnswer, HttpCall
from lambent.frontdoor.http_apis.parameters import Variables, find_in_body, map_request, map_response

BODY = b'{"order": {"items": [{"id": 7}, {"id": "eight"}], "none": null, "yes": true}}'


def make() -> Variables:
    call = HttpCall(
        method="POST",
        raw_path=b"/a%20b",
        query_string=b"q=1&q=2&x=y",
        headers=[(b"x-one", b"1"), (b"x-one", b"2"), (b"host", b"h")],
        body=BODY,
        request_id="r",
    )
    return Variables(
        call=call, path_parameters={"id": "../a?b#c"}, context={"stage": "dev"}, stage_variables={"color": "blue"}
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$request.header.X-One", "1,2"),
        ("$request.querystring.q", "1,2"),
        ("$request.path", "/a b"),
        ("$request.path.id", "../a?b#c"),
        ("$request.body.order.items[0].id", "7"),
        ("$request.body.order.items[1].id", "eight"),
        ("$request.body.order.items[9].id", ""),
        ("$request.body.order.none", ""),
        ("$request.body.order.yes", "true"),
        ("$context.stage", "dev"),
        ("$stageVariables.color", "blue"),
        ("$unknown.thing", ""),
        ("plain", "plain"),
        ("${context.stage}-${stageVariables.color}-${request.querystring.x}", "dev-blue-y"),
    ],
)
def test_an_expression_is_what_it_names(expression: str, value: str) -> None:
    assert make().fill(expression) == value


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[" * 100_000, b"7"])
def test_a_body_that_has_no_such_value_has_none(body: bytes) -> None:
    assert find_in_body(body, "a.b") == ""


def test_a_request_is_changed_as_the_rules_say() -> None:
    mapped = map_request(
        "https://example.com/base?own=1",
        [("x-keep", "k"), ("x-drop", "d"), ("x-old", "o")],
        "a=b&a=c",
        {
            "append:header.X-New": "$context.stage",
            "overwrite:header.x-old": "new",
            "remove:header.x-drop": "''",
            "overwrite:querystring.a": "z",
            "overwrite:path": "/v1/$request.path.id",
        },
        make(),
    )
    assert mapped.headers == [("x-keep", "k"), ("x-new", "dev"), ("x-old", "new")]
    assert mapped.url == "https://example.com/v1/$request.path.id?own=1&a=z"


def test_what_a_client_writes_stays_within_the_path() -> None:
    mapped = map_request("https://example.com/", [], "", {"overwrite:path": "/v1/${request.path.id}"}, make())
    assert mapped.url == "https://example.com/v1/../a%3Fb%23c"


def test_a_query_that_no_rule_touches_goes_on_byte_by_byte() -> None:
    assert map_request("http://e/", [], "a=%zz&&b", {}, make()).url == "http://e/?a=%zz&&b"


def test_a_value_that_would_break_out_of_its_line_is_no_header() -> None:
    rules = {"append:header.x": "$request.body.order.items[1].id", "append:header.y": "a\r\nz: 1"}
    assert map_request("http://e/", [], "", rules, make()).headers == [("x", "eight")]


def test_a_response_is_changed_as_the_rules_say() -> None:
    answer = HttpAnswer(status=200, headers=[("x-a", "1"), ("x-b", "2")], body=b'{"id": 7}')
    mapped = map_response(
        answer,
        {
            "overwrite:header.x-a": "$response.header.x-b",
            "append:header.x-id": "$response.body.id",
            "remove:header.x-b": "''",
            "overwrite:statuscode": "418",
            "nonsense": "x",
        },
        make(),
    )
    assert (mapped.status, mapped.headers) == (418, [("x-a", "2"), ("x-id", "7")])
    assert map_response(answer, {"overwrite:statuscode": "many"}, make()).status == 200
