"""A warm invocation that goes well is answered before it is written down, in one step of the node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.dispatch.test_warming_ahead import TARGET, World

from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive
from lambent.dataplane.sandbox.states import State
from lambent.model.invocation import Invocation, Outcome


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(keep_alive=FixedKeepAlive(600))
    await made.invoke_cold()
    yield made
    await made.dispatcher.stop()
    assert made.launcher.released == len(made.launcher.made)


async def submit(world: World, done: Callable[[Outcome | Exception], None] = lambda _result: None) -> Outcome:
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def take(result: Outcome | Exception) -> None:
        assert isinstance(result, Outcome)
        answer.set_result(result)
        done(result)

    world.dispatcher.submit(TARGET, Invocation(request_id="i", payload=b"{}"), take)
    return await answer


async def test_the_slot_is_free_before_the_answer_is_told(world: World) -> None:
    seen: list[int] = []
    outcome = await submit(world, lambda _result: seen.append(world.admission.running))
    assert seen == [0]
    assert (outcome.payload, outcome.executed_version, outcome.max_memory_mb) == (b"1", "$LATEST", 10)


async def test_whoever_hears_the_answer_finds_it_written_down_and_the_environment_idle(world: World) -> None:
    recorder = world.dispatcher._books._recorder
    before = recorder.snapshot()["invocations"]  # type: ignore[attr-defined]
    await submit(world)
    assert recorder.snapshot()["invocations"] == before + 1  # type: ignore[attr-defined]
    assert [environment.state for environment in world.launcher.made] == [State.IDLE]


async def test_an_answer_stands_when_it_cannot_be_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no log")

    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    monkeypatch.setattr(world.dispatcher._books, "write_down", fail)
    assert (await submit(world)).payload == b"1"
    await asyncio.gather(*world.dispatcher._tasks)
    assert [environment.state for environment in world.launcher.made] == [State.DEAD]
    assert world.admission.running == 0
    assert [str(complaint["exception"]) for complaint in complaints] == ["no log"]


async def test_a_caller_that_fails_to_hear_costs_the_environment_nothing(world: World) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    def fail(_result: Outcome | Exception) -> None:
        raise RuntimeError("gone")

    await submit(world, fail)
    assert [environment.state for environment in world.launcher.made] == [State.IDLE]
    assert [str(complaint["exception"]) for complaint in complaints] == ["gone"]
