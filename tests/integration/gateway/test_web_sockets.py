"""WebSocket APIs: real clients, functions that answer them by @connections, against real nodes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from tests.conftest import PYTHON, ROLE, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_web_socket

from lambent.testing.node import LambentNode, make_zip

CHAT = """
import json, os, boto3
seen = []

def handler(event, context):
    request = event["requestContext"]
    kind, route, connection = request["eventType"], request["routeKey"], request["connectionId"]
    if kind == "CONNECT":
        query = event.get("queryStringParameters") or {}
        if query.get("refuse"):
            return {"statusCode": int(query["refuse"])}
        if query.get("fail"):
            raise ValueError("no")
        seen.append(["connected", connection])
        answer = {"statusCode": 200}
        if "sec-websocket-protocol" in event["headers"]:
            answer["headers"] = {"Sec-WebSocket-Protocol": "chat"}
        return answer
    if kind == "DISCONNECT":
        seen.append(["left", connection, request["disconnectStatusCode"]])
        return
    if route == "post":
        body = json.loads(event["body"])
        url = f"{os.environ['AWS_ENDPOINT_URL']}/_lambent/api/{request['apiId']}/{request['stage']}"
        client = boto3.client("apigatewaymanagementapi", endpoint_url=url)
        client.post_to_connection(ConnectionId=body["to"], Data=body["text"].encode())
        return
    if route == "fail":
        raise ValueError("no")
    return {"statusCode": 200, "body": json.dumps({"route": route, "body": event["body"], "seen": seen,
                                                   "base64": event["isBase64Encoded"], "context": request})}
"""


class Chat:
    """A WebSocket API in front of one function, as clients see it."""

    def __init__(self, node: LambentNode, *, name: str = "chat") -> None:
        self.node = node
        self.lambda_ = connect(node)
        self.gateway = connect(node, "apigatewayv2")
        created = self.lambda_.create_function(
            FunctionName=name,
            Role=ROLE,
            Runtime=PYTHON,
            Handler="app.handler",
            Code={"ZipFile": make_zip({"app.py": CHAT})},
            Timeout=10,
            MemorySize=256,
        )
        self.lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
        self.arn = created["FunctionArn"]
        api = self.gateway.create_api(
            Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
        )
        self.id: str = api["ApiId"]
        self.endpoint: str = api["ApiEndpoint"]
        integration = self.gateway.create_integration(
            ApiId=self.id, IntegrationType="AWS_PROXY", IntegrationUri=self.arn
        )
        self.target = f"integrations/{integration['IntegrationId']}"
        for key in ("$connect", "$disconnect", "post", "fail"):
            self.gateway.create_route(ApiId=self.id, RouteKey=key, Target=self.target)
        for key in ("$default", "ask"):
            route = self.gateway.create_route(
                ApiId=self.id, RouteKey=key, Target=self.target, RouteResponseSelectionExpression="$default"
            )
            self.gateway.create_route_response(ApiId=self.id, RouteId=route["RouteId"], RouteResponseKey="$default")
        self.gateway.create_stage(ApiId=self.id, StageName="dev", AutoDeploy=True)

    def open(self, query: str = "", **parameters: Any) -> ClientConnection:
        address = urlsplit(self.node.endpoint)
        url = f"ws://127.0.0.1:{address.port}/_lambent/api/{self.id}/dev{query}"
        opened: ClientConnection = open_web_socket(url, proxy=None, **parameters)
        return opened

    def ask(self, client: ClientConnection, message: Any) -> Any:
        client.send(message if isinstance(message, str | bytes) else json.dumps(message))
        return json.loads(client.recv(timeout=20))

    def id_of(self, client: ClientConnection) -> str:
        return str(self.ask(client, {"action": "ask"})["context"]["connectionId"])

    def seen(self, client: ClientConnection, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """What the function has seen, once that is so."""
        deadline_at = time.monotonic() + 20
        while True:
            # With one environment the next message may find it busy.
            seen: list[Any] = self.ask(client, {"action": "ask"}).get("seen", [])
            if wanted(seen) or time.monotonic() > deadline_at:
                return seen
            time.sleep(0.05)

    def management(self) -> Any:
        credentials = self.gateway._request_signer._credentials
        return boto3.client(
            "apigatewaymanagementapi",
            endpoint_url=f"{self.node.endpoint}/_lambent/api/{self.id}/dev",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            region_name=self.gateway.meta.region_name,
            config=Config(retries={"max_attempts": 0}),
        )


@pytest.fixture(scope="module")
def chat(node: LambentNode) -> Chat:
    return Chat(node)


def test_messages_go_to_the_route_that_they_name(chat: Chat) -> None:
    with chat.open() as client:
        answer = chat.ask(client, {"action": "ask", "text": "ä"})
        assert answer["route"] == "ask"
        assert json.loads(answer["body"]) == {"action": "ask", "text": "ä"}
        context = answer["context"]
        assert (context["eventType"], context["stage"], context["apiId"]) == ("MESSAGE", "dev", chat.id)
        assert context["identity"]["sourceIp"] == "127.0.0.1"
        assert context["messageId"]
        for message in ({"action": "unknown"}, "no JSON", {"none": 1}):
            assert chat.ask(client, message)["route"] == "$default"
        assert chat.ask(client, b"\xff\x00")["base64"] is True


def test_a_function_that_fails_is_told_and_the_connection_stays(chat: Chat) -> None:
    with chat.open() as client:
        answer = chat.ask(client, {"action": "fail"})
        assert answer["message"] == "Internal server error"
        assert answer["connectionId"] == chat.id_of(client)


@pytest.mark.parametrize(("query", "status"), [("?refuse=401", 401), ("?refuse=403", 403), ("?fail=1", 502)])
def test_connect_may_refuse(chat: Chat, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        chat.open(query)
    assert refused.value.response.status_code == status


def test_a_stage_that_is_not_there_is_refused(chat: Chat) -> None:
    address = urlsplit(chat.node.endpoint)
    with pytest.raises(InvalidStatus) as refused:
        open_web_socket(f"ws://127.0.0.1:{address.port}/_lambent/api/{chat.id}/none", proxy=None)
    assert refused.value.response.status_code == 403


def test_a_subprotocol_is_what_the_function_chose(chat: Chat) -> None:
    with chat.open(subprotocols=["chat", "other"]) as client:
        assert client.subprotocol == "chat"


def test_clients_write_to_each_other_through_the_function(chat: Chat) -> None:
    with chat.open() as first, chat.open() as second:
        to = chat.id_of(second)
        for number in range(3):
            first.send(json.dumps({"action": "post", "to": to, "text": f"hello {number}"}))
            assert second.recv(timeout=20) == f"hello {number}"


def test_connections_are_managed_from_outside(chat: Chat) -> None:
    management = chat.management()
    with chat.open(user_agent_header="test") as client:
        id_ = chat.id_of(client)
        management.post_to_connection(ConnectionId=id_, Data=b"from outside")
        assert client.recv(timeout=20) == "from outside"
        shown = management.get_connection(ConnectionId=id_)
        assert shown["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "test"}
        assert shown["ConnectedAt"] <= shown["LastActiveAt"]
        with pytest.raises(management.exceptions.PayloadTooLargeException):
            management.post_to_connection(ConnectionId=id_, Data=b"x" * 131_073)
        management.delete_connection(ConnectionId=id_)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
    for gone in (id_, "L0SM9cOFvHcCIhw=", "nonsense"):
        with pytest.raises(management.exceptions.GoneException):
            management.post_to_connection(ConnectionId=gone, Data=b"x")


def test_nobody_without_a_signature_writes_to_a_connection(chat: Chat) -> None:
    import http.client

    with chat.open() as client:
        id_ = chat.id_of(client)
        connection = http.client.HTTPConnection(urlsplit(chat.node.endpoint).netloc)
        with contextlib.closing(connection):
            connection.request("POST", f"/_lambent/api/{chat.id}/dev/@connections/{id_}", b"x")
            assert connection.getresponse().status == 403


def test_who_leaves_is_told_to_the_function(node: LambentNode) -> None:
    chat = Chat(node, name="chat-left")
    # One environment sees all that happens.
    chat.lambda_.put_function_concurrency(FunctionName="chat-left", ReservedConcurrentExecutions=1)
    with chat.open() as watcher:
        with chat.open() as client:
            polite = chat.id_of(client)
            client.close(4000, "enough")
        assert ["left", polite, 4000] in chat.seen(watcher, lambda seen: ["left", polite, 4000] in seen)
        with chat.open() as client:
            rude = chat.id_of(client)
            client.socket.shutdown(2)
        seen = chat.seen(watcher, lambda seen: any(entry[:2] == ["left", rude] for entry in seen))
        assert [entry for entry in seen if entry[:2] == ["left", rude]]


def test_a_message_that_is_too_large_ends_the_connection(chat: Chat) -> None:
    with chat.open() as client:
        client.send("x" * 131_073)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_an_authorizer_decides_who_connects(chat: Chat) -> None:
    source = (
        "def handler(event, context):\n"
        "    token = event['queryStringParameters']['token']\n"
        "    effect = 'Allow' if token == 'good' else 'Deny'\n"
        "    statement = {'Action': 'execute-api:Invoke', 'Effect': effect, 'Resource': event['methodArn']}\n"
        "    return {'principalId': 'me', 'policyDocument': {'Statement': [statement]}, 'context': {'number': 7}}\n"
    )
    created = chat.lambda_.create_function(
        FunctionName="guard",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": source})},
    )
    chat.lambda_.get_waiter("function_active_v2").wait(FunctionName="guard")
    authorizer = chat.gateway.create_authorizer(
        ApiId=chat.id,
        Name="guard",
        AuthorizerType="REQUEST",
        AuthorizerUri=created["FunctionArn"],
        IdentitySource=["route.request.querystring.token"],
    )
    routes = chat.gateway.get_routes(ApiId=chat.id)["Items"]
    route = next(entry["RouteId"] for entry in routes if entry["RouteKey"] == "$connect")
    update = {"ApiId": chat.id, "RouteId": route}
    chat.gateway.update_route(**update, AuthorizationType="CUSTOM", AuthorizerId=authorizer["AuthorizerId"])
    try:
        for query, status in (("", 401), ("?token=bad", 403)):
            with pytest.raises(InvalidStatus) as refused:
                chat.open(query)
            assert refused.value.response.status_code == status
        with chat.open("?token=good") as client:
            context = chat.ask(client, {"action": "ask"})["context"]
            assert context["authorizer"] == {"principalId": "me", "number": "7"}
    finally:
        chat.gateway.update_route(**update, AuthorizationType="NONE")


def test_the_messages_of_a_flood_begin_in_their_order_and_all_are_answered(chat: Chat) -> None:
    with chat.open() as client:
        for number in range(100):
            client.send(json.dumps({"action": "ask", "number": number}))
        answers = [json.loads(client.recv(timeout=30)) for _ in range(100)]
    assert sorted(json.loads(answer["body"])["number"] for answer in answers if "body" in answer) == list(range(100))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    arguments = ["--processes", "2"]
    environ = {"LAMBENT_WEB_SOCKETS_IDLE_SECONDS": "3"}
    node = LambentNode(tmp_path_factory.mktemp("pair") / "data", arguments=arguments, environ=environ)
    with node.running():
        yield node


def test_a_connection_is_reached_from_every_process_of_a_node_and_idle_ones_are_closed(pair: LambentNode) -> None:
    chat = Chat(pair)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(chat.open()) for _ in range(8)]
        ids = [chat.id_of(client) for client in clients]
        for to, client in zip(ids, clients, strict=True):
            chat.management().post_to_connection(ConnectionId=to, Data=to.encode())
            assert client.recv(timeout=20) == to
        with pytest.raises(ConnectionClosed) as closed:
            clients[0].recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


def test_a_node_that_stops_says_goodbye(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    with node.running():
        chat = Chat(node)
        with chat.open() as client:
            chat.id_of(client)
            assert node.stop() == 0
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
