"""PutEvents, and the way into a bus for the rest of the event plane."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.events.buses import store
from lambent.events.buses.store import DEFAULT_BUS, Sent
from lambent.events.deliveries import Delivery
from lambent.events.schedules.expressions import at_text
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Tables

MOST_BYTES = 1_048_576
"""Of all entries of a request together (user guide, "PutEvents event entry size")."""


class Publisher:
    def __init__(
        self,
        tables: Tables,
        ring: Callable[[str], None],
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._tables = tables
        self._ring = ring
        self._now = now
        self._new_id = new_id

    async def put_events(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Durable when it returns. An entry that is refused fails alone."""
        entries = parameters["Entries"]
        if sum(_size(entry) for entry in entries) > MOST_BYTES:
            raise CallerError("ValidationException", "Total size of the entries in the request is over the limit.")
        answers: list[dict[str, str]] = []
        sent: list[Sent] = []
        for entry in entries:
            try:
                one = self._read(context, entry)
            except CallerError as exc:
                answers.append({"ErrorCode": exc.code, "ErrorMessage": exc.message})
                continue
            sent.append(one)
            answers.append({"EventId": one.event["id"]})
        await self._publish(sent)
        return {"FailedEntryCount": len(entries) - len(sent), "Entries": answers}

    async def deliver(self, delivery: Delivery) -> None:
        """A record from elsewhere is the detail of an event; an event from another bus stays what it is."""
        if not await self.exists(delivery.account, delivery.target):
            raise CallerError("ResourceNotFoundException", f"Event bus {delivery.target} does not exist.")
        try:
            body = json.loads(delivery.body)
        except ValueError:
            raise CallerError("MalformedDetail", "Detail is malformed.") from None
        forwarded = "Forwarded" in delivery.attributes
        if forwarded:
            event = body
        else:
            event = self._make_event(
                delivery.account,
                delivery.region,
                source=delivery.attributes.get("Source", "lambent"),
                detail_type=delivery.attributes.get("DetailType", "Event"),
                detail=body if isinstance(body, dict) else {"value": body},
                resources=[delivery.source_arn] if delivery.source_arn else [],
                at=self._now(),
            )
        await self._publish(
            [
                Sent(
                    account=delivery.account,
                    region=delivery.region,
                    bus=delivery.target,
                    event=event,
                    at=self._now(),
                    trace_id=delivery.trace_id,
                    lineage=delivery.lineage,
                    forwarded=forwarded,
                )
            ]
        )

    async def exists(self, account: str, arn: str) -> bool:
        return await self._tables.read(lambda connection: store.has_bus(connection, account, arn))

    async def _publish(self, sent: list[Sent]) -> None:
        def work(connection: Connection) -> list[str]:
            # A bus that is not there takes events and keeps none, as the contract has it.
            return [lane for one in sent for lane in store.publish(connection, one)]

        for lane in await self._tables.write(work):
            self._ring(lane)

    def _read(self, context: RequestContext, entry: dict[str, Any]) -> Sent:
        for member in ("Source", "DetailType", "Detail"):
            if not entry.get(member):
                message = f"Parameter {member} is not valid. Reason: {member} is a required argument."
                raise CallerError("InvalidArgument", message)
        if entry["Source"].startswith("aws."):
            raise CallerError("NotAuthorizedForSourceException", f"Not authorized for the source '{entry['Source']}'.")
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            detail = None
        if not isinstance(detail, dict):
            raise CallerError("MalformedDetail", "Detail is malformed.")
        moment = entry.get("Time")
        now = self._now()
        bus = entry.get("EventBusName") or DEFAULT_BUS
        return Sent(
            account=context.account,
            region=context.region,
            bus=bus if bus.startswith("arn:") else store.bus_arn(context.account, context.region, bus),
            event=self._make_event(
                context.account,
                context.region,
                source=entry["Source"],
                detail_type=entry["DetailType"],
                detail=detail,
                resources=entry.get("Resources") or [],
                at=moment.timestamp() if moment is not None else now,
            ),
            at=now,
            trace_id=entry.get("TraceHeader", ""),
        )

    def _make_event(
        self,
        account: str,
        region: str,
        *,
        source: str,
        detail_type: str,
        detail: dict[str, Any],
        resources: list[str],
        at: float,
    ) -> dict[str, Any]:
        return {
            "version": "0",
            "id": self._new_id(),
            "detail-type": detail_type,
            "source": source,
            "account": account,
            "time": at_text(at),
            "region": region,
            "resources": resources,
            "detail": detail,
        }


def _size(entry: Mapping[str, Any]) -> int:
    """As the user guide counts it."""
    size = 14 if entry.get("Time") is not None else 0
    for member in ("Source", "DetailType", "Detail"):
        size += len((entry.get(member) or "").encode())
    return size + sum(len(resource.encode()) for resource in entry.get("Resources") or [])
