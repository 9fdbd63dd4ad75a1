"""Servers behind REST APIs: asked as the API was, or with requests and answers mapped; a real server, a real node."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import connect
from tests.integration.gateway.outside import Outside
from tests.integration.gateway.rest_api import RestApi

from lambent.testing.node import LambentNode


@pytest.fixture
def api(open_node: LambentNode) -> RestApi:
    return RestApi(open_node, connect(open_node, "apigateway"))


def integrate(api: RestApi, method: str, path: str, kind: str, url: str, **parameters: Any) -> dict[str, str]:
    names = {f"method.request.{name}": False for name in parameters.pop("names", ())}
    place = api.method(method, path, requestParameters=names)
    given = {"type": kind, "integrationHttpMethod": "ANY" if method == "ANY" else method, "uri": url, **parameters}
    api.client.put_integration(**place, **given)
    return place


def test_a_proxied_server_is_asked_as_the_api_was_and_answers_as_it_does(api: RestApi, outside: Outside) -> None:
    integrate(
        api,
        "ANY",
        "/shop/{proxy+}",
        "HTTP_PROXY",
        outside.url + "/echo/{proxy}",
        names=["path.proxy", "querystring.page"],
        requestParameters={
            "integration.request.path.proxy": "method.request.path.proxy",
            "integration.request.header.x-page": "method.request.querystring.page",
            "integration.request.header.x-fixed": "'always'",
        },
    )
    api.deploy()
    headers = {"X-Own": "1", "Connection": "keep-alive", "Content-Type": "text/plain"}
    status, answered, body = api.ask("/test/shop/a/b%20c?page=2&x=%26", method="PUT", body=b"hello", headers=headers)
    method, path, seen, sent = outside.asked[-1]
    assert (status, answered["x-secret"], json.loads(body)["method"]) == (201, "of the server", "PUT")
    assert (method, path, sent) == ("PUT", "/echo/a/b%20c?page=2&x=%26", b"hello")
    assert (seen["x-own"], seen["x-page"], seen["x-fixed"], seen["content-type"]) == ("1", "2", "always", "text/plain")
    assert seen["host"] == outside.url.removeprefix("http://")
    before = len(outside.asked)
    for path in ("/test/shop/../keys", "/test/shop/a/..%2f..%2fkeys", "/test/shop/%2e%2e/keys"):
        assert api.ask(path)[0] == 400
    assert len(outside.asked) == before


def test_what_a_client_writes_for_a_variable_leads_nowhere_else(api: RestApi, outside: Outside) -> None:
    integrate(
        api,
        "GET",
        "/pets/{id}",
        "HTTP_PROXY",
        outside.url + "/echo/{id}/end",
        names=["path.id"],
        requestParameters={"integration.request.path.id": "method.request.path.id"},
    )
    api.deploy()
    before = len(outside.asked)
    for text, expected in (("..%2f..%2fkeys", "..%2F..%2Fkeys"), ("a%3fb%23c", "a%3Fb%23c"), ("%40evil", "%40evil")):
        assert api.ask(f"/test/pets/{text}")[0] == 201
        assert outside.asked[-1][1] == f"/echo/{expected}/end"
    assert len(outside.asked) == before + 3


def test_requests_and_answers_of_a_server_are_mapped(api: RestApi, outside: Outside) -> None:
    place = integrate(
        api,
        "POST",
        "/orders",
        "HTTP",
        outside.url + "/echo",
        requestTemplates={"application/json": '{"order": $input.json("$.number"), "of": "$context.stage"}'},
    )
    for status, parameters in (("201", {"method.response.header.x-from": True}), ("200", {})):
        api.client.put_method_response(**place, statusCode=status, responseParameters=parameters)
    api.client.put_integration_response(
        **place,
        statusCode="201",
        selectionPattern="2\\d\\d",
        responseParameters={"method.response.header.x-from": "integration.response.header.x-secret"},
        responseTemplates={"application/json": '{"told": $input.path("$.body")}'},
    )
    api.client.put_integration_response(**place, statusCode="200")
    api.deploy()
    headers = {"Content-Type": "application/json", "X-Own": "1"}
    told, answered, body = api.ask("/test/orders", method="POST", body=b'{"number": 7}', headers=headers)
    assert (told, answered["x-from"]) == (201, "of the server")
    assert json.loads(body) == {"told": {"order": 7, "of": "test"}}
    # Of the client's headers only those that say what the body is go on.
    assert "x-own" not in outside.asked[-1][2]


def test_a_server_that_is_not_there_is_the_gateways_to_explain(api: RestApi) -> None:
    integrate(api, "GET", "/gone", "HTTP_PROXY", "http://127.0.0.1:9/")
    api.deploy()
    status, headers, body = api.ask("/test/gone")
    assert (status, headers["x-amzn-errortype"]) == (504, "InternalServerErrorException")
    assert json.loads(body) == {"message": "Internal server error"}


def test_a_server_that_functions_may_not_reach_is_not_asked(node: LambentNode, outside: Outside) -> None:
    guarded = RestApi(node, connect(node, "apigateway"))
    integrate(guarded, "GET", "/inner", "HTTP_PROXY", outside.url + "/echo")
    guarded.deploy()
    before = len(outside.asked)
    assert guarded.ask("/test/inner")[0] == 504
    assert len(outside.asked) == before
