"""REST APIs through boto3 and plain HTTP, against a real node."""

from __future__ import annotations

import concurrent.futures
import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from tests.conftest import Deploy, connect
from tests.integration.gateway.http_api import arn_of
from tests.integration.gateway.rest_api import RestApi, uri_of

from lambent.testing.node import LambentNode


@pytest.fixture(scope="module")
def gateway(node: LambentNode) -> Any:
    return connect(node, "apigateway")


@pytest.fixture
def api(node: LambentNode, gateway: Any) -> RestApi:
    return RestApi(node, gateway)


def test_a_function_gets_the_documented_event(api: RestApi, echo: str) -> None:
    api.proxy("ANY", "/shops/{shop}/{proxy+}", echo)
    api.deploy(variables={"color": "blue"})
    event = api.event(
        "/test/shops/b%C3%A4r/a/b?q=1&q=2",
        method="PUT",
        body=b"hello",
        headers={"X-One": "1", "Content-Type": "text/x"},
    )
    assert (event["resource"], event["path"], event["httpMethod"]) == (
        "/shops/{shop}/{proxy+}",
        "/shops/bär/a/b",
        "PUT",
    )
    assert event["pathParameters"] == {"shop": "bär", "proxy": "a/b"}
    assert event["queryStringParameters"] == {"q": "2"}
    assert event["multiValueQueryStringParameters"] == {"q": ["1", "2"]}
    assert event["multiValueHeaders"]["x-one"] == ["1"]
    assert (event["body"], event["isBase64Encoded"], event["stageVariables"]) == ("hello", False, {"color": "blue"})
    assert "version" not in event
    context = event["requestContext"]
    assert context["path"] == "/test/shops/bär/a/b"
    assert (context["stage"], context["apiId"], context["resourcePath"]) == ("test", api.id, "/shops/{shop}/{proxy+}")
    assert context["resourceId"] == api.resource("/shops/{shop}/{proxy+}")
    assert context["identity"]["sourceIp"] == "127.0.0.1"


def test_what_is_no_method_of_the_api_asks_for_a_token_as_the_contract_says(api: RestApi, echo: str) -> None:
    api.proxy("GET", "/pets", echo)
    api.deploy()
    assert api.ask("/test/pets")[0] == 200
    assert api.ask("/test/pets/")[0] == 200
    for method, path in (("GET", "/test/cats"), ("POST", "/test/pets")):
        status, headers, body = api.ask(path, method=method)
        assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')
        assert headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert api.ask("/nostage/pets")[::2] == (403, b'{"message":"Forbidden"}')


def test_what_is_configured_is_served_when_it_is_deployed(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/one", echo)
    first = api.deploy()
    api.proxy("GET", "/two", echo)
    assert (api.ask("/test/one")[0], api.ask("/test/two")[0]) == (200, 403)
    api.deploy()
    assert api.ask("/test/two")[0] == 200
    gateway.update_stage(
        restApiId=api.id,
        stageName="test",
        patchOperations=[{"op": "replace", "path": "/deploymentId", "value": first}],
    )
    assert api.ask("/test/two")[0] == 403
    with pytest.raises(ClientError, match="Active stages pointing to this deployment"):
        gateway.delete_deployment(restApiId=api.id, deploymentId=first)


def test_a_function_that_fails_is_a_502_that_tells_nothing_of_it(api: RestApi, deploy: Deploy) -> None:
    broken = arn_of(deploy("def handler(event, context):\n    raise ValueError('secret')\n"))
    wrong = arn_of(deploy("def handler(event, context):\n    return {'no': 'status'}\n"))
    api.proxy("GET", "/broken", broken)
    api.proxy("GET", "/wrong", wrong)
    api.deploy()
    for path in ("/test/broken", "/test/wrong"):
        assert api.ask(path)[::2] == (502, b'{"message":"Internal server error"}')


def test_a_mock_answers_by_templates(api: RestApi) -> None:
    api.mock(
        "POST",
        "/mock/{name}",
        template='#if($input.params("fail") == "yes"){"statusCode": 500}#else{"statusCode": 200}#end',
        responseTemplates={
            "application/json": '{"name": "$input.params("name")", "stage": "$context.stage"'
            ', "color": "$stageVariables.color"}'
        },
    )
    api.deploy(variables={"color": "blue"})
    status, headers, body = api.ask("/test/mock/cat", method="POST", body=b"{}")
    assert (status, json.loads(body)) == (200, {"name": "cat", "stage": "test", "color": "blue"})
    assert headers["content-type"] == "application/json"


def test_a_mock_with_parameters_serves_cors(api: RestApi, gateway: Any) -> None:
    place = api.method("OPTIONS", "/")
    gateway.put_integration(**place, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    header = "method.response.header.Access-Control-Allow-Origin"
    gateway.put_method_response(**place, statusCode="200", responseParameters={header: True})
    gateway.put_integration_response(**place, statusCode="200", responseParameters={header: "'*'"})
    api.deploy()
    status, headers, _ = api.ask("/test", method="OPTIONS")
    assert (status, headers["access-control-allow-origin"]) == (200, "*")


def test_templates_map_what_a_function_gets_and_what_its_errors_become(
    api: RestApi, deploy: Deploy, gateway: Any
) -> None:
    source = (
        "def handler(event, context):\n"
        "    if event['id'] == 'bad':\n"
        "        raise ValueError('[BadRequest] no such thing')\n"
        "    return {'got': event}\n"
    )
    place = api.method("POST", "/things/{id}")
    gateway.put_integration(
        **place,
        type="AWS",
        integrationHttpMethod="POST",
        uri=uri_of(arn_of(deploy(source))),
        requestTemplates={
            "application/json": '{"id": "$input.params("id")", "names": ['
            "#foreach($each in $input.path('$.items'))\"$each.name\"#if($foreach.hasNext),#end#end]}"
        },
        passthroughBehavior="NEVER",
    )
    for code, pattern, template in (
        ("200", "", '{"names": $input.json("$.got.names")}'),
        ("400", r"\[BadRequest\].*", '{"error": "$util.escapeJavaScript($input.path("$.errorMessage"))"}'),
    ):
        gateway.put_method_response(**place, statusCode=code)
        gateway.put_integration_response(
            **place, statusCode=code, selectionPattern=pattern, responseTemplates={"application/json": template}
        )
    api.deploy()
    body = json.dumps({"items": [{"name": "a"}, {"name": "b"}]}).encode()
    headers = {"Content-Type": "application/json"}
    status, _, answer = api.ask("/test/things/1", method="POST", body=body, headers=headers)
    assert (status, json.loads(answer)) == (200, {"names": ["a", "b"]})
    status, _, answer = api.ask("/test/things/bad", method="POST", body=body, headers=headers)
    assert (status, json.loads(answer)) == (400, {"error": "[BadRequest] no such thing"})
    assert api.ask("/test/things/1", method="POST", body=b"x", headers={"Content-Type": "text/xml"})[0] == 415


def test_requests_that_are_not_as_the_api_says_do_not_reach_the_function(api: RestApi, echo: str, gateway: Any) -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"$ref": f"https://apigateway.amazonaws.com/restapis/{api.id}/models/Name"}},
    }
    text = json.dumps({"type": "string", "pattern": "^(a+)+$"})
    gateway.create_model(restApiId=api.id, name="Name", contentType="application/json", schema=text)
    gateway.create_model(restApiId=api.id, name="Pet", contentType="application/json", schema=json.dumps(schema))
    validator = gateway.create_request_validator(
        restApiId=api.id, name="all", validateRequestBody=True, validateRequestParameters=True
    )
    api.proxy(
        "POST",
        "/pets",
        echo,
        requestValidatorId=validator["id"],
        requestModels={"application/json": "Pet"},
        requestParameters={"method.request.querystring.kind": True, "method.request.header.x-who": True},
    )
    api.deploy()
    headers = {"Content-Type": "application/json", "X-Who": "me"}

    def post(path: str, body: bytes, given: Mapping[str, str] = headers) -> tuple[int, bytes]:
        return api.ask(path, method="POST", body=body, headers=given)[::2]

    assert post("/test/pets?kind=x", b'{"name": "aaa"}')[0] == 200
    # Takes no time that grows with the text beyond its length.
    assert post("/test/pets?kind=x", b'{"name": "' + b"a" * 5_000 + b'!"}') == (
        400,
        b'{"message":"Invalid request body"}',
    )
    assert post("/test/pets?kind=x", b"no json") == (400, b'{"message":"Invalid request body"}')
    assert post("/test/pets", b'{"name": "a"}', {"Content-Type": "application/json"}) == (
        400,
        b'{"message":"Missing required request parameters: [kind, x-who]"}',
    )
    with pytest.raises(ClientError, match="Invalid model specified"):
        gateway.create_model(restApiId=api.id, name="Bad", contentType="application/json", schema="{")


def test_gateway_responses_are_what_users_make_of_them(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/pets", echo)
    gateway.put_gateway_response(
        restApiId=api.id,
        responseType="MISSING_AUTHENTICATION_TOKEN",
        statusCode="404",
        responseParameters={
            "gatewayresponse.header.Access-Control-Allow-Origin": "'*'",
            "gatewayresponse.header.X-Agent": "method.request.header.User-Agent",
        },
        responseTemplates={"application/json": '{"why": $context.error.messageString, "stage": "$context.stage"}'},
    )
    api.deploy()
    status, headers, body = api.ask("/test/none", headers={"User-Agent": "me\tand you"})
    assert (status, json.loads(body)) == (404, {"why": "Missing Authentication Token", "stage": "test"})
    assert (headers["access-control-allow-origin"], headers["x-agent"]) == ("*", "me\tand you")
    shown = gateway.get_gateway_responses(restApiId=api.id)["items"]
    assert len(shown) == 21
    assert [each["responseType"] for each in shown if not each["defaultResponse"]] == ["MISSING_AUTHENTICATION_TOKEN"]


def make_plan(gateway: Any, api: RestApi, **parameters: Any) -> tuple[str, dict[str, Any]]:
    plan = gateway.create_usage_plan(name="plan", apiStages=[{"apiId": api.id, "stage": "test"}], **parameters)
    key = gateway.create_api_key(name="key", enabled=True)
    gateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    return plan["id"], key


def test_a_key_gets_just_what_its_plan_gives_it(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/pets", echo, apiKeyRequired=True)
    api.deploy()
    plan, key = make_plan(gateway, api, quota={"limit": 7, "period": "DAY"})
    headers = {"X-API-Key": key["value"]}
    assert api.ask("/test/pets")[::2] == (403, b'{"message":"Forbidden"}')
    assert api.ask("/test/pets", headers={"X-API-Key": "x" * 20})[0] == 403
    identity = api.event("/test/pets", headers=headers)["requestContext"]["identity"]
    assert (identity["apiKey"], identity["apiKeyId"]) == (key["value"], key["id"])
    statuses = [api.ask("/test/pets", headers=headers)[0] for _ in range(9)]
    assert statuses == [200] * 6 + [429] * 3
    assert api.ask("/test/pets", headers=headers)[2] == b'{"message":"Limit Exceeded"}'
    used = gateway.get_usage(usagePlanId=plan, startDate=today(), endDate=today())["items"]
    assert used == {key["id"]: [[7, 0]]}
    gateway.update_usage(
        usagePlanId=plan, keyId=key["id"], patchOperations=[{"op": "replace", "path": "/remaining", "value": "2"}]
    )
    assert [api.ask("/test/pets", headers=headers)[0] for _ in range(3)] == [200, 200, 429]
    gateway.update_api_key(apiKey=key["id"], patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}])
    assert api.ask("/test/pets", headers=headers)[0] == 403


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_plans_and_stages_throttle(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/keyed", echo, apiKeyRequired=True)
    api.proxy("GET", "/open", echo)
    api.proxy("GET", "/free", echo)
    api.deploy()
    _, key = make_plan(gateway, api, throttle={"rateLimit": 0.001, "burstLimit": 2})
    headers = {"X-API-Key": key["value"]}
    assert [api.ask("/test/keyed", headers=headers)[0] for _ in range(3)] == [200, 200, 429]
    gateway.update_stage(
        restApiId=api.id,
        stageName="test",
        patchOperations=[
            {"op": "replace", "path": "/~1open/GET/throttling/rateLimit", "value": "0.001"},
            {"op": "replace", "path": "/~1open/GET/throttling/burstLimit", "value": "1"},
        ],
    )
    settings = gateway.get_stage(restApiId=api.id, stageName="test")["methodSettings"]
    assert settings["open/GET"]["throttlingBurstLimit"] == 1
    assert [api.ask("/test/open")[0] for _ in range(2)] == [200, 429]
    assert [api.ask("/test/free")[0] for _ in range(3)] == [200, 200, 200]


def test_a_token_authorizer_lets_in_whom_its_policy_names(
    api: RestApi, echo: str, deploy: Deploy, gateway: Any
) -> None:
    guard = deploy(
        "def handler(event, context):\n"
        "    token = event['authorizationToken']\n"
        "    if token == 'Bearer nobody':\n"
        "        raise Exception('Unauthorized')\n"
        "    effect = 'Allow' if token == 'Bearer friend' else 'Deny'\n"
        "    arn = event['methodArn'].rsplit('/', 1)[0] + '/*'\n"
        "    return {'principalId': token, 'context': {'n': 1, 'yes': True}, 'policyDocument': {\n"
        "        'Version': '2012-10-17',\n"
        "        'Statement': [{'Action': 'execute-api:Invoke', 'Effect': effect, 'Resource': arn}]}}\n"
    )
    authorizer = gateway.create_authorizer(
        restApiId=api.id,
        name="guard",
        type="TOKEN",
        authorizerUri=uri_of(arn_of(guard)),
        identitySource="method.request.header.Authorization",
        identityValidationExpression="Bearer [a-z]+",
    )
    api.proxy("GET", "/pets", echo, authorizationType="CUSTOM", authorizerId=authorizer["id"])
    api.deploy()

    def ask(token: str) -> tuple[int, bytes]:
        return api.ask("/test/pets", headers={"Authorization": token})[::2]

    shown = api.event("/test/pets", headers={"Authorization": "Bearer friend"})["requestContext"]["authorizer"]
    assert shown == {"principalId": "Bearer friend", "n": "1", "yes": "true"}
    denied = b'{"Message":"User is not authorized to access this resource with an explicit deny"}'
    assert ask("Bearer enemy") == (403, denied)
    assert ask("Bearer nobody") == (401, b'{"message":"Unauthorized"}')
    assert ask("Basic friend") == (401, b'{"message":"Unauthorized"}')
    assert api.ask("/test/pets")[::2] == (401, b'{"message":"Unauthorized"}')
    with pytest.raises(ClientError, match="is used by the method GET of /pets"):
        gateway.delete_authorizer(restApiId=api.id, authorizerId=authorizer["id"])


def test_a_signature_of_the_account_opens_what_asks_for_one(
    api: RestApi, echo: str, node: LambentNode, client: Any
) -> None:
    api.proxy("GET", "/pets", echo, authorizationType="AWS_IAM")
    api.deploy()
    assert api.ask("/test/pets")[2] == b'{"message":"Missing Authentication Token"}'
    url = f"http://{api.id}.execute-api.us-east-1.localhost:{urlsplit(node.endpoint).port}/test/pets"
    request = AWSRequest(method="GET", url=url)
    SigV4Auth(client._request_signer._credentials, "execute-api", "us-east-1").add_auth(request)
    event = api.event("/test/pets", headers=dict(request.headers))
    assert event["requestContext"]["identity"]["userArn"].endswith(":root")


def test_a_resource_policy_says_from_where_one_may_call(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/pets", echo)

    def set_policy(network: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/test/GET/*",
            "Condition": {"IpAddress": {"aws:SourceIp": network}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        gateway.update_rest_api(
            restApiId=api.id, patchOperations=[{"op": "replace", "path": "/policy", "value": policy}]
        )
        api.deploy()

    set_policy("127.0.0.0/8")
    assert api.ask("/test/pets")[0] == 200
    set_policy("10.0.0.0/8")
    status, _, body = api.ask("/test/pets")
    assert status == 403
    assert b"anonymous is not authorized to perform: execute-api:Invoke" in body
    with pytest.raises(ClientError, match="Lambent knows no others here"):
        set_condition = {"StringEquals": {"aws:SourceVpc": "vpc-1"}}
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "*",
            "Resource": "*",
            "Condition": set_condition,
        }
        gateway.create_rest_api(name="x", policy=json.dumps({"Statement": statement}))


def test_a_canary_gets_its_share_and_is_promoted(api: RestApi, gateway: Any) -> None:
    api.mock("GET", "/", responseTemplates={"application/json": "one $stageVariables.v"})
    api.deploy(variables={"v": "a"})
    place = {"restApiId": api.id, "resourceId": api.resource("/"), "httpMethod": "GET", "statusCode": "200"}
    gateway.update_integration_response(
        **place,
        patchOperations=[
            {"op": "replace", "path": "/responseTemplates/application~1json", "value": "two $stageVariables.v"}
        ],
    )
    canary = {"percentTraffic": 100.0, "stageVariableOverrides": {"v": "b"}}
    deployment = api.deploy(canarySettings=canary)
    assert api.ask("/test")[2] == b"two b"
    patch = [{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0"}]
    gateway.update_stage(restApiId=api.id, stageName="test", patchOperations=patch)
    assert api.ask("/test")[2] == b"one a"
    gateway.update_stage(
        restApiId=api.id,
        stageName="test",
        patchOperations=[
            {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
            {"op": "remove", "path": "/canarySettings"},
        ],
    )
    stage = gateway.get_stage(restApiId=api.id, stageName="test")
    assert (stage["deploymentId"], "canarySettings" in stage) == (deployment, False)
    assert api.ask("/test")[2] == b"two a"


def test_binary_types_decide_what_is_base64(node: LambentNode, gateway: Any, deploy: Deploy) -> None:
    source = (
        "def handler(event, context):\n"
        "    return {'statusCode': 200, 'headers': {'content-type': 'image/png'}, 'body': event['body'],\n"
        "            'isBase64Encoded': event['isBase64Encoded']}\n"
    )
    api = RestApi(node, gateway, binaryMediaTypes=["image/png"])
    api.proxy("POST", "/", arn_of(deploy(source)))
    api.deploy()
    body = bytes(range(256))
    headers = {"Content-Type": "image/png", "Accept": "image/png"}
    assert api.ask("/test", method="POST", body=body, headers=headers)[2] == body
    answer = api.ask("/test", method="POST", body=body, headers={"Content-Type": "image/png", "Accept": "text/html"})
    assert answer[2].startswith(b"AAECAwQF")
    assert api.ask("/test", method="POST", body=b"text", headers={"Content-Type": "text/plain"})[2] == b"text"


def test_answers_are_compressed_from_the_size_that_is_set(node: LambentNode, gateway: Any) -> None:
    api = RestApi(node, gateway, minimumCompressionSize=100)
    api.mock("GET", "/", responseTemplates={"application/json": "x" * 200})
    api.deploy()
    _, headers, body = api.ask("/test", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert (headers["content-encoding"], gzip.decompress(body)) == ("gzip", b"x" * 200)
    assert "content-encoding" not in api.ask("/test")[1]


def test_a_streaming_integration_sends_what_the_function_writes(api: RestApi, deploy: Deploy) -> None:
    source = (
        "def handler(event, context):\n"
        "    yield {'statusCode': 201, 'headers': {'content-type': 'text/plain'}}\n"
        "    yield event['path']\n"
        "    yield ' and more'\n"
    )
    uri = uri_of(arn_of(deploy(source)), action="2021-11-15/functions/{}/response-streaming-invocations")
    api.proxy("GET", "/stream", "", integration={"uri": uri, "responseTransferMode": "STREAM"})
    api.deploy()
    status, headers, body = api.ask("/test/stream")
    assert (status, headers["content-type"], body) == (201, "text/plain", b"/stream and more")


def test_mistakes_are_told_and_change_nothing(api: RestApi, gateway: Any, echo: str) -> None:
    root = api.resource("/")

    def refuse(expected: str, call: Any, **parameters: Any) -> None:
        with pytest.raises(ClientError, match=expected):
            call(restApiId=api.id, **parameters)

    refuse("NotFoundException.*Invalid Resource identifier", gateway.get_resource, resourceId="none")
    refuse("Resource's path part only allow", gateway.create_resource, parentId=root, pathPart="a b")
    api.resource("/{a}")
    refuse("already has a variable path part", gateway.create_resource, parentId=root, pathPart="{b}")
    refuse("ConflictException", gateway.create_resource, parentId=root, pathPart="{a}")
    place = {"resourceId": root, "httpMethod": "GET"}
    refuse("Invalid HttpMethod", gateway.put_method, resourceId=root, httpMethod="FETCH", authorizationType="NONE")
    refuse("requires a valid authorizer", gateway.put_method, **place, authorizationType="CUSTOM")
    refuse("doesn't contain any methods", gateway.create_deployment)
    gateway.put_method(restApiId=api.id, **place, authorizationType="NONE")
    refuse("No integration defined for method: GET /", gateway.create_deployment)
    refuse("Invalid ARN", gateway.put_integration, **place, type="AWS_PROXY", uri="x")
    refuse("Invalid HTTP endpoint", gateway.put_integration, **place, type="HTTP", uri="ftp://x")
    refuse(
        "line 1: #end is missing",
        gateway.put_integration,
        **place,
        type="MOCK",
        requestTemplates={"application/json": "#if(true)"},
    )
    patch = [{"op": "replace", "path": "/nothing", "value": "x"}]
    refuse("Invalid patch path '/nothing' specified. Must be one of", gateway.update_rest_api, patchOperations=patch)
    refuse("Invalid stage identifier", gateway.get_stage, stageName="none")
    with pytest.raises(ClientError, match="Invalid API identifier specified"):
        gateway.get_rest_api(restApiId="none123")
    resources = gateway.get_resources(restApiId=api.id, embed=["methods"])["items"]
    assert {each["path"] for each in resources} == {"/", "/{a}"}


def test_what_was_acknowledged_is_served_after_a_kill(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    api, key = make_keyed(node, quota={"limit": 5, "period": "MONTH"})
    headers = {"X-API-Key": key["value"]}
    assert [api.ask("/test", headers=headers)[0] for _ in range(3)] == [200] * 3
    node.kill()
    with node.running():
        statuses = [api.ask("/test", headers=headers)[0] for _ in range(4)]
        assert statuses == [200, 200, 429, 429]


def test_a_quota_is_exact_over_several_processes(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data", arguments=["--processes", "3"])
    with node.running():
        api, key = make_keyed(node, quota={"limit": 40, "period": "WEEK"})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: api.ask("/test", headers={"X-API-Key": key["value"]})[0], range(64)))
        assert sorted(statuses) == [200] * 40 + [429] * 24


def make_keyed(node: LambentNode, **plan: Any) -> tuple[RestApi, dict[str, Any]]:
    gateway = connect(node, "apigateway")
    api = RestApi(node, gateway)
    place = api.method("GET", "/", apiKeyRequired=True)
    gateway.put_integration(**place, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    gateway.put_method_response(**place, statusCode="200")
    gateway.put_integration_response(**place, statusCode="200")
    api.deploy()
    _, key = make_plan(gateway, api, **plan)
    return api, key


def define(function: str, guard: str) -> dict[str, Any]:
    integration = {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": uri_of(function),
        "passthroughBehavior": "when_no_match",
    }
    mock = {
        "type": "mock",
        "requestTemplates": {"application/json": '{"statusCode": 200}'},
        "responses": {
            "default": {
                "statusCode": "200",
                "responseParameters": {"method.response.header.Access-Control-Allow-Origin": "'*'"},
            }
        },
    }
    properties = {"name": {"type": "string"}, "toy": {"$ref": "#/definitions/Toy"}}
    pet = {"type": "object", "required": ["name"], "properties": properties}
    return {
        "swagger": "2.0",
        "info": {"title": "pets", "version": "1.0", "description": "All pets"},
        "basePath": "/v1",
        "x-amazon-apigateway-binary-media-types": ["image/png"],
        "x-amazon-apigateway-request-validators": {"body": {"validateRequestBody": True}},
        "x-amazon-apigateway-gateway-responses": {"BAD_REQUEST_BODY": {"statusCode": "422"}},
        "definitions": {"Pet": pet, "Toy": {"type": "object", "properties": {"of": {"$ref": "#/definitions/Pet"}}}},
        "securityDefinitions": {
            "guard": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "x-amazon-apigateway-authtype": "custom",
                "x-amazon-apigateway-authorizer": {"type": "token", "authorizerUri": uri_of(guard)},
            },
            "api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"},
        },
        "paths": {
            "/pets": {
                "post": {
                    "consumes": ["application/json"],
                    "parameters": [{"in": "body", "name": "Pet", "schema": {"$ref": "#/definitions/Pet"}}],
                    "responses": {"200": {"description": "ok", "schema": {"$ref": "#/definitions/Pet"}}},
                    "x-amazon-apigateway-request-validator": "body",
                    "x-amazon-apigateway-integration": integration,
                },
                "options": {
                    "responses": {"200": {"headers": {"Access-Control-Allow-Origin": {"type": "string"}}}},
                    "x-amazon-apigateway-integration": mock,
                },
            },
            "/pets/{id}": {
                "x-amazon-apigateway-any-method": {
                    "parameters": [{"name": "id", "in": "path", "required": True, "type": "string"}],
                    "responses": {},
                    "security": [{"guard": []}],
                    "x-amazon-apigateway-integration": integration,
                },
                "delete": {
                    "responses": {},
                    "security": [{"api_key": []}],
                    "x-amazon-apigateway-integration": integration,
                },
            },
        },
    }


class ImportedApi(RestApi):
    def __init__(self, node: LambentNode, client: Any, body: bytes, **parameters: Any) -> None:
        self.node = node
        self.client = client
        created = client.import_rest_api(body=body, **parameters)
        self.id = created["id"]
        self._resources = {"/": created["rootResourceId"]}


def check_pets(api: RestApi) -> None:
    headers = {"Content-Type": "application/json"}
    assert api.ask("/test/pets", method="POST", body=b'{"name": "a"}', headers=headers)[0] == 200
    assert api.ask("/test/pets", method="POST", body=b'{"name": 1}', headers=headers)[0] == 422
    assert api.ask("/test/pets", method="POST", body=b'{"name":"a","toy":{"of":{}}}', headers=headers)[0] == 422
    assert api.ask("/test/pets", method="OPTIONS")[1]["access-control-allow-origin"] == "*"
    assert api.ask("/test/pets/1")[0] == 401
    assert api.event("/test/pets/1", headers={"Authorization": "x"})["pathParameters"] == {"id": "1"}
    assert api.ask("/test/pets/1", method="DELETE")[0] == 403


GUARD = (
    "def handler(event, context):\n"
    "    statement = {'Action': 'execute-api:Invoke', 'Effect': 'Allow', 'Resource': '*'}\n"
    "    return {'principalId': 'x', 'policyDocument': {'Statement': [statement]}}\n"
)


@pytest.mark.parametrize("kind", ["oas30", "swagger"])
@pytest.mark.parametrize("accept", ["application/json", "application/yaml"])
def test_a_definition_makes_an_api_and_its_export_makes_the_same(
    node: LambentNode, gateway: Any, echo: str, deploy: Deploy, kind: str, accept: str
) -> None:
    definition = define(echo, arn_of(deploy(GUARD)))
    api = ImportedApi(node, gateway, json.dumps(definition).encode())
    api.deploy()
    check_pets(api)
    shown = gateway.get_rest_api(restApiId=api.id)
    assert (shown["name"], shown["description"], shown["binaryMediaTypes"]) == ("pets", "All pets", ["image/png"])
    exported = gateway.get_export(
        restApiId=api.id,
        stageName="test",
        exportType=kind,
        accepts=accept,
        parameters={"extensions": "apigateway"},
    )
    assert exported["contentType"] == accept
    copy = ImportedApi(node, gateway, exported["body"].read())
    copy.deploy()
    check_pets(copy)


def test_a_definition_replaces_an_api_or_adds_to_it(node: LambentNode, gateway: Any, echo: str) -> None:
    def define_one(path: str) -> bytes:
        integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": uri_of(echo)}
        item = {"get": {"responses": {}, "x-amazon-apigateway-integration": integration}}
        document = {"openapi": "3.0.1", "info": {"title": "x"}, "servers": [{"url": "/base/v1"}], "paths": {path: item}}
        return json.dumps(document).encode()

    api = ImportedApi(node, gateway, define_one("/a"))
    gateway.put_rest_api(restApiId=api.id, mode="merge", body=define_one("/b"))
    api.deploy()
    assert [api.ask(f"/test/{path}")[0] for path in ("a", "b")] == [200, 200]
    gateway.put_rest_api(restApiId=api.id, mode="overwrite", body=define_one("/c"), parameters={"basepath": "prepend"})
    api.deploy()
    assert [api.ask(f"/test/{path}")[0] for path in ("a", "b", "base/v1/c")] == [403, 403, 200]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "neither JSON nor YAML"),
        (b"[]", "it is no object"),
        (b"info: {}", "neither swagger 2.0 nor openapi 3.0"),
        (b"a: &a [x]\nb: *a", "aliases"),
        (b'{"openapi": "3.0.0", "info": {"title": "x"}}', "paths is missing"),
        (b'{"openapi": "3.0.0", "info": {}, "paths": {}}', "an API needs a name"),
        (
            b'{"openapi": "3.0.0", "info": {"title": "x"}, "paths": {"/a": {"get": {"security": [{"none": []}]}}}}',
            "Unable to put 'GET' for resource at path '/a': the security scheme 'none'",
        ),
        (
            b'{"openapi": "3.0.0", "info": {"title": "x"}, "paths": {"/a b": {}}}',
            "Unable to create resource at path '/a b'",
        ),
        (
            b'{"openapi": "3.0.0", "info": {"title": "x"}, "paths": {"/a": {"get": {"parameters": 1}}}}',
            "not as OpenAPI",
        ),
    ],
)
def test_a_definition_that_cannot_be_taken_makes_nothing(gateway: Any, body: bytes, expected: str) -> None:
    before = len(gateway.get_rest_apis(limit=500)["items"])
    with pytest.raises(ClientError, match=expected) as caught:
        gateway.import_rest_api(body=body)
    assert caught.value.response["Error"]["Code"] == "BadRequestException"
    assert len(gateway.get_rest_apis(limit=500)["items"]) == before


def test_a_domain_leads_to_stages_of_apis(api: RestApi, echo: str, gateway: Any) -> None:
    api.proxy("GET", "/pets/{id}", echo)
    api.deploy()
    name = f"{api.id}.example.com"
    gateway.create_domain_name(domainName=name, endpointConfiguration={"types": ["REGIONAL"]})
    gateway.create_base_path_mapping(domainName=name, basePath="shop", restApiId=api.id, stage="test")
    event = api.event("/shop/pets/1", host=name)
    assert (event["path"], event["requestContext"]["path"]) == ("/shop/pets/1", "/shop/pets/1")
    assert (event["pathParameters"], event["requestContext"]["domainName"]) == ({"id": "1"}, name)
    assert gateway.get_base_path_mapping(domainName=name, basePath="shop")["restApiId"] == api.id
    gateway.update_base_path_mapping(
        domainName=name, basePath="shop", patchOperations=[{"op": "replace", "path": "/basePath", "value": "(none)"}]
    )
    assert api.ask("/pets/1", host=name)[0] == 200
    patch = [{"op": "replace", "path": "/disableExecuteApiEndpoint", "value": "true"}]
    gateway.update_rest_api(restApiId=api.id, patchOperations=patch)
    assert (api.ask("/pets/1", host=name)[0], api.ask("/test/pets/1")[0]) == (200, 403)
    with pytest.raises(ClientError, match="Invalid stage identifier"):
        gateway.create_base_path_mapping(domainName=name, basePath="x", restApiId=api.id, stage="none")
    gateway.delete_base_path_mapping(domainName=name, basePath="(none)")
    assert api.ask("/pets/1", host=name)[0] != 200
    gateway.delete_domain_name(domainName=name)
    with pytest.raises(ClientError, match="NotFoundException"):
        gateway.get_domain_name(domainName=name)


def test_an_api_of_another_account_is_not_there(api: RestApi, node: LambentNode, gateway: Any) -> None:
    functions = "arn:aws:lambda:us-east-1:999999999999:function:theirs"
    api.proxy("GET", "/theirs", functions)
    api.deploy()
    assert api.ask("/test/theirs")[::2] == (500, b'{"message":"Internal server error"}')
