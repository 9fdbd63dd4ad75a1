"""HTTP APIs through boto3 and plain HTTP, against a real node."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from tests.conftest import PYTHON, ROLE, Deploy, connect
from tests.integration.gateway.http_api import ECHO, arn_of, create
from tests.integration.gateway.outside import Outside

from lambent.testing.node import LambentNode, make_zip

PACKAGE = make_zip({"app.py": ECHO})


def test_quick_create_serves_a_function_at_every_path(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway, Target=echo)
    event = api.event("/any/path%20x?a=1", method="PATCH", body=b"hello", headers={"Content-Type": "text/plain"})
    assert event["version"] == "2.0"
    assert (event["routeKey"], event["rawPath"], event["rawQueryString"]) == ("$default", "/any/path x", "a=1")
    assert event["body"] == "hello"
    context = event["requestContext"]
    assert (context["apiId"], context["stage"], context["http"]["method"]) == (api.id, "$default", "PATCH")
    assert context["accountId"] == echo.split(":")[4]
    assert gateway.get_api(ApiId=api.id)["ApiEndpoint"] == api.endpoint


def test_the_most_specific_route_is_taken(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    target = api.integrate(echo)
    keys = ["GET /pets/dog", "GET /pets/{name}", "ANY /pets/dog", "GET /pets/{rest+}", "ANY /{proxy+}", "$default"]
    for key in keys:
        api.route(key, target)

    def taken(method: str, path: str) -> tuple[str, Any]:
        event = api.event(path, method=method)
        return event["routeKey"], event.get("pathParameters")

    assert taken("GET", "/pets/dog") == ("GET /pets/dog", None)
    assert taken("POST", "/pets/dog") == ("ANY /pets/dog", None)
    assert taken("GET", "/pets/c%C3%A4t") == ("GET /pets/{name}", {"name": "cät"})
    assert taken("GET", "/pets/a%2Fb") == ("GET /pets/{name}", {"name": "a/b"})
    assert taken("GET", "/pets/a/b") == ("GET /pets/{rest+}", {"rest": "a/b"})
    assert taken("POST", "/pets/cat") == ("ANY /{proxy+}", {"proxy": "pets/cat"})
    assert taken("GET", "/") == ("$default", None)


def test_a_path_without_a_route_is_not_found_and_nothing_is_invoked(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    assert api.ask("/x")[::2] == (404, b'{"message":"Not Found"}')
    api.route("GET /x", api.integrate(echo))
    assert api.ask("/x")[0] == 200
    assert api.ask("/x", method="POST")[0] == 404
    assert api.ask("/x/")[0] == 404


def test_stages_are_the_first_segment_and_serve_what_was_deployed_to_them(
    node: LambentNode, gateway: Any, echo: str
) -> None:
    api = create(node, gateway, stage="dev")
    target = api.integrate(echo)
    first = api.route("GET /a", target)
    gateway.create_stage(ApiId=api.id, StageName="prod", StageVariables={"color": "blue"})
    deployment = gateway.create_deployment(ApiId=api.id, StageName="prod", Description="first")
    event = api.event("/prod/a")
    assert (event["rawPath"], event["requestContext"]["stage"]) == ("/prod/a", "prod")
    assert event["stageVariables"] == {"color": "blue"}
    gateway.delete_route(ApiId=api.id, RouteId=first)
    # The stage that deploys by itself follows; the other keeps what it was given.
    assert api.ask("/dev/a")[0] == 404
    assert api.ask("/prod/a")[0] == 200
    shown = gateway.get_stage(ApiId=api.id, StageName="prod")
    assert shown["DeploymentId"] == deployment["DeploymentId"]
    with pytest.raises(gateway.exceptions.BadRequestException, match="prod"):
        gateway.delete_deployment(ApiId=api.id, DeploymentId=deployment["DeploymentId"])
    # By path, for clients that cannot choose a host.
    assert api.event(f"/_lambent/api/{api.id}/prod/a", host="127.0.0.1")["rawPath"] == "/prod/a"


def test_payload_format_1_has_lists_and_nulls(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    api.route("GET /a/{id}", api.integrate(echo, "1.0"))
    event = api.event("/a/7?x=1&x=2", headers={"X-Multi": "m"})
    assert event["version"] == "1.0"
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/a/{id}", "/a/7", "GET")
    assert event["pathParameters"] == {"id": "7"}
    assert event["queryStringParameters"] == {"x": "2"}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["multiValueHeaders"]["x-multi"] == ["m"]
    assert event["stageVariables"] is None
    assert event["body"] is None
    assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"


def test_what_stands_behind_a_route_and_fails_is_a_500(node: LambentNode, gateway: Any, deploy: Deploy) -> None:
    function = deploy("def handler(e, c):\n    raise ValueError('secret')\n")
    api = create(node, gateway)
    api.route("GET /fails", api.integrate(arn_of(function)))
    api.route("GET /no", api.integrate(arn_of(function).rpartition(":")[0] + ":nobody"))
    for path in ("/fails", "/no"):
        assert api.ask(path)[::2] == (500, b'{"message":"Internal Server Error"}')


def test_an_integration_that_takes_too_long_is_not_waited_for(node: LambentNode, gateway: Any, deploy: Deploy) -> None:
    function = deploy("import time\ndef handler(e, c):\n    time.sleep(5)\n", Timeout=10)
    api = create(node, gateway)
    api.route("GET /", api.integrate(arn_of(function), TimeoutInMillis=100))
    assert api.ask("/")[::2] == (503, b'{"message":"Service Unavailable"}')


def test_cors_is_answered_from_the_configuration(node: LambentNode, gateway: Any, echo: str) -> None:
    rules = {"AllowOrigins": ["https://*.example.com"], "AllowMethods": ["GET"], "MaxAge": 60}
    api = create(node, gateway, CorsConfiguration=rules)
    api.route("GET /a", api.integrate(echo))
    asked = {"Origin": "https://www.example.com", "Access-Control-Request-Method": "GET"}
    status, headers, _ = api.ask("/a", method="OPTIONS", headers=asked)
    assert (status, headers["access-control-allow-origin"]) == (204, "https://www.example.com")
    assert headers["access-control-max-age"] == "60"
    assert api.ask("/a", headers={"Origin": "https://www.example.com"})[1]["access-control-allow-origin"]
    assert "access-control-allow-origin" not in api.ask("/a", headers={"Origin": "https://evil.example"})[1]
    gateway.delete_cors_configuration(ApiId=api.id)
    assert api.ask("/a", method="OPTIONS", headers=asked)[0] == 404


def test_limits_of_a_route_are_kept(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    target = api.integrate(echo)
    api.route("GET /few", target)
    api.route("GET /many", target)
    gateway.update_stage(
        ApiId=api.id,
        StageName="$default",
        RouteSettings={"GET /few": {"ThrottlingRateLimit": 0.001, "ThrottlingBurstLimit": 3}},
    )
    assert [api.ask("/few")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert api.ask("/few")[2] == b'{"message":"Too Many Requests"}'
    assert api.ask("/many")[0] == 200


def test_iam_wants_a_signature_of_the_account(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    api.route("GET /a", api.integrate(echo), AuthorizationType="AWS_IAM")
    assert api.ask("/a")[::2] == (403, b'{"message":"Forbidden"}')
    request = AWSRequest("GET", f"{api.endpoint}/a")
    SigV4Auth(gateway._request_signer._credentials, "execute-api", gateway.meta.region_name).add_auth(request)
    event = api.event("/a", headers=dict(request.headers.items()))
    assert event["requestContext"]["authorizer"]["iam"]["accountId"] == echo.split(":")[4]


def test_a_function_authorizes_with_a_simple_answer_that_is_kept(
    node: LambentNode, gateway: Any, echo: str, deploy: Deploy
) -> None:
    guard = deploy(
        "calls = 0\n"
        "def handler(event, context):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    token = event['identitySource'][0]\n"
        "    if token == 'broken':\n"
        "        return 'what?'\n"
        "    context = {'calls': calls, 'arn': event['routeArn'], 'nested': {'a': [1]}}\n"
        "    return {'isAuthorized': token == 'good', 'context': context}\n"
    )
    api = create(node, gateway)
    authorizer = gateway.create_authorizer(
        ApiId=api.id,
        Name="guard",
        AuthorizerType="REQUEST",
        AuthorizerUri=f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn_of(guard)}/invocations",
        AuthorizerPayloadFormatVersion="2.0",
        EnableSimpleResponses=True,
        IdentitySource=["$request.header.X-Token"],
        AuthorizerResultTtlInSeconds=300,
    )
    api.route("GET /a", api.integrate(echo), AuthorizationType="CUSTOM", AuthorizerId=authorizer["AuthorizerId"])
    assert api.ask("/a")[::2] == (401, b'{"message":"Unauthorized"}')
    assert api.ask("/a", headers={"X-Token": "bad"})[::2] == (403, b'{"message":"Forbidden"}')
    assert api.ask("/a", headers={"X-Token": "broken"})[0] == 500
    first = api.event("/a", headers={"X-Token": "good"})["requestContext"]["authorizer"]["lambda"]
    again = api.event("/a", headers={"X-Token": "good"})["requestContext"]["authorizer"]["lambda"]
    assert first == again
    assert first["nested"] == {"a": [1]}
    assert first["arn"].endswith(f":{api.id}/$default/GET/a")
    with pytest.raises(gateway.exceptions.ConflictException):
        gateway.delete_authorizer(ApiId=api.id, AuthorizerId=authorizer["AuthorizerId"])


def test_a_function_authorizes_with_a_policy(node: LambentNode, gateway: Any, echo: str, deploy: Deploy) -> None:
    guard = deploy(
        "def handler(event, context):\n"
        "    arn = event['methodArn'].rpartition('/')[0] + '/*'\n"
        "    effect = 'Allow' if event['identitySource'] == 'good' else 'Deny'\n"
        "    statement = {'Action': 'execute-api:Invoke', 'Effect': effect, 'Resource': arn}\n"
        "    return {'principalId': 'me', 'policyDocument': {'Version': '2012-10-17', 'Statement': [statement]},\n"
        "            'context': {'number': 7}}\n"
    )
    api = create(node, gateway)
    authorizer = gateway.create_authorizer(
        ApiId=api.id,
        Name="guard",
        AuthorizerType="REQUEST",
        AuthorizerUri=arn_of(guard),
        AuthorizerPayloadFormatVersion="1.0",
        IdentitySource=["$request.querystring.token"],
    )
    api.route("GET /a", api.integrate(echo), AuthorizationType="CUSTOM", AuthorizerId=authorizer["AuthorizerId"])
    assert api.ask("/a?token=bad")[0] == 403
    event = api.event("/a?token=good")
    assert event["requestContext"]["authorizer"]["lambda"] == {"number": "7"}


@pytest.fixture(scope="module")
def open_gateway(open_node: LambentNode) -> Any:
    return connect(open_node, "apigatewayv2")


@pytest.fixture(scope="module")
def open_echo(open_node: LambentNode) -> str:
    client = connect(open_node)
    created = client.create_function(
        FunctionName="echo",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": ECHO})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="echo")
    return str(created["FunctionArn"])


def test_tokens_are_checked_against_the_issuers_keys(
    open_node: LambentNode, open_gateway: Any, open_echo: str, outside: Outside
) -> None:
    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    outside.keys["one"] = {**public, "kid": "one", "use": "sig", "alg": "RS256"}
    api = create(open_node, open_gateway)
    authorizer = open_gateway.create_authorizer(
        ApiId=api.id,
        Name="tokens",
        AuthorizerType="JWT",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": outside.url, "Audience": ["shop"]},
    )
    id_ = authorizer["AuthorizerId"]
    target = api.integrate(open_echo)
    api.route("GET /a", target, AuthorizationType="JWT", AuthorizerId=id_)
    api.route("GET /admin", target, AuthorizationType="JWT", AuthorizerId=id_, AuthorizationScopes=["admin", "root"])
    claims = {"iss": outside.url, "aud": "shop", "exp": int(time.time()) + 300, "sub": "me", "scope": "read write"}

    def token(by: Any = key, kid: str = "one", algorithm: str = "RS256", **changed: Any) -> dict[str, str]:
        encoded = jwt.encode({**claims, **changed}, by, algorithm=algorithm, headers={"kid": kid})
        return {"Authorization": f"Bearer {encoded}"}

    context = api.event("/a", headers=token())["requestContext"]["authorizer"]["jwt"]
    assert context["claims"]["sub"] == "me"
    assert context["scopes"] == ["read", "write"]
    bare = token()["Authorization"].removeprefix("Bearer ")
    assert api.ask("/a", headers={"Authorization": bare})[0] == 200
    refused = [
        {},
        {"Authorization": "Bearer nonsense"},
        token(by=other),
        token(aud="another"),
        token(iss="https://evil.example"),
        token(exp=int(time.time()) - 3600),
        token(nbf=int(time.time()) + 3600),
        token(kid="unknown"),
        {"Authorization": "Bearer " + jwt.encode(claims, "", algorithm="none", headers={"kid": "one"})},
        token(by="x" * 64, algorithm="HS256"),
        token(by=ed25519.Ed25519PrivateKey.generate(), algorithm="EdDSA"),
    ]
    for headers in refused:
        assert api.ask("/a", headers=headers)[::2] == (401, b'{"message":"Unauthorized"}'), headers
    assert api.ask("/admin", headers=token())[::2] == (403, b'{"message":"Forbidden"}')
    assert api.ask("/admin", headers=token(scope="read admin"))[0] == 200
    asked = [path for _, path, _, _ in outside.asked if path == "/keys"]
    # An unknown key is asked for again, but not for each token that names one.
    assert len(asked) <= 2


def test_a_server_behind_a_route_is_asked_with_mapped_parameters(
    open_node: LambentNode, open_gateway: Any, outside: Outside
) -> None:
    api = create(open_node, open_gateway)
    target = api.integrate(
        f"{outside.url}/echo/{{rest}}",
        IntegrationType="HTTP_PROXY",
        IntegrationMethod="ANY",
        PayloadFormatVersion="1.0",
        RequestParameters={
            "overwrite:header.x-stage": "$context.stage",
            "append:querystring.who": "$request.header.x-who",
            "remove:header.x-private": "''",
        },
        ResponseParameters={"201": {"remove:header.x-secret": "''", "overwrite:statuscode": "202"}},
    )
    api.route("POST /to/{rest+}", target)
    status, headers, body = api.ask(
        "/to/a/b?c=d",
        method="POST",
        body=b"hello",
        headers={"X-Who": "me", "X-Private": "1", "Content-Type": "text/plain"},
    )
    assert status == 202
    assert "x-secret" not in headers
    assert json.loads(body) == {"path": "/echo/a/b?c=d&who=me", "method": "POST", "body": "hello"}
    _, _, sent, _ = outside.asked[-1]
    # What stands for a variable stays a part of the path.
    asked = json.loads(api.ask("/to/a%3Fadmin=1%23/b%20c", method="POST")[2])
    assert asked["path"].startswith("/echo/a%3Fadmin%3D1%23/b%20c?who=")
    assert sent["x-stage"] == "$default"
    assert "x-private" not in sent
    assert sent["x-forwarded-for"] == "127.0.0.1"


def test_a_server_that_functions_may_not_reach_is_not_asked_for_them(
    node: LambentNode, gateway: Any, outside: Outside
) -> None:
    api = create(node, gateway)
    api.route(
        "GET /",
        api.integrate(
            f"{outside.url}/echo", IntegrationType="HTTP_PROXY", IntegrationMethod="GET", PayloadFormatVersion="1.0"
        ),
    )
    before = len(outside.asked)
    assert api.ask("/")[0] == 503
    assert len(outside.asked) == before


@pytest.mark.parametrize(
    ("operation", "parameters", "message"),
    [
        ("create_route", {"RouteKey": "FETCH /a"}, "route key"),
        ("create_route", {"RouteKey": "GET a"}, "route key"),
        ("create_route", {"RouteKey": "GET /{a+}/b"}, "greedy"),
        ("create_route", {"RouteKey": "GET /{a}/{a}"}, "twice"),
        ("create_route", {"RouteKey": "GET /a", "Target": "integrations/none"}, "integration"),
        ("create_route", {"RouteKey": "GET /a", "AuthorizationType": "JWT"}, "authorizer"),
        ("create_integration", {"IntegrationType": "MOCK"}, "MOCK"),
        ("create_integration", {"IntegrationType": "AWS_PROXY", "IntegrationUri": "hello"}, "ARN"),
        ("create_integration", {"IntegrationType": "HTTP_PROXY", "IntegrationUri": "ftp://x"}, "HTTP endpoint"),
        ("create_stage", {"StageName": "a b"}, "StageName"),
        ("create_deployment", {}, "route is required"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    node: LambentNode, gateway: Any, operation: str, parameters: Any, message: str
) -> None:
    api = gateway.create_api(Name="refusals", ProtocolType="HTTP")
    with pytest.raises(gateway.exceptions.BadRequestException, match=message):
        getattr(gateway, operation)(ApiId=api["ApiId"], **parameters)


def test_an_api_and_its_parts_can_be_listed_changed_and_deleted(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway, Tags={"team": "a"}, Description="before")
    target = api.integrate(echo)
    route = api.route("GET /a", target)
    with pytest.raises(gateway.exceptions.ConflictException):
        api.route("GET /a", target)
    with pytest.raises(gateway.exceptions.ConflictException):
        gateway.delete_integration(ApiId=api.id, IntegrationId=target.partition("/")[2])
    gateway.update_route(ApiId=api.id, RouteId=route, RouteKey="GET /b")
    assert [entry["RouteKey"] for entry in gateway.get_routes(ApiId=api.id)["Items"]] == ["GET /b"]
    assert api.ask("/b")[0] == 200
    assert gateway.update_api(ApiId=api.id, Description="after")["Description"] == "after"
    arn = f"arn:aws:apigateway:us-east-1::/apis/{api.id}"
    gateway.tag_resource(ResourceArn=arn, Tags={"more": "b"})
    gateway.untag_resource(ResourceArn=arn, TagKeys=["team"])
    assert gateway.get_tags(ResourceArn=arn)["Tags"] == {"more": "b"}
    assert api.id in [entry["ApiId"] for entry in gateway.get_apis()["Items"]]
    with pytest.raises(gateway.exceptions.NotFoundException):
        gateway.get_route(ApiId=api.id, RouteId="none")
    gateway.delete_api(ApiId=api.id)
    assert api.ask("/b")[0] == 404
    with pytest.raises(gateway.exceptions.NotFoundException):
        gateway.get_api(ApiId=api.id)


def test_a_domain_leads_to_the_api_of_the_longest_path_and_to_nothing_else(
    node: LambentNode, gateway: Any, echo: str
) -> None:
    root, shop = create(node, gateway, Target=echo), create(node, gateway, stage="prod")
    shop.route("GET /items/{id}", shop.integrate(echo))
    name = "www.test-domain.example"
    created = gateway.create_domain_name(DomainName=name, Tags={"a": "b"})
    assert created["DomainNameConfigurations"][0]["DomainNameStatus"] == "AVAILABLE"
    with pytest.raises(gateway.exceptions.ConflictException):
        gateway.create_domain_name(DomainName=name)
    # A name that is known and mapped to nothing: not the node's own API.
    assert root.ask("/health", host=name)[0] == 404
    gateway.create_api_mapping(DomainName=name, ApiId=root.id, Stage="$default")
    mapping = gateway.create_api_mapping(DomainName=name, ApiId=shop.id, Stage="prod", ApiMappingKey="shop/v1")
    for key, error in (("shop/v1", "Conflict"), ("/shop/", "BadRequest")):
        with pytest.raises(getattr(gateway.exceptions, f"{error}Exception")):
            gateway.create_api_mapping(DomainName=name, ApiId=root.id, Stage="$default", ApiMappingKey=key)
    event = root.event("/shop/v1/items/7?a=1", host=name)
    assert (event["routeKey"], event["pathParameters"]) == ("GET /items/{id}", {"id": "7"})
    assert (event["rawPath"], event["requestContext"]["stage"]) == ("/shop/v1/items/7", "prod")
    assert event["requestContext"]["domainName"] == name
    assert root.event("/shop/v10", host=f"{name.upper()}:443")["requestContext"]["apiId"] == root.id
    assert root.ask("/shop/v1/none", host=name)[0] == 404
    # An API may be had by its domain alone.
    gateway.update_api(ApiId=root.id, DisableExecuteApiEndpoint=True)
    assert root.ask("/a")[0] == 404
    assert root.ask("/a", host=name)[0] == 200
    gateway.delete_api_mapping(DomainName=name, ApiMappingId=mapping["ApiMappingId"])
    assert root.event("/shop/v1/items/7", host=name)["requestContext"]["apiId"] == root.id
    gateway.delete_domain_name(DomainName=name)
    assert root.ask("/a", host=name)[0] in (403, 404)
    with pytest.raises(gateway.exceptions.NotFoundException):
        gateway.get_domain_name(DomainName=name)


def test_apis_are_served_again_after_the_node_was_killed(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    client, gateway = connect(node), connect(node, "apigatewayv2")
    created = client.create_function(
        FunctionName="echo",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": ECHO})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="echo")
    api = create(node, gateway, Target=created["FunctionArn"])
    node.kill()
    with node.running():
        assert api.event("/a")["rawPath"] == "/a"


def test_parameters_are_mapped_for_functions_too(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway)
    rules = {
        "append:header.x-stage": "$context.stage",
        "overwrite:header.accept": "text/${request.querystring.kind}",
        "remove:header.x-secret": "",
        "overwrite:querystring.page": "2",
        "overwrite:path": "/inner/${request.path.id}",
    }
    api.route("GET /pets/{id}", api.integrate(echo, RequestParameters=rules))
    event = api.event("/pets/a%20b?kind=html&page=1", headers={"X-Secret": "s", "Accept": "*/*"})
    assert (event["headers"]["x-stage"], event["headers"]["accept"]) == ("$default", "text/html")
    assert "x-secret" not in event["headers"]
    assert event["queryStringParameters"] == {"kind": "html", "page": "2"}
    assert (event["rawPath"], event["pathParameters"]) == ("/inner/a b", {"id": "a b"})


def test_a_path_does_not_lead_out_of_its_place_at_another_server(
    open_node: LambentNode, open_gateway: Any, outside: Outside
) -> None:
    api = create(open_node, open_gateway)
    target = api.integrate(outside.url + "/echo/{proxy}", "1.0", IntegrationType="HTTP_PROXY", IntegrationMethod="ANY")
    api.route("ANY /shop/{proxy+}", target)
    assert api.ask("/shop/a/b%20c")[0] == 201
    assert outside.asked[-1][1] == "/echo/a/b%20c"
    before = len(outside.asked)
    for path in ("/shop/../keys", "/shop/a/..%2f..%2fkeys", "/shop/%2e%2e/keys", "/shop/."):
        assert api.ask(path)[0] == 400
    assert len(outside.asked) == before
