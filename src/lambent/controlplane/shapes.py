"""How the contract shows functions, aliases and layers."""

from __future__ import annotations

import base64
from typing import Any

from lambent.awsapi import arns
from lambent.model.function import Alias, LayerVersion, Version


def show_version(version: Version, *, arn: str) -> dict[str, Any]:
    """A `FunctionConfiguration`; `arn` has the qualifier that the caller named, if any."""
    shown = show_listed(version, arn=arn)
    shown |= {
        "State": version.state,
        "StateReason": version.state_reason or None,
        "StateReasonCode": version.state_reason_code or None,
        "LastUpdateStatus": version.last_update_status or None,
        "LastUpdateStatusReason": version.last_update_reason or None,
        "LastUpdateStatusReasonCode": version.last_update_reason_code or None,
    }
    return shown


def show_listed(version: Version, *, arn: str) -> dict[str, Any]:
    """A `FunctionConfiguration` as lists have it, without states."""
    return {
        "FunctionName": version.name,
        "FunctionArn": arn,
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler,
        "CodeSize": version.code_size,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mb,
        "LastModified": version.last_modified,
        "CodeSha256": show_digest(version.digest),
        "Version": version.version,
        "Environment": {"Variables": version.environment} if version.environment else None,
        "DeadLetterConfig": {"TargetArn": version.dead_letters} if version.dead_letters else None,
        "TracingConfig": {"Mode": version.tracing_mode},
        "RevisionId": version.revision_id,
        "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size} for layer in version.layers] or None,
        "PackageType": "Zip",
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_mb},
        "SnapStart": {"ApplyOn": version.snap_start, "OptimizationStatus": version.optimization},
        "LoggingConfig": _show_logging(version),
    }


def show_digest(digest: str) -> str:
    """`CodeSha256`: the hash in base64."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def show_alias(alias: Alias, *, function_arn: str) -> dict[str, Any]:
    return {
        "AliasArn": f"{function_arn}:{alias.name}",
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RoutingConfig": {"AdditionalVersionWeights": alias.weights} if alias.weights else None,
        "RevisionId": alias.revision_id,
    }


def show_listed_layer(layer: LayerVersion) -> dict[str, Any]:
    return {
        "LayerVersionArn": arns.format_layer(layer.account, layer.region, layer.name, layer.version),
        "Version": layer.version,
        "Description": layer.description,
        "CreatedDate": layer.created_at,
        "CompatibleRuntimes": layer.runtimes or None,
        "CompatibleArchitectures": layer.architectures or None,
        "LicenseInfo": layer.license or None,
    }


def show_layer(layer: LayerVersion, *, location: str) -> dict[str, Any]:
    """`location` is where the zip can be downloaded."""
    return show_listed_layer(layer) | {
        "LayerArn": arns.format_layer(layer.account, layer.region, layer.name),
        "Content": {"Location": location, "CodeSha256": show_digest(layer.digest), "CodeSize": layer.code_size},
    }


def _show_logging(version: Version) -> dict[str, str]:
    logging = version.logging
    shown = {"LogFormat": logging.format, "LogGroup": logging.log_group or f"/aws/lambda/{version.name}"}
    if logging.format == "JSON":
        shown |= {"ApplicationLogLevel": logging.application_level, "SystemLogLevel": logging.system_level}
    return shown
