"""Function URLs through boto3 and plain HTTP, against a real node."""

from __future__ import annotations

import base64
import http.client
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from tests.conftest import Deploy, Deployed

from lambent.testing.node import LambentNode

SOURCE = """
import base64, json, time

def echo(event):
    return {"statusCode": 200, "headers": {"X-Own": "1"}, "cookies": ["a=1", "b=2; Path=/"], "body": json.dumps(event)}

def binary(event):
    return {"statusCode": 200, "headers": {"content-type": "image/png"}, "isBase64Encoded": True,
            "body": base64.b64encode(bytes(range(256))).decode()}

def plain(event):
    return {"message": "no status"}

def text(event):
    return "hello"

def nothing(event):
    return None

def fails(event):
    raise ValueError("secret of the function")

def smuggles(event):
    return {"statusCode": 200, "headers": {"x-a": "1\\r\\nx-injected: 1"}, "body": ""}

def bad_status(event):
    return {"statusCode": "many", "body": ""}

def framing(event):
    headers = {"content-length": "1", "transfer-encoding": "chunked", "connection": "x"}
    return {"statusCode": 200, "headers": headers, "body": "abc"}

def no_content(event):
    return {"statusCode": 204}

def cors(event):
    return {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "https://evil.example"}, "body": "x"}

def handler(event, context):
    return globals()[event["rawPath"].strip("/").split("/")[0]](event)
"""
STREAMING = """
import time

def handler(event, context):
    path = event["rawPath"]
    if path == "/prelude":
        yield {"statusCode": 418, "headers": {"content-type": "text/event-stream"}, "cookies": ["c=1"]}
    for number in range(2):
        yield f"data: {time.time()}\\n\\n"
        time.sleep(1)
    if path == "/breaks":
        raise ValueError("midway")
"""


class Site:
    """A function URL as a client without any SDK sees it."""

    def __init__(self, function: Deployed, *, auth: str = "NONE", public: bool = True, **parameters: Any) -> None:
        self.client = function.client
        self.name = function.name
        created = self.client.create_function_url_config(FunctionName=self.name, AuthType=auth, **parameters)
        self.url: str = created["FunctionUrl"]
        self.created = created
        if public:
            self.allow_everybody()

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def allow_everybody(self) -> None:
        self.client.add_permission(
            FunctionName=self.name,
            StatementId="everybody",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )

    def open(self) -> http.client.HTTPConnection:
        # `*.localhost` is known to browsers and curl, not to every resolver.
        return http.client.HTTPConnection(urlsplit(self.client.meta.endpoint_url).netloc, timeout=30)

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = self.open()
        try:
            connection.request(method, path, body, {"Host": self.host, **(headers or {})})
            response = connection.getresponse()
            return response.status, [(name.lower(), value) for name, value in response.getheaders()], response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def function(deploy: Deploy) -> Deployed:
    return deploy(SOURCE, Timeout=10)


@pytest.fixture(scope="module")
def site(function: Deployed) -> Site:
    return Site(function)


def test_an_event_has_every_member_of_payload_format_2(site: Site) -> None:
    status, headers, body = site.ask(
        "/echo/a%20b?x=1&x=2&y=%C3%A4&empty=",
        method="POST",
        body=b'{"n": 1}',
        headers={"Content-Type": "application/json", "Cookie": "one=1; two=2", "X-Multi": "m", "User-Agent": "test"},
    )
    assert status == 200
    event = json.loads(body)
    assert event["version"] == "2.0"
    assert (event["routeKey"], event["rawPath"]) == ("$default", "/echo/a%20b")
    assert event["rawQueryString"] == "x=1&x=2&y=%C3%A4&empty="
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ä", "empty": ""}
    assert event["cookies"] == ["one=1", "two=2"]
    assert event["body"] == '{"n": 1}'
    assert event["isBase64Encoded"] is False
    assert event["headers"]["x-multi"] == "m"
    assert event["headers"]["host"] == site.host
    assert event["headers"]["x-forwarded-proto"] == "http"
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
    context = event["requestContext"]
    assert context["accountId"] == "anonymous"
    assert context["apiId"] == context["domainPrefix"] == site.host.split(".")[0]
    assert context["domainName"] == site.host.rpartition(":")[0]
    assert context["http"] == {
        "method": "POST",
        "path": "/echo/a%20b",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test",
    }
    assert (context["routeKey"], context["stage"]) == ("$default", "$default")
    assert abs(context["timeEpoch"] / 1000 - time.time()) < 60
    assert dict(headers)["x-own"] == "1"
    assert dict(headers)["x-amzn-requestid"] == context["requestId"]
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2; Path=/"]


def test_bodies_that_are_no_text_come_and_go_as_base64(site: Site) -> None:
    _, _, body = site.ask("/echo", method="PUT", body=bytes(range(256)), headers={"Content-Type": "image/png"})
    event = json.loads(body)
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == bytes(range(256))
    status, headers, body = site.ask("/binary")
    assert (status, dict(headers)["content-type"], body) == (200, "image/png", bytes(range(256)))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/plain", b'{"message": "no status"}'), ("/text", b'"hello"'), ("/nothing", b"null")],
)
def test_a_result_without_a_status_is_the_body(site: Site, path: str, expected: bytes) -> None:
    status, headers, body = site.ask(path)
    assert (status, dict(headers)["content-type"], body) == (200, "application/json", expected)


@pytest.mark.parametrize("path", ["/fails", "/smuggles", "/bad_status", "/unknown"])
def test_what_a_function_does_wrong_is_a_502_that_tells_nothing(site: Site, path: str) -> None:
    status, headers, body = site.ask(path)
    assert (status, body) == (502, b"Internal Server Error")
    assert "x-injected" not in dict(headers)


def test_a_function_does_not_decide_how_its_answer_is_framed(site: Site) -> None:
    status, headers, body = site.ask("/framing")
    assert (status, body) == (200, b"abc")
    assert dict(headers)["content-length"] == "3"
    assert "transfer-encoding" not in dict(headers)
    status, headers, body = site.ask("/no_content")
    assert (status, body) == (204, b"")
    assert "content-length" not in dict(headers)


def test_head_has_the_headers_and_no_body(site: Site) -> None:
    status, headers, body = site.ask("/binary", method="HEAD")
    assert (status, body) == (200, b"")
    assert dict(headers)["content-length"] == "256"


def test_a_body_beyond_6_mb_never_reaches_the_function(site: Site) -> None:
    status, _, body = site.ask("/echo", method="POST", body=b"x" * 6_300_000)
    assert (status, json.loads(body)) == (413, {"message": "Request Entity Too Large"})


def test_the_path_form_serves_the_same_function(site: Site) -> None:
    connection = site.open()
    connection.request("GET", f"/_lambent/url/{site.host.split('.')[0]}/echo?a=1")
    event = json.loads(connection.getresponse().read())
    connection.close()
    assert (event["rawPath"], event["rawQueryString"]) == ("/echo", "a=1")


def test_nobody_is_served_before_the_policy_allows_everybody(deploy: Deploy) -> None:
    closed = Site(deploy(SOURCE), public=False)
    status, _, body = closed.ask("/plain")
    assert status == 403
    assert "AddPermission" in json.loads(body)["Message"]
    closed.allow_everybody()
    assert closed.ask("/plain")[0] == 200
    closed.client.remove_permission(FunctionName=closed.name, StatementId="everybody")
    assert closed.ask("/plain")[0] == 403


def test_iam_wants_the_signature_of_the_same_account(deploy: Deploy) -> None:
    site = Site(deploy(SOURCE), auth="AWS_IAM", public=False)
    assert site.ask("/echo")[0] == 403
    credentials = site.client._request_signer._credentials
    region = site.client.meta.region_name
    request = AWSRequest("POST", f"{site.url}echo?a=b", data=b"{}", headers={"Content-Type": "application/json"})
    SigV4Auth(credentials, "lambda", region).add_auth(request)
    status, _, body = site.ask("/echo?a=b", method="POST", body=b"{}", headers=dict(request.headers.items()))
    assert status == 200
    event = json.loads(body)
    iam = event["requestContext"]["authorizer"]["iam"]
    assert iam["accessKey"] == credentials.access_key
    assert iam["accountId"] == event["requestContext"]["accountId"]
    status, _, _ = site.ask("/echo?a=c", method="POST", body=b"{}", headers=dict(request.headers.items()))
    assert status == 403


def test_cors_is_answered_from_the_configuration(deploy: Deploy) -> None:
    site = Site(
        deploy(SOURCE),
        Cors={
            "AllowOrigins": ["https://www.example.com"],
            "AllowMethods": ["GET", "POST"],
            "AllowHeaders": ["x-token"],
            "ExposeHeaders": ["x-own"],
            "MaxAge": 300,
            "AllowCredentials": True,
        },
    )
    asked = {"Origin": "https://www.example.com", "Access-Control-Request-Method": "POST"}
    status, headers, body = site.ask("/fails", method="OPTIONS", headers=asked)
    assert (status, body) == (200, b"")
    assert dict(headers)["access-control-allow-origin"] == "https://www.example.com"
    assert dict(headers)["access-control-allow-methods"] == "GET,POST"
    assert dict(headers)["access-control-allow-headers"] == "x-token"
    assert dict(headers)["access-control-max-age"] == "300"
    _, headers, _ = site.ask("/cors", headers={"Origin": "https://www.example.com"})
    assert [value for name, value in headers if name == "access-control-allow-origin"] == ["https://www.example.com"]
    assert dict(headers)["access-control-expose-headers"] == "x-own"
    _, headers, _ = site.ask("/cors", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in dict(headers)


def test_a_streaming_url_sends_each_piece_when_it_is_written(deploy: Deploy) -> None:
    site = Site(deploy(STREAMING, Timeout=10), InvokeMode="RESPONSE_STREAM")
    connection = site.open()
    connection.request("GET", "/prelude", headers={"Host": site.host})
    response = connection.getresponse()
    assert response.status == 418
    assert response.getheader("content-type") == "text/event-stream"
    assert response.getheader("set-cookie") == "c=1"
    first = response.readline()
    first_at = time.time()
    rest = response.read().split()
    written, next_written = (float(text) for text in (first.split()[1], rest[1]))
    assert written <= first_at < next_written
    connection.close()


def test_a_stream_that_breaks_is_never_taken_for_whole_and_is_no_fault_of_the_nodes(
    deploy: Deploy, node: LambentNode
) -> None:
    said = len(node.output)
    site = Site(deploy(STREAMING, Timeout=10), InvokeMode="RESPONSE_STREAM")
    connection = site.open()
    connection.request("GET", "/breaks", headers={"Host": site.host})
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert "ASGI" not in node.output[said:]


def test_a_buffered_function_behind_a_streaming_url_is_answered_whole(deploy: Deploy) -> None:
    site = Site(deploy(SOURCE), InvokeMode="RESPONSE_STREAM")
    assert site.ask("/binary")[2] == bytes(range(256))
    assert site.ask("/fails")[0] == 502


def test_an_alias_has_a_url_of_its_own(deploy: Deploy) -> None:
    function = deploy("def handler(e, c):\n    return c.function_version\n")
    client = function.client
    client.publish_version(FunctionName=function.name)
    client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1")
    site = Site(function, Qualifier="live", public=False)
    assert site.created["FunctionArn"].endswith(":live")
    client.add_permission(
        FunctionName=function.name,
        Qualifier="live",
        StatementId="everybody",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    assert site.ask("/")[2] == b'"1"'
    client.delete_alias(FunctionName=function.name, Name="live")
    assert site.ask("/")[0] == 404


def test_a_url_lives_as_long_as_its_function(deploy: Deploy) -> None:
    site = Site(deploy(SOURCE))
    client = site.client
    assert client.get_function_url_config(FunctionName=site.name)["FunctionUrl"] == site.url
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.create_function_url_config(FunctionName=site.name, AuthType="NONE")
    updated = client.update_function_url_config(FunctionName=site.name, AuthType="AWS_IAM")
    assert (updated["AuthType"], updated["FunctionUrl"]) == ("AWS_IAM", site.url)
    assert site.ask("/plain")[0] == 403
    listed = client.list_function_url_configs(FunctionName=site.name)["FunctionUrlConfigs"]
    assert [config["FunctionUrl"] for config in listed] == [site.url]
    client.delete_function(FunctionName=site.name)
    assert site.ask("/plain")[0] == 404


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"Cors": {"AllowOrigins": ["no origin"]}}, "AllowOrigins"),
        ({"Cors": {"AllowMethods": ["FETCH"]}}, "AllowMethods"),
        ({"Cors": {"AllowHeaders": ["a b"]}}, "AllowHeaders"),
    ],
)
def test_bad_settings_are_refused_with_the_field(function: Deployed, parameters: Any, field: str) -> None:
    client = function.client
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=field):
        client.update_function_url_config(FunctionName=function.name, **parameters)


def test_permissions_are_written_as_the_contract_writes_them(deploy: Deploy) -> None:
    function = deploy(SOURCE)
    client, name = function.client, function.name
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName=name)
    statement = client.add_permission(
        FunctionName=name,
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::photos",
        SourceAccount="123456789012",
    )["Statement"]
    policy = client.get_policy(FunctionName=name)
    document = json.loads(policy["Policy"])
    assert document["Statement"] == [json.loads(statement)]
    assert document["Statement"][0]["Principal"] == {"Service": "s3.amazonaws.com"}
    assert document["Statement"][0]["Condition"] == {
        "StringEquals": {"AWS:SourceAccount": "123456789012"},
        "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"},
    }
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.add_permission(FunctionName=name, StatementId="s3", Action="lambda:InvokeFunction", Principal="*")
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.remove_permission(FunctionName=name, StatementId="s3", RevisionId=str(uuid.uuid4()))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.remove_permission(FunctionName=name, StatementId="s4")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="principal"):
        client.add_permission(FunctionName=name, StatementId="x", Action="lambda:InvokeFunction", Principal="who?")
    client.remove_permission(FunctionName=name, StatementId="s3", RevisionId=policy["RevisionId"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName=name)
