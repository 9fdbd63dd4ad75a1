"""A runtime of mappings with everything around it faked: sources, functions, destinations and time."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.mappings import model, store
from lambent.events.mappings.api import MappingsApi
from lambent.events.mappings.runtime import Runtime
from lambent.events.mappings.sources.ports import (
    PARALLEL_FIELDS,
    STREAM_FIELDS,
    Configuration,
    Connections,
    Message,
    QueueSource,
    Record,
    Rules,
    SourceKind,
    Start,
    StreamSource,
    Values,
)
from lambent.model.errors import CallerError
from lambent.model.invocation import Outcome, Target
from lambent.substrate.memory.tables import MemoryTables
from lambent.substrate.ports import Tables

ACCOUNT, REGION = "111122223333", "eu-west-1"
CONTEXT = RequestContext(account=ACCOUNT, region=REGION, access_key="AK", request_id="r")
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
DEAD = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"

Handler = Callable[[dict[str, Any]], Any]


class FunctionFailed(Exception):
    """The function raised."""


class Clock:
    """Moves when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, wait_s: float) -> None:
        self.at += wait_s
        self.slept.append(wait_s)
        await asyncio.sleep(0)


class FakeQueue:
    """What is not settled as done comes again when `again` is told, or when it is opened again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bell = asyncio.Event()
        self.waiting: deque[Message] = deque()
        self.out: dict[str, Message] = {}
        self.done: list[str] = []
        self.again: list[str] = []
        self.receives = 0
        self.dropped = False

    def send(self, *bodies: str, group: str = "", size: int = 0) -> None:
        for body in bodies:
            event = {"messageId": body, "body": body, "padding": "x" * size}
            self.waiting.append(Message(id=body, event=event, data=body.encode(), at=self._clock.now(), group=group))
        self._bell.set()

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        self.receives += 1
        if not self.waiting and wait_s < 20:
            self._clock.at += wait_s
            return []
        while not self.waiting:
            self._bell.clear()
            await self._bell.wait()
        found = [self.waiting.popleft() for _ in range(min(max_messages, len(self.waiting)))]
        self.out |= {message.id: message for message in found}
        return found

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        for message in (*done, *again):
            del self.out[message.id]
        self.done += [message.id for message in done]
        self.again += [message.id for message in again]
        self.waiting.extend(again)
        if again:
            self._bell.set()

    async def drop(self) -> None:
        self.dropped = True

    async def close(self) -> None:
        return


class FakeStream:
    """Partitions are lists that grow; a checkpoint is the number of records read."""

    def __init__(self, clock: Clock, *names: str) -> None:
        self._clock = clock
        self._bell = asyncio.Event()
        self.records: dict[str, list[Record]] = {name: [] for name in names or ("0",)}
        self.committed: dict[str, str] = {}
        self.opened: list[tuple[str, str | Start]] = []
        self.dropped = False
        self.fail: Exception | None = None
        self._at: dict[str, int] = {}

    def send(self, *bodies: str, partition: str = "0", key: str = "", at: float | None = None) -> None:
        for body in bodies:
            place = len(self.records[partition]) + 1
            self.records[partition].append(
                Record(
                    id=str(place),
                    event={"n": place, "data": body},
                    data=body.encode(),
                    at=self._clock.now() if at is None else at,
                    checkpoint=str(place),
                    group=key or body,
                )
            )
        self._bell.set()

    async def partitions(self) -> Sequence[str]:
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        return list(self.records)

    async def wait_change(self) -> None:
        await asyncio.Event().wait()

    async def open(self, partition: str, at: str | Start) -> None:
        self.opened.append((partition, at))
        self._at[partition] = int(at) if isinstance(at, str) else 0

    async def read(self, partition: str, max_records: int, wait_s: float) -> Sequence[Record]:
        while len(self.records[partition]) <= self._at[partition]:
            if wait_s < 20:
                self._clock.at += wait_s
                return []
            self._bell.clear()
            await self._bell.wait()
        begin = self._at[partition]
        found = self.records[partition][begin : begin + max_records]
        self._at[partition] += len(found)
        return found

    async def commit(self, partition: str, checkpoint: str) -> None:
        self.committed[partition] = checkpoint

    async def close(self) -> None:
        return

    async def drop(self) -> None:
        self.dropped = True


class World:
    """`handler` is the function: it gets the event, returns the result, or raises FunctionFailed or a CallerError."""

    def __init__(self, handler: Handler | None = None, *, tables: Tables | None = None) -> None:
        self.clock = Clock()
        self.queue = FakeQueue(self.clock)
        self.stream = FakeStream(self.clock)
        self.tables: Tables = tables or MemoryTables([store.SCHEMA])
        self.handler: Handler = handler or (lambda event: None)
        self.events: list[dict[str, Any]] = []
        self.delivered: list[Delivery] = []
        self.changed = asyncio.Event()
        self.before_invoke: Callable[[], Awaitable[None]] | None = None
        deliveries = Deliveries()

        async def exists(account: str, arn: str) -> bool:
            return arn == DEAD

        async def deliver(delivery: Delivery) -> None:
            self.delivered.append(delivery)

        deliveries.serve("sqs", deliver, exists)
        self.kinds = self._make_kinds()
        self.runtime = self.new_runtime()
        self.api = MappingsApi(
            self.tables,
            self.kinds,
            self.runtime,
            resolve=self._resolve,
            deliveries=deliveries,
            now=self.clock.now,
        )
        self._deliver = deliver

    def new_runtime(self) -> Runtime:
        async def deliver(delivery: Delivery) -> None:
            self.delivered.append(delivery)

        return Runtime(
            self.tables,
            self.kinds,
            invoke=self._invoke,
            deliver=deliver,
            now=self.clock.now,
            sleep=self.clock.sleep,
        )

    async def create(self, **params: Any) -> dict[str, Any]:
        made = await self.api.create(CONTEXT, {"FunctionName": "f", **params})
        await self.settled(made["UUID"])
        return made

    async def get(self, uuid: str) -> dict[str, Any]:
        return await self.api.get(CONTEXT, {"UUID": uuid})

    async def settled(self, uuid: str) -> str:
        """The state that a mapping comes to rest in; empty when it is gone."""

        async def look() -> str | None:
            found = await self.tables.read(lambda connection: store.get(connection, uuid))
            if found is None:
                return ""
            return found.state.value if not found.state.value.endswith("ing") else None

        return str(await self.until(look))

    async def until(self, look: Callable[[], Awaitable[Any]] | Callable[[], Any]) -> Any:
        """Let everything run until `look` gives something; time is virtual, so this is quick."""
        for _ in range(20_000):
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found or found == "":
                return found
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    async def _invoke(self, mapping: model.Mapping, payload: bytes, trace_id: str) -> Outcome:
        event = json.loads(payload)
        self.events.append(event)
        if self.before_invoke is not None:
            await self.before_invoke()
        await asyncio.sleep(0)
        try:
            result = self.handler(event)
        except FunctionFailed:
            return Outcome(payload=b"{}", function_error="Unhandled", executed_version="$LATEST")
        return Outcome(payload=json.dumps(result).encode(), executed_version="$LATEST")

    def _resolve(self, account: str, region: str, name: str, qualifier: str) -> Target:
        if name != "f":
            raise CallerError("ResourceNotFoundException", "no", status=404)
        return msgspec.UNSET  # type: ignore[return-value]

    def _make_kinds(self) -> Mapping[str, SourceKind]:
        async def check(configuration: Configuration, connections: Connections) -> None:
            return

        async def open_queue(configuration: Configuration, connections: Connections) -> QueueSource:
            return self.queue

        async def open_stream(configuration: Configuration, connections: Connections) -> StreamSource:
            return self.stream

        def shape(configuration: Configuration, records: Sequence[Values]) -> Values:
            return {"Records": list(records)}

        queue_rules = Rules(
            takes=frozenset({"FunctionResponseTypes", "ScalingConfig"}), default_batch_size=10, free_batch_size=10
        )
        stream_rules = Rules(takes=STREAM_FIELDS | PARALLEL_FIELDS, needs=frozenset({"StartingPosition"}))
        return {
            "sqs": SourceKind(
                name="sqs",
                style="queue",
                claims=lambda values: ":sqs:" in values.get("EventSourceArn", ""),
                rules=lambda values: queue_rules,
                check=check,
                open=open_queue,
                shape=shape,
                data_key="body",
            ),
            "kinesis": SourceKind(
                name="kinesis",
                style="stream",
                claims=lambda values: ":kinesis:" in values.get("EventSourceArn", ""),
                rules=lambda values: stream_rules,
                check=check,
                open=open_stream,
                shape=shape,
                data_key="data",
            ),
        }


def bodies(event: dict[str, Any]) -> list[str]:
    return [record.get("body") or record.get("data") for record in event["Records"]]
