"""What happens to objects, told to functions, queues, topics and the bus (S3 user guide, "Event notifications").

An event is put into the outbox in the transaction that makes it true, and is then tried until it arrived or ran out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import msgspec

from lambent.events import handover
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.handover import HandOver
from lambent.events.storage.calls import Call
from lambent.events.storage.model import Bucket, Rule, StoredObject
from lambent.events.storage.refusals import invalid, not_implemented
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection

BOX = "storage"
_EVENTS = {
    "s3:ObjectCreated:": ("*", "Put", "Post", "Copy", "CompleteMultipartUpload"),
    "s3:ObjectRemoved:": ("*", "Delete", "DeleteMarkerCreated"),
}
_KINDS = (
    ("LambdaFunctionConfigurations", "LambdaFunctionArn", "lambda"),
    ("QueueConfigurations", "QueueArn", "sqs"),
    ("TopicConfigurations", "TopicArn", "sns"),
)
_REASONS = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "ObjectRemoved:Delete": "DeleteObject",
}


class Change(NamedTuple):
    """Something that happened to an object."""

    name: str
    """ObjectCreated:Put"""
    bucket: Bucket
    key: str
    stored: StoredObject | None
    """None for one that is gone."""
    at: float


def announce(connection: Connection, call: Call, change: Change) -> list[str]:
    """Within the transaction that makes it true. Returns the lanes to ring."""
    bucket, now = change.bucket, change.at
    sequencer = f"{int(now * 1_000_000):016X}"
    deliveries = []
    for rule in bucket.rules:
        if _matches(rule, change.name, change.key):
            record = _write_record(call, change, rule)
            record["s3"]["object"]["sequencer"] = sequencer
            deliveries.append(_deliver(call, bucket, rule.target, {"Records": [record]}))
    if bucket.to_bus:
        detail = _write_detail(call, change)
        detail["object"]["sequencer"] = sequencer
        kind = "Object Created" if change.stored is not None else "Object Deleted"
        delivery = _deliver(call, bucket, _default_bus(bucket), detail)
        deliveries.append(msgspec.structs.replace(delivery, attributes={"Source": "aws.s3", "DetailType": kind}))
    for delivery in deliveries:
        handover.put(connection, BOX, delivery.target, HandOver(delivery=delivery, since=now), now=now)
    return [delivery.target for delivery in deliveries]


def _deliver(call: Call, bucket: Bucket, target: str, body: dict[str, Any]) -> Delivery:
    return Delivery(
        account=bucket.account,
        region=bucket.region,
        target=target,
        body=msgspec.json.encode(body),
        source_arn=arn_of(bucket.name),
        trace_id=call.trace_id,
    )


def _matches(rule: Rule, name: str, key: str) -> bool:
    general = name.partition(":")[0] + ":*"
    if not {f"s3:{name}", f"s3:{general}"} & set(rule.events):
        return False
    return key.startswith(rule.prefix) and key.endswith(rule.suffix)


def _write_record(call: Call, change: Change, rule: Rule) -> dict[str, Any]:
    bucket, stored = change.bucket, change.stored
    shown: dict[str, Any] = {"key": quote_plus(change.key, safe="/*")}
    if stored is not None:
        shown |= {"size": stored.size, "eTag": stored.etag}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": bucket.region,
        "eventTime": _stamp(change.at),
        "eventName": change.name,
        "userIdentity": {"principalId": f"AWS:{call.context.principal or call.context.account}"},
        "requestParameters": {"sourceIPAddress": call.source_ip},
        "responseElements": {"x-amz-request-id": call.context.request_id, "x-amz-id-2": call.context.request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": rule.id,
            "bucket": {
                "name": bucket.name,
                "ownerIdentity": {"principalId": bucket.account},
                "arn": arn_of(bucket.name),
            },
            "object": shown,
        },
    }


def _write_detail(call: Call, change: Change) -> dict[str, Any]:
    bucket, stored = change.bucket, change.stored
    shown: dict[str, Any] = {"key": change.key}
    if stored is not None:
        shown |= {"size": stored.size, "etag": stored.etag}
    detail = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": shown,
        "request-id": call.context.request_id,
        "requester": call.context.account,
        "source-ip-address": call.source_ip,
        "reason": _REASONS[change.name],
    }
    return detail | ({} if stored is not None else {"deletion-type": "Permanently Deleted"})


def _default_bus(bucket: Bucket) -> str:
    return f"arn:aws:events:{bucket.region}:{bucket.account}:event-bus/default"


def arn_of(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Configurations.


def lower_filter_names(parameters: dict[str, Any]) -> None:
    """The contract takes `Prefix` for `prefix`, and its model does not know."""
    for member, _, _ in _KINDS:
        for entry in parameters["NotificationConfiguration"].get(member, ()):
            for rule in entry.get("Filter", {}).get("Key", {}).get("FilterRules", ()):
                rule["Name"] = rule.get("Name", "").lower()


def parse_rules(configuration: dict[str, Any], new_id: Any) -> tuple[Rule, ...]:
    """Raises CallerError for what is not served or cannot be told apart."""
    rules = []
    for member, arn_name, service in _KINDS:
        for entry in configuration.get(member, ()):
            target = entry[arn_name]
            if target.split(":")[2:3] != [service]:
                raise invalid(f"'{target}' in {member} is not an ARN of its kind ({service}).")
            events = tuple(entry["Events"])
            for event in events:
                _check_event(event)
            prefix, suffix = _parse_filter(entry.get("Filter", {}))
            rules.append(
                Rule(id=entry.get("Id") or new_id(), target=target, events=events, prefix=prefix, suffix=suffix)
            )
    _check_apart(rules)
    return tuple(rules)


def show_rules(bucket: Bucket) -> dict[str, Any]:
    """The configuration, as GetBucketNotificationConfiguration tells it."""
    shown: dict[str, Any] = {}
    for member, arn_name, service in _KINDS:
        entries = [_show(rule, arn_name) for rule in bucket.rules if rule.target.split(":")[2] == service]
        if entries:
            shown[member] = entries
    return shown | ({"EventBridgeConfiguration": {}} if bucket.to_bus else {})


def _show(rule: Rule, arn_name: str) -> dict[str, Any]:
    filters = [("Prefix", rule.prefix), ("Suffix", rule.suffix)]
    found = [{"Name": name, "Value": value} for name, value in filters if value]
    shown: dict[str, Any] = {"Id": rule.id, arn_name: rule.target, "Events": list(rule.events)}
    return shown | ({"Filter": {"Key": {"FilterRules": found}}} if found else {})


def _check_event(event: str) -> None:
    for prefix, names in _EVENTS.items():
        if event.startswith(prefix) and event.removeprefix(prefix) in names:
            return
    served = ", ".join(f"{prefix}{name}" for prefix, names in _EVENTS.items() for name in names)
    raise not_implemented(f"The event '{event}' (there are {served})")


def _parse_filter(stated: dict[str, Any]) -> tuple[str, str]:
    found = {"prefix": "", "suffix": ""}
    for rule in stated.get("Key", {}).get("FilterRules", ()):
        name = rule.get("Name", "").lower()
        if name not in found:
            raise invalid("filter rule name must be either prefix or suffix")
        found[name] = rule.get("Value", "")
    return found["prefix"], found["suffix"]


def _check_apart(rules: Sequence[Rule]) -> None:
    if len({rule.id for rule in rules}) < len(rules):
        raise invalid("Same ID used for multiple configurations. Must be unique.")
    for at, one in enumerate(rules):
        for other in rules[at + 1 :]:
            if _share_events(one, other) and _overlap(one, other):
                raise invalid(
                    "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the "
                    "prefixes are overlapping for the same event type."
                )


def _share_events(one: Rule, other: Rule) -> bool:
    def widen(event: str) -> str:
        return event.rpartition(":")[0] + ":*"

    return any(a == b or a == widen(b) or b == widen(a) for a in one.events for b in other.events)


def _overlap(one: Rule, other: Rule) -> bool:
    prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    return prefixes and suffixes


async def check_targets(deliveries: Deliveries, account: str, rules: Sequence[Rule]) -> None:
    """Raises CallerError `InvalidArgument` for a target that is not there."""
    for rule in rules:
        try:
            await deliveries.check(account, rule.target)
        except CallerError as exc:
            raise invalid(f"Unable to validate the following destination configurations: {exc.message}") from exc


async def send_test(deliveries: Deliveries, call: Call, bucket: Bucket, rules: Sequence[Rule], now: float) -> None:
    """To queues and topics; a function is not invoked by its configuration."""
    body = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": _stamp(now),
        "Bucket": bucket.name,
        "RequestId": call.context.request_id,
        "HostId": call.context.request_id,
    }
    for target in {rule.target for rule in rules if rule.target.split(":")[2] != "lambda"}:
        await deliveries.deliver(_deliver(call, bucket, target, body))
