"""Layer versions."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.arns import format_layer, parse_layer
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.registry import put
from lambent.controlplane.views import show_layer
from lambent.model.errors import CallerError
from lambent.model.function import LayerVersion

Json = dict[str, Any]


class LayerOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def publish_layer_version(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = parse_layer(parameters["LayerName"], context=context).name
        data = await plane.package(parameters["Content"])
        digest = await plane.store.add(data)
        existing = await plane.registry.list(LayerVersion, context.account, name)
        layer = LayerVersion(
            account=context.account,
            region=context.region,
            name=name,
            version=max((item.value.version for item in existing), default=0) + 1,
            description=parameters.get("Description", ""),
            license=parameters.get("LicenseInfo", ""),
            runtimes=parameters.get("CompatibleRuntimes") or [],
            architectures=parameters.get("CompatibleArchitectures") or [],
            digest=digest,
            code_size=len(data),
            created_at=plane.timestamp(),
        )
        await plane.registry.commit(put(layer, expect=0), resource=name)
        return show_layer(layer, location=plane.code_url(context, digest))

    async def get_layer_version(self, context: RequestContext, parameters: Json) -> Json:
        return await self._show(context, parameters["LayerName"], parameters["VersionNumber"])

    async def get_layer_version_by_arn(self, context: RequestContext, parameters: Json) -> Json:
        name = parse_layer(parameters["Arn"], context=context)
        if name.version is None or name.account != context.account:
            raise _missing(parameters["Arn"])
        return await self._show(context, name.name, name.version)

    async def list_layers(self, context: RequestContext, parameters: Json) -> Json:
        newest: dict[str, LayerVersion] = {}
        for layer in await self._living(context, parameters):
            newest[layer.name] = layer
        layers = [newest[name] for name in sorted(newest)]
        page, marker = cut_page(
            layers,
            marker=parameters.get("Marker"),
            max_items=parameters.get("MaxItems"),
            key=lambda layer: layer.name,
        )
        shown = [
            {
                "LayerName": layer.name,
                "LayerArn": format_layer(layer.account, layer.region, layer.name),
                "LatestMatchingVersion": show_layer(layer),
            }
            for layer in page
        ]
        return {"Layers": shown, "NextMarker": marker}

    async def list_layer_versions(self, context: RequestContext, parameters: Json) -> Json:
        name = parse_layer(parameters["LayerName"], context=context).name
        layers = [layer for layer in await self._living(context, parameters) if layer.name == name]
        layers.sort(key=lambda layer: -layer.version)
        page, marker = cut_page(
            layers,
            marker=parameters.get("Marker"),
            max_items=parameters.get("MaxItems"),
            key=lambda layer: f"{10**10 - layer.version:010d}",
        )
        return {"LayerVersions": [show_layer(layer) for layer in page], "NextMarker": marker}

    async def delete_layer_version(self, context: RequestContext, parameters: Json) -> Json:
        name = parse_layer(parameters["LayerName"], context=context).name
        key = (context.account, name, f"{parameters['VersionNumber']:010d}")
        stored = await self._plane.registry.find(LayerVersion, *key)
        if stored is not None and not stored.value.deleted:
            deleted = msgspec.structs.replace(stored.value, deleted=True)
            await self._plane.registry.commit(put(deleted, expect=stored.revision), resource=name)
        return {}

    async def _show(self, context: RequestContext, reference: str, version: int) -> Json:
        name = parse_layer(reference, context=context).name
        stored = await self._plane.registry.find(LayerVersion, context.account, name, f"{version:010d}")
        if stored is None or stored.value.deleted:
            raise _missing(format_layer(context.account, context.region, name, version))
        return show_layer(stored.value, location=self._plane.code_url(context, stored.value.digest))

    async def _living(self, context: RequestContext, parameters: Json) -> list[LayerVersion]:
        runtime, architecture = parameters.get("CompatibleRuntime"), parameters.get("CompatibleArchitecture")
        stored = await self._plane.registry.list(LayerVersion, context.account)
        return [
            item.value
            for item in stored
            if not item.value.deleted
            and (runtime is None or runtime in item.value.runtimes)
            and (architecture is None or architecture in item.value.architectures)
        ]


def _missing(arn: str) -> CallerError:
    return CallerError("ResourceNotFoundException", f"The resource you requested does not exist: {arn}", status=404)
