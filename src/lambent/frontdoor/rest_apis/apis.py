"""The operations on REST APIs themselves (API reference, "Amazon API Gateway")."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, new_id, now_text, pick
from lambent.frontdoor.rest_apis import patches
from lambent.frontdoor.rest_apis.answers import cut, open_store, show
from lambent.frontdoor.rest_apis.model import DEPLOYMENTS, Configuration, Members, RestApi
from lambent.frontdoor.rest_apis.policies import check_policy
from lambent.substrate.ports import Documents, Write

LARGEST_COMPRESSION_BYTES = 10_485_760
_SETTINGS = (
    "name",
    "description",
    "version",
    "binaryMediaTypes",
    "minimumCompressionSize",
    "apiKeySource",
    "endpointConfiguration",
    "policy",
    "disableExecuteApiEndpoint",
    "securityPolicy",
    "endpointAccessMode",
)
_RULES = {
    "/name": patches.TEXT,
    "/description": patches.TEXT,
    "/version": patches.TEXT,
    "/apiKeySource": patches.TEXT,
    "/policy": patches.TEXT,
    "/minimumCompressionSize": patches.INTEGER,
    "/disableExecuteApiEndpoint": patches.BOOLEAN,
    "/securityPolicy": patches.TEXT,
    "/endpointAccessMode": patches.TEXT,
    "/binaryMediaTypes/*": patches.ITEMS,
    "/binaryMediaTypes": patches.ITEMS,
    "/endpointConfiguration/types/*": patches.ITEMS,
    "/endpointConfiguration/ipAddressType": patches.TEXT,
    "/endpointConfiguration/vpcEndpointIds": patches.ITEMS,
}
_DRAFT = "http://json-schema.org/draft-04/schema#"
_MODELS = (
    ("Empty", "This is a default empty schema model", {"title": "Empty Schema", "type": "object"}),
    (
        "Error",
        "This is a default error schema model",
        {"title": "Error Schema", "type": "object", "properties": {"message": {"type": "string"}}},
    ),
)
"""What every API begins with: name, description, schema."""


class ApiOperations:
    def __init__(self, documents: Documents) -> None:
        self._store = open_store(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateRestApi": self.create,
            "GetRestApi": self.get,
            "GetRestApis": self.list,
            "UpdateRestApi": self.update,
            "DeleteRestApi": self.delete,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "GetTags": self.get_tags,
            "GetAccount": self.get_account,
            "UpdateAccount": self.update_account,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        if params.get("cloneFrom"):
            origin = await self._store.get(context.account, params["cloneFrom"])
            configuration = copy.deepcopy(origin.configuration)
        else:
            configuration = new_configuration()
        configuration.settings |= pick(params, _SETTINGS)
        api = new_api(context, configuration, tags=params.get("tags"))
        await self._store.add(context.account, api.api_id, api)
        return show_api(api)

    async def get(self, context: RequestContext, params: Params) -> Params:
        return show_api(await self._store.get(context.account, params["restApiId"]))

    async def list(self, context: RequestContext, params: Params) -> Params:
        page, position = cut(params, await self._store.list(context.account), lambda api: api.api_id)
        return {"items": [show_api(api) for api in page], "position": position}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> RestApi:
            settings = patches.apply(api.settings, params.get("patchOperations"), _RULES)
            check_settings(settings)
            api.configuration.settings = settings
            return api

        return show_api(await self._store.change(context.account, params["restApiId"], work))

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def also(api: RestApi) -> list[Write]:
            return [
                Write(collection=DEPLOYMENTS, key=api.snapshot_key(deployment), value=None)
                for deployment in api.deployments
            ]

        await self._store.remove(context.account, params["restApiId"], also)
        return {}

    # Tags of APIs and of their stages

    async def tag(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> None:
            _tags_of(api, params["resourceArn"]).update(params["tags"])

        await self._store.change(context.account, _api_of(params), work)
        return {}

    async def untag(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> None:
            tags = _tags_of(api, params["resourceArn"])
            for name in params["tagKeys"]:
                tags.pop(name, None)

        await self._store.change(context.account, _api_of(params), work)
        return {}

    async def get_tags(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, _api_of(params))
        return {"tags": _tags_of(api, params["resourceArn"])}

    async def get_account(self, _context: RequestContext, _params: Params) -> Params:
        return {
            "throttleSettings": {"burstLimit": 5_000, "rateLimit": 10_000.0},
            "features": ["UsagePlans"],
            "apiKeyVersion": "4",
        }

    async def update_account(self, context: RequestContext, params: Params) -> Params:
        """The role that API Gateway logs with is not needed here: it is taken and not kept."""
        rules = {"/cloudwatchRoleArn": patches.TEXT, "/features": patches.ITEMS, "/features/*": patches.ITEMS}
        patches.apply({}, params.get("patchOperations"), rules)
        return await self.get_account(context, params)


def new_configuration() -> Configuration:
    root_id = new_id(10)
    configuration = Configuration(
        resources={root_id: {"id": root_id, "path": "/", "resourceMethods": {}}},
        models={name: _model(name, description, schema) for name, description, schema in _MODELS},
    )
    configuration.settings |= {
        "apiKeySource": "HEADER",
        "endpointConfiguration": {"types": ["EDGE"], "ipAddressType": "ipv4"},
        "disableExecuteApiEndpoint": False,
    }
    return configuration


def _model(name: str, description: str, schema: Members) -> Members:
    text = json.dumps({"$schema": _DRAFT, **schema}, indent=2)
    return {
        "id": new_id(6),
        "name": name,
        "description": description,
        "contentType": "application/json",
        "schema": text,
    }


def new_api(context: RequestContext, configuration: Configuration, *, tags: dict[str, str] | None = None) -> RestApi:
    """Raises CallerError for settings that are not good."""
    check_settings(configuration.settings)
    return RestApi(
        account=context.account,
        region=context.region,
        api_id=new_id(10),
        created_at=now_text(),
        tags=tags or {},
        configuration=configuration,
    )


def check_settings(settings: Members) -> None:
    """Raises CallerError."""
    if not settings.get("name"):
        raise bad_request("Invalid name specified: an API needs a name.")
    size = settings.get("minimumCompressionSize")
    if size is not None and not 0 <= size <= LARGEST_COMPRESSION_BYTES:
        raise bad_request(
            "Invalid minimum compression size, must be between 0 and 10485760 (10M in bytes) or null for disabled"
        )
    if settings.get("apiKeySource", "HEADER") not in ("HEADER", "AUTHORIZER"):
        raise bad_request("Invalid API key source specified: it must be HEADER or AUTHORIZER.")
    for kind in settings.get("binaryMediaTypes") or []:
        if "/" not in kind:
            raise bad_request(f"Invalid binary media type '{kind}': it must be like image/png or */*.")
    if settings.get("policy"):
        check_policy(settings["policy"])


def show_api(api: RestApi) -> Params:
    shown: dict[str, Any] = {
        **api.settings,
        "id": api.api_id,
        "createdDate": api.created_at,
        "rootResourceId": api.root["id"],
        "tags": api.tags,
        "apiStatus": "AVAILABLE",
    }
    return show(shown)


def _api_of(params: Params) -> str:
    """Of `arn:aws:apigateway:REGION::/restapis/ID` or a stage of it. Raises CallerError."""
    parts = params["resourceArn"].partition("::/restapis/")[2].split("/")
    if not parts[0]:
        raise bad_request(
            f"Invalid ARN specified: '{params['resourceArn']}' is not that of a REST API or of its stage."
        )
    return str(parts[0])


def _tags_of(api: RestApi, arn: str) -> dict[str, str]:
    stage = arn.partition("/stages/")[2]
    if not stage:
        return api.tags
    if stage not in api.stages:
        raise bad_request(f"Invalid ARN specified: the API has no stage {stage}.")
    tags: dict[str, str] = api.stages[stage].setdefault("tags", {})
    return tags
