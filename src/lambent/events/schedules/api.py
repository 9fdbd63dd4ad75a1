"""The operations of EventBridge Scheduler: schedules, their groups, tags (API reference, 2021-06-30)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.events.schedules import store
from lambent.events.schedules.expressions import ExpressionRefused
from lambent.events.schedules.firing import next_due
from lambent.events.schedules.store import Record
from lambent.events.schedules.timers import set_timer
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables

DEFAULT_GROUP = "default"
PAGE = 100
MOST_TAGS = 200
_TARGETS = ("lambda", "sqs", "sns", "events")
_KEPT = ("Description", "StartDate", "EndDate", "KmsKeyArn", "Target", "FlexibleTimeWindow", "ScheduleExpression")
_HIDDEN = ("Tags", "ClientToken")


class Schedules:
    """The operations. `wake` tells the timers that a due time has changed."""

    def __init__(self, tables: Tables, wake: Callable[[], None], *, now: Callable[[], float] = time.time) -> None:
        self._tables = tables
        self._wake = wake
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateSchedule": self.create,
            "UpdateSchedule": self.update,
            "GetSchedule": self.get,
            "DeleteSchedule": self.delete,
            "ListSchedules": self.list,
            "CreateScheduleGroup": self.create_group,
            "GetScheduleGroup": self.get_group,
            "DeleteScheduleGroup": self.delete_group,
            "ListScheduleGroups": self.list_groups,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list_tags,
        }

    async def create(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        record = self._read(context, parameters)
        token = parameters.get("ClientToken", "")

        def work(connection: Connection) -> None:
            self._group(connection, context, record["GroupName"])
            found = store.get(connection, "schedules", record["Arn"])
            if found is not None:
                if token and found.get("ClientToken") == token:
                    return
                raise CallerError("ConflictException", f"Schedule {record['Name']} already exists.", status=409)
            self._put(connection, context, {**record, "ClientToken": token})

        await self._tables.write(work)
        self._wake()
        return {"ScheduleArn": record["Arn"]}

    async def update(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        record = self._read(context, parameters)

        def work(connection: Connection) -> None:
            found = _schedule(connection, record["Arn"])
            token = found.get("ClientToken", "")
            self._put(connection, context, {**record, "CreationDate": found["CreationDate"], "ClientToken": token})

        await self._tables.write(work)
        self._wake()
        return {"ScheduleArn": record["Arn"]}

    async def get(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _arn(context, parameters)
        return _show(await self._tables.read(lambda connection: _schedule(connection, arn)))

    async def delete(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _arn(context, parameters)

        def work(connection: Connection) -> None:
            _schedule(connection, arn)
            store.withdraw_schedule(connection, arn)

        await self._tables.write(work)
        self._wake()
        return {}

    async def list(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        group, prefix = parameters.get("GroupName"), parameters.get("NamePrefix", "")
        state, size = parameters.get("State"), parameters.get("MaxResults", PAGE)
        base = store.schedule_arn(context.account, context.region, group) if group else ""
        start = base + prefix if group else store.schedule_arn(context.account, context.region, "")[:-1]

        def work(connection: Connection) -> list[Record]:
            found: list[Record] = []
            after = parameters.get("NextToken", "")
            while len(found) <= size and (page := store.walk(connection, "schedules", start, after, 500)):
                after = page[-1]["Arn"]
                found += [one for one in page if one["Name"].startswith(prefix) and state in (None, one["State"])]
            return found[: size + 1]

        found = await self._tables.read(work)
        members = ("Arn", "Name", "GroupName", "State", "CreationDate", "LastModificationDate")
        shown = [
            {**{name: one[name] for name in members}, "Target": {"Arn": one["Target"]["Arn"]}} for one in found[:size]
        ]
        more = {"NextToken": found[size - 1]["Arn"]} if len(found) > size else {}
        return {"Schedules": shown, **more}

    async def create_group(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, token = parameters["Name"], parameters.get("ClientToken", "")
        record = {
            **_new_group(context, name, self._date()),
            "ClientToken": token,
            "Tags": {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])},
        }

        def work(connection: Connection) -> None:
            found = store.get(connection, "schedules_groups", record["Arn"])
            if found is not None and token and found.get("ClientToken") == token:
                return
            if found is not None or name == DEFAULT_GROUP:
                raise CallerError("ConflictException", f"Schedule group {name} already exists.", status=409)
            store.put(connection, "schedules_groups", context.account, record)

        await self._tables.write(work)
        return {"ScheduleGroupArn": record["Arn"]}

    async def get_group(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        return _show(await self._tables.read(lambda connection: self._group(connection, context, parameters["Name"])))

    async def delete_group(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters["Name"]
        if name == DEFAULT_GROUP:
            raise _invalid("The default schedule group cannot be deleted.")

        def work(connection: Connection) -> None:
            group = self._group(connection, context, name)
            prefix = store.schedule_arn(context.account, context.region, name)
            store.delete_group(connection, group["Arn"], prefix)

        await self._tables.write(work)
        self._wake()
        return {}

    async def list_groups(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        prefix, size = parameters.get("NamePrefix", ""), parameters.get("MaxResults", PAGE)
        after = parameters.get("NextToken", "")
        start = store.group_arn(context.account, context.region, prefix)
        found = await self._tables.read(
            lambda connection: store.walk(connection, "schedules_groups", start, after, size + 1)
        )
        shown = [_show(one) for one in found[:size]]
        if not after and DEFAULT_GROUP.startswith(prefix):
            shown.insert(0, _new_group(context, DEFAULT_GROUP, _EPOCH))
        more = {"NextToken": found[size - 1]["Arn"]} if len(found) > size else {}
        return {"ScheduleGroups": shown, **more}

    async def tag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        added = {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}
        return await self._change_tags(context, parameters["ResourceArn"], lambda tags: {**tags, **added})

    async def untag(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        dropped = set(parameters["TagKeys"])
        return await self._change_tags(
            context,
            parameters["ResourceArn"],
            lambda tags: {key: value for key, value in tags.items() if key not in dropped},
        )

    async def list_tags(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = _group_name(context, parameters["ResourceArn"])
        group = await self._tables.read(lambda connection: self._group(connection, context, name))
        return {"Tags": [{"Key": key, "Value": value} for key, value in group.get("Tags", {}).items()]}

    async def _change_tags(
        self, context: RequestContext, arn: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> Mapping[str, Any]:
        name = _group_name(context, arn)

        def work(connection: Connection) -> None:
            group = self._group(connection, context, name)
            tags = change(group.get("Tags", {}))
            if len(tags) > MOST_TAGS:
                raise _invalid(f"A schedule group has at most {MOST_TAGS} tags.")
            store.put(connection, "schedules_groups", context.account, {**group, "Tags": tags})

        await self._tables.write(work)
        return {}

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def _group(self, connection: Connection, context: RequestContext, name: str) -> Record:
        found = store.get(connection, "schedules_groups", store.group_arn(context.account, context.region, name))
        if found is not None:
            return found
        if name == DEFAULT_GROUP:
            return _new_group(context, name, _EPOCH)
        raise CallerError("ResourceNotFoundException", f"Schedule group {name} does not exist.", status=404)

    def _put(self, connection: Connection, context: RequestContext, record: Record) -> None:
        store.put(connection, "schedules", context.account, record)
        # A rate without a start is due at once.
        due_at = next_due(record, self._now() - 1e-3) if record["State"] == "ENABLED" else None
        set_timer(connection, store.BOX, record["Arn"], due_at)

    def _read(self, context: RequestContext, parameters: dict[str, Any]) -> Record:
        date = self._date()
        record = {name: parameters[name] for name in _KEPT if parameters.get(name) is not None}
        record |= {
            "Arn": _arn(context, parameters),
            "Name": parameters["Name"],
            "GroupName": parameters.get("GroupName") or DEFAULT_GROUP,
            "State": parameters.get("State") or "ENABLED",
            "ScheduleExpressionTimezone": parameters.get("ScheduleExpressionTimezone") or "UTC",
            "ActionAfterCompletion": parameters.get("ActionAfterCompletion") or "NONE",
            "CreationDate": date,
            "LastModificationDate": date,
        }
        _check_target(record["Target"])
        _check_window(record["FlexibleTimeWindow"])
        start, end = record.get("StartDate"), record.get("EndDate")
        if end is not None and (end <= date or (start is not None and end <= start)):
            raise _invalid("The EndDate you specify must be in the future and after the StartDate.")
        try:
            next_due(record, self._now())
        except ExpressionRefused as exc:
            text = record["ScheduleExpression"]
            raise _invalid(f"Invalid Schedule Expression {text}: {exc}.") from None
        return record


_EPOCH = datetime.fromtimestamp(0, UTC)


def _new_group(context: RequestContext, name: str, date: datetime) -> Record:
    return {
        "Arn": store.group_arn(context.account, context.region, name),
        "Name": name,
        "State": "ACTIVE",
        "CreationDate": date,
        "LastModificationDate": date,
    }


def _arn(context: RequestContext, parameters: dict[str, Any]) -> str:
    group = parameters.get("GroupName") or DEFAULT_GROUP
    return store.schedule_arn(context.account, context.region, group, parameters["Name"])


def _schedule(connection: Connection, arn: str) -> Record:
    found = store.get(connection, "schedules", arn)
    if found is None:
        name = arn.rpartition("/")[2]
        raise CallerError("ResourceNotFoundException", f"Schedule {name} does not exist.", status=404)
    return found


def _show(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in _HIDDEN}


def _group_name(context: RequestContext, arn: str) -> str:
    prefix = store.group_arn(context.account, context.region, "")
    if not arn.startswith(prefix):
        raise _invalid(f"ResourceArn: {arn} is not the ARN of a schedule group of this account.")
    return arn.removeprefix(prefix)


def _check_target(target: dict[str, Any]) -> None:
    parts = target["Arn"].split(":", 5)
    if target["Arn"].startswith("arn:aws:scheduler:::aws-sdk:"):
        raise _invalid("Target.Arn: universal targets are not served; name a function, queue, topic or event bus.")
    if len(parts) != 6 or parts[2] not in _TARGETS:
        raise _invalid(f"Target.Arn: {target['Arn']} is not the ARN of a function, queue, topic or event bus.")
    if (parts[2] == "events") != ("EventBridgeParameters" in target):
        raise _invalid("Target.EventBridgeParameters: they are required for an event bus, and for it alone.")
    if parts[2] == "events" and not target.get("Input"):
        raise _invalid("Target.Input: it is required for an event bus.")
    if parts[2] in ("lambda", "events") and target.get("Input") is not None:
        try:
            json.loads(target["Input"])
        except ValueError:
            raise _invalid("Target.Input: it is not valid JSON.") from None


def _check_window(window: dict[str, Any]) -> None:
    if (window["Mode"] == "FLEXIBLE") != ("MaximumWindowInMinutes" in window):
        raise _invalid("FlexibleTimeWindow.MaximumWindowInMinutes: it is required for FLEXIBLE, and for it alone.")


def _invalid(message: str) -> CallerError:
    return CallerError("ValidationException", message)
