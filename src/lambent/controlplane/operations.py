"""The control plane's part of the Lambda API, by the model's names of the operations."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.controlplane.api.account import Account
from lambent.controlplane.api.aliases import Aliases
from lambent.controlplane.api.code import Code
from lambent.controlplane.api.concurrency import Concurrency
from lambent.controlplane.api.functions import Functions
from lambent.controlplane.api.layers import Layers
from lambent.controlplane.api.permissions import Permissions
from lambent.controlplane.api.provisioned import ProvisionedConcurrency
from lambent.controlplane.api.tags import FunctionTags
from lambent.controlplane.api.urls import FunctionUrls
from lambent.controlplane.api.versions import Versions
from lambent.controlplane.plane import ControlPlane


def operations(plane: ControlPlane) -> Mapping[str, Operation]:
    functions, versions, aliases, layers = Functions(plane), Versions(plane), Aliases(plane), Layers(plane)
    concurrency, tags, permissions = Concurrency(plane), FunctionTags(plane), Permissions(plane)
    provisioned, urls = ProvisionedConcurrency(plane), FunctionUrls(plane)
    return {
        "AddPermission": permissions.add,
        "CreateAlias": aliases.create,
        "CreateFunction": functions.create,
        "CreateFunctionUrlConfig": urls.create,
        "DeleteAlias": aliases.delete,
        "DeleteFunction": functions.delete,
        "DeleteFunctionConcurrency": concurrency.delete,
        "DeleteFunctionUrlConfig": urls.delete,
        "DeleteLayerVersion": layers.delete,
        "DeleteProvisionedConcurrencyConfig": provisioned.delete,
        "GetAccountSettings": Account(plane).get_settings,
        "GetAlias": aliases.get,
        "GetFunction": functions.get,
        "GetFunctionCodeSigningConfig": permissions.get_code_signing,
        "GetFunctionConcurrency": concurrency.get,
        "GetFunctionConfiguration": functions.get_configuration,
        "GetFunctionUrlConfig": urls.get,
        "GetLayerVersion": layers.get,
        "GetLayerVersionByArn": layers.get_by_arn,
        "GetPolicy": permissions.get_policy,
        "GetProvisionedConcurrencyConfig": provisioned.get,
        "GetRuntimeManagementConfig": versions.get_runtime_management,
        "ListAliases": aliases.list,
        "ListFunctionUrlConfigs": urls.list,
        "ListFunctions": functions.list,
        "ListLayerVersions": layers.list_versions,
        "ListLayers": layers.list,
        "ListProvisionedConcurrencyConfigs": provisioned.list,
        "ListTags": tags.list,
        "ListVersionsByFunction": versions.list,
        "PublishLayerVersion": layers.publish,
        "PublishVersion": versions.publish,
        "PutFunctionConcurrency": concurrency.put,
        "PutProvisionedConcurrencyConfig": provisioned.put,
        "RemovePermission": permissions.remove,
        "TagResource": tags.tag,
        "UntagResource": tags.untag,
        "UpdateAlias": aliases.update,
        "UpdateFunctionCode": Code(plane).update,
        "UpdateFunctionConfiguration": functions.update_configuration,
        "UpdateFunctionUrlConfig": urls.update,
    }
