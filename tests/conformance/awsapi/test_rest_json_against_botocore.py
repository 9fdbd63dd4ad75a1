"""botocore is the oracle: what it sends is understood, what is answered it understands."""

from __future__ import annotations

import io
import random
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lambent.awsapi.http import HttpRequest
from lambent.awsapi.models import load_model
from lambent.awsapi.rest_json import RestJson
from lambent.model.errors import CallerError

MODEL = load_model("lambda")
CODEC = RestJson(MODEL)
BOTOCORE = botocore.session.get_session().get_service_model("lambda")
TEXT = string.ascii_letters + string.digits
SKIPPED_OUTPUT = {"InvokeWithResponseStream"}  # an event stream, not a document


def sample(shape: Shape, rng: random.Random, *, header: bool = False) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return {name: sample(member, rng, header=header) for name, member in shape.members.items()}
    if kind == "list":
        return [sample(shape.member, rng) for _ in range(2)]
    if kind == "map":
        return {"".join(rng.choices(TEXT, k=5)): sample(shape.value, rng) for _ in range(2)}
    if kind == "string":
        return rng.choice(shape.enum) if getattr(shape, "enum", None) else "".join(rng.choices(TEXT, k=12))
    makers: dict[str, Callable[[], Any]] = {
        "integer": lambda: rng.randrange(1, 900),
        "long": lambda: rng.randrange(1, 10**12),
        "double": lambda: rng.randrange(1, 100) / 4,
        "float": lambda: rng.randrange(1, 100) / 4,
        "boolean": lambda: rng.random() < 0.5,
        "timestamp": lambda: datetime.fromtimestamp(rng.randrange(1_700_000_000, 1_800_000_000), UTC),
        "blob": lambda: rng.randbytes(20),
    }
    return makers[kind]()


def to_request(serialized: dict[str, Any]) -> HttpRequest:
    prepare_request_dict(serialized, "http://localhost:8700")
    prepared = create_request_object(serialized).prepare()
    parts = urlsplit(prepared.url)
    body = prepared.body or b""
    return HttpRequest(
        method=serialized["method"],
        raw_path=parts.path.encode(),
        query_string=parts.query.encode(),
        headers=[(name.lower().encode(), str(value).encode()) for name, value in serialized["headers"].items()],
        body=body.encode() if isinstance(body, str) else body,
    )


@pytest.mark.parametrize("name", sorted(MODEL.operations))
def test_parameters_come_out_as_botocore_was_given_them(name: str) -> None:
    operation: OperationModel = BOTOCORE.operation_model(name)
    rng = random.Random(name)
    given = sample(operation.input_shape, rng) if operation.input_shape else {}
    if "ClientContext" in given:
        given["ClientContext"] = "e30="
    serialized = create_serializer("rest-json", include_validation=False).serialize_to_request(given, operation)
    request = to_request(serialized)
    matched = CODEC.match(request)
    assert matched is not None
    model, labels = matched
    assert model.name == name
    assert CODEC.parse(model, labels, request) == given


@pytest.mark.parametrize("name", sorted(set(MODEL.operations) - SKIPPED_OUTPUT))
def test_botocore_reads_results_as_they_were_given(name: str) -> None:
    operation: OperationModel = BOTOCORE.operation_model(name)
    if operation.output_shape is None:
        return
    result = sample(operation.output_shape, random.Random(name))
    if "StatusCode" in operation.output_shape.members:
        result["StatusCode"] = 202
    response = CODEC.write_result(MODEL.operations[name], result)
    headers = HeadersDict({key.decode(): value.decode() for key, value in response.headers})
    body: Any = io.BytesIO(response.body) if operation.has_streaming_output else response.body
    read = create_parser("rest-json").parse(
        {"status_code": response.status, "headers": headers, "body": body}, operation.output_shape
    )
    read.pop("ResponseMetadata")
    if operation.has_streaming_output:
        payload = operation.output_shape.serialization["payload"]
        read[payload] = read[payload].read()
    assert read == result


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "TooManyRequestsException", "ServiceException"])
def test_botocore_reads_errors_with_code_message_and_members(code: str) -> None:
    response = CODEC.write_error(CallerError(code, "the text", status=404, members={"Type": "User"}))
    headers = HeadersDict({key.decode(): value.decode() for key, value in response.headers})
    parsed = create_parser("rest-json").parse(
        {"status_code": response.status, "headers": headers, "body": response.body},
        BOTOCORE.operation_model("GetFunction").output_shape,
    )
    assert parsed["Error"]["Code"] == code
    assert parsed["Error"]["Message"] == "the text"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"MemorySize": "128"}', "'MemorySize' must be a number, not a string"),
        (b'{"MemorySize": 1.5}', "'MemorySize' must be a whole number"),
        (b'{"Environment": []}', "'Environment' must be a structure, not a list"),
        (b'{"Environment": {"Variables": {"A": 1}}}', "'Environment.Variables.A' must be a string"),
        (b'{"Code": {"ZipFile": "%%%"}}', "'Code.ZipFile' is not valid base64"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_body_of_the_wrong_form_is_refused_by_the_name_of_its_member(body: bytes, message: str) -> None:
    request = HttpRequest(method="POST", raw_path=b"/2015-03-31/functions", headers=[], body=body)
    matched = CODEC.match(request)
    assert matched is not None
    with pytest.raises(CallerError, match=message.replace("(", "\\(")) as caught:
        CODEC.parse(*matched, request)
    assert caught.value.code == "SerializationException"


@pytest.mark.parametrize("service", ["scheduler", "mq", "apigatewayv2"])
def test_other_models_of_the_protocol_are_understood_as_well(service: str) -> None:
    theirs, codec = botocore.session.get_session().get_service_model(service), RestJson(load_model(service))
    serializer = create_serializer("rest-json", include_validation=False)
    for name in theirs.operation_names:
        operation: OperationModel = theirs.operation_model(name)
        given = sample(operation.input_shape, random.Random(name)) if operation.input_shape else {}
        request = to_request(serializer.serialize_to_request(given, operation))
        matched = codec.match(request)
        assert matched is not None, name
        assert matched[0].name == name
        assert codec.parse(*matched, request) == given
