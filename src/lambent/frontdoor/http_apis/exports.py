"""HTTP APIs as OpenAPI 3.0 documents, so that importing one makes the same API (API reference, "ExportApi")."""

from __future__ import annotations

import re
from typing import Any

from lambent.frontdoor.http_apis.imports import ANY, INTEGRATION
from lambent.frontdoor.http_apis.model import Api, Configuration, Members
from lambent.frontdoor.http_apis.routing import DEFAULT

_VARIABLE = re.compile(r"\{([^}+]+)\+?\}")
_IAM = "sigv4"
_INTEGRATION_NAMES = {
    "IntegrationType": "type",
    "IntegrationMethod": "httpMethod",
    "IntegrationUri": "uri",
    "IntegrationSubtype": "integrationSubtype",
    "CredentialsArn": "credentials",
    "ConnectionType": "connectionType",
    "ConnectionId": "connectionId",
    "Description": "description",
    "PayloadFormatVersion": "payloadFormatVersion",
    "TimeoutInMillis": "timeoutInMillis",
    "RequestParameters": "requestParameters",
    "ResponseParameters": "responseParameters",
}
_AUTHORIZER_NAMES = {
    "AuthorizerUri": "authorizerUri",
    "AuthorizerPayloadFormatVersion": "authorizerPayloadFormatVersion",
    "AuthorizerCredentialsArn": "authorizerCredentials",
    "AuthorizerResultTtlInSeconds": "authorizerResultTtlInSeconds",
    "EnableSimpleResponses": "enableSimpleResponses",
}


def export(
    api: Api, configuration: Configuration, *, address: str, stage: str | None, with_extensions: bool
) -> Members:
    """`address` ends with a slash."""
    info: Members = {"title": api.settings["Name"], "version": api.settings.get("Version") or api.created_at}
    if api.settings.get("Description"):
        info["description"] = api.settings["Description"]
    server: Members = {"url": address.rstrip("/")}
    if stage is not None and stage != DEFAULT:
        server = {"url": f"{address}{{basePath}}", "variables": {"basePath": {"default": stage}}}
    if with_extensions and api.settings.get("DisableExecuteApiEndpoint"):
        server["x-amazon-apigateway-endpoint-configuration"] = {"disableExecuteApiEndpoint": True}
    document: Members = {"openapi": "3.0.1", "info": info, "servers": [server]}
    if with_extensions and api.tags:
        document["tags"] = [{"name": name, "x-amazon-apigateway-tag-value": value} for name, value in api.tags.items()]
    paths: Members = {}
    for route in sorted(configuration.routes.values(), key=lambda each: str(each["RouteKey"])):
        path, method, operation = _operation(configuration, route, with_extensions=with_extensions)
        paths.setdefault(path, {})[method] = operation
    document["paths"] = paths
    schemes = _schemes(configuration, with_extensions=with_extensions)
    if schemes:
        document["components"] = {"securitySchemes": schemes}
    if with_extensions and api.settings.get("CorsConfiguration"):
        document["x-amazon-apigateway-cors"] = {
            _member(name): value for name, value in api.settings["CorsConfiguration"].items()
        }
    if with_extensions:
        document["x-amazon-apigateway-importexport-version"] = "1.0"
    return document


def _operation(configuration: Configuration, route: Members, *, with_extensions: bool) -> tuple[str, str, Members]:
    key = route["RouteKey"]
    operation: Members = {"responses": {"default": {"description": f"Default response for {key}"}}}
    if key == DEFAULT:
        path, method = f"/{DEFAULT}", ANY
        operation["isDefaultRoute"] = True
    else:
        verb, _, path = key.partition(" ")
        method = ANY if verb == "ANY" else verb.lower()
    if route.get("OperationName"):
        operation["operationId"] = route["OperationName"]
    parameters: list[Any] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _VARIABLE.findall(path)
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.get("AuthorizationType") == "AWS_IAM":
        operation["security"] = [{_IAM: []}]
    elif route.get("AuthorizerId"):
        name = configuration.authorizers[route["AuthorizerId"]]["Name"]
        operation["security"] = [{name: route.get("AuthorizationScopes") or []}]
    integration = configuration.integrations.get(str(route.get("Target", "")).partition("/")[2])
    if with_extensions and integration is not None:
        operation[INTEGRATION] = _integration(integration)
    return path, method, operation


def _integration(integration: Members) -> Members:
    shown = {
        name: integration[member]
        for member, name in _INTEGRATION_NAMES.items()
        if integration.get(member) not in (None, {}, "")
    }
    shown["type"] = shown["type"].lower()
    if integration.get("TlsConfig"):
        shown["tlsConfig"] = {_member(name): value for name, value in integration["TlsConfig"].items()}
    return shown


def _schemes(configuration: Configuration, *, with_extensions: bool) -> Members:
    schemes: Members = {}
    for authorizer in configuration.authorizers.values():
        is_token = authorizer["AuthorizerType"] == "JWT"
        scheme: Members = {"type": "oauth2", "flows": {}}
        if not is_token:
            scheme = {"type": "apiKey", "name": "Unused", "in": "header"}
        if with_extensions:
            scheme["x-amazon-apigateway-authorizer"] = _authorizer(authorizer)
        schemes[authorizer["Name"]] = scheme
    if any(route.get("AuthorizationType") == "AWS_IAM" for route in configuration.routes.values()):
        schemes[_IAM] = {"type": "apiKey", "name": "Authorization", "in": "header"}
        if with_extensions:
            schemes[_IAM]["x-amazon-apigateway-authtype"] = "awsSigv4"
    return schemes


def _authorizer(authorizer: Members) -> Members:
    shown: Members = {
        "type": authorizer["AuthorizerType"].lower(),
        "identitySource": ",".join(authorizer.get("IdentitySource") or []),
    }
    if authorizer.get("JwtConfiguration"):
        shown["jwtConfiguration"] = {_member(name): value for name, value in authorizer["JwtConfiguration"].items()}
    return shown | {name: authorizer[member] for member, name in _AUTHORIZER_NAMES.items() if member in authorizer}


def _member(name: str) -> str:
    return name[0].lower() + name[1:]
