"""The operations of the Lambda API that this plane serves, by the contract's names."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.controlplane.api.aliases import AliasOperations
from lambent.controlplane.api.concurrency import ConcurrencyOperations
from lambent.controlplane.api.fixed import FixedOperations
from lambent.controlplane.api.functions import FunctionOperations
from lambent.controlplane.api.layers import LayerOperations
from lambent.controlplane.api.tags import TagOperations
from lambent.controlplane.api.versions import VersionOperations
from lambent.controlplane.plane import ControlPlane
from lambent.model.function import LayerVersion, Version


def operations(plane: ControlPlane) -> Mapping[str, Operation]:
    functions, versions, aliases = FunctionOperations(plane), VersionOperations(plane), AliasOperations(plane)
    concurrency, layers, tags, fixed = (
        ConcurrencyOperations(plane),
        LayerOperations(plane),
        TagOperations(plane),
        FixedOperations(plane),
    )
    return {
        "CreateFunction": functions.create_function,
        "GetFunction": functions.get_function,
        "GetFunctionConfiguration": functions.get_function_configuration,
        "ListFunctions": functions.list_functions,
        "UpdateFunctionCode": functions.update_function_code,
        "UpdateFunctionConfiguration": functions.update_function_configuration,
        "DeleteFunction": functions.delete_function,
        "PublishVersion": versions.publish_version,
        "ListVersionsByFunction": versions.list_versions_by_function,
        "CreateAlias": aliases.create_alias,
        "GetAlias": aliases.get_alias,
        "ListAliases": aliases.list_aliases,
        "UpdateAlias": aliases.update_alias,
        "DeleteAlias": aliases.delete_alias,
        "PutFunctionConcurrency": concurrency.put_function_concurrency,
        "GetFunctionConcurrency": concurrency.get_function_concurrency,
        "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
        "GetAccountSettings": concurrency.get_account_settings,
        "PublishLayerVersion": layers.publish_layer_version,
        "GetLayerVersion": layers.get_layer_version,
        "GetLayerVersionByArn": layers.get_layer_version_by_arn,
        "ListLayers": layers.list_layers,
        "ListLayerVersions": layers.list_layer_versions,
        "DeleteLayerVersion": layers.delete_layer_version,
        "TagResource": tags.tag_resource,
        "UntagResource": tags.untag_resource,
        "ListTags": tags.list_tags,
        "GetFunctionCodeSigningConfig": fixed.get_function_code_signing_config,
        "GetRuntimeManagementConfig": fixed.get_runtime_management_config,
        "GetPolicy": fixed.get_policy,
    }


async def recover(plane: ControlPlane) -> None:
    """At the start of a node: every referenced tree is there, and nothing else."""
    versions = [item.value for item in await plane.registry.list(Version)]
    layers = [item.value for item in await plane.registry.list(LayerVersion)]
    referenced = {version.digest for version in versions}
    referenced |= {layer.digest for layer in layers if not layer.deleted}
    referenced |= {layer.digest for version in versions for layer in version.layers}
    layer_sets = [[layer.digest for layer in version.layers] for version in versions]
    await plane.store.recover(referenced, layer_sets)
