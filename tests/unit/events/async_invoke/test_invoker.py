"""Accepted events end exactly one way, and what came of each is told to whoever was named for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from lambent.events import outbox
from lambent.events.async_invoke import lineage, store
from lambent.events.async_invoke.invoker import AsyncInvoker
from lambent.events.async_invoke.migration import COLLECTION, migrate
from lambent.events.async_invoke.model import Event, Settings
from lambent.events.async_invoke.store import Filter
from lambent.events.deliveries import Deliveries, Delivery
from lambent.model.errors import CallerError, PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.model.streams import ResponseStream
from lambent.substrate.memory.documents import MemoryDocuments
from lambent.substrate.memory.tables import MemoryTables
from lambent.substrate.ports import Write

ACCOUNT = "1" * 12
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
THROTTLED = CallerError("TooManyRequestsException", "Rate Exceeded.", status=429)


def target(name: str = "f", qualifier: str = "live", dead_letters: str = "") -> Target:
    version = Version(
        account=ACCOUNT,
        region="us-east-1",
        name=name,
        runtime="python3.11",
        digest="d",
        code_size=1,
        last_modified="",
        revision_id="r",
        dead_letters=dead_letters,
    )
    return Target(version=version, invoked_arn=version.function_arn + (f":{qualifier}" if qualifier else ""))


class FakeInvoker:
    """Answers as it was told; the last answer again and again."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, Invocation]] = []

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome:
        self.seen.append((target.invoked_arn, invocation))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Outcome(payload=b'{"r":1}', function_error=answer, error_type=answer and "E", executed_version="1")


class World:
    """Time passes only when a lane has nothing else to wait for."""

    def __init__(self, invoker: FakeInvoker, *, dead_letters: str = "", max_running: int = 8) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []
        self.tables = MemoryTables([outbox.SCHEMA, store.SCHEMA])
        self.delivered: list[Delivery] = []
        self.refuses = False
        self.gone = False
        self.dead_letters = dead_letters
        deliveries = Deliveries()
        deliveries.serve("sqs", self._deliver, self._exists)
        self.invoker = invoker
        self.events = AsyncInvoker(
            self.tables,
            invoker,
            self._resolve,
            deliveries,
            now=lambda: self.now,
            wait=self._wait,
            max_running=max_running,
        )

    async def _deliver(self, delivery: Delivery) -> None:
        if self.refuses:
            raise CallerError("QueueDoesNotExist", "gone")
        self.delivered.append(delivery)

    async def _exists(self, _account: str, _arn: str) -> bool:
        return True

    def _resolve(self, _account: str, _region: str, name: str, qualifier: str) -> Target:
        if self.gone:
            raise CallerError("ResourceNotFoundException", "gone", status=404)
        return target(name, qualifier, self.dead_letters)

    async def _wait(self, bell: asyncio.Event, timeout_s: float | None) -> None:
        if timeout_s is None or bell.is_set():
            await bell.wait()
            return
        self.slept.append(round(timeout_s))
        self.now += timeout_s
        await asyncio.sleep(0)

    async def accept(self, request_id: str = "id-1", name: str = "f", trace_id: str = "Root=1") -> None:
        invocation = Invocation(request_id=request_id, payload=b'{"a":1}', trace_id=trace_id)
        await self.events.accept(target(name), invocation)

    async def settle(self) -> None:
        """Until nothing waits for its turn and no record is under way."""
        while self.events._lanes or self.events._outbox._lanes:
            await asyncio.sleep(0)

    async def set(self, **settings: Any) -> None:
        await self.tables.write(lambda c: store.put_settings(c, ACCOUNT, "f", "live", Settings(**settings)))

    async def show(self, request_id: str = "id-1") -> dict[str, Any]:
        shown = await self.tables.read(lambda c: store.show_event(c, ACCOUNT, request_id))
        assert shown is not None
        return shown


@contextlib.asynccontextmanager
async def opened(*answers: str | Exception, **options: Any) -> AsyncIterator[World]:
    world = World(FakeInvoker(*answers), **options)
    await world.events.recover()
    await world.events.start()
    yield world
    await world.events.stop()
    await world.tables.close()


async def test_an_event_is_handed_on_as_it_was_accepted_and_never_again() -> None:
    async with opened("") as world:
        await world.accept()
        await world.settle()
        ((arn, call),) = world.invoker.seen
        assert arn.endswith(":function:f:live")
        assert (call.request_id, call.payload) == ("id-1", b'{"a":1}')
        assert (await world.show())["state"] == "done"
        await world.events.recover()
        await world.events.start()
        await world.settle()
        assert len(world.invoker.seen) == 1


async def test_a_function_that_fails_is_tried_three_times_one_and_two_minutes_apart_and_then_is_dead() -> None:
    async with opened("Unhandled") as world:
        await world.accept()
        await world.settle()
        assert world.slept == [60, 120]
        shown = await world.show()
        assert (shown["state"], shown["attempts"], shown["error"]) == ("dead", 3, "E")
        assert [attempt["outcome"] for attempt in shown["history"]] == ["E", "E", "E"]


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (1, 2), (2, 3)])
async def test_retries_are_as_many_as_were_set_for_the_qualifier(retries: int, calls: int) -> None:
    async with opened("Unhandled") as world:
        await world.set(max_retries=retries)
        await world.accept()
        await world.settle()
        assert len(world.invoker.seen) == calls


async def test_throttles_and_our_own_errors_back_off_and_spend_no_retries() -> None:
    async with opened(THROTTLED, PlatformError("lost"), THROTTLED, "Unhandled", "") as world:
        await world.accept()
        await world.settle()
        assert world.slept == [1, 2, 4, 60]
        assert (await world.show())["state"] == "done"


@pytest.mark.parametrize("age_s", [60, 21_600])
async def test_an_event_that_can_never_run_ends_at_its_maximum_age(age_s: int) -> None:
    async with opened(THROTTLED) as world:
        await world.set(max_age_s=age_s, on_failure=QUEUE)
        began = world.now
        await world.accept()
        await world.settle()
        assert age_s / 2 <= world.now - began <= age_s
        (delivery,) = world.delivered
        assert msgspec.json.decode(delivery.body)["requestContext"]["condition"] == "EventAgeExceeded"


async def test_an_event_too_old_when_its_turn_comes_is_not_tried() -> None:
    async with opened("") as world:
        await world.set(max_age_s=60)
        await world.events.stop()
        await world.accept()
        world.now += 61
        await world.events.start()
        await world.settle()
        assert world.invoker.seen == []
        assert (await world.show())["state"] == "dead"


async def test_destinations_get_the_contracts_record() -> None:
    async with opened("") as world:
        await world.set(on_success=QUEUE)
        await world.accept()
        await world.settle()
        (delivery,) = world.delivered
        assert msgspec.json.decode(delivery.body) == {
            "version": "1.0",
            "timestamp": "1970-01-12T13:46:40.000Z",
            "requestContext": {
                "requestId": "id-1",
                "functionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f:live",
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": {"a": 1},
            "responseContext": {"statusCode": 200, "executedVersion": "1"},
            "responsePayload": {"r": 1},
        }


async def test_a_failure_goes_to_its_destination_and_to_the_dead_letters() -> None:
    async with opened("Unhandled", dead_letters=QUEUE) as world:
        await world.set(max_retries=0, on_failure=QUEUE)
        await world.accept()
        await world.settle()
        record, letter = sorted(world.delivered, key=lambda delivery: len(delivery.message_attributes))
        told = msgspec.json.decode(record.body)
        assert told["requestContext"]["condition"] == "RetriesExhausted"
        assert told["responseContext"]["functionError"] == "Unhandled"
        assert letter.body == b'{"a":1}'
        assert letter.message_attributes == {"RequestID": "id-1", "ErrorCode": "200", "ErrorMessage": "E"}
        assert (await world.show())["state"] == "failed"


async def test_an_event_whose_destination_is_gone_is_kept() -> None:
    async with opened("Unhandled") as world:
        world.refuses = True
        await world.set(max_retries=0, on_failure=QUEUE)
        await world.accept()
        await world.settle()
        shown = await world.show()
        assert shown["state"] == "dead"
        assert QUEUE in shown["error"]


async def test_an_event_of_a_deleted_function_is_kept() -> None:
    async with opened("") as world:
        world.gone = True
        await world.accept()
        await world.settle()
        assert ((await world.show())["state"], world.invoker.seen) == ("dead", [])


async def test_what_was_running_when_the_node_died_is_tried_again() -> None:
    async with opened("") as world:
        await world.events.stop()
        await world.accept()
        assert await world.tables.write(lambda c: len(store.claim(c, (ACCOUNT, "f"), world.now, 5))) == 1
        await world.events.recover()
        await world.events.start()
        await world.settle()
        shown = await world.show()
        assert (shown["state"], shown["attempts"]) == ("done", 2)
        assert [attempt["outcome"] for attempt in shown["history"]] == ["interrupted", "succeeded"]


async def test_a_backlog_of_one_function_does_not_delay_another() -> None:
    async with opened("", max_running=2) as world:
        await world.events.stop()
        for number in range(300):
            await world.accept(f"a-{number}", name="a")
        await world.accept("b-0", name="b")
        await world.events.start()
        await world.settle()
        order = [call.request_id for _, call in world.invoker.seen]
        assert len(order) == 301
        assert order.index("b-0") < 8


async def test_a_loop_of_a_function_ends_after_sixteen_rounds_unless_allowed() -> None:
    arn = target().version.function_arn
    trace_id = "Root=1"
    for _ in range(lineage.MAX_ROUNDS):
        trace_id = lineage.extend(trace_id, arn)
    async with opened("") as world:
        await world.accept("stops", trace_id=trace_id)
        await world.settle()
        assert world.invoker.seen == []
        assert "loop" in (await world.show("stops"))["error"]
        await world.tables.write(lambda c: store.put_recursion(c, ACCOUNT, "f", "Allow"))
        await world.accept("goes on", trace_id=trace_id)
        await world.settle()
        assert len(world.invoker.seen) == 1


async def test_dead_events_are_redriven_by_a_filter_and_run_at_another_version() -> None:
    async with opened("Unhandled", "Unhandled", "") as world:
        await world.set(max_retries=0)
        await world.accept("one")
        await world.accept("two", name="g")
        await world.tables.write(lambda c: store.put_settings(c, ACCOUNT, "g", "live", Settings(max_retries=0)))
        await world.settle()
        assert await world.events.redrive(ACCOUNT, Filter(function="f", error="E"), "7") == 1
        await world.settle()
        assert (await world.show("one"))["state"] == "done"
        assert world.invoker.seen[-1][0].endswith(":f:7")
        assert await world.events.redrive("2" * 12, Filter()) == 0


async def test_dropping_takes_the_dead_alone_unless_told_otherwise() -> None:
    async with opened("Unhandled", "") as world:
        await world.set(max_retries=0)
        await world.accept("bad")
        await world.settle()
        await world.accept("good")
        await world.settle()
        assert await world.events.drop(ACCOUNT, Filter()) == 1
        assert (await world.show("good"))["state"] == "done"


async def test_ended_events_are_forgotten_by_age_and_by_number_and_dead_ones_stay() -> None:
    async with opened("", "", "", "Unhandled") as world:
        await world.set(max_retries=0)
        for name in ("a", "b", "c", "dead"):
            await world.accept(name)
            await world.settle()
        assert await world.tables.write(lambda c: store.forget_ended(c, before=0, keep=2)) == 1
        assert await world.tables.write(lambda c: store.forget_ended(c, before=world.now + 1, keep=2)) == 2
        shown = await world.tables.read(lambda c: store.list_events(c, ACCOUNT, Filter(), limit=9))
        assert [event["request_id"] for event in shown] == ["dead"]


async def test_events_of_earlier_versions_move_into_the_tables_once() -> None:
    documents = MemoryDocuments()
    old = {
        "id": "1-x",
        "account": ACCOUNT,
        "region": "us-east-1",
        "function": "f",
        "qualifier": "",
        "request_id": "x",
        "payload": b"{}",
        "trace_id": "",
        "client_context": "",
        "accepted_at": 5.0,
        "attempts": 1,
        "errors": 1,
        "next_at": 65.0,
    }
    tables = MemoryTables([outbox.SCHEMA, store.SCHEMA])
    await documents.commit([Write(collection=COLLECTION, key="1-x", value=msgspec.msgpack.encode(old))])
    assert await migrate(documents, tables) == 1
    assert await migrate(documents, tables) == 0
    (claimed,) = await tables.write(lambda c: store.claim(c, (ACCOUNT, "f"), 65.0, 5))
    assert (claimed.event.request_id, claimed.event.attempts, claimed.event.errors) == ("x", 2, 1)
    await tables.close()


async def test_claiming_reads_no_more_of_a_backlog_than_it_takes() -> None:
    tables = MemoryTables([outbox.SCHEMA, store.SCHEMA])
    event = Event(
        account=ACCOUNT,
        region="r",
        function="f",
        qualifier="",
        request_id="x",
        payload=b"{}",
        trace_id="",
        client_context="",
        accepted_at=0,
    )
    await tables.write(lambda c: store.accept(c, event, 0))
    plan = "EXPLAIN QUERY PLAN SELECT id, payload FROM async_events WHERE state = 'waiting' AND account = ? "
    plan += "AND function = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?"
    steps = await tables.read(lambda c: [row[3] for row in c.execute(plan, (ACCOUNT, "f", 1, 1))])
    assert len(steps) == 1
    assert "async_events_due" in steps[0]
    await tables.close()
