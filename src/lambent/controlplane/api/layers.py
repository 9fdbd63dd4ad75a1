"""PublishLayerVersion, GetLayerVersion, GetLayerVersionByArn, ListLayers, ListLayerVersions, DeleteLayerVersion."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.arns import LayerName
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane import shapes
from lambent.controlplane.packages import Package
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import conflict, invalid, no_resource
from lambent.controlplane.registry import ABSENT, Stored, put, repeat
from lambent.controlplane.sources import receive
from lambent.controlplane.storage import check_room
from lambent.model.errors import CallerError
from lambent.model.function import LayerVersion
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Layers:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def publish(self, context: RequestContext, params: Params) -> Params:
        plane = self._plane
        named = _parse_layer(context, params["LayerName"])
        async with receive(plane, params["Content"], field="Content.", account=context.account) as package:
            await check_room(plane.registry, context.account, package.code_size)
            try:
                layer = await repeat(lambda: self._write(context, named.name, params, package))
            except Conflict:
                raise conflict(f"Another version of layer {named.name} is being published. Try again.") from None
        return self._show(context, layer)

    async def get(self, context: RequestContext, params: Params) -> Params:
        named = _parse_layer(context, params["LayerName"])
        stored = await self._find(named, _check_number(params["VersionNumber"]))
        if stored is None:
            raise no_resource()
        return self._show(context, stored.value)

    async def get_by_arn(self, context: RequestContext, params: Params) -> Params:
        named = _parse_layer(context, params["Arn"])
        stored = None if named.version is None else await self._find(named, named.version)
        if stored is None:
            raise no_resource()
        return self._show(context, stored.value)

    async def list(self, context: RequestContext, params: Params) -> Params:
        """Each layer with its latest version that matches the filters."""
        latest: dict[str, LayerVersion] = {}
        for stored in await self._plane.registry.layers(context.account):
            if _matches(stored.value, context.region, params):
                latest[stored.value.name] = stored.value
        page, marker = cut_page(
            sorted(latest.values(), key=lambda layer: layer.name),
            marker=params.get("Marker"),
            max_items=params.get("MaxItems"),
            key=lambda layer: layer.name,
        )
        shown = [
            {
                "LayerName": layer.name,
                "LayerArn": arns.format_layer(layer.account, layer.region, layer.name),
                "LatestMatchingVersion": shapes.show_listed_layer(layer),
            }
            for layer in page
        ]
        return {"Layers": shown, "NextMarker": marker}

    async def list_versions(self, context: RequestContext, params: Params) -> Params:
        """Newest first."""
        named = _parse_layer(context, params["LayerName"])
        layers = [
            stored.value
            for stored in reversed(await self._plane.registry.layers(named.account, named.name))
            if _matches(stored.value, named.region, params)
        ]
        page, marker = cut_page(
            layers, marker=params.get("Marker"), max_items=params.get("MaxItems"), key=_descending_key
        )
        return {"LayerVersions": [shapes.show_listed_layer(layer) for layer in page], "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        """Functions that use the layer keep it; of a version that is not there: nothing, as the contract has it."""
        named = _parse_layer(context, params["LayerName"])
        stored = await self._find(named, _check_number(params["VersionNumber"]))
        if stored is None:
            return {}
        gone = msgspec.structs.replace(stored.value, deleted=True)
        # Nothing else ever changes a layer version: a conflict means that it was just deleted.
        try:
            await self._plane.registry.commit(put(gone, expect=stored.revision))
        except Conflict:
            return {}
        self._plane.sweeper.wake()
        return {}

    async def _write(self, context: RequestContext, name: str, params: Params, package: Package) -> LayerVersion:
        registry = self._plane.registry
        before = await registry.layers(context.account, name)
        layer = LayerVersion(
            account=context.account,
            region=context.region,
            name=name,
            version=before[-1].value.version + 1 if before else 1,
            description=params.get("Description") or "",
            license=params.get("LicenseInfo") or "",
            runtimes=list(params.get("CompatibleRuntimes") or []),
            architectures=list(params.get("CompatibleArchitectures") or []),
            digest=package.digest,
            code_size=package.code_size,
            created_at=self._plane.timestamp(),
        )
        await registry.commit(put(layer, expect=ABSENT))
        return layer

    async def _find(self, named: LayerName, number: int) -> Stored[LayerVersion] | None:
        stored = await self._plane.registry.layer(named.account, named.name, number)
        if stored is None or stored.value.deleted or stored.value.region != named.region:
            return None
        return stored

    def _show(self, context: RequestContext, layer: LayerVersion) -> Params:
        return shapes.show_layer(layer, location=self._plane.code_url(context, layer))


def _parse_layer(context: RequestContext, reference: str) -> LayerName:
    named = arns.parse_layer(reference, context=context)
    if named.account != context.account:
        raise CallerError(
            "AccessDeniedException",
            f"User: {context.access_key} is not authorized to perform this action on resource: {reference}",
            status=403,
        )
    if named.region != context.region:
        raise no_resource()
    return named


def _check_number(number: int) -> int:
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")
    return number


def _matches(layer: LayerVersion, region: str, params: Params) -> bool:
    runtime, architecture = params.get("CompatibleRuntime"), params.get("CompatibleArchitecture")
    return (
        not layer.deleted
        and layer.region == region
        and (runtime is None or runtime in layer.runtimes)
        and (architecture is None or architecture in layer.architectures)
    )


def _descending_key(layer: LayerVersion) -> str:
    return f"{10**10 - layer.version:011}"
