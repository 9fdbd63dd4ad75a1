"""Access logs of HTTP, REST and WebSocket APIs, read as their owner reads them, from a real node."""

from __future__ import annotations

import itertools
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import Deploy, ask, connect, connection_of
from tests.integration.gateway.http_api import HttpApi, arn_of, create
from tests.integration.gateway.rest_api import RestApi
from websockets.sync.client import connect as open_web_socket

from lambent.client.client import Client
from lambent.testing.node import LambentNode

FORMAT = {
    "id": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "agent": "$context.identity.userAgent",
    "route": "$context.routeKey",
    "resource": "$context.resourcePath",
    "status": "$context.status",
    "length": "$context.responseLength",
    "latency": "$context.responseLatency",
    "integration": "$context.integration.status",
    "integration_latency": "$context.integration.latency",
    "integration_error": "$context.integrationErrorMessage",
    "error": "$context.error.message",
    "kind": "$context.error.responseType",
    "who": "$context.authorizer.who",
    "stage": "$context.stage",
    "path": "$context.path",
    "nothing": "$context.nothing",
}
FAILS = "def handler(event, context):\n    raise ValueError('secret')\n"
GUARD = (
    "def handler(event, context):\n"
    "    return {'isAuthorized': event['headers']['authorization'] == 'open', 'context': {'who': 'me'}}\n"
)


class Group:
    """A log group of its own."""

    def __init__(self, client: Any, account: str) -> None:
        self.name = f"/access/{uuid.uuid4().hex[:8]}"
        self.arn = f"arn:aws:logs:us-east-1:{account}:log-group:{self.name}"
        self._client = Client(connection_of(client))

    def lines(self, count: int) -> list[str]:
        """The first `count`: those that are not there yet are waited for."""
        return [line["message"] for line in itertools.islice(self._client.group_logs(self.name, follow=True), count)]

    def documents(self, count: int) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.lines(count)]


@pytest.fixture
def group(client: Any, echo: str) -> Group:
    return Group(client, echo.split(":")[4])


def settings(group: Group, form: str = json.dumps(FORMAT)) -> dict[str, str]:
    return {"DestinationArn": group.arn, "Format": form}


def test_each_request_of_an_http_api_has_its_line(
    node: LambentNode, gateway: Any, echo: str, deploy: Deploy, group: Group
) -> None:
    api = create(node, gateway, stage="dev")
    gateway.update_stage(ApiId=api.id, StageName="dev", AccessLogSettings=settings(group))
    guard = gateway.create_authorizer(
        ApiId=api.id,
        Name="guard",
        AuthorizerType="REQUEST",
        AuthorizerUri=f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn_of(deploy(GUARD))}/invocations",
        AuthorizerPayloadFormatVersion="2.0",
        EnableSimpleResponses=True,
        IdentitySource=["$request.header.Authorization"],
    )["AuthorizerId"]
    target = api.integrate(echo)
    api.route("GET /pets/{id}", target)
    api.route("GET /fails", api.integrate(arn_of(deploy(FAILS))))
    api.route("GET /closed", target, AuthorizationType="CUSTOM", AuthorizerId=guard)
    status, _, body = api.ask("/dev/pets/1", headers={"User-Agent": 'a"b\\c'})
    api.ask("/dev/fails")
    api.ask("/dev/none")
    api.ask("/dev/closed", headers={"Authorization": "no"})
    api.ask("/dev/closed", headers={"Authorization": "open"})
    pet, fails, none, closed, opened = group.documents(5)
    assert (status, pet["status"], pet["length"]) == (200, "200", str(len(body)))
    assert (pet["route"], pet["stage"], pet["path"]) == ("GET /pets/{id}", "dev", "/dev/pets/1")
    assert (pet["agent"], pet["ip"], pet["nothing"], pet["error"]) == ('a"b\\c', "127.0.0.1", "-", "-")
    assert pet["id"] == json.loads(body)["requestContext"]["requestId"]
    assert pet["integration"] == "200"
    assert int(pet["latency"]) >= int(pet["integration_latency"]) >= 0
    assert (fails["status"], fails["error"]) == ("500", "Internal Server Error")
    assert fails["integration_error"] == "the function failed: ValueError"
    assert (none["status"], none["route"], none["error"]) == ("404", "-", "Not Found")
    assert (closed["status"], closed["error"], closed["kind"]) == ("403", "Forbidden", "FORBIDDEN")
    assert (opened["status"], opened["who"]) == ("200", "me")


def test_a_line_is_one_line_whatever_a_client_sends(node: LambentNode, gateway: Any, echo: str, group: Group) -> None:
    api = create(node, gateway)
    form = '$context.identity.sourceIp [$context.requestTime] "$context.routeKey" $context.path ${context.requestId}\n'
    gateway.update_stage(ApiId=api.id, StageName="$default", AccessLogSettings=settings(group, form))
    api.route("$default", api.integrate(echo))
    api.ask("/a%0Ab%00c")
    (line,) = group.lines(1)
    assert line.startswith("127.0.0.1 [")
    assert '] "$default" /a b c ' in line
    gateway.delete_access_log_settings(ApiId=api.id, StageName="$default")
    api.ask("/after")
    gateway.update_stage(ApiId=api.id, StageName="$default", AccessLogSettings=settings(group, form))
    api.ask("/again")
    assert "/again" in group.lines(2)[1]


def test_each_request_of_a_rest_api_has_its_line(node: LambentNode, echo: str, deploy: Deploy, group: Group) -> None:
    gateway = connect(node, "apigateway")
    api = RestApi(node, gateway)
    api.proxy("GET", "/pets/{id}", echo)
    api.proxy("GET", "/fails", arn_of(deploy(FAILS)))
    api.deploy()
    operations = [
        {"op": "replace", "path": "/accessLogSettings/destinationArn", "value": group.arn},
        {"op": "replace", "path": "/accessLogSettings/format", "value": json.dumps(FORMAT)},
    ]
    shown = gateway.update_stage(restApiId=api.id, stageName="test", patchOperations=operations)
    assert shown["accessLogSettings"] == {"destinationArn": group.arn, "format": json.dumps(FORMAT)}
    status, _, body = api.ask("/test/pets/1")
    api.ask("/test/fails")
    api.ask("/test/none")
    pet, fails, none = group.documents(3)
    assert (status, pet["status"], pet["length"]) == (200, "200", str(len(body)))
    assert (pet["resource"], pet["path"], pet["integration"]) == ("/pets/{id}", "/test/pets/1", "200")
    assert (fails["status"], fails["kind"], fails["integration_error"]) == ("502", "DEFAULT_5XX", "ValueError")
    assert (none["status"], none["kind"]) == ("403", "MISSING_AUTHENTICATION_TOKEN")
    gateway.update_stage(
        restApiId=api.id, stageName="test", patchOperations=[{"op": "remove", "path": "/accessLogSettings"}]
    )
    assert "accessLogSettings" not in gateway.get_stage(restApiId=api.id, stageName="test")


def test_connections_and_messages_of_a_web_socket_api_have_their_lines(
    node: LambentNode, gateway: Any, echo: str, group: Group
) -> None:
    form = json.dumps(
        {
            "id": "$context.requestId",
            "event": "$context.eventType",
            "route": "$context.routeKey",
            "status": "$context.status",
            "connection": "$context.connectionId",
        }
    )
    created = gateway.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    api = HttpApi(node, created, client=gateway)
    target = api.integrate(echo)
    for key in ("$connect", "$disconnect", "say"):
        api.route(key, target)
    gateway.create_stage(ApiId=api.id, StageName="live", AutoDeploy=True, AccessLogSettings=settings(group, form))
    url = f"{node.endpoint.replace('http', 'ws', 1)}/_lambent/api/{api.id}/live"
    with open_web_socket(url, proxy=None) as socket:
        socket.send('{"action": "say"}')
        socket.send('{"action": "unknown"}')
        assert "Forbidden" in str(socket.recv(timeout=20))
    lines = group.documents(4)
    assert {(line["event"], line["route"], line["status"]) for line in lines} == {
        ("CONNECT", "$connect", "200"),
        ("MESSAGE", "say", "200"),
        ("MESSAGE", "$default", "403"),
        ("DISCONNECT", "$disconnect", "200"),
    }
    assert len({line["connection"] for line in lines}) == 1


@pytest.mark.parametrize(
    ("destination", "form", "expected"),
    [
        ("arn:aws:firehose:us-east-1:000000000000:deliverystream/x", "$context.requestId", "ARN of a log group"),
        ("arn:aws:logs:us-east-1:000000000000:log-group:x", "$context.requestId", "must be of this account"),
        ("GROUP", "", "need both"),
        ("GROUP", "$context.status", "must contain"),
        ("GROUP", "$context.requestId\n$context.status", "single line"),
        ("GROUP", "$context.requestId" + "x" * 3_100, "3072 characters"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    node: LambentNode, gateway: Any, group: Group, destination: str, form: str, expected: str
) -> None:
    api = create(node, gateway)
    given = {"DestinationArn": group.arn if destination == "GROUP" else destination, "Format": form}
    with pytest.raises(ClientError, match=expected) as caught:
        gateway.update_stage(ApiId=api.id, StageName="$default", AccessLogSettings=given)
    assert caught.value.response["Error"]["Code"] == "BadRequestException"
    assert "AccessLogSettings" not in gateway.get_stage(ApiId=api.id, StageName="$default")


def test_lines_of_all_processes_are_in_one_log(tmp_path: Path) -> None:
    node = LambentNode(tmp_path, arguments=["--processes", "2"])
    with node.running():
        client, gateway = connect(node), connect(node, "apigatewayv2")
        api = create(node, gateway)
        account = ask(client, "/_lambent/status")["account"]
        groups = [Group(client, account) for _ in range(3)]
        for group in groups:
            gateway.update_stage(ApiId=api.id, StageName="$default", AccessLogSettings=settings(group))
            # Each request is a connection of its own, which the kernel gives to one of the processes.
            answers = [api.ask(f"/{number}")[0] for number in range(40)]
            assert answers == [404] * 40
            paths = {line["path"] for line in group.documents(40)}
            assert paths == {f"/{number}" for number in range(40)}
