"""Event buses, put together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation
from lambent.events.buses import store
from lambent.events.buses.api import Buses
from lambent.events.buses.archives import Archives
from lambent.events.buses.publishing import Publisher
from lambent.events.buses.replays import Replayer
from lambent.events.buses.store import Sent
from lambent.events.deliveries import Deliveries
from lambent.events.handover import HandOvers
from lambent.events.schedules.expressions import at_text, parse_expression
from lambent.events.schedules.timers import Missed, Timers, plan_run, set_timer
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Tables


class BusService:
    """Start it before `timers`. Enters itself in `deliveries` as `events`, in `timers` for rules with a schedule."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        timers: Timers,
        *,
        missed: Missed = Missed.ONCE,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.hand_overs = HandOvers(store.BOX, tables, deliveries, now=now, jitter=jitter)
        self.replayer = Replayer(tables, self.hand_overs.ring, now=now)
        self._missed = missed
        publisher = Publisher(tables, self.hand_overs.ring, now=now)
        self.operations: Mapping[str, Operation] = {
            **Buses(tables, deliveries, timers.wake, now=now).operations(),
            **Archives(tables, self.replayer.run, now=now).operations(),
            "PutEvents": publisher.put_events,
        }
        deliveries.serve("events", publisher.deliver, publisher.exists)
        timers.enter(store.BOX, self._fire, self.hand_overs.ring)

    async def start(self) -> None:
        await self.hand_overs.start()
        await self.replayer.start()

    async def stop(self) -> None:
        await self.replayer.stop()
        await self.hand_overs.stop()

    def _fire(self, connection: Connection, arn: str, due_at: float, now: float) -> list[str]:
        rule = store.get(connection, arn)
        if rule is None or rule["State"] == "DISABLED" or "ScheduleExpression" not in rule:
            set_timer(connection, store.BOX, arn, None)
            return []
        expression = parse_expression(rule["ScheduleExpression"], start_at=rule["Began"])
        run = plan_run(expression, due_at, now, self._missed)
        set_timer(connection, store.BOX, arn, run.next_due_at)
        if not run.fires:
            return []
        region, account = arn.split(":")[3:5]
        event = {
            "version": "0",
            "id": new_request_id(),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": account,
            "time": at_text(due_at),
            "region": region,
            "resources": [arn],
            "detail": {},
        }
        sent = Sent(account=account, region=region, bus=rule["Parent"], event=event, at=now)
        return store.send_to_targets(connection, rule, sent)
