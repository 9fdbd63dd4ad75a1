"""Domain names and API mappings of API Gateway's second version; APIs of both versions are mapped.

The certificate of a name is the node's own (`tls.domains`) or that of the front before it: what a request says of
certificates is kept and shown, and decides nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.frontdoor.answers import bad_request, not_found
from lambent.frontdoor.domains.model import COLLECTION, Domain
from lambent.frontdoor.http_apis.store import ApiStore
from lambent.frontdoor.rest_apis.answers import open_store
from lambent.model.errors import CallerError
from lambent.substrate.ports import Conflict, Documents, Write

Params = dict[str, Any]
Result = TypeVar("Result")

_NAME = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)?")
_ATTEMPTS = 8


class DomainOperations:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._apis = ApiStore(documents)
        self._rest_apis = open_store(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateDomainName": self.create,
            "GetDomainName": self.get,
            "GetDomainNames": self.list,
            "UpdateDomainName": self.update,
            "DeleteDomainName": self.delete,
            "CreateApiMapping": self.create_mapping,
            "GetApiMapping": self.get_mapping,
            "GetApiMappings": self.list_mappings,
            "UpdateApiMapping": self.update_mapping,
            "DeleteApiMapping": self.delete_mapping,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        name = params["DomainName"].lower()
        if _NAME.fullmatch(name) is None:
            raise bad_request(f"DomainName '{name}' is not a name like www.example.com or *.example.com.")
        domain = Domain(
            name=name,
            account=context.account,
            region=context.region,
            settings=_settings(params),
            tags=params.get("Tags") or {},
        )
        write = Write(collection=COLLECTION, key=name, value=msgspec.json.encode(domain), expect=0)
        try:
            await self._documents.commit([write])
        except Conflict:
            raise CallerError("ConflictException", "The domain name you provided already exists.", status=409) from None
        return _show(domain)

    async def get(self, context: RequestContext, params: Params) -> Params:
        return _show((await self._read(context, params))[0])

    async def list(self, context: RequestContext, params: Params) -> Params:
        documents = await self._documents.list(COLLECTION)
        domains = [msgspec.json.decode(document.value, type=Domain) for document in documents]
        own = [domain for domain in domains if domain.account == context.account]
        page, token = cut_page(
            own, marker=params.get("NextToken"), max_items=None, key=lambda domain: domain.name, most=500
        )
        return {"Items": [_show(domain) for domain in page], "NextToken": token}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(domain: Domain) -> Domain:
            domain.settings |= _settings(params)
            return domain

        return _show(await self._change(context, params, work))

    async def delete(self, context: RequestContext, params: Params) -> Params:
        domain, revision = await self._read(context, params)
        write = Write(collection=COLLECTION, key=domain.name, value=None, expect=revision)
        try:
            await self._documents.commit([write])
        except Conflict:
            raise _busy(domain.name) from None
        return {}

    async def create_mapping(self, context: RequestContext, params: Params) -> Params:
        await self._check_target(context, params["ApiId"], params["Stage"])
        id_ = secrets.token_hex(3)

        def work(domain: Domain) -> Params:
            mapping = {
                "ApiId": params["ApiId"],
                "ApiMappingId": id_,
                "ApiMappingKey": _check_key(domain, params.get("ApiMappingKey") or "", id_),
                "Stage": params["Stage"],
            }
            domain.mappings[id_] = mapping
            return mapping

        return await self._change(context, params, work)

    async def get_mapping(self, context: RequestContext, params: Params) -> Params:
        domain, _ = await self._read(context, params)
        return dict(_mapping(domain, params["ApiMappingId"]))

    async def list_mappings(self, context: RequestContext, params: Params) -> Params:
        domain, _ = await self._read(context, params)
        return {"Items": list(domain.mappings.values())}

    async def update_mapping(self, context: RequestContext, params: Params) -> Params:
        if params.get("Stage"):
            await self._check_target(context, params["ApiId"], params["Stage"])

        def work(domain: Domain) -> Params:
            mapping = _mapping(domain, params["ApiMappingId"])
            mapping["ApiId"] = params["ApiId"]
            if params.get("Stage"):
                mapping["Stage"] = params["Stage"]
            if params.get("ApiMappingKey") is not None:
                mapping["ApiMappingKey"] = _check_key(domain, params["ApiMappingKey"], params["ApiMappingId"])
            return dict(mapping)

        return await self._change(context, params, work)

    async def delete_mapping(self, context: RequestContext, params: Params) -> Params:
        def work(domain: Domain) -> None:
            _mapping(domain, params["ApiMappingId"])
            del domain.mappings[params["ApiMappingId"]]

        await self._change(context, params, work)
        return {}

    async def _check_target(self, context: RequestContext, api_id: str, stage: str) -> None:
        try:
            stages = (await self._apis.get(context.account, api_id)).stages
        except CallerError:
            stages = (await self._rest_apis.get(context.account, api_id)).stages
        if stage not in stages:
            raise bad_request(f"Invalid stage identifier specified: {stage}")

    async def _read(self, context: RequestContext, params: Params) -> tuple[Domain, int]:
        name = params["DomainName"].lower()
        document = await self._documents.get(COLLECTION, name)
        domain = msgspec.json.decode(document.value, type=Domain) if document is not None else None
        if document is None or domain is None or domain.account != context.account:
            raise not_found("domain name", name)
        return domain, document.revision

    async def _change(self, context: RequestContext, params: Params, work: Callable[[Domain], Result]) -> Result:
        for _ in range(_ATTEMPTS):
            domain, revision = await self._read(context, params)
            result = work(domain)
            write = Write(collection=COLLECTION, key=domain.name, value=msgspec.json.encode(domain), expect=revision)
            try:
                await self._documents.commit([write])
            except Conflict:
                continue
            return result
        raise _busy(params["DomainName"])


def _settings(params: Params) -> Params:
    names = ("DomainNameConfigurations", "MutualTlsAuthentication", "RoutingMode")
    settings = {name: params[name] for name in names if params.get(name) is not None}
    return msgspec.json.decode(msgspec.json.encode(settings), type=dict[str, Any])


def _show(domain: Domain) -> Params:
    shown = dict(domain.settings)
    configurations = shown.get("DomainNameConfigurations") or [{}]
    shown["DomainNameConfigurations"] = [
        {"DomainNameStatus": "AVAILABLE", "ApiGatewayDomainName": domain.name, **configuration}
        for configuration in configurations
    ]
    return {
        **shown,
        "DomainName": domain.name,
        "DomainNameArn": f"arn:aws:apigateway:{domain.region}::/domainnames/{domain.name}",
        "ApiMappingSelectionExpression": "$request.basepath",
        "Tags": domain.tags,
    }


def _mapping(domain: Domain, id_: str) -> dict[str, str]:
    mapping = domain.mappings.get(id_)
    if mapping is None:
        raise not_found("ApiMapping", id_)
    return mapping


def _check_key(domain: Domain, key: str, own_id: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise bad_request(f"ApiMappingKey '{key}' is not a path like v1 or shop/v1, without a slash at its ends.")
    for id_, mapping in domain.mappings.items():
        if id_ != own_id and mapping["ApiMappingKey"] == key:
            raise CallerError("ConflictException", "ApiMapping key already exists for this domain name", status=409)
    return key


def _busy(name: str) -> CallerError:
    return CallerError("ConflictException", f"The domain {name} is being changed by others; try again.", status=409)
