"""What a mapping may say (API reference, "CreateEventSourceMapping"): which members its source takes, and in what
ranges."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from lambent.events.mappings.sources.ports import PARALLEL_FIELDS, Rules, SourceKind, Values
from lambent.events.patterns import compile_filters
from lambent.model.errors import CallerError

COMMON = frozenset({"EventSourceArn", "BatchSize", "FilterCriteria", "MaximumBatchingWindowInSeconds"})
WITHOUT_EFFECT = frozenset({"KMSKeyArn", "MetricsConfig", "LoggingConfig", "ProvisionedPollerConfig"})
"""Members that nothing here would act on: refused unless they are empty."""
NOT_KEPT = frozenset({"FunctionName", "Enabled", "Tags", "UUID"})
"""Members that are no values of the source."""
MAX_FILTERS = 10
DEFAULTS: Mapping[str, Any] = {
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
    "FunctionResponseTypes": [],
}
"""Of members that the source takes."""


def invalid(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message, members={"Type": "User"})


def find_kind(kinds: Mapping[str, SourceKind], params: Values) -> SourceKind:
    """Raises CallerError for a source that nothing here reads."""
    for kind in kinds.values():
        if kind.claims(params):
            return kind
    known = ", ".join(sorted(kinds))
    raise invalid(f"Unrecognized event source, must be one of: {known}.")


def make_values(kind: SourceKind, params: Values) -> dict[str, Any]:
    """The members of a new mapping, checked and with their defaults."""
    values = _keep(params)
    rules = kind.rules(values)
    _check_names(kind, rules, values)
    for name in sorted(rules.needs - values.keys()):
        text = name[0].lower() + name[1:]
        raise invalid(
            f"1 validation error detected: Value null at '{text}' failed to satisfy constraint: Member must not be null"
        )
    values.setdefault("BatchSize", rules.default_batch_size)
    values.setdefault("MaximumBatchingWindowInSeconds", 0)
    for name, default in DEFAULTS.items():
        if name in rules.takes:
            values.setdefault(name, default)
    check_values(rules, values)
    return values


def change_values(kind: SourceKind, before: Values, params: Values) -> dict[str, Any]:
    """The members after an update. An empty structure or list takes what was there away."""
    changed = _keep(params)
    rules = kind.rules(before)
    _check_names(kind, rules, changed)
    values = {**before, **changed}
    check_values(rules, values)
    return values


def check_values(rules: Rules, values: Values) -> None:
    size, window_s = values["BatchSize"], values["MaximumBatchingWindowInSeconds"]
    if size > rules.max_batch_size:
        raise invalid(f"BatchSize {size} is more than {rules.max_batch_size}, the most for this event source.")
    if window_s > rules.max_window_s:
        limit = f"at most {rules.max_window_s}" if rules.max_window_s else "0"
        raise invalid(f"MaximumBatchingWindowInSeconds must be {limit} for this event source.")
    if size > rules.free_batch_size and window_s < 1:
        raise invalid(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than "
            f"{rules.free_batch_size}"
        )
    _check_start(values)
    _check_stream(values)
    filters = (values.get("FilterCriteria") or {}).get("Filters") or ()
    if len(filters) > MAX_FILTERS:
        raise invalid(f"FilterCriteria has {len(filters)} filters; there can be {MAX_FILTERS}.")
    compile_filters([entry.get("Pattern", "") for entry in filters], "body")


def show_values(values: Values) -> dict[str, Any]:
    shown = dict(values)
    if "StartingPositionTimestamp" in shown:
        shown["StartingPositionTimestamp"] = datetime.fromtimestamp(shown["StartingPositionTimestamp"]).astimezone()
    if not (shown.get("FilterCriteria") or {}).get("Filters"):
        shown.pop("FilterCriteria", None)
    return shown


def find_source(kind: SourceKind, values: Values) -> str:
    """What is read, in one text: two mappings of it and the same function are not allowed."""
    parts = [kind.name, values.get("EventSourceArn", "")]
    endpoints = (values.get("SelfManagedEventSource") or {}).get("Endpoints") or {}
    parts += [address for name in sorted(endpoints) for address in sorted(endpoints[name])]
    parts += [*values.get("Topics", ()), *values.get("Queues", ())]
    return "|".join(parts)


def _keep(params: Values) -> dict[str, Any]:
    for name in sorted(WITHOUT_EFFECT):
        if any((params.get(name) or {}).values()) if isinstance(params.get(name), dict) else params.get(name):
            raise invalid(f"{name} has no effect on Lambent: leave it out.")
    left_out = NOT_KEPT | WITHOUT_EFFECT
    kept = {name: value for name, value in params.items() if name not in left_out and value is not None}
    moment = kept.get("StartingPositionTimestamp")
    if isinstance(moment, datetime):
        kept["StartingPositionTimestamp"] = moment.timestamp()
    # Plain JSON, as it is stored.
    return msgspec.convert(kept, dict[str, Any])


def _check_names(kind: SourceKind, rules: Rules, values: Values) -> None:
    for name in sorted(values.keys() - COMMON - rules.takes - rules.needs):
        raise invalid(f"{name} is not supported for {kind.name} event sources.")


def _check_start(values: Values) -> None:
    at_timestamp = values.get("StartingPosition") == "AT_TIMESTAMP"
    if at_timestamp and "StartingPositionTimestamp" not in values:
        raise invalid("StartingPositionTimestamp is required when StartingPosition is AT_TIMESTAMP.")
    if not at_timestamp and "StartingPositionTimestamp" in values:
        raise invalid("StartingPositionTimestamp is allowed with StartingPosition AT_TIMESTAMP only.")


def _check_stream(values: Values) -> None:
    age = values.get("MaximumRecordAgeInSeconds", -1)
    if 0 <= age < 60:
        raise invalid(f"MaximumRecordAgeInSeconds must be -1 or from 60 to 604800, not {age}.")
    if values.get("DestinationConfig", {}).get("OnSuccess", {}).get("Destination"):
        raise invalid("DestinationConfig.OnSuccess is not supported for event source mappings.")
    if all(values.get(name, 0) > least for name, least in zip(sorted(PARALLEL_FIELDS), (1, 0), strict=True)):
        raise invalid("ParallelizationFactor must be 1 when TumblingWindowInSeconds is set.")
