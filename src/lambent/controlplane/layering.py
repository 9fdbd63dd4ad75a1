"""The layers of a function: found by ARN, checked as a list, and weighed together with the function's code."""

from __future__ import annotations

from collections.abc import Sequence

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import invalid
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import LayerRef


async def find_layers(plane: ControlPlane, context: RequestContext, layer_arns: Sequence[str]) -> list[LayerRef]:
    """Raises CallerError."""
    if len(layer_arns) > limits.MAX_LAYERS:
        raise invalid(f"Cannot reference more than {limits.MAX_LAYERS} layers.")
    refs = [await _find_layer(plane, context, arn) for arn in layer_arns]
    _check_distinct(layer_arns)
    return refs


async def check_unzipped(plane: ControlPlane, code_bytes: int, layers: Sequence[LayerRef]) -> None:
    """Raises CallerError when code and layers together unpack to more than a function may have."""
    total = code_bytes
    for layer in layers:
        total += await plane.code.unzipped_bytes(layer.digest)
    if total > limits.UNZIPPED_CODE_BYTES:
        raise invalid(
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{limits.UNZIPPED_CODE_BYTES} bytes. The actual size is {total} bytes."
        )


async def _find_layer(plane: ControlPlane, context: RequestContext, arn: str) -> LayerRef:
    named = arns.parse_layer(arn, context=context)
    if named.account != context.account:
        raise CallerError(
            "AccessDeniedException",
            f"User: {context.access_key} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} "
            "because no resource-based policy allows the lambda:GetLayerVersion action",
            status=403,
        )
    if named.region != context.region:
        raise invalid(
            f"Layers are not in the same region as the function. Layers are expected to be in region {context.region}."
        )
    stored = None
    if named.version is not None:
        stored = await plane.registry.layer(named.account, named.name, named.version)
    if stored is None or stored.value.deleted or stored.value.region != context.region:
        raise invalid(f"Layer version {arn} does not exist.")
    return LayerRef(arn=arn, code_size=stored.value.code_size, digest=stored.value.digest)


def _check_distinct(layer_arns: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for arn in layer_arns:
        layer = arn.rpartition(":")[0]
        if layer in seen:
            raise invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{seen[layer]} and {arn} are versions of the same layer."
            )
        seen[layer] = arn
