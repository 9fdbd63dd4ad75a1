"""The dispatcher makes environments ahead of invocations, and gives up where it must: all but the processes is real."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.dataplane.dispatch.books import Books
from lambent.dataplane.dispatch.dispatcher import Dispatcher
from lambent.dataplane.dispatch.keepalive.histogram import IdleTimes
from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive, KeepAlive, Plan
from lambent.dataplane.dispatch.starts import Starts
from lambent.dataplane.sandbox.channel import ChannelClosed, InitFailed, Reply, TakeReply
from lambent.dataplane.sandbox.deadlines import Deadlines
from lambent.dataplane.sandbox.environment import Environment, Gauge
from lambent.dataplane.sandbox.launcher import Launcher
from lambent.dataplane.sandbox.states import State
from lambent.dataplane.sandbox.zygote_link import Spawned
from lambent.dataplane.wire.frames import Call
from lambent.model.errors import PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Target
from lambent.model.streams import ResponseStream
from lambent.telemetry.function_logs import LogStream
from lambent.telemetry.records import CountingRecorder

VERSION = Version(
    account="1", region="us-east-1", name="f", runtime="x", digest="d", code_size=1, last_modified="", revision_id="r1"
)
TARGET = Target(version=VERSION, invoked_arn=VERSION.function_arn)


class Predicting:
    """Releases at once and makes another at once, to be kept for good."""

    learns = False
    further = Plan(0.0, math.inf)

    def plan(self, idle_times: IdleTimes) -> Plan:
        return Plan(0.001, math.inf)


class FakeChannel:
    concurrency = 1

    def __init__(self, init: asyncio.Future[float | None]) -> None:
        self._init = init

    async def wait_ready(self) -> float | None:
        return await self._init

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> int:
        asyncio.get_running_loop().call_soon(take, Reply(b"1"))
        return 0

    def abandon(self, number: int) -> None:
        raise AssertionError("there is one at a time")

    def close(self) -> None:
        if not self._init.done():
            self._init.set_exception(ChannelClosed())


class FakeGauge(Gauge):
    def peak_mb(self) -> int:
        return 10


class FakeEnvironment(Environment):
    """Ends when it is killed, as a process does."""

    def kill(self) -> None:
        super().kill()
        if not self._spawned.exited.done():
            self._spawned.exited.set_result(9)


class FakeLauncher(Launcher):
    def __init__(self) -> None:
        self.made: list[FakeEnvironment] = []
        self.released = 0
        self.inits: asyncio.Queue[asyncio.Future[float | None]] = asyncio.Queue()
        self.refuses = False

    async def start(self, target: Target) -> Environment:
        if self.refuses:
            raise PlatformError("no more", retry_safe=True)
        loop = asyncio.get_running_loop()
        spawned = Spawned(loop)
        spawned.pidfd.set_exception(PlatformError("none", retry_safe=True))
        environment = FakeEnvironment(
            environment_id=f"e{len(self.made)}",
            version=target.version,
            stream="s",
            trees=frozenset(),
            spawned=spawned,
            gauge=FakeGauge(),
            deadlines=Deadlines(),
            release=self._release,
        )
        init: asyncio.Future[float | None] = loop.create_future()
        environment._channel = FakeChannel(init)
        self.made.append(environment)
        self.inits.put_nowait(init)
        return environment

    def _release(self) -> None:
        self.released += 1

    async def let_init_end(self) -> None:
        (await self.inits.get()).set_result(5.0)


class Sink:
    def write(self, stream: LogStream, events: object) -> None:
        """Nobody reads it."""


class World:
    def __init__(self, *, max_environments: int = 10, keep_alive: KeepAlive | None = None) -> None:
        self.launcher = FakeLauncher()
        self.admission = AccountAdmission()
        self.dispatcher = Dispatcher(
            launcher=self.launcher,
            books=Books(Sink(), CountingRecorder()),
            admission_of=lambda _account: self.admission,
            keep_alive=keep_alive or Predicting(),
            starts=Starts(max_environments=max_environments, memory_budget_mb=10_000, max_parallel=10),
            queue_s=60,
            init_limit_ms=10_000,
        )
        self.dispatcher.follow_version(VERSION.version_arn, "r1")

    async def invoke(self) -> bool:
        """Whether it was cold."""
        outcome = await self.dispatcher.invoke(TARGET, Invocation(request_id="i", payload=b"{}"))
        return outcome.init_ms is not None

    async def invoke_cold(self) -> None:
        task = asyncio.create_task(self.invoke())
        await self.launcher.let_init_end()
        assert await task

    async def settle(self) -> None:
        """Until nothing is under way."""
        while self.dispatcher._tasks or self.dispatcher._due is not None:
            await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.dispatcher.stop()
    assert made.launcher.released == len(made.launcher.made)


async def test_an_environment_made_ahead_serves_the_next_invocation_warm(world: World) -> None:
    await world.invoke_cold()
    await world.launcher.let_init_end()
    await asyncio.gather(*world.dispatcher._tasks)
    assert world.launcher.made[-1].state is State.IDLE
    assert not await world.invoke()
    assert world.launcher.made[0].state is State.DEAD


async def test_an_init_that_fails_ahead_is_cleaned_up_and_not_tried_again(world: World) -> None:
    await world.invoke_cold()
    (await world.launcher.inits.get()).set_exception(InitFailed("Boom", b"{}"))
    await world.settle()
    assert [environment.state for environment in world.launcher.made] == [State.DEAD] * 2
    assert world.dispatcher.environments() == []


async def test_a_launcher_that_refuses_harms_nobody(world: World) -> None:
    await world.invoke_cold()
    world.launcher.refuses = True
    await world.settle()
    world.launcher.refuses = False
    await world.invoke_cold()


async def test_new_code_in_the_meantime_discards_what_was_being_made(world: World) -> None:
    await world.invoke_cold()
    init = await world.launcher.inits.get()
    world.dispatcher.follow_version(VERSION.version_arn, "r2")
    init.set_result(5.0)
    await world.settle()
    assert world.dispatcher.environments() == []


async def test_a_deleted_function_is_not_made_ahead(world: World) -> None:
    await world.invoke_cold()
    world.dispatcher.follow_version(VERSION.version_arn, None)
    await world.settle()
    assert len(world.launcher.made) == 1


async def test_a_function_that_is_turned_off_is_not_made_ahead(world: World) -> None:
    await world.invoke_cold()
    world.admission.set_reserved("f", 0)
    await world.settle()
    assert len(world.launcher.made) == 1


async def test_stopping_the_node_ends_what_is_being_made(world: World) -> None:
    await world.invoke_cold()
    await world.launcher.inits.get()
    await world.dispatcher.stop()
    assert world.dispatcher.environments() == []


async def test_a_guess_evicts_nothing() -> None:
    world = World(max_environments=1)
    await world.invoke_cold()
    world.dispatcher._starts.reserve()
    await world.settle()
    assert len(world.launcher.made) == 1
    await world.dispatcher.stop()


async def test_an_environment_that_failed_leaves_nothing_behind(world: World) -> None:
    task = asyncio.create_task(world.invoke())
    (await world.launcher.inits.get()).set_exception(InitFailed("Boom", b"{}"))
    await task
    assert world.dispatcher.environments() == []
    assert world.dispatcher._books._journals == {}


async def test_an_environment_whose_function_was_deleted_meanwhile_does_not_become_idle() -> None:
    world = World(keep_alive=FixedKeepAlive(600))
    task = asyncio.create_task(world.invoke())
    init = await world.launcher.inits.get()
    world.dispatcher.follow_version(VERSION.version_arn, None)
    init.set_result(5.0)
    assert await task
    await asyncio.gather(*world.dispatcher._tasks)
    assert world.dispatcher.environments() == []
    await world.dispatcher.stop()
