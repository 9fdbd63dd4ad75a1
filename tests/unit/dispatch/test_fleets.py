"""What is provisioned is started, kept, replaced and given up; with environments that are only told apart by name."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable

import pytest

from lambent.dataplane.dispatch.fleets import FIRST_PAUSE_S, LONGEST_PAUSE_S, Fleets, NoRoom
from lambent.dataplane.sandbox.states import EnvironmentState, Event, State
from lambent.model.function import Version
from lambent.model.invocation import Target
from lambent.model.provisioned import Allocation, Share, divide, share_id

FUNCTION = "1/f"


class FakeEnvironment:
    def __init__(self, number: int, target: Target, retire_at: float) -> None:
        self.id = str(number)
        self.target = target
        self.retire_at = retire_at
        self.invocations = 0
        self.states = EnvironmentState(State.BUSY)

    def take(self, event: Event) -> object:
        return self.states.take(event)


class World:
    """Starts what fleets ask for when the test lets it."""

    def __init__(self) -> None:
        self.started: list[FakeEnvironment] = []
        self.stopped: list[str] = []
        self.failures: list[Exception] = []
        self.free_to_start = asyncio.Event()
        self.free_to_start.set()
        self.at_work = self.most_at_work = 0
        self.retire_at = math.inf
        self.now = 0.0
        self._numbers = itertools.count(1)
        self.fleets: Fleets[FakeEnvironment] = Fleets(
            self.start, lambda member: self.stopped.append(member.id), parallel=2, now=lambda: self.now
        )

    async def start(self, target: Target) -> FakeEnvironment:
        self.at_work += 1
        self.most_at_work = max(self.at_work, self.most_at_work)
        try:
            await self.free_to_start.wait()
            if self.failures:
                raise self.failures.pop(0)
        finally:
            self.at_work -= 1
        self.started.append(FakeEnvironment(next(self._numbers), target, self.retire_at))
        return self.started[-1]

    def allocation(self, qualifier: str = "live") -> Allocation:
        return self.fleets.allocations(FUNCTION)[qualifier]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.fleets.close()
    world.free_to_start.set()
    await world.fleets.wait_closed()


def share(slots: int, *, version: str = "1", qualifier: str = "live", network: str = "outgoing") -> Share:
    known = Version(
        account="1",
        region="us-east-1",
        name="f",
        version=version,
        runtime="python3.11",
        digest="d",
        code_size=1,
        last_modified="",
        revision_id="r" + version,
    )
    target = Target(version=known, invoked_arn="", network=network)
    return Share(id=share_id("1", "f", qualifier, version), qualifier=qualifier, target=target, slots=slots)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def timers() -> AsyncIterator[Callable[[float], list[float]]]:
    """The loop's timers, which run when the test says so."""
    loop = asyncio.get_running_loop()
    planned: list[tuple[float, asyncio.TimerHandle]] = []
    real = loop.call_later

    def call_later(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        handle = real(3600, callback, *args)
        planned.append((delay, handle))
        return handle

    def run(most_s: float) -> list[float]:
        """Run what is planned within this time; the delays."""
        due = [(delay, handle) for delay, handle in planned if delay <= most_s and not handle.cancelled()]
        planned[:] = [entry for entry in planned if entry not in due]
        for _, handle in due:
            handle._run()
            handle.cancel()
        return [delay for delay, _ in due]

    loop.call_later = call_later  # type: ignore[method-assign,assignment]
    try:
        yield run
    finally:
        loop.call_later = real  # type: ignore[method-assign]


async def test_a_fleet_is_filled_and_no_more_are_started_at_a_time_than_may_be(world: World) -> None:
    world.free_to_start.clear()
    world.fleets.follow(FUNCTION, [share(5)])
    await settle()
    assert world.allocation() == Allocation(allocated=2, available=0)
    world.free_to_start.set()
    await settle()
    assert world.allocation() == Allocation(allocated=5, available=5)
    assert world.most_at_work == 2


async def test_the_one_used_last_serves_next_and_each_serves_one_at_a_time(world: World) -> None:
    world.fleets.follow(FUNCTION, [share(2)])
    await settle()
    fleet = world.fleets.find(share(2).id)
    assert fleet is not None
    first, second = world.fleets.take(fleet), world.fleets.take(fleet)
    assert first is not None
    assert second is not None
    assert world.fleets.take(fleet) is None
    world.fleets.give_back(second)
    world.fleets.give_back(first)
    assert world.fleets.take(fleet) is first
    assert world.stopped == []


async def test_a_fleet_made_smaller_stops_the_idle_at_once_and_the_busy_when_they_are_given_back(world: World) -> None:
    world.fleets.follow(FUNCTION, [share(3)])
    await settle()
    fleet = world.fleets.find(share(3).id)
    assert fleet is not None
    busy = [world.fleets.take(fleet), world.fleets.take(fleet)]
    world.fleets.follow(FUNCTION, [share(1)])
    assert len(world.stopped) == 1
    for member in busy:
        assert member is not None
        world.fleets.give_back(member)
    assert len(world.stopped) == 2
    assert world.allocation() == Allocation(allocated=1, available=1)


async def test_another_version_of_an_alias_gets_environments_of_its_own(world: World) -> None:
    world.fleets.follow(FUNCTION, [share(2)])
    await settle()
    old = world.fleets.find(share(2).id)
    assert old is not None
    busy = world.fleets.take(old)
    world.fleets.follow(FUNCTION, [share(2, version="2")])
    await settle()
    assert [member.target.version.version for member in world.started[2:]] == ["2", "2"]
    assert len(world.stopped) == 1
    assert busy is not None
    world.fleets.give_back(busy)
    assert len(world.stopped) == 2
    assert world.fleets.find(share(2).id) is None


async def test_environments_of_another_network_are_not_kept(world: World) -> None:
    world.fleets.follow(FUNCTION, [share(1)])
    await settle()
    world.fleets.follow(FUNCTION, [share(1, network="none")])
    await settle()
    assert world.stopped == ["1"]
    assert world.allocation() == Allocation(allocated=1, available=1)


async def test_one_that_is_ready_too_late_is_stopped(world: World) -> None:
    world.free_to_start.clear()
    world.fleets.follow(FUNCTION, [share(1)])
    await settle()
    world.fleets.follow(FUNCTION, [])
    world.free_to_start.set()
    await settle()
    assert world.stopped == ["1"]
    assert world.fleets.allocations(FUNCTION) == {}


async def test_one_that_ends_at_work_is_replaced_at_once(world: World) -> None:
    world.fleets.follow(FUNCTION, [share(1)])
    await settle()
    fleet = world.fleets.find(share(1).id)
    assert fleet is not None
    member = world.fleets.take(fleet)
    assert member is not None
    assert world.fleets.remove(member) is False
    await settle()
    assert world.allocation() == Allocation(allocated=1, available=1)
    assert len(world.started) == 2
    world.fleets.give_back(member)
    assert world.allocation() == Allocation(allocated=1, available=1)


async def test_one_that_ends_before_it_was_used_is_not_started_again_and_again(world: World) -> None:
    async with timers() as run:
        world.fleets.follow(FUNCTION, [share(1)])
        await settle()
        for count in range(1, 4):
            assert world.fleets.remove(world.started[-1]) is True
            await settle()
            assert len(world.started) == count
            assert "ended before it was used" in world.allocation().failure
            assert run(FIRST_PAUSE_S) == [FIRST_PAUSE_S]
            await settle()


async def test_a_failed_start_is_tried_again_after_pauses_that_double_up_to_a_limit(world: World) -> None:
    async with timers() as run:
        world.failures = [ValueError("no database")] * 12
        world.fleets.follow(FUNCTION, [share(1)])
        await settle()
        assert world.allocation() == Allocation(failure="no database")
        delays = []
        while world.failures:
            delays += run(LONGEST_PAUSE_S)
            await settle()
        delays += run(LONGEST_PAUSE_S)
        await settle()
        assert delays[:4] == [FIRST_PAUSE_S * 2**n for n in range(4)]
        assert delays[-1] == LONGEST_PAUSE_S
        assert world.allocation() == Allocation(allocated=1, available=1)


async def test_a_fleet_without_room_is_filled_when_an_environment_has_ended(world: World) -> None:
    world.failures = [NoRoom()]
    world.fleets.follow(FUNCTION, [share(1)])
    await settle()
    assert "max_environments" in world.allocation().failure
    world.fleets.note_room()
    await settle()
    assert world.allocation() == Allocation(allocated=1, available=1)


async def test_environments_that_become_too_old_are_replaced_before_they_go(world: World) -> None:
    async with timers() as run:
        world.retire_at = 100.0
        world.fleets.follow(FUNCTION, [share(2)])
        await settle()
        world.retire_at = 200.0
        world.now = 100.0
        assert run(100.0) == [100.0]
        world.free_to_start.clear()
        await settle()
        assert world.stopped == []
        world.free_to_start.set()
        await settle()
        assert world.stopped == ["1"]
        run(0.0)
        await settle()
        assert sorted(world.stopped) == ["1", "2"]
        assert world.allocation() == Allocation(allocated=2, available=2)
        assert len(world.started) == 4


async def test_one_that_became_too_old_at_work_is_replaced_when_it_is_given_back(world: World) -> None:
    world.retire_at = 100.0
    world.fleets.follow(FUNCTION, [share(1)])
    await settle()
    fleet = world.fleets.find(share(1).id)
    assert fleet is not None
    member = world.fleets.take(fleet)
    assert member is not None
    world.now, world.retire_at = 101.0, 200.0
    world.fleets.give_back(member)
    await settle()
    assert world.stopped == ["1"]
    assert world.allocation() == Allocation(allocated=1, available=1)


async def test_after_closing_nothing_is_started(world: World) -> None:
    world.free_to_start.clear()
    world.fleets.follow(FUNCTION, [share(3)])
    await settle()
    world.fleets.close()
    world.free_to_start.set()
    await world.fleets.wait_closed()
    assert world.stopped == [member.id for member in world.started]
    assert len(world.started) <= 2


@pytest.mark.parametrize(
    ("slots", "weights", "expected"),
    [
        (5, {}, {"1": 5}),
        (10, {"2": 0.25}, {"1": 7, "2": 3}),
        (4, {"2": 0.25}, {"1": 3, "2": 1}),
        (1, {"2": 0.1}, {"1": 1}),
        (3, {"2": 1.0}, {"2": 3}),
        (3, {"2": 0.0}, {"1": 3}),
    ],
)
def test_slots_are_divided_as_an_alias_divides_its_invocations(
    slots: int, weights: dict[str, float], expected: dict[str, int]
) -> None:
    assert divide(slots, "1", weights) == expected
