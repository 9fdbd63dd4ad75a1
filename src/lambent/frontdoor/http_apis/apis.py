"""The APIs of the second version themselves, and their tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, new_id, now_text, pick
from lambent.frontdoor.http_apis.answers import cut
from lambent.frontdoor.http_apis.deployments import deploy
from lambent.frontdoor.http_apis.model import HTTP, WEBSOCKET, Api, Members
from lambent.frontdoor.http_apis.parts import LONGEST_MS, check_key
from lambent.frontdoor.http_apis.routing import DEFAULT
from lambent.frontdoor.http_apis.stages import make_stage
from lambent.frontdoor.http_apis.store import ApiStore
from lambent.substrate.ports import Documents

Address = Callable[[RequestContext, str, str], str]
"""(who asks, API, protocol) to the URL of the API."""

DEFAULT_SELECTION = "$request.method $request.path"
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


class ApiOperations:
    def __init__(self, documents: Documents, address: Address) -> None:
        self._store = ApiStore(documents)
        self._address = address

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateApi": self.create_api,
            "GetApi": self.get_api,
            "GetApis": self.get_apis,
            "UpdateApi": self.update_api,
            "DeleteApi": self.delete_api,
            "DeleteCorsConfiguration": self.delete_cors,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "GetTags": self.get_tags,
        }

    # APIs

    async def create_api(self, context: RequestContext, params: Params) -> Params:
        protocol = params["ProtocolType"]
        selection = params.get("RouteSelectionExpression")
        if protocol == WEBSOCKET and not selection:
            raise bad_request("RouteSelectionExpression is needed for a WebSocket API, like $request.body.action.")
        if protocol == HTTP and selection not in (None, DEFAULT_SELECTION, "${request.method} ${request.path}"):
            raise bad_request(f"RouteSelectionExpression of an HTTP API is {DEFAULT_SELECTION}; leave it out.")
        settings = pick(params, _API_MEMBERS)
        api = new_api(context, protocol, settings, params.get("Tags") or {})
        if params.get("Target"):
            self._create_quickly(api, params)
        elif params.get("RouteKey"):
            raise bad_request("RouteKey is only for quick create: name a Target, too.")
        await self._store.add(context.account, api.api_id, api)
        return show_api(context, api, self._address)

    async def get_api(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return show_api(context, api, self._address)

    async def get_apis(self, context: RequestContext, params: Params) -> Params:
        apis = await self._store.list(context.account)
        page = cut(params, apis, lambda api: api.api_id)
        return {"Items": [show_api(context, api, self._address) for api in page[0]], "NextToken": page[1]}

    async def update_api(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Api:
            api.settings |= pick(params, _API_MEMBERS)
            if params.get("Target"):
                for integration in api.configuration.integrations.values():
                    if integration.get("ApiGatewayManaged"):
                        integration["IntegrationUri"] = params["Target"]
            deploy(api)
            return api

        api = await self._store.change(context.account, params["ApiId"], work)
        return show_api(context, api, self._address)

    async def delete_api(self, context: RequestContext, params: Params) -> Params:
        await self._store.remove(context.account, params["ApiId"])
        return {}

    async def delete_cors(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            api.settings.pop("CorsConfiguration", None)
            deploy(api)

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
            "IntegrationId": new_id(7),
            "IntegrationMethod": "POST" if is_function else "ANY",
            "IntegrationType": "AWS_PROXY" if is_function else "HTTP_PROXY",
            "IntegrationUri": target,
            "PayloadFormatVersion": "2.0" if is_function else "1.0",
            "TimeoutInMillis": LONGEST_MS[HTTP],
        }
        if params.get("CredentialsArn"):
            integration["CredentialsArn"] = params["CredentialsArn"]
        key = params.get("RouteKey") or DEFAULT
        check_key(api, key)
        route: Members = {
            "ApiGatewayManaged": True,
            "ApiKeyRequired": False,
            "AuthorizationType": "NONE",
            "RouteId": new_id(7),
            "RouteKey": key,
            "Target": f"integrations/{integration['IntegrationId']}",
        }
        api.configuration.integrations[integration["IntegrationId"]] = integration
        api.configuration.routes[route["RouteId"]] = route
        stage = make_stage({"StageName": DEFAULT, "AutoDeploy": True})
        api.stages[DEFAULT] = {**stage, "ApiGatewayManaged": True}
        deploy(api)

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


def new_api(context: RequestContext, protocol: str, settings: Members, tags: dict[str, str]) -> Api:
    defaults: Members = {
        "RouteSelectionExpression": DEFAULT_SELECTION,
        "ApiKeySelectionExpression": "$request.header.x-api-key",
        "DisableExecuteApiEndpoint": False,
    }
    return Api(
        account=context.account,
        region=context.region,
        api_id=new_id(10),
        protocol=protocol,
        settings={**defaults, **settings},
        created_at=now_text(),
        tags=tags,
    )


def show_api(context: RequestContext, api: Api, address: Address) -> Params:
    return {
        **api.settings,
        "ApiId": api.api_id,
        "ApiEndpoint": address(context, api.api_id, api.protocol).rstrip("/"),
        "ProtocolType": api.protocol,
        "CreatedDate": datetime.fromisoformat(api.created_at),
        "Tags": api.tags,
    }


def _api_of(params: Params) -> str:
    """Of `arn:aws:apigateway:REGION::/apis/ID` or a stage of it."""
    matched = re.search(r"/apis/([a-z0-9]+)", params["ResourceArn"])
    if matched is None:
        raise bad_request(f"ResourceArn '{params['ResourceArn']}' is not that of an API.")
    return matched[1]
