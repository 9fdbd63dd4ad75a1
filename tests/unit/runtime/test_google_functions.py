"""Functions of Google's functions-framework, unmodified: its real package, and events as the contract has them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import functions_framework
import pytest
from flask import Request
from functions_framework import _function_registry
from tests.unit.runtime.test_applications import Context, call, first, second, serve

from lambent.dataplane.runtime.applications.google import FunctionFailed, GoogleHandler
from lambent.dataplane.runtime.applications.recognition import adapt
from lambent.dataplane.runtime.applications.requests import NotHttp

MESSAGE = {
    "eventSource": "aws:sqs",
    "eventSourceARN": "arn:aws:sqs:us-east-1:1:jobs",
    "messageId": "m1",
    "body": "work",
    "messageAttributes": {"kind": {"stringValue": "fast", "dataType": "String"}},
}
OBJECT = {
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-01-02T03:04:05.000Z",
    "s3": {"bucket": {"name": "box"}, "object": {"key": "a+b.txt", "size": 3, "sequencer": "1"}},
}


class Invocation(Context):
    aws_request_id = "r1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:f"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    variables, registered = dict(os.environ), dict(_function_registry.REGISTRY_MAP)
    yield
    os.environ.clear()
    os.environ.update(variables)
    _function_registry.REGISTRY_MAP.clear()
    _function_registry.REGISTRY_MAP.update(registered)


def make(function: Callable[..., Any]) -> GoogleHandler:
    handler = adapt(function)
    assert isinstance(handler, GoogleHandler)
    handler.startup()
    return handler


def test_http_functions_get_the_request_of_flask() -> None:
    @functions_framework.http
    def hello(request: Request) -> Any:
        return {"path": request.path, "name": request.args["name"], "sent": request.get_json()}, 201

    handler = make(hello)
    given = call("POST", "/a/b", query="name=x", body=b'{"n": 1}', content_type="application/json")
    for event in (first(given), second(given)):
        status, _, body = serve(handler, event)
        assert (status, json.loads(body)) == (201, {"path": "/a/b", "name": "x", "sent": {"n": 1}})
    with pytest.raises(NotHttp):
        handler({"job": 1}, Invocation())


def test_http_functions_without_a_decorator_are_told_by_their_parameter() -> None:
    def hello(request: Request) -> str:
        return request.method

    assert serve(make(hello), second(call("PUT")))[2] == b"PUT"


def test_an_error_of_a_function_is_a_500() -> None:
    @functions_framework.http
    def broken(request: Request) -> str:
        raise RuntimeError("no luck")

    assert serve(make(broken), second(call()))[0] == 500


def test_cloud_event_functions_get_records_as_googles_events() -> None:
    got: list[Any] = []

    @functions_framework.cloud_event
    def note(event: Any) -> None:
        got.append(event)
        if event["id"] == "bad":
            raise RuntimeError("no luck")

    handler = make(note)
    handler({"Records": [MESSAGE, MESSAGE]}, Invocation())
    assert [event["id"] for event in got] == ["m1", "m1"]
    assert got[0]["type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert got[0].data["message"]["data"] == "d29yaw=="
    assert got[0].data["message"]["attributes"] == {"kind": "fast"}
    handler({"Records": [OBJECT]}, Invocation())
    assert (got[2]["type"], got[2]["subject"]) == ("google.cloud.storage.object.v1.finalized", "objects/a b.txt")
    assert (got[2].data["bucket"], got[2].data["name"], got[2].data["size"]) == ("box", "a b.txt", "3")
    handler({"detail-type": "made", "source": "shop", "id": "e1", "detail": {"n": 1}}, Invocation())
    assert (got[3]["type"], got[3]["source"], got[3].data) == ("made", "shop", {"n": 1})
    handler({"anything": 1}, Invocation())
    assert (got[4]["id"], got[4].data) == ("r1", {"anything": 1})
    # As it is posted by whoever speaks of CloudEvents.
    document = {"specversion": "1.0", "id": "h1", "type": "t", "source": "s", "data": 1}
    posted = call("POST", body=json.dumps(document).encode(), content_type="application/cloudevents+json")
    assert serve(handler, second(posted))[0] == 200
    assert got[5]["id"] == "h1"
    with pytest.raises(FunctionFailed, match="500"):
        handler({"specversion": "1.0", "id": "bad", "type": "t", "source": "s"}, Invocation())


@pytest.mark.filterwarnings("ignore:is_binary is deprecated")
def test_background_functions_get_data_and_context() -> None:
    got: list[Any] = []

    def note(data: Any, context: Any) -> None:
        got.append((data, context))

    handler = make(note)
    handler({"Records": [MESSAGE, OBJECT]}, Invocation())
    (message, about), (item, of_item) = got
    assert (message["data"], message["attributes"]) == ("d29yaw==", {"kind": "fast"})
    assert (about.event_id, about.event_type) == ("m1", "google.pubsub.topic.publish")
    assert (item["name"], of_item.event_type) == ("a b.txt", "google.storage.object.finalize")
    handler({"anything": 1}, Invocation())
    assert got[2][0] == {"anything": 1}


def test_typed_functions_give_their_answer_to_events_and_requests() -> None:
    class Order:
        def __init__(self, number: int) -> None:
            self.number = number

        @staticmethod
        def from_dict(given: dict[str, int]) -> Order:
            return Order(given["number"])

        def to_dict(self) -> dict[str, int]:
            return {"number": self.number}

    @functions_framework.typed(Order)  # type: ignore[no-untyped-call]
    def double(order):  # type: ignore[no-untyped-def]  # an annotation would be a text here
        return Order(order.number * 2)

    handler = make(double)
    assert handler({"number": 4}, Invocation()) == {"number": 8}
    given = call("POST", body=b'{"number": 2}', content_type="application/json")
    assert json.loads(serve(handler, second(given))[2]) == {"number": 4}


def test_other_functions_are_none_of_googles() -> None:
    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        return []

    assert not isinstance(adapt(wsgi), GoogleHandler)
