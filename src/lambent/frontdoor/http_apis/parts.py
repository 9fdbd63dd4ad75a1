"""Routes, integrations, authorizers, models and responses of the APIs of the second version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lambent.frontdoor.answers import Params, bad_request, conflict, find, new_id
from lambent.frontdoor.http_apis.model import HTTP, WEBSOCKET, Api, Members
from lambent.frontdoor.http_apis.routing import DEFAULT, BadKey, parse_key
from lambent.frontdoor.references import function_reference

LONGEST_MS = {HTTP: 30_000, WEBSOCKET: 29_000}
_PATH_MEMBERS = ("ApiId", "RouteId", "IntegrationId", "AuthorizerId", "DeploymentId", "ModelId")


class Part:
    """One kind of thing that belongs to an API: where it is kept, what it has when nothing is said, what is wrong."""

    name = ""
    id_length = 7
    redeploys = True
    """Whether a change of it is one of what is served."""

    @property
    def id_member(self) -> str:
        return f"{self.name}Id"

    def add(self, api: Api, params: Params) -> Members:
        """Raises CallerError."""
        id_ = new_id(self.id_length)
        members = {**self.defaults(api), **self.own(params), self.id_member: id_}
        self.check(api, members)
        self.all(api, params)[id_] = members
        return members

    def change(self, api: Api, params: Params) -> Members:
        """Raises CallerError."""
        known, id_ = self.all(api, params), params[self.id_member]
        members = {**find(known, self.name, id_), **self.own(params)}
        self.check(api, members)
        known[id_] = members
        return members

    def remove(self, api: Api, params: Params) -> None:
        """Raises CallerError."""
        known, id_ = self.all(api, params), params[self.id_member]
        self.check_unused(api, find(known, self.name, id_))
        del known[id_]

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        raise NotImplementedError

    def defaults(self, api: Api) -> Members:
        return {}

    def check(self, api: Api, members: Members) -> None:
        """Raises CallerError."""

    def check_unused(self, api: Api, members: Members) -> None:
        """Raises CallerError for what something else still refers to."""

    def own(self, params: Params) -> Members:
        """What of an operation's members belongs to the thing itself."""
        return {name: value for name, value in params.items() if name not in _PATH_MEMBERS or name == "AuthorizerId"}


class Routes(Part):
    name = "Route"

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.configuration.routes

    def defaults(self, api: Api) -> Members:
        return {"ApiKeyRequired": False, "AuthorizationType": "NONE"}

    def check(self, api: Api, members: Members) -> None:
        key = members["RouteKey"]
        check_key(api, key)
        for other in api.configuration.routes.values():
            if other["RouteKey"] == key and other["RouteId"] != members["RouteId"]:
                raise conflict(f"Route with key {key} already exists for this API")
        target = members.get("Target")
        if target:
            kind, _, id_ = target.partition("/")
            if kind != "integrations" or id_ not in api.configuration.integrations:
                raise bad_request(f"Invalid integration identifier specified: {target}")
        check_authorization(api, members)

    def check_unused(self, api: Api, members: Members) -> None:
        api.configuration.route_responses.pop(members["RouteId"], None)


class Integrations(Part):
    name = "Integration"
    kinds: Mapping[str, Iterable[str]] = {
        HTTP: ("AWS_PROXY", "HTTP_PROXY"),
        WEBSOCKET: ("AWS_PROXY", "AWS", "HTTP", "HTTP_PROXY", "MOCK"),
    }

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.configuration.integrations

    def defaults(self, api: Api) -> Members:
        return {
            "ConnectionType": "INTERNET",
            "PayloadFormatVersion": "1.0",
            "TimeoutInMillis": LONGEST_MS[api.protocol],
        }

    def check(self, api: Api, members: Members) -> None:
        kind = members["IntegrationType"]
        if kind not in self.kinds[api.protocol]:
            raise bad_request(
                f"IntegrationType {kind} is not one of {', '.join(self.kinds[api.protocol])} for a {api.protocol} API"
            )
        if kind != "MOCK" and not members.get("IntegrationUri"):
            if members.get("IntegrationSubtype"):
                raise bad_request(f"IntegrationSubtype {members['IntegrationSubtype']} is not supported by Lambent.")
            raise bad_request("IntegrationUri is needed.")
        if kind == "AWS_PROXY" and not function_reference(members["IntegrationUri"]):
            raise bad_request(
                f"IntegrationUri '{members['IntegrationUri']}' is not the ARN of a function, with or without a "
                "qualifier, nor the invocation ARN of one."
            )
        if kind == "HTTP_PROXY" and not re.match(r"https?://", members["IntegrationUri"]):
            raise bad_request("Invalid HTTP endpoint specified for URI")
        if kind == "HTTP_PROXY" and api.protocol == HTTP and not members.get("IntegrationMethod"):
            raise bad_request("IntegrationMethod is needed, like ANY.")
        if members.get("ConnectionType") == "VPC_LINK":
            raise bad_request("ConnectionType VPC_LINK is not supported: a node reaches private addresses by itself.")
        if members.get("PayloadFormatVersion") not in ("1.0", "2.0"):
            raise bad_request("PayloadFormatVersion must be 1.0 or 2.0")
        if not 50 <= members["TimeoutInMillis"] <= LONGEST_MS[api.protocol]:
            raise bad_request(f"TimeoutInMillis should be between 50 and {LONGEST_MS[api.protocol]}")

    def check_unused(self, api: Api, members: Members) -> None:
        target = f"integrations/{members['IntegrationId']}"
        using = [route["RouteKey"] for route in api.configuration.routes.values() if route.get("Target") == target]
        if using:
            raise conflict(f"Cannot delete Integration '{members['IntegrationId']}'. It is the target of '{using[0]}'.")
        api.configuration.integration_responses.pop(members["IntegrationId"], None)


class Authorizers(Part):
    name = "Authorizer"
    id_length = 6

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.configuration.authorizers

    def own(self, params: Params) -> Members:
        return {name: value for name, value in params.items() if name not in _PATH_MEMBERS}

    def check(self, api: Api, members: Members) -> None:
        if members["AuthorizerType"] == "JWT":
            settings = members.get("JwtConfiguration") or {}
            if not settings.get("Issuer"):
                raise bad_request("JwtConfiguration.Issuer is needed for a JWT authorizer.")
            if api.protocol == WEBSOCKET:
                raise bad_request("A WebSocket API has no JWT authorizers; use REQUEST.")
            if not members.get("IdentitySource"):
                raise bad_request("IdentitySource is needed, like $request.header.Authorization.")
            return
        if not function_reference(members.get("AuthorizerUri") or ""):
            raise bad_request("AuthorizerUri must be the invocation ARN of a function.")
        if api.protocol == HTTP:
            version = members.setdefault("AuthorizerPayloadFormatVersion", "2.0")
            if version not in ("1.0", "2.0"):
                raise bad_request("AuthorizerPayloadFormatVersion must be 1.0 or 2.0.")
            if members.get("EnableSimpleResponses") and version == "1.0":
                raise bad_request("EnableSimpleResponses needs AuthorizerPayloadFormatVersion 2.0.")

    def check_unused(self, api: Api, members: Members) -> None:
        id_ = members["AuthorizerId"]
        using = [route["RouteKey"] for route in api.configuration.routes.values() if route.get("AuthorizerId") == id_]
        if using:
            raise conflict(f"Cannot delete Authorizer '{id_}'. It is used by the route '{using[0]}'.")


class Models(Part):
    name = "Model"
    id_length = 6
    redeploys = False

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.models

    def defaults(self, api: Api) -> Members:
        return {"ContentType": "application/json"}


class RouteResponses(Part):
    name = "RouteResponse"

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        find(api.configuration.routes, "Route", params["RouteId"])
        return api.configuration.route_responses.setdefault(params["RouteId"], {})

    def check(self, api: Api, members: Members) -> None:
        if members["RouteResponseKey"] != DEFAULT:
            raise bad_request("RouteResponseKey must be $default.")


class IntegrationResponses(Part):
    name = "IntegrationResponse"

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        find(api.configuration.integrations, "Integration", params["IntegrationId"])
        return api.configuration.integration_responses.setdefault(params["IntegrationId"], {})


ROUTES, INTEGRATIONS, AUTHORIZERS = Routes(), Integrations(), Authorizers()
PARTS = (ROUTES, INTEGRATIONS, AUTHORIZERS, Models(), RouteResponses(), IntegrationResponses())


def check_key(api: Api, key: str) -> None:
    """Raises CallerError for what is no route key of the API's protocol."""
    if api.protocol == WEBSOCKET or key == DEFAULT:
        return
    try:
        parse_key(key)
    except BadKey as exc:
        raise bad_request(str(exc)) from exc


def check_authorization(api: Api, members: Members) -> None:
    kind, id_ = members.get("AuthorizationType", "NONE"), members.get("AuthorizerId")
    if kind in ("JWT", "CUSTOM"):
        authorizer = api.configuration.authorizers.get(id_ or "")
        if authorizer is None:
            raise bad_request(f"Invalid authorizer ID specified: {id_}")
        expected = "JWT" if kind == "JWT" else "REQUEST"
        if authorizer["AuthorizerType"] != expected:
            raise bad_request(f"AuthorizationType {kind} needs an authorizer of type {expected}.")
