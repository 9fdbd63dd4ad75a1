"""The query protocol against botocore's own client side, which is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

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

CONTEXT = RequestContext(account="123456789012", region="us-east-1", access_key="k", request_id="r-1")
MODELS = {name: BotocoreModel(Loader().load_service_model(name, "service-2")) for name in ("sns", "ses", "sts", "iam")}


def ask(service: str, operation: str, parameters: dict[str, Any], result: Mapping[str, Any] | None = None) -> Any:
    """What the operation was given, and what botocore reads of the answer."""
    given: dict[str, Any] = {}

    async def serve(_context: RequestContext, parsed: dict[str, Any]) -> Mapping[str, Any]:
        given.update(parsed)
        return result or {}

    served = Service(load_model(service), {operation: serve})
    response = asyncio.run(served.handle(serialize(service, operation, parameters), CONTEXT))
    return given, read(response, service, operation)


def serialize(service: str, operation: str, parameters: dict[str, Any]) -> HttpRequest:
    model = MODELS[service].operation_model(operation)
    made = create_serializer("query").serialize_to_request(parameters, model)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in made["headers"].items()]
    return HttpRequest(method="POST", raw_path=b"/", headers=headers, body=urlencode(made["body"]).encode())


def read(response: HttpResponse, service: str, operation: str) -> dict[str, Any]:
    headers = {name.decode(): value.decode() for name, value in response.headers}
    raw = {"body": response.body, "headers": headers, "status_code": response.status}
    parsed: dict[str, Any] = create_parser("query").parse(raw, MODELS[service].operation_model(operation).output_shape)
    return parsed


INPUTS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "sns",
        "CreateTopic",
        {"Name": "a", "Attributes": {"DisplayName": "é & <b>", "Policy": "{}"}, "Tags": [{"Key": "k", "Value": "v"}]},
    ),
    (
        "sns",
        "Publish",
        {
            "TopicArn": "arn",
            "Message": "a=b&c\r\nü",
            "MessageAttributes": {
                "one": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
                "two.with.dots": {"DataType": "Number", "StringValue": "1"},
            },
        },
    ),
    (
        "sns",
        "PublishBatch",
        {
            "TopicArn": "arn",
            "PublishBatchRequestEntries": [{"Id": str(number), "Message": f"m{number}"} for number in range(12)],
        },
    ),
    ("sns", "Subscribe", {"TopicArn": "arn", "Protocol": "sqs", "ReturnSubscriptionArn": True, "Attributes": {}}),
    ("ses", "SendRawEmail", {"RawMessage": {"Data": b"From: a@b.c\r\n\r\n"}, "Destinations": ["a@b.c", "d@e.f"]}),
    (
        "ses",
        "CreateReceiptRule",
        {
            "RuleSetName": "main",
            "Rule": {
                "Name": "r",
                "Enabled": True,
                "Recipients": ["a@b.c"],
                "Actions": [{"LambdaAction": {"FunctionArn": "arn"}}, {"StopAction": {"Scope": "RuleSet"}}],
                "ScanEnabled": False,
            },
        },
    ),
    ("sts", "AssumeRole", {"RoleArn": "a" * 20, "RoleSessionName": "name", "DurationSeconds": 900}),
]


@pytest.mark.parametrize(("service", "operation", "parameters"), INPUTS, ids=[row[1] for row in INPUTS])
def test_what_botocore_sends_is_read_as_it_was_meant(service: str, operation: str, parameters: dict[str, Any]) -> None:
    given, _ = ask(service, operation, parameters)
    assert given == {key: value for key, value in parameters.items() if value != {}}


OUTPUTS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("sns", "CreateTopic", {"Name": "a"}, {"TopicArn": "arn"}),
    ("sns", "ListTopics", {}, {"Topics": [{"TopicArn": "a"}, {"TopicArn": "b"}], "NextToken": "more"}),
    ("sns", "ListTopics", {}, {"Topics": []}),
    (
        "sns",
        "GetTopicAttributes",
        {"TopicArn": "a"},
        {"Attributes": {"Policy": '{"a": "<&>\\""}', "Empty": "", "ü": "\r\n\t"}},
    ),
    (
        "ses",
        "DescribeActiveReceiptRuleSet",
        {},
        {
            "Metadata": {"Name": "main", "CreatedTimestamp": datetime(2026, 11, 23, 5, 6, 7, 8000, tzinfo=UTC)},
            "Rules": [
                {
                    "Name": "r",
                    "Enabled": False,
                    "Recipients": ["a", "b"],
                    "Actions": [{"StopAction": {"Scope": "RuleSet"}}],
                }
            ],
        },
    ),
    ("ses", "GetSendQuota", {}, {"Max24HourSend": 200.5, "MaxSendRate": 1.0, "SentLast24Hours": 0.0}),
    ("iam", "GetRole", {"RoleName": "r"}, {"Role": {"RoleName": "r", "MaxSessionDuration": 3600, "Tags": []}}),
]


@pytest.mark.parametrize(("service", "operation", "parameters", "result"), OUTPUTS)
def test_botocore_reads_the_answer_as_it_was_meant(
    service: str, operation: str, parameters: dict[str, Any], result: dict[str, Any]
) -> None:
    _, answer = ask(service, operation, parameters, result)
    metadata = answer.pop("ResponseMetadata")
    assert metadata["RequestId"] == "r-1"
    assert answer == result


def test_an_operation_without_output_still_tells_its_request() -> None:
    _, answer = ask("sns", "DeleteTopic", {"TopicArn": "a"})
    assert answer["ResponseMetadata"]["RequestId"] == "r-1"


def test_an_error_has_the_code_and_the_status_of_the_model() -> None:
    served = Service(load_model("sns"), {})
    for code in ("NotFound", "NotFoundException"):
        response = served.write_error(CallerError(code, "Topic <x> does not exist"), "r-1")
        assert response.status == 404
        error = read(response, "sns", "Publish")["Error"]
        assert (error["Code"], error["Message"], error["Type"]) == ("NotFound", "Topic <x> does not exist", "Sender")


def test_what_xml_cannot_carry_becomes_the_replacement_character() -> None:
    _, answer = ask("sns", "CreateTopic", {"Name": "a"}, {"TopicArn": "a\x00b\x1f\ud800c"})
    assert answer["TopicArn"] == "a\ufffdb\ufffd\ufffdc"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=Nonesuch", "UnknownOperationException"),
        (b"", "UnknownOperationException"),
        (b"Action=Publish&=x", "SerializationException"),
        (b"Action=Publish&a..b=x", "SerializationException"),
        (b"Action=Publish&" + b".".join([b"a"] * 40) + b"=1", "SerializationException"),
        (b"Action=Publish&Message.x=1", "SerializationException"),
        (b"Action=Publish&Message=%ff&TopicArn=a", "SerializationException"),
        (
            b"Action=Publish&MessageAttributes.entry.1.Name=a&MessageAttributes.entry.1.Value.BinaryValue=*",
            "SerializationException",
        ),
        (b"Action=Subscribe&TopicArn=a&Protocol=sqs&ReturnSubscriptionArn=1", "SerializationException"),
        (b"&".join([b"Action=Publish"] * 10_002), "SerializationException"),
    ],
)
def test_a_form_that_cannot_be_is_the_callers_fault(body: bytes, code: str) -> None:
    async def serve(_context: RequestContext, parsed: dict[str, Any]) -> Mapping[str, Any]:
        return {}

    served = Service(load_model("sns"), {"Publish": serve, "Subscribe": serve})
    request = HttpRequest(
        method="POST", raw_path=b"/", headers=[(b"content-type", b"application/x-www-form-urlencoded")], body=body
    )
    with pytest.raises(CallerError) as caught:
        asyncio.run(served.handle(request, CONTEXT))
    assert caught.value.code == code


def test_a_call_may_stand_in_the_query_too() -> None:
    async def serve(_context: RequestContext, parsed: dict[str, Any]) -> Mapping[str, Any]:
        return {"SubscriptionArn": parsed["Token"]}

    served = Service(load_model("sns"), {"ConfirmSubscription": serve})
    query = b"Action=ConfirmSubscription&TopicArn=a&Token=t&Version=2010-03-31"
    request = HttpRequest(method="GET", raw_path=b"/", query_string=query, headers=[])
    response = asyncio.run(served.handle(request, CONTEXT))
    assert read(response, "sns", "ConfirmSubscription")["SubscriptionArn"] == "t"
