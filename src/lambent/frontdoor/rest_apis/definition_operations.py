"""ImportRestApi, PutRestApi, GetExport."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, find
from lambent.frontdoor.definitions import check_base_path, read_definition, write_definition
from lambent.frontdoor.rest_apis.answers import open_store
from lambent.frontdoor.rest_apis.apis import new_api, show_api
from lambent.frontdoor.rest_apis.exports import export
from lambent.frontdoor.rest_apis.imports import Imported, merge
from lambent.frontdoor.rest_apis.model import DEPLOYMENTS, RestApi, Snapshot
from lambent.substrate.ports import Documents

Address = Callable[[RequestContext, str], str]
"""(who asks, API) to the URL of the API."""


class DefinitionOperations:
    def __init__(self, documents: Documents, address: Address) -> None:
        self._documents = documents
        self._store = open_store(documents)
        self._address = address

    def operations(self) -> Mapping[str, Operation]:
        return {"ImportRestApi": self.create, "PutRestApi": self.put, "GetExport": self.export}

    async def create(self, context: RequestContext, params: Params) -> Params:
        imported = _read(params)
        api = new_api(context, imported.configuration)
        await self._store.add(context.account, api.api_id, api)
        return {**show_api(api), "warnings": imported.warnings}

    async def put(self, context: RequestContext, params: Params) -> Params:
        imported = _read(params)

        def work(api: RestApi) -> RestApi:
            if params.get("mode", "merge") == "overwrite":
                api.configuration = imported.configuration
            else:
                api.configuration = merge(api.configuration, imported.configuration)
            return api

        api = await self._store.change(context.account, params["restApiId"], work)
        return {**show_api(api), "warnings": imported.warnings}

    async def export(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        stage = find(api.stages, "stage", params["stageName"])
        if params["exportType"] not in ("oas30", "swagger"):
            raise bad_request("Export type must be oas30 or swagger.")
        document = await self._documents.get(DEPLOYMENTS, api.snapshot_key(stage["deploymentId"]))
        assert document is not None
        snapshot = msgspec.json.decode(document.value, type=Snapshot)
        extensions = {part.strip() for part in (params.get("parameters") or {}).get("extensions", "").split(",")}
        exported = export(
            api,
            snapshot.configuration,
            params["stageName"],
            version=params["exportType"],
            extensions=extensions,
            address=self._address(context, api.api_id),
        )
        body, kind = write_definition(exported, params.get("accepts") or "")
        name = f"{params['exportType']}_{params['stageName']}.{kind.rpartition('/')[2]}"
        return {"contentType": kind, "contentDisposition": f'attachment; filename="{name}"', "body": body}


def _read(params: Params) -> Imported:
    """Raises CallerError."""
    base_path = check_base_path((params.get("parameters") or {}).get("basepath"))
    imported = Imported(read_definition(params["body"]), base_path=base_path)
    if params.get("failOnWarnings") and imported.warnings:
        raise bad_request("Warnings found during import:\n\t" + "\n\t".join(imported.warnings))
    return imported
