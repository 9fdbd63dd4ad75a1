"""HTTP APIs from OpenAPI 3.0 (developer guide, "Working with OpenAPI definitions for HTTP APIs").

All of a definition is taken or nothing: what is wrong anywhere is told together, with the places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.frontdoor.answers import bad_request
from lambent.frontdoor.definitions import endpoint_settings, path_prefix, resolve, security_schemes
from lambent.frontdoor.http_apis.apis import new_api
from lambent.frontdoor.http_apis.model import HTTP, Api, Members
from lambent.frontdoor.http_apis.parts import AUTHORIZERS, INTEGRATIONS, ROUTES
from lambent.frontdoor.http_apis.routing import DEFAULT, METHODS
from lambent.model.errors import CallerError

ANY = "x-amazon-apigateway-any-method"
INTEGRATION = "x-amazon-apigateway-integration"
_CORS = ("allowCredentials", "allowHeaders", "allowMethods", "allowOrigins", "exposeHeaders", "maxAge")
_INTEGRATION_TEXTS = (
    "connectionId",
    "credentials",
    "description",
    "integrationSubtype",
    "payloadFormatVersion",
)
_NAMES = {"httpMethod": "IntegrationMethod", "uri": "IntegrationUri", "credentials": "CredentialsArn"}


class Imported:
    """What a definition means, and what of it was not taken."""

    def __init__(self, context: RequestContext, document: dict[str, Any], *, base_path: str) -> None:
        """`base_path`: ignore, prepend or split. Raises CallerError `BadRequestException`."""
        self._document = document
        self._errors: list[str] = []
        self._authorizers: dict[str, str] = {}
        self._shared: dict[str, str] = {}
        """The integration of a reference: routes that name the same one have one integration."""
        self.warnings: list[str] = []
        self.ignored: list[str] = []
        if "swagger" in document:
            raise bad_request("Invalid OpenAPI input: an HTTP API takes OpenAPI 3.0; Swagger 2.0 is for REST APIs.")
        self.api: Api = new_api(context, HTTP, {}, {})
        try:
            self._read_settings()
            self._read_authorizers()
            prefix = path_prefix(document, base_path)
            for path, item in document["paths"].items():
                self._read_path(prefix, path, item)
        except CallerError as exc:
            self._errors.append(exc.message)
        except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as exc:
            # A member of another kind than the specification has it.
            self._errors.append(f"The definition is not as OpenAPI describes it: {exc}")
        if self._errors:
            raise bad_request("Errors found during import:\n\t" + "\n\t".join(self._errors))

    def _read_settings(self) -> None:
        document, settings = self._document, self.api.settings
        info = document.get("info") or {}
        if not info.get("title"):
            raise bad_request("info.title is needed: it becomes the name of the API")
        settings["Name"] = str(info["title"])
        for name in ("description", "version"):
            if info.get(name):
                settings[name.capitalize()] = str(info[name])
        if "disableExecuteApiEndpoint" in (endpoint := endpoint_settings(document)):
            settings["DisableExecuteApiEndpoint"] = bool(endpoint["disableExecuteApiEndpoint"])
        if cors := document.get("x-amazon-apigateway-cors"):
            settings["CorsConfiguration"] = {_member(name): cors[name] for name in _CORS if name in cors}
        self.api.tags = {
            str(tag["name"]): str(tag["x-amazon-apigateway-tag-value"])
            for tag in document.get("tags") or ()
            if "x-amazon-apigateway-tag-value" in tag
        }
        if (document.get("components") or {}).get("schemas"):
            self.ignored.append("Ignoring components.schemas: HTTP APIs have no models.")

    def _read_authorizers(self) -> None:
        for name, scheme in security_schemes(self._document).items():
            given = scheme.get("x-amazon-apigateway-authorizer")
            if given is None:
                continue
            kind = str(given.get("type", "")).upper()
            if kind not in ("JWT", "REQUEST"):
                raise bad_request(f"the authorizer of '{name}' must be of type jwt or request")
            members: Members = {"Name": name, "AuthorizerType": kind, "IdentitySource": _sources(given)}
            if kind == "JWT":
                settings = given.get("jwtConfiguration") or {}
                members["JwtConfiguration"] = {
                    _member(key): settings[key] for key in ("issuer", "audience") if key in settings
                }
            for key in ("authorizerUri", "authorizerPayloadFormatVersion"):
                if key in given:
                    members[_member(key)] = str(given[key])
            if "authorizerCredentials" in given:
                members["AuthorizerCredentialsArn"] = given["authorizerCredentials"]
            if "authorizerResultTtlInSeconds" in given:
                members["AuthorizerResultTtlInSeconds"] = int(given["authorizerResultTtlInSeconds"])
            if "enableSimpleResponses" in given:
                members["EnableSimpleResponses"] = bool(given["enableSimpleResponses"])
            self._authorizers[name] = AUTHORIZERS.add(self.api, members)["AuthorizerId"]

    def _read_path(self, prefix: str, path: str, item: Mapping[str, Any]) -> None:
        for name, operation in item.items():
            method = "ANY" if name == ANY else name.upper()
            if method not in METHODS or not isinstance(operation, dict):
                continue
            is_default = bool(operation.get("isDefaultRoute")) or path == f"/{DEFAULT}"
            key = DEFAULT if is_default else f"{method} {prefix}{path}"
            try:
                self._read_route(key, operation)
            except CallerError as exc:
                self._errors.append(f"Unable to create the route '{key}': {exc.message}")

    def _read_route(self, key: str, operation: Mapping[str, Any]) -> None:
        members: Members = {"RouteKey": key, **self._security(operation)}
        if operation.get("operationId"):
            members["OperationName"] = str(operation["operationId"])
        given = operation.get(INTEGRATION)
        if given is None:
            self.warnings.append(f"The route '{key}' has no {INTEGRATION}: it answers 500.")
        else:
            members["Target"] = f"integrations/{self._integration(given)}"
        for name in ("parameters", "requestBody"):
            if operation.get(name):
                self.ignored.append(f"Ignoring {name} of '{key}': HTTP APIs check no requests.")
        ROUTES.add(self.api, members)

    def _security(self, operation: Mapping[str, Any]) -> Members:
        authorization = operation.get("x-amazon-apigateway-auth") or {}
        if str(authorization.get("type", "")).upper() == "AWS_IAM":
            return {"AuthorizationType": "AWS_IAM"}
        schemes = security_schemes(self._document)
        for requirement in operation.get("security", self._document.get("security")) or ():
            for name, scopes in requirement.items():
                kind = str((schemes.get(name) or {}).get("x-amazon-apigateway-authtype", "")).lower()
                if name in self._authorizers:
                    id_ = self._authorizers[name]
                    is_token = self.api.configuration.authorizers[id_]["AuthorizerType"] == "JWT"
                    members: Members = {"AuthorizationType": "JWT" if is_token else "CUSTOM", "AuthorizerId": id_}
                    return {**members, "AuthorizationScopes": list(scopes)} if scopes else members
                if kind == "awssigv4":
                    return {"AuthorizationType": "AWS_IAM"}
                # Left out it would be open to everybody.
                raise bad_request(f"the security scheme '{name}' is no authorizer of an HTTP API nor a signature")
        return {}

    def _integration(self, given: Mapping[str, Any]) -> str:
        reference = given.get("$ref")
        if reference in self._shared:
            return self._shared[reference]
        given = resolve(self._document, given)
        members: Members = {"IntegrationType": str(given.get("type", "")).upper()}
        if members["IntegrationType"] in ("AWS", "HTTP"):
            members["IntegrationType"] += "_PROXY"
        for name in (*_INTEGRATION_TEXTS, "httpMethod", "uri"):
            if given.get(name) is not None:
                members[_NAMES.get(name, _member(name))] = str(given[name])
        if given.get("connectionType"):
            members["ConnectionType"] = str(given["connectionType"]).upper()
        if given.get("timeoutInMillis") is not None:
            members["TimeoutInMillis"] = int(given["timeoutInMillis"])
        if given.get("tlsConfig"):
            members["TlsConfig"] = {_member(name): value for name, value in given["tlsConfig"].items()}
        for name in ("requestParameters", "responseParameters"):
            if given.get(name):
                members[_member(name)] = given[name]
        id_ = str(INTEGRATIONS.add(self.api, members)["IntegrationId"])
        if reference is not None:
            self._shared[reference] = id_
        return id_


def _member(name: str) -> str:
    return name[0].upper() + name[1:]


def _sources(given: Mapping[str, Any]) -> list[str]:
    source = given.get("identitySource") or []
    texts = source.split(",") if isinstance(source, str) else source
    return [str(text).strip() for text in texts if str(text).strip()]
