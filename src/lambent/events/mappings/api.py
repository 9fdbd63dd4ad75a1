"""CreateEventSourceMapping, GetEventSourceMapping, ListEventSourceMappings, Update..., Delete..."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.awsapi.arns import parse_function
from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.events.deliveries import Deliveries
from lambent.events.mappings import checks, store
from lambent.events.mappings.model import Asked, State, move
from lambent.events.mappings.model import Mapping as SourceMapping
from lambent.events.mappings.runtime import Runtime
from lambent.events.mappings.sources.ports import Connections, SourceKind
from lambent.model.errors import CallerError
from lambent.model.invocation import Target
from lambent.substrate.ports import Connection, Tables

Params = dict[str, Any]
Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier). Raises CallerError."""

PAGE = 100


class MappingsApi:
    def __init__(
        self,
        tables: Tables,
        kinds: Mapping[str, SourceKind],
        runtime: Runtime,
        *,
        resolve: Resolve,
        deliveries: Deliveries,
        connections: Connections | None = None,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._tables = tables
        self._kinds = kinds
        self._runtime = runtime
        self._resolve = resolve
        self._deliveries = deliveries
        self._connections = connections or {}
        self._now = now
        self._new_id = new_id

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "ListEventSourceMappings": self.list,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        kind = checks.find_kind(self._kinds, params)
        values = checks.make_values(kind, params)
        function, qualifier = self._find_function(context, params["FunctionName"])
        made = SourceMapping(
            uuid=self._new_id(),
            account=context.account,
            region=context.region,
            kind=kind.name,
            function=function,
            qualifier=qualifier,
            values=values,
            source=checks.find_source(kind, values),
            enabled=params.get("Enabled", True),
            state=State.CREATING,
            modified_at=self._now(),
            tags=dict(params.get("Tags") or {}),
        )
        await kind.check(made.configuration, self._connections)
        await self._check_destination(context, values)

        def work(connection: Connection) -> None:
            _refuse_rival(connection, made)
            store.put(connection, made)

        await self._tables.write(work)
        self._runtime.changed(made.uuid)
        return _show(made)

    async def get(self, context: RequestContext, params: Params) -> Params:
        found = await self._tables.read(lambda connection: store.get(connection, params["UUID"]))
        mapping = _own(context, found)
        shown, lag = dict(_show(mapping)), await self._runtime.lag(mapping.uuid)
        if lag:
            # The contract has no member for it; people read this one.
            told = ", ".join(f"{name} {value}" for name, value in sorted(lag.items()))
            shown["LastProcessingResult"] = f"{shown['LastProcessingResult']} (lag: {told})"
        return shown

    async def list(self, context: RequestContext, params: Params) -> Params:
        found = await self._tables.read(lambda connection: store.list_all(connection, context.account))
        found = [mapping for mapping in found if mapping.region == context.region]
        if params.get("EventSourceArn"):
            wanted = params["EventSourceArn"]
            found = [mapping for mapping in found if mapping.values.get("EventSourceArn") == wanted]
        if params.get("FunctionName"):
            name = parse_function(params["FunctionName"], context=context)
            found = [
                mapping
                for mapping in found
                if mapping.function == name.name and (not name.qualifier or mapping.qualifier == name.qualifier)
            ]
        page, marker = cut_page(
            found,
            marker=params.get("Marker"),
            max_items=params.get("MaxItems"),
            key=lambda mapping: mapping.uuid,
            most=PAGE,
        )
        answer: Params = {"EventSourceMappings": [_show(mapping) for mapping in page]}
        return {**answer, "NextMarker": marker} if marker else answer

    async def update(self, context: RequestContext, params: Params) -> Params:
        before = _own(context, await self._tables.read(lambda connection: store.get(connection, params["UUID"])))
        kind = self._kinds[before.kind]
        values = checks.change_values(kind, before.values, params)
        function, qualifier = before.function, before.qualifier
        if params.get("FunctionName"):
            function, qualifier = self._find_function(context, params["FunctionName"])
        enabled = params.get("Enabled", before.enabled)
        asked = Asked.CHANGE
        if params.get("Enabled") is not None and enabled != before.enabled:
            asked = Asked.ENABLE if enabled else Asked.DISABLE
        changed = msgspec.structs.replace(
            before, values=values, function=function, qualifier=qualifier, enabled=enabled
        )
        await kind.check(changed.configuration, self._connections)
        await self._check_destination(context, values)

        def work(connection: Connection) -> SourceMapping:
            current = _own(context, store.get(connection, before.uuid))
            moved = move(current, asked)
            if moved is None or current.start != before.start:
                raise _in_use("update")
            after = msgspec.structs.replace(
                moved,
                values=values,
                function=function,
                qualifier=qualifier,
                enabled=enabled,
                start=current.start + 1,
                modified_at=self._now(),
            )
            _refuse_rival(connection, after)
            store.put(connection, after)
            return after

        after = await self._tables.write(work)
        self._runtime.changed(after.uuid)
        return _show(after)

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def work(connection: Connection) -> SourceMapping:
            current = _own(context, store.get(connection, params["UUID"]))
            moved = move(current, Asked.DELETE)
            if moved is None:
                raise _in_use("delete")
            after = msgspec.structs.replace(moved, enabled=False, start=current.start + 1, modified_at=self._now())
            store.put(connection, after)
            return after

        after = await self._tables.write(work)
        self._runtime.changed(after.uuid)
        return _show(after)

    def _find_function(self, context: RequestContext, reference: str) -> tuple[str, str]:
        name = parse_function(reference, context=context)
        try:
            self._resolve(context.account, context.region, name.name, name.qualifier or "")
        except CallerError as exc:
            if exc.code == "ResourceNotFoundException":
                raise checks.invalid("Function does not exist") from exc
            raise
        return name.name, name.qualifier or ""

    async def _check_destination(self, context: RequestContext, values: Params) -> None:
        target = ((values.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        if target:
            await self._deliveries.check(context.account, target)


def _own(context: RequestContext, found: SourceMapping | None) -> SourceMapping:
    if found is None or (found.account, found.region) != (context.account, context.region):
        raise CallerError(
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
            status=404,
            members={"Type": "User"},
        )
    return found


def _refuse_rival(connection: Connection, mapping: SourceMapping) -> None:
    rival = store.find_rival(connection, mapping)
    if rival is None:
        return
    source = mapping.values.get("EventSourceArn") or mapping.source
    raise CallerError(
        "ResourceConflictException",
        f'The event source arn (" {source} ") and function (" {mapping.function} ") provided mapping already exists. '
        f"Please update or delete the existing mapping with UUID {rival.uuid}",
        status=409,
        members={"Type": "User"},
    )


def _in_use(operation: str) -> CallerError:
    return CallerError(
        "ResourceInUseException",
        f"Cannot {operation} the event source mapping because it is in use.",
        status=400,
        members={"Type": "User"},
    )


def _show(mapping: SourceMapping) -> Params:
    return {
        **checks.show_values(mapping.values),
        "UUID": mapping.uuid,
        "EventSourceMappingArn": mapping.arn,
        "FunctionArn": mapping.function_arn,
        "LastModified": datetime.fromtimestamp(mapping.modified_at, UTC),
        "LastProcessingResult": mapping.result,
        "State": mapping.state.value,
        "StateTransitionReason": mapping.reason,
    }
