from __future__ import annotations

import dataclasses
import random

from lambent.dataplane.dispatch.starts import Starts
from lambent.dataplane.sandbox.environment import UNMEASURED_MB
from lambent.model.invocation import PoolKey

A: PoolKey = ("a", "r", "outgoing")
B: PoolKey = ("b", "r", "outgoing")


@dataclasses.dataclass(eq=False)
class Room:
    id: str
    size_mb: int = UNMEASURED_MB


def make(*, environments: int = 2, budget_mb: int = 10_000, parallel: int = 10) -> Starts[str, Room]:
    return Starts(max_environments=environments, memory_budget_mb=budget_mb, max_parallel=parallel)


def nothing() -> Room | None:
    return None


def begin(starts: Starts[str, Room]) -> str | None:
    begun = starts.next(nothing)
    return begun[0] if begun else None


def test_starts_begin_in_the_order_of_asking() -> None:
    starts = make(environments=10)
    for key, name in ((A, "a1"), (B, "b1"), (A, "a2")):
        starts.want(key, name)
    assert [begin(starts) for _ in range(4)] == ["a1", "b1", "a2", None]


def test_a_place_is_taken_from_the_decision_on_and_given_back_at_the_end() -> None:
    starts = make(environments=1)
    starts.want(A, "a1")
    starts.want(A, "a2")
    assert begin(starts) == "a1"
    assert begin(starts) is None
    starts.add(Room("e1"))
    assert begin(starts) is None
    starts.remove(Room("e1"))
    assert begin(starts) == "a2"
    starts.give_up()
    assert starts.has_room()


def test_an_idle_environment_ends_for_a_start_and_its_place_is_not_given_twice() -> None:
    starts = make(environments=1)
    idle = Room("e1")
    starts.reserve()
    starts.add(idle)
    starts.want(A, "a1")
    starts.want(A, "a2")
    assert starts.next(lambda: idle) == ("a1", idle)
    assert not starts.has_room()
    starts.remove(idle)
    assert not starts.has_room()
    assert begin(starts) is None


def test_so_many_starts_work_at_once_and_a_slow_one_does_not_count() -> None:
    starts = make(environments=10, parallel=1)
    starts.want(A, "a1")
    starts.want(A, "a2")
    assert begin(starts) == "a1"
    assert begin(starts) is None
    starts.rest("a1")
    assert begin(starts) == "a2"


def test_what_environments_were_measured_to_hold_counts_against_the_budget() -> None:
    starts = make(environments=10, budget_mb=200)
    environment = Room("e1")
    starts.reserve()
    starts.add(environment)
    assert starts.has_room()
    environment.size_mb = 180
    assert not starts.has_room()


def test_one_environment_may_always_live_however_small_the_budget() -> None:
    starts = make(budget_mb=1)
    starts.want(A, "a1")
    assert begin(starts) == "a1"
    assert not starts.has_room()


def test_who_waited_longest_for_a_kind_of_environment_is_first() -> None:
    starts = make(environments=1)
    for name in ("a1", "a2"):
        starts.want(A, name)
    starts.want(B, "b1")
    assert begin(starts) == "a1"
    assert (starts.first(A), starts.first(B)) == ("a1", "b1")
    assert starts.leave(A, "a1")
    assert starts.first(A) == "a2"
    assert not starts.leave(A, "a1")
    assert starts.leave(A, "a2")
    assert (starts.first(A), starts.queued, starts.take_queued()) == (None, 1, ["b1"])


def test_no_order_of_events_takes_more_places_than_there_are() -> None:
    rng = random.Random(7)
    starts = make(environments=3, parallel=2)
    living: dict[str, Room] = {}
    idle: list[Room] = []
    begun: list[tuple[str, Room | None]] = []
    for number in range(5_000):
        draw = rng.random()
        if draw < 0.4:
            starts.want(A if rng.random() < 0.5 else B, f"w{number}")
        elif draw < 0.7 and (one := starts.next(lambda: idle.pop() if idle else None)):
            begun.append(one)
        elif draw < 0.9 and begun:
            wanting, victim = begun.pop(rng.randrange(len(begun)))
            if victim is not None:
                living.pop(victim.id, None)
                starts.remove(victim)
            starts.rest(wanting)
            if rng.random() < 0.2:
                starts.give_up()
            else:
                environment = Room(f"e{number}")
                living[environment.id] = environment
                starts.add(environment)
                idle.append(environment)
        elif idle and rng.random() < 0.5:
            gone = idle.pop(0)
            living.pop(gone.id)
            starts.remove(gone)
        assert len(living) <= 3
        assert len(living) + sum(victim is None for _, victim in begun) <= 3


def test_who_comes_while_a_start_is_under_way_that_nobody_waits_for_gets_that_one() -> None:
    starts = make(environments=10)
    starts.want(A, "a1")
    assert begin(starts) == "a1"
    # Served by an environment that came free; its own start goes on.
    assert starts.leave(A, "a1")
    starts.want(A, "a2")
    starts.want(A, "a3")
    starts.want(B, "b1")
    assert not starts.is_queued("a2")
    assert [begin(starts) for _ in range(3)] == ["a3", "b1", None]
    assert starts.first(A) == "a2"


def test_a_start_that_fails_leaves_nobody_waiting_for_nothing() -> None:
    starts = make(environments=10)
    starts.want(A, "a1")
    begin(starts)
    starts.leave(A, "a1")
    starts.want(A, "a2")
    starts.give_up()
    assert starts.end("a1") == ["a2"]
    assert starts.is_queued("a2")
    assert begin(starts) == "a2"
    # Its own start failed, too: that is its answer.
    starts.leave(A, "a2")
    assert starts.end("a2") == []
    assert starts.queued == 0


def test_a_start_that_goes_well_is_counted_until_what_came_of_it_is_given_away() -> None:
    starts = make(environments=10)
    starts.want(A, "a1")
    begin(starts)
    starts.leave(A, "a1")
    starts.want(A, "a2")
    starts.add(Room("e1"))
    assert starts.first(A) == "a2"
    starts.leave(A, "a2")
    assert starts.end("a1") == []
    assert starts.queued == 0


def test_who_is_queued_gets_a_start_that_has_lost_its_own() -> None:
    starts = make(environments=10, parallel=1)
    for name in ("a1", "a2", "a3"):
        starts.want(A, name)
    assert begin(starts) == "a1"
    assert starts.adopt() == []
    starts.leave(A, "a1")
    assert starts.adopt() == ["a2"]
    assert starts.adopt() == []
    assert (starts.is_queued("a2"), starts.is_queued("a3")) == (False, True)


def test_in_no_order_of_events_are_there_more_starts_than_wait_or_does_anybody_wait_for_nothing() -> None:
    rng = random.Random(11)
    starts = make(environments=1_000, parallel=5)
    waiting: dict[str, PoolKey] = {}
    begun: dict[str, PoolKey] = {}
    for number in range(5_000):
        draw = rng.random()
        if draw < 0.4:
            key = A if rng.random() < 0.5 else B
            waiting[f"w{number}"] = key
            starts.want(key, f"w{number}")
        elif draw < 0.6 and waiting:
            # Served by an environment that came free.
            key = rng.choice(list(waiting.values()))
            first = starts.first(key)
            assert first is not None
            starts.leave(key, first)
            del waiting[first]
        elif begun:
            owner = rng.choice(list(begun))
            key = begun.pop(owner)
            if rng.random() < 0.3:
                starts.give_up()
                if starts.leave(key, owner):
                    del waiting[owner]
            else:
                starts.add(Room(f"e{number}"))
                first = starts.first(key)
                if first is not None:
                    starts.leave(key, first)
                    del waiting[first]
            starts.rest(owner)
            starts.end(owner)
        starts.adopt()
        while (one := starts.next(nothing)) is not None:
            begun[one[0]] = waiting[one[0]]
        for key in (A, B):
            under_way = sum(each == key for each in begun.values())
            without = sum(each == key and not starts.is_queued(name) for name, each in waiting.items())
            assert without <= under_way


def test_a_start_is_enough_for_as_many_as_its_environment_takes_at_a_time() -> None:
    starts = make(environments=10)
    starts.note_concurrency(A, 2)
    starts.want(A, "a1")
    assert begin(starts) == "a1"
    for name in ("a2", "a3", "a4", "a5"):
        starts.want(A, name)
    # The first start has room for a2, another one takes a3 and a4.
    assert not starts.is_queued("a2")
    assert begin(starts) == "a3"
    assert starts.adopt() == ["a4"]
    assert begin(starts) == "a5"
    assert begin(starts) is None


def test_those_whose_start_takes_fewer_than_was_thought_are_given_starts_of_their_own() -> None:
    starts = make(environments=10)
    starts.note_concurrency(A, 3)
    for name in ("a1", "a2", "a3"):
        starts.want(A, name)
    assert begin(starts) == "a1"
    assert starts.adopt() == ["a2", "a3"]
    starts.note_concurrency(A, 1)
    starts.leave(A, "a1")
    assert sorted(starts.end("a1")) == ["a2", "a3"]
    assert [begin(starts), begin(starts)] == ["a2", "a3"]
