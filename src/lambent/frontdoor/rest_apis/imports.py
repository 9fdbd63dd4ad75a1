"""REST APIs from Swagger 2.0 and OpenAPI 3.0 (developer guide, "OpenAPI import", "OpenAPI extensions").

All of a definition is taken or nothing: what is wrong anywhere is told together, with the places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lambent.frontdoor.answers import bad_request, new_id
from lambent.frontdoor.definitions import endpoint_settings, path_prefix, resolve, security_schemes
from lambent.frontdoor.rest_apis import gateway_responses
from lambent.frontdoor.rest_apis.apis import check_settings, new_configuration
from lambent.frontdoor.rest_apis.checks import check_integration, check_method, check_templates
from lambent.frontdoor.rest_apis.model import METHODS, Configuration, Members
from lambent.frontdoor.rest_apis.parts import add_model, new_authorizer
from lambent.frontdoor.rest_apis.resources import add_resource, new_integration
from lambent.frontdoor.rest_apis.schemas import check_schema
from lambent.model.errors import CallerError

_ANY = "x-amazon-apigateway-any-method"
_PLACES = {"path": "path", "query": "querystring", "header": "header"}
_MODELS = "https://apigateway.amazonaws.com/restapis/API/models/"
_REFERENCE = re.compile(r"#/(?:definitions|components/schemas)/(.+)")


class Imported:
    """What a definition means, and what of it was not taken."""

    def __init__(self, document: dict[str, Any], *, base_path: str = "ignore") -> None:
        """`base_path`: ignore, prepend or split. Raises CallerError `BadRequestException`."""
        self._document = document
        self._base_path = base_path
        self._errors: list[str] = []
        self.warnings: list[str] = []
        self.configuration = new_configuration()
        self._validators: dict[str, str] = {}
        self._authorizers: dict[str, str] = {}
        self._read()
        if self._errors:
            raise bad_request("Errors found during import:\n\t" + "\n\t".join(self._errors))

    def _read(self) -> None:
        try:
            self._read_settings()
            self._read_models()
            self._read_authorizers()
            self._read_validators()
            self._read_gateway_responses()
            prefix = path_prefix(self._document, self._base_path)
            for path, item in self._document["paths"].items():
                self._read_path(prefix + path, item)
            check_settings(self.configuration.settings)
        except CallerError as exc:
            self._errors.append(exc.message)
        except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as exc:
            # A member of another kind than the specification has it.
            self._errors.append(f"The definition is not as OpenAPI describes it: {exc}")

    def _read_settings(self) -> None:
        document, settings = self._document, self.configuration.settings
        info = document.get("info") or {}
        settings["name"] = str(info.get("title") or "")
        for name in ("description", "version"):
            if info.get(name):
                settings[name] = str(info[name])
        for extension, name in (
            ("x-amazon-apigateway-binary-media-types", "binaryMediaTypes"),
            ("x-amazon-apigateway-minimum-compression-size", "minimumCompressionSize"),
        ):
            if extension in document:
                settings[name] = document[extension]
        if "x-amazon-apigateway-api-key-source" in document:
            settings["apiKeySource"] = document["x-amazon-apigateway-api-key-source"].upper()
        if "x-amazon-apigateway-policy" in document:
            settings["policy"] = json.dumps(document["x-amazon-apigateway-policy"])
        endpoint = endpoint_settings(document)
        if "disableExecuteApiEndpoint" in endpoint:
            settings["disableExecuteApiEndpoint"] = bool(endpoint["disableExecuteApiEndpoint"])

    def _read_models(self) -> None:
        schemas = self._document.get("definitions") or (self._document.get("components") or {}).get("schemas") or {}
        models = {
            _plain(name): {
                "id": new_id(6),
                "name": _plain(name),
                "contentType": "application/json",
                "schema": json.dumps(_repoint(schema)),
            }
            for name, schema in schemas.items()
        }
        self.configuration.models |= models
        for model in models.values():
            check_schema(model["schema"], self.configuration.models)

    def _read_authorizers(self) -> None:
        schemes = security_schemes(self._document)
        for name, scheme in schemes.items():
            given = scheme.get("x-amazon-apigateway-authorizer")
            if given is None:
                continue
            kind = {"token": "TOKEN", "request": "REQUEST", "cognito_user_pools": "COGNITO_USER_POOLS"}.get(
                str(given.get("type", "")).lower(), str(given.get("type"))
            )
            source = given.get("identitySource")
            if source is None and kind != "REQUEST":
                source = "method.request.header." + str(scheme.get("name") or "Authorization")
            members = {
                "name": name,
                "type": kind,
                "identitySource": source,
                **{
                    key: given[key]
                    for key in (
                        "authorizerUri",
                        "authorizerCredentials",
                        "identityValidationExpression",
                        "authorizerResultTtlInSeconds",
                        "providerARNs",
                    )
                    if key in given
                },
            }
            authorizer = new_authorizer({key: value for key, value in members.items() if value is not None})
            self.configuration.authorizers[authorizer["id"]] = authorizer
            self._authorizers[name] = authorizer["id"]

    def _read_validators(self) -> None:
        for name, given in (self._document.get("x-amazon-apigateway-request-validators") or {}).items():
            id_ = new_id(6)
            self._validators[name] = id_
            self.configuration.validators[id_] = {
                "id": id_,
                "name": name,
                "validateRequestBody": bool(given.get("validateRequestBody")),
                "validateRequestParameters": bool(given.get("validateRequestParameters")),
            }

    def _read_gateway_responses(self) -> None:
        for kind, given in (self._document.get("x-amazon-apigateway-gateway-responses") or {}).items():
            if kind not in gateway_responses.DEFAULTS:
                raise bad_request(f"Invalid gateway response type '{kind}'.")
            members: Members = {"responseType": kind}
            if given.get("statusCode") is not None:
                members["statusCode"] = str(given["statusCode"])
            for name in ("responseParameters", "responseTemplates"):
                if given.get(name):
                    members[name] = given[name]
            gateway_responses.check(members)
            self.configuration.gateway_responses[kind] = members

    # Paths

    def _read_path(self, path: str, item: Mapping[str, Any]) -> None:
        try:
            resource = ensure_resource(self.configuration, path)
        except CallerError as exc:
            self._errors.append(f"Unable to create resource at path '{path}': {exc.message}")
            return
        shared = item.get("parameters") or []
        for name, operation in item.items():
            method = "ANY" if name == _ANY else name.upper()
            if method not in METHODS or not isinstance(operation, dict):
                continue
            try:
                self._read_operation(resource, method, operation, [*shared, *(operation.get("parameters") or [])])
            except CallerError as exc:
                self._errors.append(f"Unable to put '{method}' for resource at path '{path}': {exc.message}")

    def _read_operation(
        self, resource: Members, name: str, operation: Mapping[str, Any], parameters: list[Members]
    ) -> None:
        method: Members = {"httpMethod": name, "authorizationType": "NONE", "apiKeyRequired": False}
        self._read_security(method, operation)
        if operation.get("operationId"):
            method["operationName"] = operation["operationId"]
        resolved = [resolve(self._document, parameter) for parameter in parameters]
        expressions = {
            f"method.request.{_PLACES[each['in']]}.{each['name']}": bool(each.get("required"))
            for each in resolved
            if each.get("in") in _PLACES
        }
        if expressions:
            method["requestParameters"] = expressions
        if models := dict(self._body_models(operation, resolved)):
            method["requestModels"] = models
        validator = operation.get("x-amazon-apigateway-request-validator")
        validator = validator or self._document.get("x-amazon-apigateway-request-validator")
        if validator:
            if validator not in self._validators:
                raise bad_request(f"there is no request validator named '{validator}'")
            method["requestValidatorId"] = self._validators[validator]
        method["methodResponses"] = {
            str(status): self._method_response(str(status), resolve(self._document, response))
            for status, response in (operation.get("responses") or {}).items()
            if str(status).isdigit()
        }
        check_method(self.configuration, resource, method)
        given = operation.get("x-amazon-apigateway-integration")
        if given is not None:
            method["methodIntegration"] = self._integration(resource, method, resolve(self._document, given))
        resource["resourceMethods"][name] = method

    def _read_security(self, method: Members, operation: Mapping[str, Any]) -> None:
        schemes = security_schemes(self._document)
        for requirement in operation.get("security", self._document.get("security")) or ():
            for name, scopes in requirement.items():
                scheme = schemes.get(name) or {}
                kind = str(scheme.get("x-amazon-apigateway-authtype", "")).lower()
                if name in self._authorizers:
                    authorizer = self.configuration.authorizers[self._authorizers[name]]
                    is_pool = authorizer["type"] == "COGNITO_USER_POOLS"
                    method["authorizationType"] = "COGNITO_USER_POOLS" if is_pool else "CUSTOM"
                    method["authorizerId"] = authorizer["id"]
                    if scopes:
                        method["authorizationScopes"] = list(scopes)
                elif kind == "awssigv4":
                    method["authorizationType"] = "AWS_IAM"
                elif scheme.get("type") == "apiKey" and str(scheme.get("name", "")).lower() == "x-api-key":
                    method["apiKeyRequired"] = True
                else:
                    # Left out it would be open to everybody.
                    raise bad_request(f"the security scheme '{name}' is no authorizer, signature or API key")
        authorization = operation.get("x-amazon-apigateway-auth") or {}
        if str(authorization.get("type", "")).upper() == "AWS_IAM":
            method["authorizationType"] = "AWS_IAM"

    def _body_models(self, operation: Mapping[str, Any], parameters: list[Members]) -> Iterator[tuple[str, str]]:
        for parameter in parameters:
            if parameter.get("in") == "body":
                for kind in operation.get("consumes") or self._document.get("consumes") or ["application/json"]:
                    yield kind, self._model(parameter.get("schema") or {})
        body = resolve(self._document, operation.get("requestBody") or {})
        for kind, content in (body.get("content") or {}).items():
            if content.get("schema"):
                yield kind, self._model(content["schema"])

    def _method_response(self, status: str, response: Mapping[str, Any]) -> Members:
        members: Members = {"statusCode": status}
        models = {}
        if response.get("schema"):
            models["application/json"] = self._model(response["schema"])
        for kind, content in (response.get("content") or {}).items():
            if content.get("schema"):
                models[kind] = self._model(content["schema"])
        if models:
            members["responseModels"] = models
        headers = {f"method.response.header.{name}": False for name in response.get("headers") or {}}
        if headers:
            members["responseParameters"] = headers
        return members

    def _integration(self, resource: Members, method: Members, given: Mapping[str, Any]) -> Members:
        members = {
            name: given[name]
            for name in (
                "uri",
                "httpMethod",
                "credentials",
                "requestParameters",
                "requestTemplates",
                "cacheNamespace",
                "cacheKeyParameters",
                "timeoutInMillis",
            )
            if given.get(name) is not None
        }
        for name in ("type", "passthroughBehavior", "contentHandling", "connectionType", "responseTransferMode"):
            if given.get(name):
                members[name] = str(given[name]).upper()
        if "type" not in members:
            raise bad_request("the integration has no type")
        integration = new_integration(members, resource)
        check_integration(integration)
        responses = {}
        for pattern, response in (given.get("responses") or {}).items():
            status = str(response.get("statusCode", "200"))
            told = {name: response[name] for name in ("responseParameters", "responseTemplates") if response.get(name)}
            check_templates(told.get("responseTemplates"))
            selection = {} if pattern == "default" else {"selectionPattern": str(pattern)}
            responses[status] = {"statusCode": status, **selection, **told}
            method["methodResponses"].setdefault(status, {"statusCode": status})
        if responses:
            integration["integrationResponses"] = responses
        return integration

    def _model(self, schema: Mapping[str, Any]) -> str:
        """The name of a model; a schema that stands in the midst becomes one."""
        matched = _REFERENCE.fullmatch(str(schema.get("$ref", "")))
        if matched is not None:
            name = _plain(matched[1])
            if name not in self.configuration.models:
                raise bad_request(f"there is no schema named '{matched[1]}'")
            return name
        name = "MODEL" + new_id(6)
        return str(add_model(self.configuration, _inline(name, schema))["name"])


def ensure_resource(configuration: Configuration, path: str) -> Members:
    """The resource of a path, made with all above it. Raises CallerError."""
    resource = next(each for each in configuration.resources.values() if each["path"] == "/")
    for part in [part for part in path.split("/") if part]:
        below = (each for each in configuration.resources.values() if each.get("parentId") == resource["id"])
        known = next((each for each in below if each["pathPart"] == part), None)
        made = known or add_resource(configuration, resource["id"], part)
        resource = configuration.resources[made["id"]]
    return resource


def merge(known: Configuration, added: Configuration) -> Configuration:
    """What is defined anew replaces what has its name or its path; all else stays."""
    known.settings |= added.settings
    known.models |= added.models
    known.gateway_responses |= added.gateway_responses
    names = {each["name"] for each in added.authorizers.values()}
    replaced = {id_ for id_, each in known.authorizers.items() if each["name"] in names}
    ids = {each["name"]: id_ for id_, each in known.authorizers.items()}
    renamed = {id_: ids.get(each["name"], id_) for id_, each in added.authorizers.items()}
    known.authorizers = {id_: each for id_, each in known.authorizers.items() if id_ not in replaced}
    for id_, authorizer in added.authorizers.items():
        known.authorizers[renamed[id_]] = {**authorizer, "id": renamed[id_]}
    known.validators |= added.validators
    for resource in added.resources.values():
        own = ensure_resource(known, resource["path"])
        for name, method in resource["resourceMethods"].items():
            if "authorizerId" in method:
                method["authorizerId"] = renamed.get(method["authorizerId"], method["authorizerId"])
            own["resourceMethods"][name] = method
    return known


def _inline(name: str, schema: Mapping[str, Any]) -> Members:
    return {"name": name, "contentType": "application/json", "schema": json.dumps(_repoint(schema))}


def _plain(name: str) -> str:
    """Names of models have letters and digits alone."""
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _repoint(value: Any) -> Any:
    """References between schemas, as models have them."""
    if isinstance(value, dict):
        matched = _REFERENCE.fullmatch(value["$ref"]) if isinstance(value.get("$ref"), str) else None
        if matched is not None:
            return {"$ref": _MODELS + _plain(matched[1])}
        return {name: _repoint(inner) for name, inner in value.items()}
    return [_repoint(item) for item in value] if isinstance(value, list) else value
