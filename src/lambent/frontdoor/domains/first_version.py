"""Domain names and base path mappings of API Gateway's first version: the same domains, as that version shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import bad_request
from lambent.frontdoor.domains.api import DomainOperations
from lambent.frontdoor.rest_apis import patches
from lambent.model.errors import CallerError

Params = dict[str, Any]
_NONE = "(none)"
"""How paths say that a mapping has no base path."""
_RULES = {
    "/certificateArn": patches.TEXT,
    "/certificateName": patches.TEXT,
    "/regionalCertificateArn": patches.TEXT,
    "/regionalCertificateName": patches.TEXT,
    "/securityPolicy": patches.TEXT,
    "/endpointConfiguration/types/*": patches.ITEMS,
    "/mutualTlsAuthentication/truststoreUri": patches.TEXT,
    "/mutualTlsAuthentication/truststoreVersion": patches.TEXT,
}
_MAPPING_RULES = {"/basePath": patches.TEXT, "/stage": patches.TEXT, "/restapiId": patches.TEXT}
_SETTINGS = ("certificateName", "certificateArn", "regionalCertificateArn", "securityPolicy", "endpointConfiguration")


class FirstDomainOperations:
    def __init__(self, domains: DomainOperations) -> None:
        self._domains = domains

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateDomainName": self.create,
            "GetDomainName": self.get,
            "GetDomainNames": self.list,
            "UpdateDomainName": self.update,
            "DeleteDomainName": self.delete,
            "CreateBasePathMapping": self.create_mapping,
            "GetBasePathMapping": self.get_mapping,
            "GetBasePathMappings": self.list_mappings,
            "UpdateBasePathMapping": self.update_mapping,
            "DeleteBasePathMapping": self.delete_mapping,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        settings = {name: params[name] for name in _SETTINGS if params.get(name) is not None}
        given = {
            "DomainName": params["domainName"],
            "Tags": params.get("tags"),
            "DomainNameConfigurations": [{"Settings": settings}],
            "MutualTlsAuthentication": params.get("mutualTlsAuthentication"),
        }
        return _show(await self._domains.create(context, given))

    async def get(self, context: RequestContext, params: Params) -> Params:
        return _show(await self._domains.get(context, {"DomainName": params["domainName"]}))

    async def list(self, context: RequestContext, params: Params) -> Params:
        listed = await self._domains.list(context, {"NextToken": params.get("position")})
        return {"items": [_show(domain) for domain in listed["Items"]], "position": listed["NextToken"]}

    async def update(self, context: RequestContext, params: Params) -> Params:
        domain = await self._domains.get(context, {"DomainName": params["domainName"]})
        settings = domain["DomainNameConfigurations"][0].get("Settings") or {}
        changed = patches.apply(settings, params.get("patchOperations"), _RULES)
        given = {"DomainName": params["domainName"], "DomainNameConfigurations": [{"Settings": changed}]}
        return _show(await self._domains.update(context, given))

    async def delete(self, context: RequestContext, params: Params) -> Params:
        await self._domains.delete(context, {"DomainName": params["domainName"]})
        return {}

    async def create_mapping(self, context: RequestContext, params: Params) -> Params:
        if not params.get("stage"):
            raise bad_request("stage is needed: name the stage that the base path leads to.")
        given = {
            "DomainName": params["domainName"],
            "ApiId": params["restApiId"],
            "Stage": params["stage"],
            "ApiMappingKey": _key(params.get("basePath")),
        }
        return _show_mapping(await self._domains.create_mapping(context, given))

    async def get_mapping(self, context: RequestContext, params: Params) -> Params:
        return _show_mapping(await self._find(context, params))

    async def list_mappings(self, context: RequestContext, params: Params) -> Params:
        listed = await self._domains.list_mappings(context, {"DomainName": params["domainName"]})
        return {"items": [_show_mapping(mapping) for mapping in listed["Items"]]}

    async def update_mapping(self, context: RequestContext, params: Params) -> Params:
        mapping = await self._find(context, params)
        known = {"basePath": mapping["ApiMappingKey"], "stage": mapping["Stage"], "restapiId": mapping["ApiId"]}
        changed = patches.apply(known, params.get("patchOperations"), _MAPPING_RULES)
        given = {
            "DomainName": params["domainName"],
            "ApiMappingId": mapping["ApiMappingId"],
            "ApiId": changed["restapiId"],
            "Stage": changed["stage"],
            "ApiMappingKey": _key(changed["basePath"]),
        }
        return _show_mapping(await self._domains.update_mapping(context, given))

    async def delete_mapping(self, context: RequestContext, params: Params) -> Params:
        mapping = await self._find(context, params)
        given = {"DomainName": params["domainName"], "ApiMappingId": mapping["ApiMappingId"]}
        await self._domains.delete_mapping(context, given)
        return {}

    async def _find(self, context: RequestContext, params: Params) -> Params:
        listed = await self._domains.list_mappings(context, {"DomainName": params["domainName"]})
        for mapping in listed["Items"]:
            if mapping["ApiMappingKey"] == _key(params["basePath"]):
                return dict(mapping)
        message = "Invalid base path mapping identifier specified"
        raise CallerError("NotFoundException", message, status=404)


def _key(base_path: str | None) -> str:
    return "" if base_path in (None, _NONE) else str(base_path)


def _show(domain: Params) -> Params:
    configuration = domain["DomainNameConfigurations"][0]
    return {
        **(configuration.get("Settings") or {}),
        "domainName": domain["DomainName"],
        "domainNameArn": domain["DomainNameArn"],
        "domainNameStatus": configuration["DomainNameStatus"],
        "regionalDomainName": configuration["ApiGatewayDomainName"],
        "distributionDomainName": configuration["ApiGatewayDomainName"],
        "mutualTlsAuthentication": domain.get("MutualTlsAuthentication"),
        "tags": domain["Tags"],
    }


def _show_mapping(mapping: Params) -> Params:
    return {
        "basePath": mapping["ApiMappingKey"] or _NONE,
        "restApiId": mapping["ApiId"],
        "stage": mapping["Stage"],
    }
