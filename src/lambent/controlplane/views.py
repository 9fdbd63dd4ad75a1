"""Records as the contract shows them."""

from __future__ import annotations

import base64
from typing import Any

from lambent.awsapi.arns import format_layer
from lambent.model.function import LATEST, Alias, LayerVersion, Version


def code_sha256(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def show_version(version: Version, *, qualifier: str = "") -> dict[str, Any]:
    """FunctionConfiguration. `qualifier` is what the caller named, and part of the ARN then."""
    arn = f"{version.function_arn}:{qualifier}" if qualifier else version.function_arn
    logging: dict[str, Any] = {"LogFormat": version.logging.format, "LogGroup": version.logging.log_group}
    if version.logging.format == "JSON":
        logging["ApplicationLogLevel"] = version.logging.application_level
        logging["SystemLogLevel"] = version.logging.system_level
    return {
        "FunctionName": version.name,
        "FunctionArn": arn,
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler or None,
        "CodeSize": version.code_size,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mb,
        "LastModified": version.last_modified,
        "CodeSha256": code_sha256(version.digest),
        "Version": version.version,
        "Environment": {"Variables": version.environment} if version.environment else None,
        "TracingConfig": {"Mode": version.tracing_mode},
        "RevisionId": version.revision_id,
        "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size} for layer in version.layers] or None,
        "State": version.state,
        "StateReason": version.state_reason or None,
        "StateReasonCode": version.state_reason_code or None,
        "LastUpdateStatus": version.last_update_status,
        "LastUpdateStatusReason": version.last_update_reason or None,
        "LastUpdateStatusReasonCode": version.last_update_reason_code or None,
        "PackageType": "Zip",
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_mb},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": {
            "RuntimeVersionArn": f"arn:aws:lambda:{version.region}::runtime:lambent-{version.runtime}"
        },
        "LoggingConfig": logging,
    }


def show_published(version: Version) -> dict[str, Any]:
    return show_version(version, qualifier="" if version.version == LATEST else version.version)


def show_alias(alias: Alias, region: str) -> dict[str, Any]:
    arn = f"arn:aws:lambda:{region}:{alias.account}:function:{alias.function}:{alias.name}"
    return {
        "AliasArn": arn,
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RoutingConfig": {"AdditionalVersionWeights": alias.weights} if alias.weights else None,
        "RevisionId": alias.revision_id,
    }


def show_layer(layer: LayerVersion, *, location: str | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LayerArn": format_layer(layer.account, layer.region, layer.name),
        "LayerVersionArn": format_layer(layer.account, layer.region, layer.name, layer.version),
        "Description": layer.description,
        "CreatedDate": layer.created_at,
        "Version": layer.version,
        "CompatibleRuntimes": layer.runtimes or None,
        "CompatibleArchitectures": layer.architectures or None,
        "LicenseInfo": layer.license or None,
    }
    if location is not None:
        shown["Content"] = {
            "Location": location,
            "CodeSha256": code_sha256(layer.digest),
            "CodeSize": layer.code_size,
        }
    return shown
