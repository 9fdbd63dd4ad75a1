"""The operations of API Gateway's second version: HTTP APIs, and what WebSocket APIs are configured with."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.frontdoor.http_apis.model import HTTP, WEBSOCKET, Api, Configuration, Members
from lambent.frontdoor.http_apis.routing import DEFAULT, BadKey, parse_key
from lambent.frontdoor.http_apis.store import ApiStore, not_found
from lambent.frontdoor.references import function_reference
from lambent.model.errors import CallerError
from lambent.substrate.ports import Documents

Params = dict[str, Any]
Address = Callable[[RequestContext, str, str], str]
"""(who asks, API, protocol) to the URL of the API."""

DEFAULT_SELECTION = "$request.method $request.path"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_STAGE = re.compile(r"\$default|[A-Za-z0-9_-]{1,128}")
_TIMEOUT_MS = {HTTP: 30_000, WEBSOCKET: 29_000}
_API_MEMBERS = (
    "ApiKeySelectionExpression",
    "CorsConfiguration",
    "Description",
    "DisableSchemaValidation",
    "DisableExecuteApiEndpoint",
    "IpAddressType",
    "Name",
    "RouteSelectionExpression",
    "Version",
)
_PATH_MEMBERS = ("ApiId", "RouteId", "IntegrationId", "AuthorizerId", "DeploymentId", "ModelId")


class HttpApiOperations:
    def __init__(
        self,
        documents: Documents,
        address: Address,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[int], str] | None = None,
    ) -> None:
        self._store = ApiStore(documents)
        self._address = address
        self._now = now
        self._new_id = new_id or (lambda length: "".join(secrets.choice(_ALPHABET) for _ in range(length)))

    def operations(self) -> Mapping[str, Operation]:
        """By the model's names."""
        operations: dict[str, Operation] = {
            "CreateApi": self.create_api,
            "GetApi": self.get_api,
            "GetApis": self.get_apis,
            "UpdateApi": self.update_api,
            "DeleteApi": self.delete_api,
            "DeleteCorsConfiguration": self.delete_cors,
            "CreateStage": self.create_stage,
            "GetStage": self.get_stage,
            "GetStages": self.get_stages,
            "UpdateStage": self.update_stage,
            "DeleteStage": self.delete_stage,
            "DeleteRouteSettings": self.delete_route_settings,
            "DeleteAccessLogSettings": self.delete_access_log_settings,
            "ResetAuthorizersCache": self.reset_authorizers_cache,
            "CreateDeployment": self.create_deployment,
            "GetDeployment": self.get_deployment,
            "GetDeployments": self.get_deployments,
            "UpdateDeployment": self.update_deployment,
            "DeleteDeployment": self.delete_deployment,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "GetTags": self.get_tags,
        }
        for noun in (_Routes, _Integrations, _Authorizers, _Models, _RouteResponses, _IntegrationResponses):
            operations |= noun(self._store, self._new_id, self._deploy).operations()
        return operations

    # APIs

    async def create_api(self, context: RequestContext, params: Params) -> Params:
        protocol = params["ProtocolType"]
        selection = params.get("RouteSelectionExpression")
        if protocol == WEBSOCKET and not selection:
            raise bad_request("RouteSelectionExpression is needed for a WebSocket API, like $request.body.action.")
        if protocol == HTTP and selection not in (None, DEFAULT_SELECTION, "${request.method} ${request.path}"):
            raise bad_request(f"RouteSelectionExpression of an HTTP API is {DEFAULT_SELECTION}; leave it out.")
        settings = _pick(params, _API_MEMBERS)
        settings.setdefault("RouteSelectionExpression", DEFAULT_SELECTION)
        settings.setdefault("ApiKeySelectionExpression", "$request.header.x-api-key")
        settings.setdefault("DisableExecuteApiEndpoint", False)
        api = Api(
            account=context.account,
            region=context.region,
            api_id=self._new_id(10),
            protocol=protocol,
            settings=settings,
            created_at=self._timestamp(),
            tags=params.get("Tags") or {},
        )
        if params.get("Target"):
            self._create_quickly(api, params)
        elif params.get("RouteKey"):
            raise bad_request("RouteKey is only for quick create: name a Target, too.")
        await self._store.add(context.account, api.api_id, api)
        return self._show_api(context, api)

    async def get_api(self, context: RequestContext, params: Params) -> Params:
        return self._show_api(context, await self._store.get(context.account, params["ApiId"]))

    async def get_apis(self, context: RequestContext, params: Params) -> Params:
        apis = await self._store.list(context.account)
        page = _page(params, apis, lambda api: api.api_id)
        return {"Items": [self._show_api(context, api) for api in page[0]], "NextToken": page[1]}

    async def update_api(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Api:
            api.settings |= _pick(params, _API_MEMBERS)
            if params.get("Target"):
                for integration in api.configuration.integrations.values():
                    if integration.get("ApiGatewayManaged"):
                        integration["IntegrationUri"] = params["Target"]
            self._deploy(api)
            return api

        return self._show_api(context, await self._store.change(context.account, params["ApiId"], work))

    async def delete_api(self, context: RequestContext, params: Params) -> Params:
        await self._store.remove(context.account, params["ApiId"])
        return {}

    async def delete_cors(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            api.settings.pop("CorsConfiguration", None)
            self._deploy(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    def _create_quickly(self, api: Api, params: Params) -> None:
        """One integration, one route and the stage `$default` (API reference, "CreateApi", `target`)."""
        target = params["Target"]
        if api.protocol != HTTP:
            raise bad_request("Target is only for HTTP APIs.")
        is_function = target.startswith("arn:")
        integration: Members = {
            "ApiGatewayManaged": True,
            "ConnectionType": "INTERNET",
            "IntegrationId": self._new_id(7),
            "IntegrationMethod": "POST" if is_function else "ANY",
            "IntegrationType": "AWS_PROXY" if is_function else "HTTP_PROXY",
            "IntegrationUri": target,
            "PayloadFormatVersion": "2.0" if is_function else "1.0",
            "TimeoutInMillis": _TIMEOUT_MS[HTTP],
        }
        if params.get("CredentialsArn"):
            integration["CredentialsArn"] = params["CredentialsArn"]
        key = params.get("RouteKey") or DEFAULT
        check_key(api, key)
        route: Members = {
            "ApiGatewayManaged": True,
            "ApiKeyRequired": False,
            "AuthorizationType": "NONE",
            "RouteId": self._new_id(7),
            "RouteKey": key,
            "Target": f"integrations/{integration['IntegrationId']}",
        }
        api.configuration.integrations[integration["IntegrationId"]] = integration
        api.configuration.routes[route["RouteId"]] = route
        stage = self._make_stage({"StageName": DEFAULT, "AutoDeploy": True})
        api.stages[DEFAULT] = {**stage, "ApiGatewayManaged": True}
        self._deploy(api)

    def _show_api(self, context: RequestContext, api: Api) -> Params:
        return {
            **api.settings,
            "ApiId": api.api_id,
            "ApiEndpoint": self._address(context, api.api_id, api.protocol).rstrip("/"),
            "ProtocolType": api.protocol,
            "CreatedDate": datetime.fromisoformat(api.created_at),
            "Tags": api.tags,
        }

    # Stages

    async def create_stage(self, context: RequestContext, params: Params) -> Params:
        name = params["StageName"]
        if _STAGE.fullmatch(name) is None:
            raise bad_request("StageName must be $default or up to 128 letters, digits, hyphens and underscores.")

        def work(api: Api) -> Members:
            if name in api.stages:
                raise conflict("Stage already exists")
            if name == DEFAULT and api.protocol == WEBSOCKET:
                raise bad_request("A WebSocket API has no stage $default; name it otherwise.")
            if params.get("AutoDeploy") and params.get("DeploymentId"):
                raise bad_request("DeploymentId and AutoDeploy exclude each other.")
            if params.get("DeploymentId") and params["DeploymentId"] not in api.deployments:
                raise not_found("Deployment", params["DeploymentId"])
            api.stages[name] = self._make_stage(params)
            self._deploy(api)
            return api.stages[name]

        return show_stage(await self._store.change(context.account, params["ApiId"], work))

    async def get_stage(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return show_stage(_find(api.stages, "Stage", params["StageName"]))

    async def get_stages(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = _page(params, list(api.stages.values()), lambda stage: stage["StageName"])
        return {"Items": [show_stage(stage) for stage in page[0]], "NextToken": page[1]}

    async def update_stage(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            stage = _find(api.stages, "Stage", params["StageName"])
            if params.get("DeploymentId"):
                if params.get("AutoDeploy", stage.get("AutoDeploy")):
                    raise bad_request("DeploymentId and AutoDeploy exclude each other.")
                _find(api.deployments, "Deployment", params["DeploymentId"])
            stage |= {name: value for name, value in params.items() if name not in ("ApiId", "StageName")}
            stage["LastUpdatedDate"] = self._timestamp()
            self._deploy(api)
            return stage

        return show_stage(await self._store.change(context.account, params["ApiId"], work))

    async def delete_stage(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            _find(api.stages, "Stage", params["StageName"])
            del api.stages[params["StageName"]]
            _forget_unused(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def delete_route_settings(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            settings = _find(api.stages, "Stage", params["StageName"]).get("RouteSettings", {})
            _find(settings, "RouteKey", params["RouteKey"])
            del settings[params["RouteKey"]]

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def delete_access_log_settings(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            _find(api.stages, "Stage", params["StageName"]).pop("AccessLogSettings", None)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def reset_authorizers_cache(self, context: RequestContext, params: Params) -> Params:
        """A change of the document, whatever it is, begins with empty caches."""

        def work(api: Api) -> None:
            _find(api.stages, "Stage", params["StageName"])["LastUpdatedDate"] = self._timestamp()

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    def _make_stage(self, params: Params) -> Members:
        now = self._timestamp()
        members = {name: value for name, value in params.items() if name != "ApiId"}
        defaults: Members = {"AutoDeploy": False, "RouteSettings": {}, "StageVariables": {}, "Tags": {}}
        defaults["DefaultRouteSettings"] = {"DetailedMetricsEnabled": False}
        return {**defaults, **members, "CreatedDate": now, "LastUpdatedDate": now}

    # Deployments

    async def create_deployment(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            stage = None
            if params.get("StageName"):
                stage = _find(api.stages, "Stage", params["StageName"])
                if stage.get("AutoDeploy"):
                    raise bad_request(f"The stage {params['StageName']} deploys by itself (AutoDeploy).")
            if not api.configuration.routes:
                raise bad_request("At least one route is required before deploying the Api.")
            deployment = self._add_deployment(api, description=params.get("Description"), automatic=False)
            if stage is not None:
                stage |= {"DeploymentId": deployment["DeploymentId"], "LastUpdatedDate": self._timestamp()}
            return deployment

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def get_deployment(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return show_dates(_find(api.deployments, "Deployment", params["DeploymentId"]))

    async def get_deployments(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = _page(params, list(api.deployments.values()), lambda deployment: deployment["DeploymentId"])
        return {"Items": [show_dates(deployment) for deployment in page[0]], "NextToken": page[1]}

    async def update_deployment(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            deployment = _find(api.deployments, "Deployment", params["DeploymentId"])
            if "Description" in params:
                deployment["Description"] = params["Description"]
            return deployment

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def delete_deployment(self, context: RequestContext, params: Params) -> Params:
        id_ = params["DeploymentId"]

        def work(api: Api) -> None:
            _find(api.deployments, "Deployment", id_)
            using = [name for name, stage in api.stages.items() if stage.get("DeploymentId") == id_]
            if using:
                raise bad_request(f"Deployment {id_} is used by the stage {using[0]}.")
            del api.deployments[id_]
            api.snapshots.pop(id_, None)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    def _deploy(self, api: Api) -> None:
        """Stages that deploy by themselves serve what is configured now."""
        stages = [stage for stage in api.stages.values() if stage.get("AutoDeploy")]
        if stages:
            deployment = self._add_deployment(api, description=None, automatic=True)
            for stage in stages:
                stage["DeploymentId"] = deployment["DeploymentId"]
                stage["LastDeploymentStatusMessage"] = (
                    f"Successfully deployed stage with deployment ID '{deployment['DeploymentId']}'"
                )
        _forget_unused(api)

    def _add_deployment(self, api: Api, *, description: str | None, automatic: bool) -> Members:
        id_ = self._new_id(6)
        deployment: Members = {
            "AutoDeployed": automatic,
            "CreatedDate": self._timestamp(),
            "DeploymentId": id_,
            "DeploymentStatus": "DEPLOYED",
            "Description": description or ("Automatic deployment triggered by changes to the Api" if automatic else ""),
        }
        api.deployments[id_] = deployment
        # A copy: what is configured later is not served by this deployment.
        api.snapshots[id_] = msgspec.json.decode(msgspec.json.encode(api.configuration), type=Configuration)
        return deployment

    # Tags

    async def tag(self, context: RequestContext, params: Params) -> Params:
        await self._store.change(context.account, _api_of(params), lambda api: api.tags.update(params["Tags"]))
        return {}

    async def untag(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            api.tags = {name: value for name, value in api.tags.items() if name not in params["TagKeys"]}

        await self._store.change(context.account, _api_of(params), work)
        return {}

    async def get_tags(self, context: RequestContext, params: Params) -> Params:
        return {"Tags": (await self._store.get(context.account, _api_of(params))).tags}

    def _timestamp(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="seconds")


class _Noun:
    """Create, get, list, update and delete of one kind of thing that belongs to an API."""

    name = ""
    plural = ""
    id_length = 7
    redeploys = True
    """Whether a change of it is one of what is served."""

    def __init__(self, store: ApiStore, new_id: Callable[[int], str], deploy: Callable[[Api], None]) -> None:
        self._store = store
        self._new_id = new_id
        self._deploy = deploy

    @property
    def id_member(self) -> str:
        return f"{self.name}Id"

    def operations(self) -> dict[str, Operation]:
        return {
            f"Create{self.name}": self.create,
            f"Get{self.name}": self.get,
            f"Get{self.plural or self.name + 's'}": self.list,
            f"Update{self.name}": self.update,
            f"Delete{self.name}": self.delete,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            id_ = self._new_id(self.id_length)
            members = {**self.defaults(api), **self._own(params), self.id_member: id_}
            self.check(api, members, params)
            self.all(api, params)[id_] = members
            self._note_change(api)
            return members

        return await self._store.change(context.account, params["ApiId"], work)

    async def get(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return _find(self.all(api, params), self.name, params[self.id_member])

    async def list(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = _page(params, list(self.all(api, params).values()), lambda members: members[self.id_member])
        return {"Items": page[0], "NextToken": page[1]}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            known = self.all(api, params)
            before = _find(known, self.name, params[self.id_member])
            members = {**before, **self._own(params)}
            self.check(api, members, params)
            known[params[self.id_member]] = members
            self._note_change(api)
            return members

        return await self._store.change(context.account, params["ApiId"], work)

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            known = self.all(api, params)
            self.check_unused(api, _find(known, self.name, params[self.id_member]))
            del known[params[self.id_member]]
            self._note_change(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        raise NotImplementedError

    def defaults(self, api: Api) -> Members:
        return {}

    def check(self, api: Api, members: Members, params: Params) -> None:
        """Raises CallerError."""

    def check_unused(self, api: Api, members: Members) -> None:
        """Raises CallerError for what something else still refers to."""

    def _own(self, params: Params) -> Members:
        return {name: value for name, value in params.items() if name not in _PATH_MEMBERS or name == "AuthorizerId"}

    def _note_change(self, api: Api) -> None:
        if self.redeploys:
            self._deploy(api)


class _Routes(_Noun):
    name = "Route"

    def operations(self) -> dict[str, Operation]:
        return {**super().operations(), "DeleteRouteRequestParameter": self.delete_parameter}

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.configuration.routes

    def defaults(self, api: Api) -> Members:
        return {"ApiKeyRequired": False, "AuthorizationType": "NONE"}

    def check(self, api: Api, members: Members, params: Params) -> None:
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

    async def delete_parameter(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            route = _find(api.configuration.routes, "Route", params["RouteId"])
            parameters = route.get("RequestParameters", {})
            _find(parameters, "RequestParameter", params["RequestParameterKey"])
            del parameters[params["RequestParameterKey"]]
            self._deploy(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}


class _Integrations(_Noun):
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
            "TimeoutInMillis": _TIMEOUT_MS[api.protocol],
        }

    def check(self, api: Api, members: Members, params: Params) -> None:
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
        if not 50 <= members["TimeoutInMillis"] <= _TIMEOUT_MS[api.protocol]:
            raise bad_request(f"TimeoutInMillis should be between 50 and {_TIMEOUT_MS[api.protocol]}")

    def check_unused(self, api: Api, members: Members) -> None:
        target = f"integrations/{members['IntegrationId']}"
        using = [route["RouteKey"] for route in api.configuration.routes.values() if route.get("Target") == target]
        if using:
            raise conflict(f"Cannot delete Integration '{members['IntegrationId']}'. It is the target of '{using[0]}'.")
        api.configuration.integration_responses.pop(members["IntegrationId"], None)


class _Authorizers(_Noun):
    name = "Authorizer"
    id_length = 6

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.configuration.authorizers

    def _own(self, params: Params) -> Members:
        return {name: value for name, value in params.items() if name not in _PATH_MEMBERS}

    def check(self, api: Api, members: Members, params: Params) -> None:
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


class _Models(_Noun):
    name = "Model"
    id_length = 6
    redeploys = False

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        return api.models

    def defaults(self, api: Api) -> Members:
        return {"ContentType": "application/json"}


class _RouteResponses(_Noun):
    name = "RouteResponse"

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        _find(api.configuration.routes, "Route", params["RouteId"])
        return api.configuration.route_responses.setdefault(params["RouteId"], {})

    def check(self, api: Api, members: Members, params: Params) -> None:
        if members["RouteResponseKey"] != DEFAULT:
            raise bad_request("RouteResponseKey must be $default.")


class _IntegrationResponses(_Noun):
    name = "IntegrationResponse"

    def all(self, api: Api, params: Params) -> dict[str, Members]:
        _find(api.configuration.integrations, "Integration", params["IntegrationId"])
        return api.configuration.integration_responses.setdefault(params["IntegrationId"], {})


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


def show_stage(stage: Members) -> Params:
    return show_dates(stage)


def show_dates(members: Members) -> Params:
    dates: Params = {
        name: datetime.fromisoformat(members[name]) for name in ("CreatedDate", "LastUpdatedDate") if name in members
    }
    return {**members, **dates}


def bad_request(message: str) -> CallerError:
    return CallerError("BadRequestException", message)


def conflict(message: str) -> CallerError:
    return CallerError("ConflictException", message, status=409)


def _find(known: Mapping[str, Members], kind: str, id_: str) -> Members:
    members = known.get(id_)
    if members is None:
        raise not_found(kind, id_)
    return members


def _forget_unused(api: Api) -> None:
    """Automatic deployments are kept as long as a stage serves them."""
    used = {stage.get("DeploymentId") for stage in api.stages.values()}
    for id_, deployment in list(api.deployments.items()):
        if deployment["AutoDeployed"] and id_ not in used:
            del api.deployments[id_]
            api.snapshots.pop(id_, None)


def _pick(params: Params, names: Iterable[str]) -> Members:
    return {name: params[name] for name in names if params.get(name) is not None}


def _page(params: Params, items: list[Any], key: Callable[[Any], str]) -> tuple[list[Any], str | None]:
    given = params.get("MaxResults")
    if given is not None and not (given.isdigit() and int(given) >= 1):
        raise bad_request("MaxResults must be a number from 1.")
    most = int(given) if given is not None else None
    return cut_page(sorted(items, key=key), marker=params.get("NextToken"), max_items=most, key=key, most=500)


def _api_of(params: Params) -> str:
    """Of `arn:aws:apigateway:REGION::/apis/ID` or a stage of it."""
    matched = re.search(r"/apis/([a-z0-9]+)", params["ResourceArn"])
    if matched is None:
        raise bad_request(f"ResourceArn '{params['ResourceArn']}' is not that of an API.")
    return matched[1]
