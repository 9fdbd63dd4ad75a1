from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.services import Services, name_service
from lambent.model.errors import CallerError


def request(*, path: bytes = b"/", query: bytes = b"", body: bytes = b"", **headers: str) -> HttpRequest:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HttpRequest(method="POST", raw_path=path, query_string=query, headers=encoded, body=body)


def signed(service: str) -> str:
    scope = f"AKIDEXAMPLE/20261123/us-east-1/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"


def context(service: str = "") -> RequestContext:
    return RequestContext(account="1", region="r", access_key="k", request_id="r", service=service)


async def create(_context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
    return {"QueueUrl": parameters["QueueName"]}


SERVICES = Services({"lambda": {}, "sqs": {"CreateQueue": create}})
CREATE = request(x_amz_target="AmazonSQS.CreateQueue", body=b'{"QueueName":"q"}')


@pytest.mark.parametrize(
    ("asked", "service"),
    [
        (request(path=b"/2015-03-31/functions"), "lambda"),
        (request(x_amz_target="AWSEvents.PutEvents", authorization=signed("events")), "events"),
        (request(x_amz_target="AmazonSQS.SendMessage"), "sqs"),
        (request(authorization=signed("s3"), path=b"/bucket/key"), "s3"),
        (request(authorization=signed("states")), "states"),
        (request(query=b"X-Amz-Credential=AKID%2F20261123%2Fus-east-1%2Fs3%2Faws4_request"), "s3"),
        (request(query=b"X-Amz-Credential=AKID/20261123/us-east-1/s3/aws4_request&X-Amz-Date=1"), "s3"),
        (request(query=b"Action=Publish&Version=2010-03-31"), "sns"),
        (
            request(content_type="application/x-www-form-urlencoded", body=b"Action=Publish&Version=2010-03-31"),
            "sns",
        ),
        (request(content_type="application/json", body=b"Version=2010-03-31"), "lambda"),
        (request(authorization="Bearer abc"), "lambda"),
    ],
)
def test_a_request_is_told_by_what_only_the_clients_of_its_service_send(asked: HttpRequest, service: str) -> None:
    assert name_service(asked) == service


def test_a_request_reaches_the_operation_of_its_service() -> None:
    assert asyncio.run(SERVICES.handle(CREATE, context())).body == b'{"QueueUrl":"q"}'
    matched = SERVICES.match(CREATE)
    assert matched is not None
    assert (matched[0], matched[1].name) == ("sqs", "CreateQueue")


def test_a_signature_for_one_service_does_not_open_another() -> None:
    assert asyncio.run(SERVICES.handle(CREATE, context("sqs"))).status == 200
    with pytest.raises(CallerError, match="correct service: 'sqs'") as caught:
        asyncio.run(SERVICES.handle(CREATE, context("lambda")))
    assert caught.value.code == "InvalidSignatureException"


def test_a_service_that_is_not_served_says_so() -> None:
    with pytest.raises(CallerError, match="'dynamodb' is not served by Lambent yet"):
        asyncio.run(SERVICES.handle(request(authorization=signed("dynamodb")), context("dynamodb")))


def test_an_error_is_written_in_the_protocol_of_the_service_that_was_asked() -> None:
    error = CallerError("QueueDoesNotExist", "none")
    assert b"com.amazonaws.sqs#QueueDoesNotExist" in SERVICES.write_error(error, CREATE, "r").body
    of_lambda = SERVICES.write_error(CallerError("ServiceException", "down", status=500), None, "r")
    assert dict(of_lambda.headers)[b"x-amzn-errortype"] == b"ServiceException"


def test_the_names_that_signatures_may_be_scoped_to_are_those_of_what_is_served() -> None:
    assert SERVICES.signing_names == {"lambda", "sqs"}
