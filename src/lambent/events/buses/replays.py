"""Replays: archived events through the rules again, a batch in each transaction, resumed where the node stopped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from lambent.events.buses import store
from lambent.events.buses.store import Record, Sent
from lambent.substrate.ports import Connection, Tables

RUNNING = ("STARTING", "RUNNING")
_BATCH = 100


class Replayer:
    def __init__(self, tables: Tables, ring: Callable[[str], None], *, now: Callable[[], float] = time.time) -> None:
        self._tables = tables
        self._ring = ring
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        for record in await self._tables.read(lambda connection: store.walk_kind(connection, "replay")):
            if record["State"] in RUNNING:
                self.run(record["Arn"])

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, arn: str) -> None:
        task = asyncio.create_task(self._run(arn), name=f"replay {arn}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, arn: str) -> None:
        more = True
        while more:
            lanes, more = await self._tables.write(lambda connection: self._step(connection, arn))
            for lane in lanes:
                self._ring(lane)
            await asyncio.sleep(0)

    def _step(self, connection: Connection, arn: str) -> tuple[list[str], bool]:
        record = store.get(connection, arn)
        if record is None or record["State"] not in RUNNING:
            return [], False
        at, number = record.get("Position", [record["EventStartTime"].timestamp(), 0])
        query = """
            SELECT at, id, body FROM buses_archived
            WHERE archive = ? AND (at, id) > (?, ?) AND at < ? ORDER BY at, id LIMIT ?
        """
        end = record["EventEndTime"].timestamp()
        rows = list(connection.execute(query, (record["EventSourceArn"], at, number, end, _BATCH)))
        lanes: list[str] = []
        for at, number, body in rows:  # noqa: B007 - where the next step goes on
            lanes += self._send(connection, record, body)
        record |= {"State": "RUNNING", "Position": [at, number]}
        if rows:
            record["EventLastReplayedTime"] = datetime.fromtimestamp(at, UTC)
        if len(rows) < _BATCH:
            record |= {"State": "COMPLETED", "ReplayEndTime": datetime.fromtimestamp(self._now(), UTC)}
        store.put(connection, "replay", record["Parent"], record)
        return lanes, len(rows) == _BATCH

    def _send(self, connection: Connection, record: Record, body: bytes) -> list[str]:
        region, account = record["Arn"].split(":")[3:5]
        sent = Sent(
            account=account,
            region=region,
            bus=record["Destination"]["Arn"],
            event={**json.loads(body), "replay-name": record["ReplayName"]},
            at=self._now(),
            only_rules=frozenset(record["Destination"].get("FilterArns", ())),
        )
        return store.publish(connection, sent)
