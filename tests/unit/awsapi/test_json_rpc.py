"""The json protocol against botocore's own client side, which is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotocoreModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.awsapi.models import load_model
from lambent.awsapi.service import Service
from lambent.model.errors import CallerError

CONTEXT = RequestContext(account="123456789012", region="us-east-1", access_key="k", request_id="r")


async def echo(context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
    return {"QueueUrl": parameters["QueueName"], "Messages": [{"Body": parameters["QueueName"]}]}


SERVICE = Service(load_model("sqs"), {"CreateQueue": echo})


def request_of(operation: str, parameters: dict[str, Any], service: str = "sqs") -> HttpRequest:
    model = BotocoreModel(Loader().load_service_model(service, "service-2"))
    made = create_serializer(model.metadata["protocol"]).serialize_to_request(
        parameters, model.operation_model(operation)
    )
    headers = [(name.lower().encode(), str(value).encode()) for name, value in made["headers"].items()]
    return HttpRequest(method=made["method"], raw_path=b"/", headers=headers, body=made["body"])


def read_by_botocore(response: HttpResponse, operation: str) -> dict[str, Any]:
    model = BotocoreModel(Loader().load_service_model("sqs", "service-2"))
    headers = {name.decode(): value.decode() for name, value in response.headers}
    raw = {"body": response.body, "headers": headers, "status_code": response.status}
    shape = model.operation_model(operation).output_shape
    # botocore stubs are not typed.
    parsed: dict[str, Any] = create_parser("json").parse(raw, shape)
    return parsed


def test_a_call_of_botocore_reaches_its_operation_and_botocore_reads_the_answer() -> None:
    request = request_of("CreateQueue", {"QueueName": "q", "tags": {"a": "b"}})
    response = asyncio.run(SERVICE.handle(request, CONTEXT))
    assert read_by_botocore(response, "CreateQueue")["QueueUrl"] == "q"
    assert dict(response.headers)[b"content-type"] == b"application/x-amz-json-1.0"


def test_members_that_the_output_does_not_have_are_left_out() -> None:
    response = asyncio.run(SERVICE.handle(request_of("CreateQueue", {"QueueName": "q"}), CONTEXT))
    assert b"Messages" not in response.body


def test_an_operation_that_is_not_served_says_so() -> None:
    with pytest.raises(CallerError, match="PurgeQueue is not implemented by Lambent yet"):
        asyncio.run(SERVICE.handle(request_of("PurgeQueue", {"QueueUrl": "q"}), CONTEXT))


@pytest.mark.parametrize("target", ["AmazonSQS.Nonesuch", "Other.CreateQueue", "CreateQueue", ""])
def test_a_target_that_names_no_operation_is_unknown(target: str) -> None:
    request = HttpRequest(method="POST", raw_path=b"/", headers=[(b"x-amz-target", target.encode())], body=b"{}")
    with pytest.raises(CallerError) as caught:
        asyncio.run(SERVICE.handle(request, CONTEXT))
    assert caught.value.code == "UnknownOperationException"


@pytest.mark.parametrize("body", [b"[]", b"7", b"{", b"\xff", b'{"QueueName": 7}', b"[" * 100_000])
def test_a_body_of_another_shape_is_the_callers_fault(body: bytes) -> None:
    headers = [(b"x-amz-target", b"AmazonSQS.CreateQueue")]
    with pytest.raises(CallerError) as caught:
        asyncio.run(SERVICE.handle(HttpRequest(method="POST", raw_path=b"/", headers=headers, body=body), CONTEXT))
    assert caught.value.code == "SerializationException"


def test_an_error_is_named_absolutely_and_in_the_words_of_the_query_protocol_besides() -> None:
    old = "AWS.SimpleQueueService.NonExistentQueue;Sender"
    missing = CallerError("QueueDoesNotExist", "There is no such queue.", headers={"x-amzn-query-error": old})
    response = SERVICE.write_error(missing, "r")
    assert response.status == 400
    assert b'"__type":"com.amazonaws.sqs#QueueDoesNotExist"' in response.body
    assert [value for name, value in response.headers if name == b"x-amzn-query-error"] == [old.encode()]
    plain = SERVICE.write_error(CallerError("QueueNameExists", "It exists."), "r")
    assert dict(plain.headers)[b"x-amzn-query-error"] == b"QueueNameExists;Sender"
    error = read_by_botocore(response, "CreateQueue")["Error"]
    assert error["Message"] == "There is no such queue."


def test_a_service_that_never_spoke_query_has_no_such_header_and_short_error_names() -> None:
    events = Service(load_model("events"), {})
    response = events.write_error(CallerError("ResourceNotFoundException", "No rule."), "r")
    assert b'"__type":"ResourceNotFoundException"' in response.body
    assert b"x-amzn-query-error" not in dict(response.headers)
