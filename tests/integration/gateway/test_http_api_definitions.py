"""HTTP APIs from OpenAPI documents and as such, through boto3, against a real node."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from tests.conftest import Deploy
from tests.integration.gateway.http_api import HttpApi, arn_of, create
from tests.integration.gateway.rest_api import uri_of

from lambent.testing.node import LambentNode

GUARD = (
    "def handler(event, context):\n"
    "    return {'isAuthorized': event['headers']['authorization'] == 'open', 'context': {'who': 'me'}}\n"
)
NO_RESPONSES: dict[str, Any] = {}


def define(echo: str, guard: str) -> dict[str, Any]:
    """With all that SAM and the console write."""
    return {
        "openapi": "3.0.1",
        "info": {"title": "pets", "description": "All pets", "version": "7"},
        "servers": [{"url": "https://example.com/base/v1"}],
        "tags": [{"name": "team", "x-amazon-apigateway-tag-value": "zoo"}],
        "paths": {
            "/pets/{id}": {
                "get": {
                    "operationId": "GetPet",
                    "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "security": [{"guard": []}],
                    "x-amazon-apigateway-integration": {"$ref": "#/components/x-amazon-apigateway-integrations/echo"},
                },
                "delete": {
                    "security": [{"AWS_IAM": []}],
                    "x-amazon-apigateway-integration": {"$ref": "#/components/x-amazon-apigateway-integrations/echo"},
                },
                "put": {
                    "security": [{"tokens": ["pets:write"]}],
                    "x-amazon-apigateway-integration": {"$ref": "#/components/x-amazon-apigateway-integrations/echo"},
                },
            },
            "/proxy/{rest+}": {
                "x-amazon-apigateway-any-method": {
                    "x-amazon-apigateway-integration": {
                        "type": "aws_proxy",
                        "httpMethod": "POST",
                        "uri": uri_of(echo),
                        "payloadFormatVersion": "1.0",
                        "timeoutInMillis": 5000,
                        "requestParameters": {"overwrite:header.x-rest": "$request.path.rest"},
                        "responseParameters": {"200": {"append:header.x-by": "pets"}},
                    },
                },
            },
            "/$default": {
                "x-amazon-apigateway-any-method": {
                    "isDefaultRoute": True,
                    "x-amazon-apigateway-integration": {"$ref": "#/components/x-amazon-apigateway-integrations/echo"},
                },
            },
        },
        "components": {
            "schemas": {"Pet": {"type": "object"}},
            "securitySchemes": {
                "AWS_IAM": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                },
                "guard": {
                    "type": "apiKey",
                    "name": "Unused",
                    "in": "header",
                    "x-amazon-apigateway-authorizer": {
                        "type": "request",
                        "identitySource": "$request.header.Authorization, $request.header.Host",
                        "authorizerUri": uri_of(guard),
                        "authorizerPayloadFormatVersion": "2.0",
                        "authorizerResultTtlInSeconds": 60,
                        "enableSimpleResponses": True,
                    },
                },
                "tokens": {
                    "type": "oauth2",
                    "x-amazon-apigateway-authorizer": {
                        "type": "jwt",
                        "jwtConfiguration": {"issuer": "https://issuer.example.com", "audience": ["pets"]},
                        "identitySource": "$request.header.Authorization",
                    },
                },
            },
            "x-amazon-apigateway-integrations": {
                "echo": {
                    "type": "aws_proxy",
                    "httpMethod": "POST",
                    "uri": uri_of(echo),
                    "payloadFormatVersion": "2.0",
                },
            },
        },
        "x-amazon-apigateway-cors": {"allowOrigins": ["https://zoo.example.com"], "maxAge": 60},
        "x-amazon-apigateway-importexport-version": "1.0",
    }


def take(node: LambentNode, gateway: Any, document: str, **parameters: Any) -> HttpApi:
    api = gateway.import_api(Body=document, **parameters)
    gateway.create_stage(ApiId=api["ApiId"], StageName="$default", AutoDeploy=True)
    return HttpApi(node, api, client=gateway)


def check_pets(api: HttpApi, gateway: Any) -> None:
    assert api.ask("/pets/1")[0] == 401
    event = api.event("/pets/1", headers={"Authorization": "open"})
    assert (event["pathParameters"], event["requestContext"]["authorizer"]) == ({"id": "1"}, {"lambda": {"who": "me"}})
    assert event["requestContext"]["routeKey"] == "GET /pets/{id}"
    assert api.ask("/pets/1", method="DELETE")[0] == 403
    assert api.ask("/pets/1", method="PUT", headers={"Authorization": "Bearer x"})[0] == 401
    status, headers, body = api.ask("/proxy/a/b", method="PATCH")
    assert (status, headers["x-by"], json.loads(body)["version"]) == (200, "pets", "1.0")
    assert json.loads(body)["headers"]["x-rest"] == "a/b"
    assert api.event("/other")["routeKey"] == "$default"
    asked = api.ask("/other", headers={"Origin": "https://zoo.example.com"})
    assert asked[1]["access-control-allow-origin"] == "https://zoo.example.com"
    shown = gateway.get_api(ApiId=api.id)
    assert (shown["Name"], shown["Description"], shown["Version"]) == ("pets", "All pets", "7")
    assert shown["Tags"] == {"team": "zoo"}
    routes = {route["RouteKey"]: route for route in gateway.get_routes(ApiId=api.id)["Items"]}
    assert routes["PUT /pets/{id}"]["AuthorizationScopes"] == ["pets:write"]
    assert routes["GET /pets/{id}"]["OperationName"] == "GetPet"
    authorizers = {each["Name"]: each for each in gateway.get_authorizers(ApiId=api.id)["Items"]}
    assert authorizers["guard"]["IdentitySource"] == ["$request.header.Authorization", "$request.header.Host"]
    assert authorizers["guard"]["AuthorizerResultTtlInSeconds"] == 60
    assert authorizers["tokens"]["JwtConfiguration"] == {"Issuer": "https://issuer.example.com", "Audience": ["pets"]}


@pytest.mark.parametrize("output", ["JSON", "YAML"])
def test_a_definition_makes_an_api_and_its_export_makes_the_same(
    node: LambentNode, gateway: Any, echo: str, deploy: Deploy, output: str
) -> None:
    api = take(node, gateway, json.dumps(define(echo, arn_of(deploy(GUARD)))))
    check_pets(api, gateway)
    exported = gateway.export_api(ApiId=api.id, Specification="OAS30", OutputType=output, StageName="$default")
    text = exported["body"].read().decode()
    assert (text[0] == "{") is (output == "JSON")
    check_pets(take(node, gateway, text), gateway)


def test_routes_that_name_the_same_integration_share_it(
    node: LambentNode, gateway: Any, echo: str, deploy: Deploy
) -> None:
    api = gateway.import_api(Body=json.dumps(define(echo, arn_of(deploy(GUARD)))))
    assert len(gateway.get_integrations(ApiId=api["ApiId"])["Items"]) == 2
    assert [text.split(":")[0] for text in api["ImportInfo"]] == [
        "Ignoring components.schemas",
        "Ignoring parameters of 'GET /pets/{id}'",
    ]


@pytest.mark.parametrize(("base_path", "path"), [("ignore", "/a"), ("prepend", "/base/v1/a"), ("split", "/v1/a")])
def test_the_base_path_is_ignored_prepended_or_split(
    node: LambentNode, gateway: Any, echo: str, base_path: str, path: str
) -> None:
    document = one_route(echo) | {"servers": [{"url": "https://example.com/base/v1"}]}
    api = take(node, gateway, yaml.safe_dump(document), Basepath=base_path)
    assert api.event(path)["routeKey"] == f"GET {path}"


def one_route(echo: str, path: str = "/a") -> dict[str, Any]:
    integration = {"type": "aws_proxy", "uri": echo, "payloadFormatVersion": "2.0"}
    item = {"get": {"x-amazon-apigateway-integration": integration}}
    return {"openapi": "3.0.1", "info": {"title": "x"}, "paths": {path: item}}


def test_a_definition_replaces_what_an_api_had_and_is_served_at_once(
    node: LambentNode, gateway: Any, echo: str
) -> None:
    api = create(node, gateway)
    api.route("GET /old", api.integrate(echo))
    gateway.tag_resource(ResourceArn=f"arn:aws:apigateway:us-east-1::/apis/{api.id}", Tags={"kept": "yes"})
    again = gateway.reimport_api(ApiId=api.id, Body=json.dumps(one_route(echo)))
    assert (again["ApiId"], again["Name"], again["Tags"]) == (api.id, "x", {"kept": "yes"})
    assert (api.ask("/old")[0], api.ask("/a")[0]) == (404, 200)
    assert len(gateway.get_integrations(ApiId=api.id)["Items"]) == 1


def test_what_is_not_deployed_is_exported_without_a_stage(node: LambentNode, gateway: Any, echo: str) -> None:
    api = create(node, gateway, stage="dev")
    api.route("GET /pets/{id}", api.integrate(echo))
    gateway.update_stage(ApiId=api.id, StageName="dev", AutoDeploy=False)
    api.route("GET /later", api.integrate(echo))

    def read(**parameters: Any) -> Any:
        exported = gateway.export_api(ApiId=api.id, Specification="OAS30", OutputType="JSON", **parameters)
        return json.loads(exported["body"].read())

    assert sorted(read()["paths"]) == ["/later", "/pets/{id}"]
    staged = read(StageName="dev", IncludeExtensions=False)
    assert list(staged["paths"]) == ["/pets/{id}"]
    assert staged["servers"][0]["variables"] == {"basePath": {"default": "dev"}}
    assert "x-amazon" not in json.dumps(staged)
    with pytest.raises(ClientError, match="Invalid Stage identifier"):
        read(StageName="none")


def changed(**members: Any) -> str:
    return json.dumps({**one_route("arn:aws:lambda:us-east-1:000000000000:function:f"), **members})


def with_operation(**members: Any) -> str:
    return changed(paths={"/a": {"get": members}})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{", "neither JSON nor YAML"),
        ("info: {}", "neither swagger 2.0 nor openapi 3.0"),
        (json.dumps({"swagger": "2.0", "info": {"title": "x"}, "paths": {}}), "takes OpenAPI 3.0"),
        (changed(info={}), "info.title is needed"),
        (changed(paths=[]), "paths is missing"),
        (changed(paths={"/a": {"get": {"security": [{"none": []}]}}}), "'none' is no authorizer"),
        (with_operation(**{"x-amazon-apigateway-integration": {"type": "mock"}}), "IntegrationType MOCK is not one of"),
        (with_operation(**{"x-amazon-apigateway-integration": {"$ref": "#/none"}}), "leads nowhere"),
        (with_operation(**{"x-amazon-apigateway-integration": 1}), "not as OpenAPI describes it"),
        (changed(paths={"/{a+}/b": {"get": {}}}), "A greedy variable must be the last part"),
        (
            changed(
                components={
                    "securitySchemes": {"x": {"x-amazon-apigateway-authorizer": {"type": "jwt", "identitySource": "y"}}}
                }
            ),
            "JwtConfiguration.Issuer is needed",
        ),
    ],
)
def test_a_definition_that_cannot_be_taken_makes_nothing(gateway: Any, body: str, expected: str) -> None:
    before = len(gateway.get_apis(MaxResults="500")["Items"])
    with pytest.raises(ClientError, match=expected) as caught:
        gateway.import_api(Body=body)
    assert caught.value.response["Error"]["Code"] == "BadRequestException"
    assert len(gateway.get_apis(MaxResults="500")["Items"]) == before


def test_warnings_end_an_import_for_who_says_so(node: LambentNode, gateway: Any) -> None:
    body = with_operation(responses=NO_RESPONSES)
    made = gateway.import_api(Body=body)
    assert made["Warnings"] == ["The route 'GET /a' has no x-amazon-apigateway-integration: it answers 500."]
    gateway.create_stage(ApiId=made["ApiId"], StageName="$default", AutoDeploy=True)
    assert HttpApi(node, made, client=gateway).ask("/a")[0] == 500
    with pytest.raises(ClientError, match="Warnings found during import"):
        gateway.import_api(Body=body, FailOnWarnings=True)


def test_an_api_of_web_sockets_has_no_definition(gateway: Any) -> None:
    api = gateway.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    with pytest.raises(ClientError, match="only HTTP APIs have OpenAPI definitions"):
        gateway.export_api(ApiId=api["ApiId"], Specification="OAS30", OutputType="JSON")
