"""REST APIs as Swagger 2.0 and OpenAPI 3.0 documents: what a stage serves, so that importing it makes the same API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lambent.frontdoor.rest_apis.model import Configuration, Members, RestApi

_ANY = "x-amazon-apigateway-any-method"
_PLACES = {"path": "path", "querystring": "query", "header": "header"}
_TYPES = {"TOKEN": "token", "REQUEST": "request", "COGNITO_USER_POOLS": "cognito_user_pools"}
_KEY_SCHEME, _IAM_SCHEME = "api_key", "sigv4"


def export(
    api: RestApi, configuration: Configuration, stage: str, *, version: str, extensions: set[str], address: str
) -> Members:
    """`version`: `swagger` or `oas30`; `extensions`: integrations, authorizers, apigateway (which is both and more)."""
    return _Exporter(configuration, version == "swagger", extensions).document(api, stage, address)


class _Exporter:
    def __init__(self, configuration: Configuration, is_swagger: bool, extensions: set[str]) -> None:
        self._configuration = configuration
        self._is_swagger = is_swagger
        everything = "apigateway" in extensions
        self._integrations = everything or "integrations" in extensions
        self._authorizers = everything or "authorizers" in extensions
        self._everything = everything

    def document(self, api: RestApi, stage: str, address: str) -> Members:
        settings = self._configuration.settings
        info = {"title": settings["name"], "version": settings.get("version") or api.created_at}
        if settings.get("description"):
            info["description"] = settings["description"]
        paths = {
            resource["path"]: item
            for resource in sorted(self._configuration.resources.values(), key=lambda each: str(each["path"]))
            if (item := self._item(resource))
        }
        schemas = {
            name: _repoint(json.loads(model.get("schema") or "{}"), self._schemas)
            for name, model in self._configuration.models.items()
        }
        schemes = self._schemes()
        extensions = self._extensions() if self._everything else {}
        if self._is_swagger:
            head: Members = {"swagger": "2.0", "info": info, "basePath": f"/{stage}", "schemes": ["https"]}
            head |= {"paths": paths, "securityDefinitions": schemes, "definitions": schemas}
        else:
            head = {"openapi": "3.0.1", "info": info}
            head["servers"] = [{"url": f"{address}{{basePath}}", "variables": {"basePath": {"default": stage}}}]
            head |= {"paths": paths, "components": {"schemas": schemas, "securitySchemes": schemes}}
        return {**head, **extensions}

    @property
    def _schemas(self) -> str:
        return "#/definitions/" if self._is_swagger else "#/components/schemas/"

    def _item(self, resource: Members) -> Members:
        return {
            _ANY if name == "ANY" else name.lower(): self._operation(method)
            for name, method in resource["resourceMethods"].items()
        }

    def _operation(self, method: Members) -> Members:
        operation: Members = {"operationId": method["operationName"]} if method.get("operationName") else {}
        parameters = [
            self._parameter(expression, is_required)
            for expression, is_required in (method.get("requestParameters") or {}).items()
        ]
        models: Mapping[str, str] = method.get("requestModels") or {}
        if self._is_swagger:
            if models:
                operation["consumes"] = list(models)
                schema = {"$ref": self._schemas + next(iter(models.values()))}
                parameters.append({"in": "body", "name": "body", "required": True, "schema": schema})
        elif models:
            content = {kind: {"schema": {"$ref": self._schemas + name}} for kind, name in models.items()}
            operation["requestBody"] = {"content": content, "required": True}
        if parameters:
            operation["parameters"] = parameters
        operation["responses"] = {
            status: self._response(response) for status, response in (method.get("methodResponses") or {}).items()
        }
        if security := self._security(method):
            operation["security"] = security
        if self._everything and method.get("requestValidatorId"):
            validator = self._configuration.validators[method["requestValidatorId"]]
            operation["x-amazon-apigateway-request-validator"] = validator["name"]
        if self._integrations and method.get("methodIntegration"):
            operation["x-amazon-apigateway-integration"] = _integration(method["methodIntegration"])
        return operation

    def _parameter(self, expression: str, is_required: bool) -> Members:
        place, _, name = expression.removeprefix("method.request.").partition(".")
        where = _PLACES[place.removeprefix("multivalue")]
        kind = {"type": "string"}
        shown: Members = {"name": name, "in": where, "required": is_required or where == "path"}
        return {**shown, **(kind if self._is_swagger else {"schema": kind})}

    def _response(self, response: Members) -> Members:
        status = response["statusCode"]
        shown: Members = {"description": f"{status} response"}
        headers = {
            name.rpartition(".")[2]: {"type": "string"} if self._is_swagger else {"schema": {"type": "string"}}
            for name in response.get("responseParameters") or {}
        }
        if headers:
            shown["headers"] = headers
        models: Mapping[str, str] = response.get("responseModels") or {}
        if models and self._is_swagger:
            shown["schema"] = {"$ref": self._schemas + next(iter(models.values()))}
        elif models:
            shown["content"] = {kind: {"schema": {"$ref": self._schemas + name}} for kind, name in models.items()}
        return shown

    def _security(self, method: Members) -> list[Members]:
        security: list[Members] = []
        if method.get("authorizerId"):
            name = self._configuration.authorizers[method["authorizerId"]]["name"]
            security.append({name: method.get("authorizationScopes") or []})
        elif method["authorizationType"] == "AWS_IAM":
            security.append({_IAM_SCHEME: []})
        if method.get("apiKeyRequired"):
            security.append({_KEY_SCHEME: []})
        return security

    def _schemes(self) -> Members:
        methods = [
            method
            for resource in self._configuration.resources.values()
            for method in resource["resourceMethods"].values()
        ]
        schemes: Members = {}
        if any(method.get("apiKeyRequired") for method in methods):
            schemes[_KEY_SCHEME] = {"type": "apiKey", "name": "x-api-key", "in": "header"}
        if any(method["authorizationType"] == "AWS_IAM" for method in methods):
            scheme = {"type": "apiKey", "name": "Authorization", "in": "header"}
            schemes[_IAM_SCHEME] = {**scheme, "x-amazon-apigateway-authtype": "awsSigv4"}
        for authorizer in self._configuration.authorizers.values():
            source = str(authorizer.get("identitySource") or "")
            is_header = source.startswith("method.request.header.") and "," not in source
            name = source.rpartition(".")[2] if is_header else "Unused"
            schemes[authorizer["name"]] = {"type": "apiKey", "name": name, "in": "header"}
            if self._authorizers:
                given = {
                    key: value for key, value in authorizer.items() if key not in ("id", "name", "authType", "type")
                }
                schemes[authorizer["name"]] |= {
                    "x-amazon-apigateway-authtype": authorizer["authType"],
                    "x-amazon-apigateway-authorizer": {"type": _TYPES[authorizer["type"]], **given},
                }
        return schemes

    def _extensions(self) -> Members:
        settings, shown = self._configuration.settings, dict[str, Any]()
        for extension, name in (
            ("x-amazon-apigateway-binary-media-types", "binaryMediaTypes"),
            ("x-amazon-apigateway-minimum-compression-size", "minimumCompressionSize"),
            ("x-amazon-apigateway-api-key-source", "apiKeySource"),
        ):
            if settings.get(name) is not None:
                shown[extension] = settings[name]
        if settings.get("policy"):
            shown["x-amazon-apigateway-policy"] = json.loads(settings["policy"])
        validators = {
            each["name"]: {key: each[key] for key in ("validateRequestBody", "validateRequestParameters")}
            for each in self._configuration.validators.values()
        }
        if validators:
            shown["x-amazon-apigateway-request-validators"] = validators
        responses = {
            kind: {key: value for key, value in members.items() if key != "responseType"}
            for kind, members in self._configuration.gateway_responses.items()
        }
        if responses:
            shown["x-amazon-apigateway-gateway-responses"] = responses
        return shown


def _integration(integration: Members) -> Members:
    hidden = ("integrationResponses", "cacheNamespace", "cacheKeyParameters")
    shown = {name: value for name, value in integration.items() if name not in hidden and value not in (None, {}, [])}
    shown["passthroughBehavior"] = integration["passthroughBehavior"].lower()
    responses = {
        response.get("selectionPattern") or "default": {
            name: value for name, value in response.items() if name != "selectionPattern"
        }
        for response in (integration.get("integrationResponses") or {}).values()
    }
    return {**shown, "responses": responses} if responses else shown


def _repoint(value: Any, schemas: str) -> Any:
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str) and "/models/" in target:
            return {"$ref": schemas + target.rpartition("/models/")[2]}
        return {name: _repoint(inner, schemas) for name, inner in value.items() if name != "$schema"}
    return [_repoint(item, schemas) for item in value] if isinstance(value, list) else value
