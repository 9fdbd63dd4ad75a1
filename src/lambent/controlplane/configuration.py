"""Function settings beyond what the model itself can check: bounds, dependencies, what has no effect here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import Logging

RUNTIMES = (
    *(f"python3.{minor}" for minor in range(9, 15)),
    *(f"nodejs{major}.x" for major in (20, 22, 24)),
    "provided.al2",
    "provided.al2023",
)
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")

RESERVED_VARIABLES = frozenset(
    ["_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN"]
)

# Setting -> (how it is found to be asked for, why it cannot be had). Listed in docs/compatibility.md too.
_WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "VpcConfig": (lambda value: value.get("SubnetIds") or value.get("SecurityGroupIds"), "there are no VPCs here"),
    "KMSKeyArn": (bool, "there is no key service here; variables lie in the data folder, readable by the node alone"),
    "FileSystemConfigs": (bool, "network file systems are not mounted"),
    "DeadLetterConfig": (lambda value: value.get("TargetArn"), "dead-letter queues are not served yet"),
    "ImageConfig": (bool, "container images are not run; deploy a zip"),
    "CodeSigningConfigArn": (bool, "code signing is not checked"),
    "SnapStart": (lambda value: value.get("ApplyOn") == "PublishedVersions", "SnapStart is not served yet"),
    "TracingConfig": (lambda value: value.get("Mode") == "Active", "traces are not recorded yet; use PassThrough"),
    "CapacityProviderConfig": (bool, "there are no capacity providers here"),
    "DurableConfig": (bool, "durable functions are not served yet"),
    "TenancyConfig": (bool, "tenant isolation is not served yet"),
}


def invalid(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message)


def refuse_without_effect(parameters: Mapping[str, Any]) -> None:
    """A setting that would do nothing is refused by name, never swallowed."""
    for name, (is_asked, reason) in _WITHOUT_EFFECT.items():
        value = parameters.get(name)
        if value and is_asked(value):
            raise invalid(f"{name} has no effect on Lambent: {reason}.")
    if parameters.get("PackageType", "Zip") != "Zip":
        raise invalid("PackageType Image is not served by Lambent: deploy a zip package.")
    architectures = parameters.get("Architectures") or [ARCHITECTURE]
    if architectures != [ARCHITECTURE]:
        raise invalid(f"Architectures must be ['{ARCHITECTURE}']: that is what this machine is.")


def check_runtime(runtime: str | None) -> str:
    if runtime is None:
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    if runtime not in RUNTIMES:
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(RUNTIMES)}] or be a valid ARN"
        )
    return runtime


def check_handler(runtime: str, handler: str | None) -> str:
    if not handler and not runtime.startswith("provided"):
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    return handler or ""


def check_memory(memory_mb: int) -> int:
    if not limits.MEMORY_MB_MIN <= memory_mb <= limits.MEMORY_MB_MAX:
        raise invalid(
            f"'MemorySize' value failed to satisfy constraint: Member must have value between "
            f"{limits.MEMORY_MB_MIN} and {limits.MEMORY_MB_MAX}"
        )
    return memory_mb


def check_timeout(timeout_s: int) -> int:
    if not limits.TIMEOUT_SECONDS_MIN <= timeout_s <= limits.TIMEOUT_SECONDS_MAX:
        raise invalid(
            f"'Timeout' value failed to satisfy constraint: Member must have value between "
            f"{limits.TIMEOUT_SECONDS_MIN} and {limits.TIMEOUT_SECONDS_MAX}"
        )
    return timeout_s


def check_ephemeral(storage: Mapping[str, Any] | None) -> int:
    return int(storage["Size"]) if storage else limits.EPHEMERAL_MB_MIN


def check_environment(environment: Mapping[str, Any] | None) -> dict[str, str]:
    variables: dict[str, str] = dict((environment or {}).get("Variables") or {})
    reserved = sorted(variables.keys() & RESERVED_VARIABLES)
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            f"this request: {', '.join(reserved)}"
        )
    if any("\0" in value for value in variables.values()):
        raise invalid("Environment variables must not contain NUL characters.")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in variables.items())
    if size > limits.ENVIRONMENT_BYTES:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the {limits.ENVIRONMENT_BYTES // 1024}KB limit. String measured: {size} bytes"
        )
    return variables


def check_logging(name: str, config: Mapping[str, Any] | None, *, before: Logging | None = None) -> Logging:
    before = before or Logging(log_group=f"/aws/lambda/{name}")
    if not config:
        return before
    log_format = config.get("LogFormat", before.format)
    levels = [key for key in ("ApplicationLogLevel", "SystemLogLevel") if config.get(key)]
    if log_format == "Text" and levels:
        raise invalid(f"{' and '.join(levels)} can only be set when LogFormat is JSON.")
    return Logging(
        format=log_format,
        application_level=config.get("ApplicationLogLevel", before.application_level),
        system_level=config.get("SystemLogLevel", before.system_level),
        log_group=config.get("LogGroup", before.log_group),
    )


def check_tags(tags: Mapping[str, str]) -> None:
    """Lambent's own settings travel as tags; a misspelt one must not look as if it held."""
    for key, value in tags.items():
        if not key.startswith("lambent:"):
            continue
        if key == "lambent:network":
            if value not in ("outgoing", "none"):
                raise invalid("The tag lambent:network must be 'outgoing' or 'none'.")
        elif key == "lambent:max-wait-seconds":
            if not value.isdigit() or int(value) > limits.TIMEOUT_SECONDS_MAX:
                raise invalid("The tag lambent:max-wait-seconds must be a whole number from 0 to 900.")
        else:
            raise invalid(f"Lambent knows no tag {key}; there are lambent:network and lambent:max-wait-seconds.")
