"""The operations of EventBridge on archives and replays (API reference, 2015-10-07)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.events.buses import store
from lambent.events.buses.api import invalid, not_found, page, place, show
from lambent.events.buses.replays import RUNNING
from lambent.events.buses.store import Record
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables


class Archives:
    """`run` starts a replay, by its ARN."""

    def __init__(self, tables: Tables, run: Callable[[str], None], *, now: Callable[[], float] = time.time) -> None:
        self._tables = tables
        self._run = run
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateArchive": self.create,
            "DescribeArchive": self.describe,
            "UpdateArchive": self.update,
            "ListArchives": self.list,
            "DeleteArchive": self.delete,
            "StartReplay": self.start_replay,
            "DescribeReplay": self.describe_replay,
            "ListReplays": self.list_replays,
            "CancelReplay": self.cancel_replay,
        }

    async def create(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, bus = parameters["ArchiveName"], parameters["EventSourceArn"]
        if parameters.get("EventPattern"):
            store.compiled(parameters["EventPattern"])
        record = {
            **_chosen(parameters, "ArchiveName", "EventSourceArn", "Description", "EventPattern"),
            "Arn": _archive_arn(context, name),
            "State": "ENABLED",
            "RetentionDays": parameters.get("RetentionDays") or 0,
            "CreationTime": self._date(),
        }

        def work(connection: Connection) -> None:
            if not store.has_bus(connection, context.account, bus):
                raise not_found(f"Event bus {bus}")
            if store.get(connection, record["Arn"]) is not None:
                raise CallerError("ResourceAlreadyExistsException", f"Archive {name} already exists.")
            store.put(connection, "archive", bus, record)

        await self._tables.write(work)
        return {"ArchiveArn": record["Arn"], "State": "ENABLED", "CreationTime": record["CreationTime"]}

    async def describe(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _archive_arn(context, parameters["ArchiveName"])
        return await self._tables.read(lambda connection: _show_archive(connection, _found(connection, arn, "Archive")))

    async def update(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _archive_arn(context, parameters["ArchiveName"])
        if parameters.get("EventPattern"):
            store.compiled(parameters["EventPattern"])
        changed = _chosen(parameters, "Description", "EventPattern", "RetentionDays")

        def work(connection: Connection) -> Record:
            record = {**_found(connection, arn, "Archive"), **changed}
            store.put(connection, "archive", record["EventSourceArn"], record)
            return record

        record = await self._tables.write(work)
        return {"ArchiveArn": arn, **_chosen(record, "State", "CreationTime")}

    async def list(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        prefix, bus = _archive_arn(context, parameters.get("NamePrefix") or ""), parameters.get("EventSourceArn")

        def work(connection: Connection) -> list[Record]:
            return [
                _show_archive(connection, one)
                for one in store.walk_kind(connection, "archive")
                if one["Arn"].startswith(prefix)
                and bus in (None, one["EventSourceArn"])
                and parameters.get("State") in (None, one["State"])
            ]

        found = await self._tables.read(work)
        return page("Archives", [{**one, "Arn": one["ArchiveArn"]} for one in found], parameters)

    async def delete(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _archive_arn(context, parameters["ArchiveName"])

        def work(connection: Connection) -> None:
            _found(connection, arn, "Archive")
            store.delete(connection, arn)
            connection.execute("DELETE FROM buses_archived WHERE archive = ?", (arn,))

        await self._tables.write(work)
        return {}

    async def start_replay(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name, archive = parameters["ReplayName"], parameters["EventSourceArn"]
        if parameters["EventEndTime"] <= parameters["EventStartTime"]:
            raise invalid("EventEndTime must be after EventStartTime.")
        record = {
            **_chosen(parameters, "ReplayName", "Description", "EventSourceArn", "Destination"),
            **_chosen(parameters, "EventStartTime", "EventEndTime"),
            "Arn": _replay_arn(context, name),
            "State": "STARTING",
            "ReplayStartTime": self._date(),
            "Parent": place(context),
        }

        def work(connection: Connection) -> None:
            source = _found(connection, archive, "Archive") if archive.split(":")[4:5] == [context.account] else None
            if source is None or source["EventSourceArn"] != record["Destination"]["Arn"]:
                raise invalid("The destination of a replay is the event bus of its archive.")
            if store.get(connection, record["Arn"]) is not None:
                raise CallerError("ResourceAlreadyExistsException", f"Replay {name} already exists.")
            store.put(connection, "replay", record["Parent"], record)

        await self._tables.write(work)
        self._run(record["Arn"])
        return {"ReplayArn": record["Arn"], **_chosen(record, "State", "ReplayStartTime")}

    async def describe_replay(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _replay_arn(context, parameters["ReplayName"])
        record = await self._tables.read(lambda connection: _found(connection, arn, "Replay"))
        return {**show(record), "ReplayArn": arn}

    async def list_replays(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        prefix = _replay_arn(context, parameters.get("NamePrefix") or "")
        records = await self._tables.read(lambda connection: store.walk(connection, "replay", place(context)))
        found = [
            one
            for one in records
            if one["Arn"].startswith(prefix)
            and parameters.get("State") in (None, one["State"])
            and parameters.get("EventSourceArn") in (None, one["EventSourceArn"])
        ]
        return page("Replays", found, parameters)

    async def cancel_replay(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        arn = _replay_arn(context, parameters["ReplayName"])

        def work(connection: Connection) -> None:
            record = _found(connection, arn, "Replay")
            if record["State"] not in RUNNING:
                raise CallerError("IllegalStatusException", f"Replay {record['ReplayName']} is {record['State']}.")
            ended = {**record, "State": "CANCELLED", "ReplayEndTime": self._date()}
            store.put(connection, "replay", record["Parent"], ended)

        await self._tables.write(work)
        return {"ReplayArn": arn, "State": "CANCELLING"}

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)


def _chosen(members: Mapping[str, Any], *names: str) -> Record:
    return {name: members[name] for name in names if members.get(name) is not None}


def _archive_arn(context: RequestContext, name: str) -> str:
    return f"arn:aws:events:{context.region}:{context.account}:archive/{name}"


def _replay_arn(context: RequestContext, name: str) -> str:
    return f"arn:aws:events:{context.region}:{context.account}:replay/{name}"


def _found(connection: Connection, arn: str, kind: str) -> Record:
    found = store.get(connection, arn)
    if found is None:
        raise not_found(f"{kind} {arn.rpartition('/')[2]}")
    return found


def _show_archive(connection: Connection, record: Record) -> Record:
    query = "SELECT count(*), coalesce(sum(length(body)), 0) FROM buses_archived WHERE archive = ?"
    count, size = connection.execute(query, (record["Arn"],)).get
    shown = {name: value for name, value in record.items() if name != "Arn"}
    return {**shown, "ArchiveArn": record["Arn"], "EventCount": count, "SizeBytes": size}
