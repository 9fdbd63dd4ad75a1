"""The operations of EventBridge on buses, rules and targets (API reference, 2015-10-07)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.events import outbox
from lambent.events.buses import store
from lambent.events.buses.inputs import check_path
from lambent.events.buses.store import BOX, DEFAULT_BUS, Record
from lambent.events.deliveries import Deliveries
from lambent.events.schedules.expressions import At, ExpressionRefused, parse_expression
from lambent.events.schedules.timers import set_timer
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables

PAGE = 100
MOST_TARGETS = 5
_TARGETS = ("lambda", "sqs", "sns", "events")


class Buses:
    """`wake` tells the timers that a due time has changed."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        wake: Callable[[], None],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._deliveries = deliveries
        self._wake = wake
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateEventBus": self.create_bus,
            "UpdateEventBus": self.update_bus,
            "DeleteEventBus": self.delete_bus,
            "DescribeEventBus": self.describe_bus,
            "ListEventBuses": self.list_buses,
            "PutPermission": self.put_permission,
            "RemovePermission": self.remove_permission,
            "PutRule": self.put_rule,
            "DeleteRule": self.delete_rule,
            "DescribeRule": self.describe_rule,
            "ListRules": self.list_rules,
            "EnableRule": self.enable_rule,
            "DisableRule": self.disable_rule,
            "PutTargets": self.put_targets,
            "RemoveTargets": self.remove_targets,
            "ListTargetsByRule": self.list_targets,
            "ListRuleNamesByTarget": self.list_rule_names,
            "TestEventPattern": self.test_pattern,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list_tags,
        }

    async def create_bus(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters["Name"]
        if "/" in name or name.startswith("aws."):
            raise invalid(f"The name {name} of an event bus has no '/' and does not begin with 'aws.'.")
        record = {
            **self._new_bus(context, name),
            **_chosen(parameters, "Description", "DeadLetterConfig"),
            "Tags": _read_tags(parameters),
        }

        def work(connection: Connection) -> None:
            if store.has_bus(connection, context.account, record["Arn"]):
                raise CallerError("ResourceAlreadyExistsException", f"Event bus {name} already exists.")
            _put(connection, "bus", record)

        await self._tables.write(work)
        return {"EventBusArn": record["Arn"], **_chosen(record, "Description", "DeadLetterConfig")}

    async def update_bus(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        changed = _chosen(parameters, "Description", "DeadLetterConfig")
        record = await self._change_bus(context, parameters.get("Name"), lambda record: {**record, **changed})
        return {**_chosen(record, "Arn", "Name", "Description", "DeadLetterConfig")}

    async def delete_bus(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters["Name"]
        if name == DEFAULT_BUS:
            raise invalid("Cannot delete event bus default.")
        arn = bus_of(context, name)

        def work(connection: Connection) -> None:
            if store.walk(connection, "rule", arn, limit=1):
                raise invalid(f"Event bus {name} has rules; delete them first.")
            store.delete(connection, arn)

        await self._tables.write(work)
        return {}

    async def describe_bus(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return show(await self._tables.read(lambda connection: self._bus(connection, context, parameters.get("Name"))))

    async def list_buses(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        def work(connection: Connection) -> list[Record]:
            found = store.walk(connection, "bus", place(context))
            default = store.bus_arn(context.account, context.region, DEFAULT_BUS)
            if all(one["Arn"] != default for one in found):
                found.insert(0, self._new_bus(context, DEFAULT_BUS))
            return found

        return page("EventBuses", await self._tables.read(work), parameters)

    async def put_permission(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        def change(record: Record) -> Record:
            if parameters.get("Policy"):
                return {**record, "Policy": parameters["Policy"]}
            policy = json.loads(record.get("Policy") or '{"Version": "2012-10-17", "Statement": []}')
            statement = parameters.get("StatementId", "")
            principal = parameters.get("Principal", "*")
            kept = [one for one in policy["Statement"] if one.get("Sid") != statement]
            kept.append(
                {
                    "Sid": statement,
                    "Effect": "Allow",
                    "Principal": principal if principal == "*" else {"AWS": f"arn:aws:iam::{principal}:root"},
                    "Action": parameters.get("Action", "events:PutEvents"),
                    "Resource": record["Arn"],
                }
            )
            return {**record, "Policy": json.dumps({**policy, "Statement": kept})}

        await self._change_bus(context, parameters.get("EventBusName"), change)
        return {}

    async def remove_permission(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        def change(record: Record) -> Record:
            policy = json.loads(record.get("Policy") or '{"Statement": []}')
            statements = [] if parameters.get("RemoveAllPermissions") else policy["Statement"]
            kept = [one for one in statements if one.get("Sid") != parameters.get("StatementId")]
            if statements and len(kept) == len(statements):
                raise not_found(f"Statement {parameters.get('StatementId')}")
            rest = {name: value for name, value in record.items() if name != "Policy"}
            return {**rest, "Policy": json.dumps({**policy, "Statement": kept})} if kept else rest

        await self._change_bus(context, parameters.get("EventBusName"), change)
        return {}

    async def put_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, bus = parameters["Name"], bus_of(context, parameters.get("EventBusName"))
        pattern, schedule = parameters.get("EventPattern"), parameters.get("ScheduleExpression")
        if not pattern and not schedule:
            raise invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if pattern:
            store.compiled(pattern)
        bus_name = bus.rpartition("/")[2]
        due_at = None
        if schedule:
            if bus_name != DEFAULT_BUS:
                raise invalid("ScheduleExpression is supported only on the default event bus.")
            due_at = self._first_due(schedule)
        record = {
            **_chosen(parameters, "Name", "EventPattern", "ScheduleExpression", "Description", "RoleArn"),
            "Arn": store.rule_arn(context.account, context.region, bus_name, name),
            "State": parameters.get("State") or "ENABLED",
            "EventBusName": bus_name,
            "CreatedBy": context.account,
            "Parent": bus,
            "Began": self._now(),
        }

        def work(connection: Connection) -> None:
            self._bus(connection, context, bus)
            found = store.get(connection, record["Arn"]) or {}
            tags = found.get("Tags") or _read_tags(parameters)
            _put(connection, "rule", {**record, "Targets": found.get("Targets", {}), "Tags": tags})
            set_timer(connection, BOX, record["Arn"], due_at if record["State"] != "DISABLED" else None)

        await self._tables.write(work)
        self._wake()
        return {"RuleArn": record["Arn"]}

    async def delete_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = rule_of(context, parameters)

        def work(connection: Connection) -> None:
            found = store.get(connection, arn)
            if found is not None and found["Targets"]:
                raise invalid("Rule can't be deleted since it has targets.")
            store.delete(connection, arn)
            set_timer(connection, BOX, arn, None)

        await self._tables.write(work)
        return {}

    async def describe_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return show(await self._tables.read(lambda connection: _rule(connection, rule_of(context, parameters))))

    async def list_rules(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        bus, prefix = bus_of(context, parameters.get("EventBusName")), parameters.get("NamePrefix", "")

        def work(connection: Connection) -> list[Record]:
            self._bus(connection, context, bus)
            return [one for one in store.walk(connection, "rule", bus) if one["Name"].startswith(prefix)]

        return page("Rules", await self._tables.read(work), parameters)

    async def enable_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return await self._set_state(rule_of(context, parameters), "ENABLED")

    async def disable_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return await self._set_state(rule_of(context, parameters), "DISABLED")

    async def put_targets(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn, failed, good = rule_of(context, parameters, "Rule"), [], {}
        for target in parameters["Targets"]:
            try:
                _check_target(target)
                await self._deliveries.check(context.account, target["Arn"])
            except CallerError as exc:
                failed.append({"TargetId": target["Id"], "ErrorCode": exc.code, "ErrorMessage": exc.message})
                continue
            good[target["Id"]] = target

        def work(connection: Connection) -> None:
            rule = _rule(connection, arn)
            targets = {**rule["Targets"], **good}
            if len(targets) > MOST_TARGETS:
                raise CallerError("LimitExceededException", f"A rule has at most {MOST_TARGETS} targets.")
            _put(connection, "rule", {**rule, "Targets": targets})

        await self._tables.write(work)
        return {"FailedEntryCount": len(failed), "FailedEntries": failed}

    async def remove_targets(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn, dropped = rule_of(context, parameters, "Rule"), set(parameters["Ids"])

        def work(connection: Connection) -> None:
            rule = _rule(connection, arn)
            kept = {name: target for name, target in rule["Targets"].items() if name not in dropped}
            _put(connection, "rule", {**rule, "Targets": kept})
            for name in rule["Targets"].keys() & dropped:
                outbox.drop_lanes(connection, BOX, store.lane_of(arn, name))

        await self._tables.write(work)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    async def list_targets(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = rule_of(context, parameters, "Rule")
        rule = await self._tables.read(lambda connection: _rule(connection, arn))
        return {"Targets": list(rule["Targets"].values())}

    async def list_rule_names(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        bus, target = bus_of(context, parameters.get("EventBusName")), parameters["TargetArn"]
        rules = await self._tables.read(lambda connection: store.walk(connection, "rule", bus))
        names = [rule["Name"] for rule in rules if any(one["Arn"] == target for one in rule["Targets"].values())]
        return {"RuleNames": names}

    async def test_pattern(self, _context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        pattern = store.compiled(parameters["EventPattern"])
        try:
            event = json.loads(parameters["Event"])
        except ValueError:
            event = None
        needed = {"id", "account", "source", "time", "region", "resources", "detail-type"}
        if not isinstance(event, dict) or needed - event.keys():
            raise invalid(
                f"Parameter Event is not valid. Reason: it is a JSON object with {', '.join(sorted(needed))}."
            )
        return {"Result": pattern.matches(event)}

    async def tag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        added = _read_tags(parameters)
        return await self._change_tags(context, parameters["ResourceARN"], lambda tags: {**tags, **added})

    async def untag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        dropped = set(parameters["TagKeys"])
        return await self._change_tags(
            context,
            parameters["ResourceARN"],
            lambda tags: {key: value for key, value in tags.items() if key not in dropped},
        )

    async def list_tags(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        record = await self._tables.read(
            lambda connection: self._tagged(connection, context, parameters["ResourceARN"])[1]
        )
        return {"Tags": [{"Key": key, "Value": value} for key, value in record.get("Tags", {}).items()]}

    def _tagged(self, connection: Connection, context: RequestContext, arn: str) -> tuple[str, Record]:
        if arn.split(":")[4:5] != [context.account]:
            raise not_found(f"Resource {arn}")
        if ":event-bus/" in arn:
            return "bus", self._bus(connection, context, arn)
        return "rule", _rule(connection, arn)

    async def _change_tags(
        self, context: RequestContext, arn: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> Mapping[str, Any]:
        def work(connection: Connection) -> None:
            kind, record = self._tagged(connection, context, arn)
            _put(connection, kind, {**record, "Tags": change(record.get("Tags", {}))})

        await self._tables.write(work)
        return {}

    async def _set_state(self, arn: str, state: str) -> Mapping[str, Any]:
        def work(connection: Connection) -> None:
            rule = {**_rule(connection, arn), "State": state, "Began": self._now()}
            _put(connection, "rule", rule)
            schedule = rule.get("ScheduleExpression")
            due_at = self._first_due(schedule) if schedule and state == "ENABLED" else None
            set_timer(connection, BOX, arn, due_at)

        await self._tables.write(work)
        self._wake()
        return {}

    def _first_due(self, schedule: str) -> float | None:
        now = self._now()
        try:
            expression = parse_expression(schedule, start_at=now)
        except ExpressionRefused as exc:
            raise invalid(f"Parameter ScheduleExpression is not valid. Reason: {exc}.") from None
        if isinstance(expression, At):
            raise invalid("Parameter ScheduleExpression is not valid. Reason: at() is for schedules, not for rules.")
        return expression.next_after(now)

    def _new_bus(self, context: RequestContext, name: str) -> Record:
        date = datetime.fromtimestamp(self._now(), UTC)
        return {
            "Arn": store.bus_arn(context.account, context.region, name),
            "Name": name,
            "CreationTime": date,
            "LastModifiedTime": date,
            "Parent": place(context),
        }

    def _bus(self, connection: Connection, context: RequestContext, name: str | None) -> Record:
        arn = bus_of(context, name)
        found = store.get(connection, arn)
        if found is not None:
            return found
        if arn == store.bus_arn(context.account, context.region, DEFAULT_BUS):
            return self._new_bus(context, DEFAULT_BUS)
        raise not_found(f"Event bus {arn.rpartition('/')[2]}")

    async def _change_bus(
        self, context: RequestContext, name: str | None, change: Callable[[Record], Record]
    ) -> Record:
        def work(connection: Connection) -> Record:
            record = change(self._bus(connection, context, name))
            record["LastModifiedTime"] = datetime.fromtimestamp(self._now(), UTC)
            _put(connection, "bus", record)
            return record

        return await self._tables.write(work)


_HIDDEN = ("Parent", "Tags", "Targets", "Began", "Position")


def show(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in _HIDDEN}


def place(context: RequestContext) -> str:
    return f"{context.account}:{context.region}"


def page(member: str, found: list[Record], parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """From `NextToken`, an ARN, on."""
    after, size = parameters.get("NextToken") or "", parameters.get("Limit") or PAGE
    rest = [one for one in found if not after or one["Arn"] > after]
    more = {"NextToken": rest[size - 1]["Arn"]} if len(rest) > size else {}
    return {member: [show(one) for one in rest[:size]], **more}


def bus_of(context: RequestContext, name: str | None) -> str:
    """The ARN of a bus that is named by its name or its ARN."""
    if name is not None and name.startswith("arn:"):
        if name.split(":")[4:5] != [context.account]:
            raise not_found(f"Event bus {name}")
        return name
    return store.bus_arn(context.account, context.region, name or DEFAULT_BUS)


def rule_of(context: RequestContext, parameters: Mapping[str, Any], member: str = "Name") -> str:
    bus = bus_of(context, parameters.get("EventBusName")).rpartition("/")[2]
    return store.rule_arn(context.account, context.region, bus, parameters[member])


def invalid(message: str) -> CallerError:
    return CallerError("ValidationException", message)


def not_found(what: str) -> CallerError:
    return CallerError("ResourceNotFoundException", f"{what} does not exist.")


def _put(connection: Connection, kind: str, record: Record) -> None:
    store.put(connection, kind, record["Parent"], record)


def _rule(connection: Connection, arn: str) -> Record:
    found = store.get(connection, arn)
    if found is None or "EventBusName" not in found:
        raise not_found(f"Rule {arn.rpartition('/')[2]}")
    return found


def _chosen(members: Mapping[str, Any], *names: str) -> Record:
    return {name: members[name] for name in names if members.get(name) is not None}


def _read_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in parameters.get("Tags") or []}


def _check_target(target: Mapping[str, Any]) -> None:
    kind = [*target["Arn"].split(":"), "", "", ""][2]
    if kind not in _TARGETS:
        raise invalid(f"Target {target['Id']}: {target['Arn']} is not a function, queue, topic or event bus.")
    given = [name for name in ("Input", "InputPath", "InputTransformer") if target.get(name) is not None]
    if len(given) > 1:
        raise invalid(f"Only one of Input, InputPath, or InputTransformer must be provided for target {target['Id']}.")
    paths = list(target.get("InputTransformer", {}).get("InputPathsMap", {}).values())
    for path in [*paths, *([target["InputPath"]] if "InputPath" in given else [])]:
        try:
            check_path(path)
        except ValueError as exc:
            raise invalid(f"Invalid InputPath '{path}' for target {target['Id']}: {exc}.") from None
    if "Input" in given:
        try:
            json.loads(target["Input"])
        except ValueError:
            raise invalid(f"JSON syntax error in input for target {target['Id']}.") from None
