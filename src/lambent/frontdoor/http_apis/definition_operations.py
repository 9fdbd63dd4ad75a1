"""ImportApi, ReimportApi, ExportApi."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, not_found
from lambent.frontdoor.definitions import check_base_path, read_definition, write_definition
from lambent.frontdoor.http_apis.apis import Address, show_api
from lambent.frontdoor.http_apis.deployments import deploy
from lambent.frontdoor.http_apis.exports import export
from lambent.frontdoor.http_apis.imports import Imported
from lambent.frontdoor.http_apis.model import HTTP, Api
from lambent.frontdoor.http_apis.store import ApiStore
from lambent.substrate.ports import Documents


class DefinitionOperations:
    def __init__(self, documents: Documents, address: Address) -> None:
        self._store = ApiStore(documents)
        self._address = address

    def operations(self) -> Mapping[str, Operation]:
        return {"ImportApi": self.create, "ReimportApi": self.replace, "ExportApi": self.export}

    async def create(self, context: RequestContext, params: Params) -> Params:
        imported = _read(context, params)
        await self._store.add(context.account, imported.api.api_id, imported.api)
        return self._show(context, imported.api, imported)

    async def replace(self, context: RequestContext, params: Params) -> Params:
        """What is configured is replaced whole; stages and tags stay, and what deploys by itself does."""
        imported = _read(context, params)

        def work(api: Api) -> Api:
            _check_protocol(api)
            api.settings = imported.api.settings
            api.configuration = imported.api.configuration
            api.tags |= imported.api.tags
            deploy(api)
            return api

        return self._show(context, await self._store.change(context.account, params["ApiId"], work), imported)

    async def export(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        _check_protocol(api)
        if params["Specification"] != "OAS30":
            raise bad_request("Specification must be OAS30.")
        if params["OutputType"] not in ("JSON", "YAML"):
            raise bad_request("OutputType must be JSON or YAML.")
        if params.get("ExportVersion") not in (None, "1.0"):
            raise bad_request("ExportVersion must be 1.0.")
        stage = params.get("StageName")
        configuration = api.configuration if stage is None else api.served(stage)
        if configuration is None:
            raise not_found("Stage", stage or "")
        document = export(
            api,
            configuration,
            address=self._address(context, api.api_id, api.protocol),
            stage=stage,
            with_extensions=params.get("IncludeExtensions", True),
        )
        return {"body": write_definition(document, params["OutputType"].lower())[0]}

    def _show(self, context: RequestContext, api: Api, imported: Imported) -> Params:
        shown = show_api(context, api, self._address)
        return {**shown, "Warnings": imported.warnings, "ImportInfo": imported.ignored}


def _read(context: RequestContext, params: Params) -> Imported:
    """Raises CallerError."""
    base_path = check_base_path(params.get("Basepath"))
    imported = Imported(context, read_definition(params["Body"].encode()), base_path=base_path)
    if params.get("FailOnWarnings") and imported.warnings:
        raise bad_request("Warnings found during import:\n\t" + "\n\t".join(imported.warnings))
    return imported


def _check_protocol(api: Api) -> None:
    if api.protocol != HTTP:
        raise bad_request(f"The API {api.api_id} is a WebSocket API; only HTTP APIs have OpenAPI definitions.")
