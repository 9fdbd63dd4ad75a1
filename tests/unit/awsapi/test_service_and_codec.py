"""From a request to an operation and back, and every way in which that ends early."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.awsapi.models import ServiceModel, load_model
from lambent.awsapi.rest_json import RestJson
from lambent.awsapi.service import Service
from lambent.model.errors import CallerError, PlatformError

MODEL = load_model("lambda")
CONTEXT = RequestContext(account="123456789012", region="us-east-1", access_key="LKIA", request_id="r")
FUNCTIONS = b"/2015-03-31/functions"


async def echo(_: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
    return {"FunctionName": parameters["FunctionName"], "Description": None, "Unknown": 1}


SERVICE = Service(MODEL, {"GetFunctionConfiguration": echo})


def request(method: str, path: bytes, *, query: bytes = b"", body: bytes = b"") -> HttpRequest:
    return HttpRequest(method=method, raw_path=path, query_string=query, headers=[], body=body)


def read(response: HttpResponse) -> dict[str, Any]:
    return msgspec.json.decode(response.body, type=dict[str, Any])


async def test_an_operation_gets_its_parameters_and_only_known_members_are_answered() -> None:
    response = await SERVICE.handle(request("GET", FUNCTIONS + b"/f/configuration"), CONTEXT)
    assert (response.status, read(response)) == (200, {"FunctionName": "f"})


@pytest.mark.parametrize("name", sorted(set(MODEL.operations) - {"GetFunctionConfiguration"}))
async def test_an_operation_that_is_not_served_says_so(name: str) -> None:
    operation = MODEL.operations[name]
    path, _, query = operation.uri.partition("?")
    filled = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
    asked = request(operation.method, filled.encode(), query=query.encode())
    assert SERVICE.match(asked) is operation
    with pytest.raises(CallerError) as caught:
        await SERVICE.handle(asked, CONTEXT)
    assert (caught.value.code, caught.value.status) == ("NotImplementedException", 501)
    assert caught.value.message == f"{name} is not implemented by Lambent yet"


@pytest.mark.parametrize(("method", "path"), [("GET", b"/nowhere"), ("PATCH", FUNCTIONS + b"/f"), ("GET", b"")])
async def test_a_request_for_nothing_is_an_unknown_operation(method: str, path: bytes) -> None:
    assert SERVICE.match(request(method, path)) is None
    with pytest.raises(CallerError) as caught:
        await SERVICE.handle(request(method, path), CONTEXT)
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 404)


@pytest.mark.parametrize(
    ("method", "path", "query", "name"),
    [
        ("GET", FUNCTIONS, b"", "ListFunctions"),
        ("GET", FUNCTIONS + b"/", b"MaxItems=1", "ListFunctions"),
        ("GET", FUNCTIONS + b"/a%2Fb", b"", "GetFunction"),
        ("GET", b"/2018-10-31/layers", b"", "ListLayers"),
        ("GET", b"/2018-10-31/layers", b"find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
        ("GET", b"/2018-10-31/layers", b"find=Other", "ListLayers"),
        ("GET", b"/2019-09-30/functions/f/provisioned-concurrency", b"Qualifier=1", "GetProvisionedConcurrencyConfig"),
        ("GET", b"/2019-09-30/functions/f/provisioned-concurrency", b"List=ALL", "ListProvisionedConcurrencyConfigs"),
    ],
)
def test_the_most_particular_route_wins(method: str, path: bytes, query: bytes, name: str) -> None:
    matched = SERVICE.match(request(method, path, query=query))
    assert matched is not None
    assert matched.name == name


@pytest.mark.parametrize("text", ["1_0", "%D9%A3", "x", "", "1.0", "9" * 5000, "%2B%2B1"])
async def test_a_number_in_the_query_must_be_plain_digits(text: str) -> None:
    service = Service(MODEL, {"ListFunctions": echo})
    with pytest.raises(CallerError, match="at 'MaxItems' is not of type integer") as caught:
        await service.handle(request("GET", FUNCTIONS, query=f"MaxItems={text}".encode()), CONTEXT)
    assert caught.value.code == "SerializationException"


@pytest.mark.parametrize("zipped", ["é", "a", "a b=", "*"])
async def test_a_blob_that_is_not_base64_is_refused(zipped: str) -> None:
    service = Service(MODEL, {"CreateFunction": echo})
    body = msgspec.json.encode({"Code": {"ZipFile": zipped}})
    with pytest.raises(CallerError, match=r"'Code\.ZipFile' is not valid base64"):
        await service.handle(request("POST", FUNCTIONS, body=body), CONTEXT)


def test_an_error_of_the_model_has_its_type_and_its_own_spelling_of_message() -> None:
    missing = SERVICE.write_error(CallerError("ResourceNotFoundException", "no f", status=404), "r")
    assert read(missing) == {"Type": "User", "Message": "no f"}
    assert (b"x-amzn-errortype", b"ResourceNotFoundException") in missing.headers
    conflict = SERVICE.write_error(CallerError("ResourceConflictException", "twice", status=409), "r")
    assert read(conflict) == {"Type": "User", "message": "twice"}


def test_an_error_of_the_services_front_has_only_its_message() -> None:
    response = SERVICE.write_error(CallerError("ValidationException", "bad"), "r")
    assert (response.status, read(response)) == (400, {"message": "bad"})


def test_an_unexpected_error_is_logged_and_keeps_its_details_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = SERVICE.write_error(RuntimeError("the secret path"), "request-7")
    assert response.status == 500
    assert (b"x-amzn-errortype", b"ServiceException") in response.headers
    assert b"secret" not in response.body
    assert b"request-7" in response.body
    assert caplog.records[0].exc_info is not None


def test_a_fault_of_the_platform_is_a_service_exception() -> None:
    response = SERVICE.write_error(PlatformError("the disk is full"), "r")
    assert (response.status, read(response)) == (500, {"Type": "Server", "Message": "the disk is full"})


def made_up() -> RestJson:
    """A model with what Lambda's own has not: maps in the query, header prefixes, JSON and timestamps in headers."""
    text, plain = {"type": "string"}, {"shape": "Text"}
    shapes: dict[str, Any] = {
        "Text": text,
        "Texts": {"type": "list", "member": plain},
        "Whole": {"type": "integer"},
        "Map": {"type": "map", "key": plain, "value": plain},
        "Lists": {"type": "map", "key": plain, "value": {"shape": "Texts"}},
        "Time": {"type": "timestamp"},
        "In": {
            "type": "structure",
            "members": {
                "Path": {"shape": "Text", "location": "uri", "locationName": "Path"},
                "Size": {"shape": "Whole", "location": "querystring", "locationName": "size"},
                "Rest": {"shape": "Map", "location": "querystring"},
                "Lists": {"shape": "Lists", "location": "querystring"},
                "Meta": {"shape": "Map", "location": "headers", "locationName": "X-Meta-"},
                "Json": {"shape": "Text", "location": "header", "locationName": "X-Json", "jsonvalue": True},
                "At": {"shape": "Time", "location": "header", "locationName": "X-At"},
                "Until": {"shape": "Time"},
            },
        },
        "Out": {
            "type": "structure",
            "members": {
                "Meta": {"shape": "Map", "location": "headers", "locationName": "X-Meta-"},
                "At": {"shape": "Time", "location": "header", "locationName": "X-At"},
                "Iso": {
                    "shape": "Time", "location": "header", "locationName": "X-Iso", "timestampFormat": "iso8601"
                },
                "Until": {"shape": "Time"},
            },
        },
    }  # fmt: skip
    http = {"method": "PUT", "requestUri": "/things/{Path+}/end?kind=a", "responseCode": 201}
    operations = {"Put": {"http": http, "input": {"shape": "In"}, "output": {"shape": "Out"}}}
    return RestJson(ServiceModel({"metadata": {}, "shapes": shapes, "operations": operations}))


def parse_made_up(**fields: Any) -> dict[str, Any]:
    codec = made_up()
    asked = HttpRequest(method="PUT", raw_path=b"/things/a/b%20c/end", headers=fields.pop("headers", []), **fields)
    matched = codec.match(asked)
    assert matched is not None
    return codec.parse(*matched, asked)


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_every_place_of_a_request_is_read() -> None:
    headers = [
        (b"x-meta-one", b"1"),
        (b"x-meta-two", b"2"),
        (b"x-json", b"eyJhIjoxfQ=="),
        (b"x-at", b"Fri, 02 Jan 2026 03:04:05 GMT"),
    ]
    parsed = parse_made_up(
        query_string=b"kind=a&size=3&x=1&x=2&y=a+b", headers=headers, body=b'{"Until": 1767323045, "More": [1]}'
    )
    assert parsed == {
        "Path": "a/b c",
        "Size": 3,
        "Rest": {"x": "2", "y": "a b"},
        "Lists": {"x": ["1", "2"], "y": ["a b"]},
        "Meta": {"one": "1", "two": "2"},
        "Json": '{"a":1}',
        "At": AT,
        "Until": AT,
    }


@pytest.mark.parametrize(
    "until", [b"1767323045.0", b'"1767323045"', b'"2026-01-02T03:04:05Z"', b'"2026-01-02T03:04:05"',
              b'"Fri, 02 Jan 2026 03:04:05 GMT"', b'"2026-01-02T04:04:05+01:00"']
)  # fmt: skip
def test_timestamps_are_read_in_all_their_forms(until: bytes) -> None:
    assert parse_made_up(query_string=b"kind=a", body=b'{"Until": %s}' % until)["Until"] == AT


@pytest.mark.parametrize("until", [b"true", b"[]", b'"soon"', b"1e300", b'"1e300"', b"{}", b'"soon, maybe"'])
def test_what_is_no_timestamp_is_refused(until: bytes) -> None:
    with pytest.raises(CallerError, match="is not a timestamp"):
        parse_made_up(query_string=b"kind=a", body=b'{"Until": %s}' % until)


def test_json_in_a_header_that_is_not_base64_is_refused() -> None:
    with pytest.raises(CallerError, match="'Json' is not base64"):
        parse_made_up(query_string=b"kind=a", headers=[(b"x-json", b"{}")])


def test_every_place_of_a_response_is_written() -> None:
    codec = made_up()
    matched = codec.match(HttpRequest(method="PUT", raw_path=b"/things/a/end", query_string=b"kind=a", headers=[]))
    assert matched is not None
    response = codec.write_result(matched[0], {"Meta": {"one": "1"}, "At": AT, "Iso": AT, "Until": AT})
    assert response.status == 201
    assert read(response) == {"Until": AT.timestamp()}
    assert set(response.headers) == {
        (b"content-type", b"application/json"),
        (b"x-meta-one", b"1"),
        (b"x-at", b"Fri, 02 Jan 2026 03:04:05 GMT"),
        (b"x-iso", b"2026-01-02T03:04:05.000Z"),
    }
