"""A function's configuration beyond what the service model checks: bounds, reserved names, and what has no effect here.

Sources: API reference "CreateFunction", developer guide "Lambda quotas" and "Defined runtime environment variables".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from lambent.controlplane.refusals import invalid, violated
from lambent.controlplane.runtimes import check_runtime
from lambent.model import limits
from lambent.model.function import CONCURRENCY, Logging, Version

Params = Mapping[str, Any]

RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)


class _Refusal(NamedTuple):
    member: str
    is_default: Callable[[Any], bool]
    reason: str


def _is_empty(value: Any) -> bool:
    """Whether a value says nothing, however deep: deploy tools send empty structures for what is not set."""
    if isinstance(value, Mapping):
        return all(_is_empty(inner) for inner in value.values())
    return value in ("", None, False) or (isinstance(value, list) and not value)


# One row for each setting that Lambent cannot honour; docs/compatibility.md lists the same.
REFUSED = (
    _Refusal("VpcConfig", _is_empty, "functions do not join a VPC; the tag lambent:network chooses their network"),
    _Refusal("KMSKeyArn", _is_empty, "there is no key service to encrypt environment variables with"),
    _Refusal("FileSystemConfigs", _is_empty, "network file systems cannot be mounted"),
    _Refusal("ImageConfig", _is_empty, "functions are deployed as zip packages, not as images"),
    _Refusal("CodeSigningConfigArn", _is_empty, "code signing is not implemented by Lambent"),
    _Refusal("TenancyConfig", _is_empty, "tenant isolation is not implemented by Lambent yet"),
    _Refusal("CapacityProviderConfig", _is_empty, "functions run on this node, not on a capacity provider"),
    _Refusal("DurableConfig", _is_empty, "durable functions are not implemented by Lambent yet"),
    _Refusal("RuntimeConfig", _is_empty, "the runtime is chosen with Runtime alone"),
    _Refusal("AcceleratorConfig", _is_empty, "accelerators are not implemented by Lambent"),
    _Refusal("PublishTo", _is_empty, "publishing to $LATEST.PUBLISHED needs a capacity provider"),
    _Refusal("PackageType", lambda value: value == "Zip", "functions are deployed as zip packages; leave it at Zip"),
)


def check_refused(params: Params) -> None:
    """Raises CallerError `InvalidParameterValueException` naming the first setting that has no effect here."""
    for member, is_default, reason in REFUSED:
        value = params.get(member)
        if value is not None and not is_default(value):
            raise invalid(f"{member} is not supported: {reason}.")


def parse_changes(
    params: Params, current: Version | None, *, runtime_available: Callable[[str], str | None]
) -> dict[str, Any]:
    """Fields of `Version` that the configuration in a request sets; `current` is None for a new function.

    Layers and architecture are not among them. Raises CallerError.
    """
    check_refused(params)
    changes: dict[str, Any] = {}
    for member, field in (("Role", "role"), ("Description", "description"), ("Handler", "handler")):
        if params.get(member) is not None:
            changes[field] = params[member]
    if params.get("Runtime") is not None:
        check_runtime(params["Runtime"], available=runtime_available)
        changes["runtime"] = params["Runtime"]
    changes.update(_parse_sizes(params))
    if params.get("Environment") is not None:
        changes["environment"] = _parse_environment(params["Environment"])
    if params.get("DeadLetterConfig") is not None:
        changes["dead_letters"] = _parse_dead_letters(params["DeadLetterConfig"])
    if params.get("LoggingConfig") is not None:
        changes["logging"] = _parse_logging(params["LoggingConfig"], current.logging if current else Logging())
    if (params.get("SnapStart") or {}).get("ApplyOn") is not None:
        changes["snap_start"] = params["SnapStart"]["ApplyOn"]
    if (params.get("TracingConfig") or {}).get("Mode") is not None:
        changes["tracing_mode"] = params["TracingConfig"]["Mode"]
    return changes


def parse_architecture(params: Params, *, machine: str) -> str | None:
    """Raises CallerError `InvalidParameterValueException` for another one than the machine's."""
    wanted = params.get("Architectures")
    if not wanted:
        return None
    if wanted != [machine]:
        raise invalid(
            f"Architectures: this machine is {machine} and cannot run {', '.join(wanted)}. "
            f"Build the package for {machine} and set Architectures to [{machine}]."
        )
    return machine


def _parse_sizes(params: Params) -> dict[str, int]:
    ephemeral = (params.get("EphemeralStorage") or {}).get("Size")
    bounds = (
        ("timeout_s", "timeout", params.get("Timeout"), limits.TIMEOUT_SECONDS_MIN, limits.TIMEOUT_SECONDS_MAX),
        ("memory_mb", "memorySize", params.get("MemorySize"), limits.MEMORY_MB_MIN, limits.MEMORY_MB_MAX),
        ("ephemeral_mb", "ephemeralStorage.size", ephemeral, limits.EPHEMERAL_MB_MIN, limits.EPHEMERAL_MB_MAX),
    )
    sizes: dict[str, int] = {}
    for field, shown, value, least, most in bounds:
        if value is None:
            continue
        if value < least:
            raise violated(shown, value, f"Member must have value greater than or equal to {least}")
        if value > most:
            raise violated(shown, value, f"Member must have value less than or equal to {most}")
        sizes[field] = value
    return sizes


def _parse_environment(environment: Params) -> dict[str, str]:
    variables: dict[str, str] = dict(environment.get("Variables") or {})
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    for name, value in variables.items():
        if "\0" in value:
            raise invalid(f"Environment variable {name}: its value holds a NUL character. Remove it.")
    concurrency = variables.get(CONCURRENCY, "1")
    if not (
        concurrency.isascii() and concurrency.isdigit() and 1 <= int(concurrency) <= limits.ENVIRONMENT_CONCURRENCY
    ):
        raise invalid(
            f"Environment variable {CONCURRENCY}: '{concurrency}' must be a whole number from 1 to "
            f"{limits.ENVIRONMENT_CONCURRENCY}."
        )
    measured = msgspec.json.encode(variables)
    if len(measured) > limits.ENVIRONMENT_BYTES:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured.decode()}"
        )
    return variables


def _parse_dead_letters(given: Params) -> str:
    """That the target is there is seen when the first event is sent to it, as with a target deleted later."""
    target: str = given.get("TargetArn") or ""
    if target and target.split(":")[2:3] not in (["sqs"], ["sns"]):
        raise invalid(f"DeadLetterConfig: TargetArn {target} must be the ARN of an SQS queue or an SNS topic.")
    return target


def _parse_logging(given: Params, current: Logging) -> Logging:
    log_format = given.get("LogFormat") or current.format
    application, system = given.get("ApplicationLogLevel"), given.get("SystemLogLevel")
    log_group = given.get("LogGroup") or current.log_group
    if log_format != "JSON":
        if application or system:
            raise invalid(
                "LoggingConfig: ApplicationLogLevel and SystemLogLevel apply to the JSON log format only. "
                "Set LogFormat to JSON or leave the levels out."
            )
        return Logging(format=log_format, log_group=log_group)
    before = current if current.format == "JSON" else Logging()
    return Logging(
        format=log_format,
        application_level=application or before.application_level,
        system_level=system or before.system_level,
        log_group=log_group,
    )
