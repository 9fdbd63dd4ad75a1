"""The rest-xml protocol, as S3 speaks it, against botocore's own client side, which is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from botocore.awsrequest import HeadersDict
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
MODEL = BotocoreModel(Loader().load_service_model("s3", "service-2"))
AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def serialize(operation: str, parameters: dict[str, Any]) -> HttpRequest:
    made = create_serializer("rest-xml").serialize_to_request(parameters, MODEL.operation_model(operation))
    path, _, static = made["url_path"].partition("?")
    query = "&".join(part for part in (static, urlencode(made["query_string"], quote_via=quote)) if part)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in made["headers"].items()]
    body = made["body"] or b""
    return HttpRequest(
        method=made["method"],
        raw_path=path.encode(),
        query_string=query.encode(),
        headers=headers,
        body=body if isinstance(body, bytes) else body.encode(),
    )


def ask(operation: str, parameters: dict[str, Any], result: Mapping[str, Any] | None = None) -> Any:
    """What the operation was given, and what botocore reads of the answer."""
    given: dict[str, Any] = {}

    async def serve(_context: RequestContext, parsed: dict[str, Any]) -> Mapping[str, Any]:
        given.update(parsed)
        return result or {}

    served = Service(load_model("s3"), {operation: serve})
    response = asyncio.run(served.handle(serialize(operation, parameters), CONTEXT))
    return given, read(response, operation)


def read(response: HttpResponse, operation: str) -> dict[str, Any]:
    headers = HeadersDict({name.decode(): value.decode("latin-1") for name, value in response.headers})
    raw = {"body": response.body, "headers": headers, "status_code": response.status}
    parsed: dict[str, Any] = create_parser("rest-xml").parse(raw, MODEL.operation_model(operation).output_shape)
    del parsed["ResponseMetadata"]
    return parsed


B: dict[str, Any] = {"Bucket": "a-bucket"}
K: dict[str, Any] = {**B, "Key": "a key/with ü & +/ends/"}
FILTER = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".mp4"}]}}
NOTIFICATION = {
    "TopicConfigurations": [{"TopicArn": "arn:t", "Events": ["s3:ObjectRemoved:*"]}],
    "QueueConfigurations": [{"QueueArn": "arn:q", "Events": ["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"]}],
    "LambdaFunctionConfigurations": [
        {"Id": "one", "LambdaFunctionArn": "arn:f", "Events": ["s3:ObjectCreated:*"], "Filter": FILTER}
    ],
    "EventBridgeConfiguration": {},
}

INPUTS: list[tuple[str, dict[str, Any]]] = [
    ("ListBuckets", {}),
    ("CreateBucket", B),
    ("CreateBucket", {**B, "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}, "ACL": "private"}),
    ("HeadBucket", B),
    ("DeleteBucket", B),
    ("GetBucketLocation", B),
    ("ListObjects", {**B, "Prefix": "ü/", "MaxKeys": 3, "Marker": "m"}),
    ("ListObjectsV2", {**B, "Delimiter": "/", "EncodingType": "url", "ContinuationToken": "t", "FetchOwner": True}),
    ("ListMultipartUploads", {**B, "KeyMarker": "k"}),
    ("PutObject", {**K, "Body": b"bytes", "Metadata": {"one": "1", "two": "2"}, "IfNoneMatch": "*"}),
    ("GetObject", {**K, "Range": "bytes=0-9", "IfModifiedSince": AT, "ResponseContentType": "text/x"}),
    ("HeadObject", {**K, "PartNumber": 2}),
    ("DeleteObject", K),
    ("CopyObject", {**K, "CopySource": "b/k", "MetadataDirective": "REPLACE"}),
    ("DeleteObjects", {**B, "Delete": {"Objects": [{"Key": "a <&> \u00fc"}, {"Key": "b"}], "Quiet": True}}),
    ("CreateMultipartUpload", {**K, "ContentType": "x/y"}),
    ("UploadPart", {**K, "UploadId": "u", "PartNumber": 7, "Body": b"part"}),
    ("UploadPartCopy", {**K, "UploadId": "u", "PartNumber": 7, "CopySource": "b/k", "CopySourceRange": "bytes=0-1"}),
    (
        "CompleteMultipartUpload",
        {**K, "UploadId": "u", "MultipartUpload": {"Parts": [{"ETag": '"e"', "PartNumber": 1, "ChecksumCRC32": "x"}]}},
    ),
    ("AbortMultipartUpload", {**K, "UploadId": "u"}),
    ("ListParts", {**K, "UploadId": "u", "MaxParts": 5}),
    ("GetObjectTagging", K),
    ("PutObjectTagging", {**K, "Tagging": {"TagSet": [{"Key": "k", "Value": "v"}]}}),
    ("GetObjectAttributes", {**K, "ObjectAttributes": ["ETag", "ObjectSize"]}),
    ("PutBucketNotificationConfiguration", {**B, "NotificationConfiguration": NOTIFICATION}),
    ("GetBucketNotificationConfiguration", B),
    ("GetBucketVersioning", B),
    ("PutBucketPolicy", {**B, "Policy": '{"Version": "2012-10-17"}'}),
    (
        "PutBucketAcl",
        {
            **B,
            "AccessControlPolicy": {
                "Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "i"}, "Permission": "READ"}]
            },
        },
    ),
]


@pytest.mark.parametrize(("operation", "parameters"), INPUTS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_botocore_sends_is_what_the_operation_is_given(operation: str, parameters: dict[str, Any]) -> None:
    given, _ = ask(operation, parameters)
    assert given == {**parameters, **({"Body": b""} if "Body" in given and "Body" not in parameters else {})}


OUTPUTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("ListBuckets", {}, {"Buckets": [{"Name": "b", "CreationDate": AT}], "Owner": {"ID": "1"}}),
    (
        "ListObjectsV2",
        B,
        {
            "IsTruncated": True,
            "Name": "a-bucket",
            "KeyCount": 2,
            "NextContinuationToken": "next",
            "CommonPrefixes": [{"Prefix": "p/"}],
            "Contents": [{"Key": "a\r<b> ü", "Size": 5, "ETag": '"e"', "LastModified": AT}],
        },
    ),
    ("PutObject", K, {"ETag": '"e"', "ChecksumCRC32": "AAAAAA=="}),
    (
        "HeadObject",
        K,
        {"ContentLength": 9, "LastModified": AT, "ETag": '"e"', "Metadata": {"one": "1"}, "ContentType": "text/plain"},
    ),
    ("CopyObject", {**K, "CopySource": "b/k"}, {"CopyObjectResult": {"ETag": '"e"', "LastModified": AT}}),
    ("DeleteObjects", {**B, "Delete": {"Objects": [{"Key": "b"}]}}, {"Deleted": [{"Key": "b"}]}),
    ("CreateMultipartUpload", K, {"Bucket": "a-bucket", "Key": "k", "UploadId": "u"}),
    ("GetBucketNotificationConfiguration", B, NOTIFICATION),
    ("GetBucketPolicy", B, {"Policy": '{"a": 1}'}),
    (
        "GetBucketAcl",
        B,
        {"Owner": {"ID": "1"}, "Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "1"}, "Permission": "READ"}]},
    ),
]


@pytest.mark.parametrize(("operation", "parameters", "result"), OUTPUTS, ids=lambda v: v if isinstance(v, str) else "")
def test_what_the_operation_answers_is_what_botocore_reads(
    operation: str, parameters: dict[str, Any], result: dict[str, Any]
) -> None:
    assert ask(operation, parameters, result)[1] == result


def test_an_error_is_read_by_its_code_and_message() -> None:
    error = CallerError("NoSuchKey", "There is no <such> key", status=404, members={"Key": "a&b"})
    response = Service(load_model("s3"), {}).write_error(error, "r-1")
    parsed = create_parser("rest-xml").parse(
        {"body": response.body, "headers": HeadersDict(), "status_code": response.status}, None
    )
    assert parsed["Error"] == {"Code": "NoSuchKey", "Message": "There is no <such> key", "Key": "a&b"}
    assert b"<RequestId>r-1</RequestId>" in response.body


def test_a_value_of_a_user_ends_no_header() -> None:
    _, answer = ask("HeadObject", K, {"ContentDisposition": "a\r\nset-cookie: b", "ContentLength": 1})
    assert answer == {"ContentDisposition": "a  set-cookie: b", "ContentLength": 1, "Metadata": {}}


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>',
        b"<Delete>" + b"<a>" * 40 + b"</a>" * 40 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 100_001 + b"</Delete>",
        b"<Delete><Object>",
        b"not xml",
    ],
    ids=["entities", "outside", "deep", "long", "open", "text"],
)
def test_xml_that_could_harm_its_reader_is_refused(body: bytes) -> None:
    request = serialize("DeleteObjects", {**B, "Delete": {"Objects": [{"Key": "b"}]}})
    request.body = body

    async def serve(_context: RequestContext, _parsed: dict[str, Any]) -> Mapping[str, Any]:
        raise AssertionError

    with pytest.raises(CallerError) as caught:
        asyncio.run(Service(load_model("s3"), {"DeleteObjects": serve}).handle(request, CONTEXT))
    assert caught.value.code == "MalformedXML"
