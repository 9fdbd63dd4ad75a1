"""Accepted events end exactly one way: carried out, or dropped after all their attempts, and said so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lambent.events.async_invoke import COLLECTION, AsyncInvoker
from lambent.model.errors import CallerError, PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.substrate.memory.documents import MemoryDocuments

VERSION = Version(
    account="1" * 12,
    region="us-east-1",
    name="f",
    runtime="python3.11",
    digest="d",
    code_size=1,
    last_modified="",
    revision_id="r",
)
TARGET = Target(version=VERSION, invoked_arn=VERSION.function_arn + ":live")
THROTTLED = CallerError("TooManyRequestsException", "Rate Exceeded.", status=429)


class FakeInvoker:
    """Answers as it was told; the last answer again and again."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[Invocation] = []

    async def invoke(self, target: Target, invocation: Invocation) -> Outcome:
        self.seen.append(invocation)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Outcome(payload=b"1", function_error=answer, executed_version="1")


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []
        real_sleep = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds:
                self.slept.append(round(seconds))
            self.now += seconds
            await real_sleep(0)

        monkeypatch.setattr("lambent.events.async_invoke.asyncio.sleep", sleep)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


Resolve = Callable[[str, str, str, str], Target]


async def run(invoker: FakeInvoker, clock: Clock, resolve: Resolve | None = None) -> MemoryDocuments:
    documents = MemoryDocuments()
    events = AsyncInvoker(documents, invoker, resolve or (lambda *_: TARGET), now=lambda: clock.now)
    await events.accept(TARGET, Invocation(request_id="id-1", payload=b'{"a":1}', trace_id="t"))
    assert len(await documents.list(COLLECTION)) == 1
    await asyncio.gather(*events._tasks)
    return documents


async def test_an_event_is_handed_on_as_it_was_accepted_and_then_forgotten(clock: Clock) -> None:
    seen: list[tuple[str, str, str, str]] = []

    def resolve(*name: str) -> Target:
        seen.append(name)  # type: ignore[arg-type]
        return TARGET

    invoker = FakeInvoker("")
    documents = await run(invoker, clock, resolve)
    assert seen == [("1" * 12, "us-east-1", "f", "live")]
    assert [(call.request_id, call.payload, call.trace_id) for call in invoker.seen] == [("id-1", b'{"a":1}', "t")]
    assert await documents.list(COLLECTION) == []


async def test_a_function_that_fails_is_tried_three_times_one_and_two_minutes_apart(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    invoker = FakeInvoker("Unhandled")
    documents = await run(invoker, clock)
    assert len(invoker.seen) == 3
    assert clock.slept == [60, 120]
    assert await documents.list(COLLECTION) == []
    assert "event dropped" in caplog.text


async def test_throttles_and_our_own_errors_back_off_and_spend_no_retries(clock: Clock) -> None:
    invoker = FakeInvoker(THROTTLED, PlatformError("lost"), THROTTLED, "Unhandled", "")
    await run(invoker, clock)
    assert len(invoker.seen) == 5
    assert clock.slept == [1, 2, 4, 60]


async def test_an_event_that_can_never_run_ends_after_six_hours(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    began = clock.now
    await run(FakeInvoker(THROTTLED), clock)
    assert 5.5 * 3600 < clock.now - began <= 6 * 3600
    assert "event dropped" in caplog.text


async def test_an_event_of_a_deleted_function_is_dropped(clock: Clock) -> None:
    def gone(*_: str) -> Target:
        raise CallerError("ResourceNotFoundException", "gone", status=404)

    invoker = FakeInvoker("")
    documents = await run(invoker, clock, gone)
    assert invoker.seen == []
    assert await documents.list(COLLECTION) == []


async def test_what_was_accepted_before_is_taken_up_at_start(clock: Clock) -> None:
    documents = MemoryDocuments()
    blocked = asyncio.Event()

    class Blocked(FakeInvoker):
        async def invoke(self, target: Target, invocation: Invocation) -> Outcome:
            await blocked.wait()
            raise AssertionError("unreachable")

    first = AsyncInvoker(documents, Blocked(""), lambda *_: TARGET, now=lambda: clock.now)
    await first.accept(TARGET, Invocation(request_id="id-1", payload=b"{}"))
    await first.stop()
    invoker = FakeInvoker("")
    second = AsyncInvoker(documents, invoker, lambda *_: TARGET, now=lambda: clock.now)
    await second.start()
    await asyncio.gather(*second._tasks)
    assert [call.request_id for call in invoker.seen] == ["id-1"]
    assert await documents.list(COLLECTION) == []
