"""The pool of idle environments in virtual time: its members are texts."""

from __future__ import annotations

import math
import random

from lambent.dataplane.dispatch.keepalive import idle_pool
from lambent.dataplane.dispatch.keepalive.adaptive import AdaptiveKeepAlive
from lambent.dataplane.dispatch.keepalive.idle_pool import IdlePool
from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive
from lambent.dataplane.dispatch.keepalive.worth import GreedyDual, Price
from lambent.model.invocation import PoolKey

A: PoolKey = ("a", "1", "outgoing")
B: PoolKey = ("b", "1", "outgoing")
PRICE = Price(100, 100)
Pool = IdlePool[str, str]


def fixed(keep_s: float = 10) -> Pool:
    return IdlePool(FixedKeepAlive(keep_s), GreedyDual())


def serve(pool: Pool, key: PoolKey, member: str, now: float, price: Price = PRICE) -> str | None:
    """One invocation that takes no time; `member` is made if none is idle."""
    taken = pool.begin(key, now)
    pool.end(key, now)
    pool.add(taken or member, key, f"make {key[0]}", now, price)
    return taken


def teach(pool: Pool, *, every_s: float, times: int = 8) -> float:
    """A periodic version; the end of its last invocation."""
    for number in range(times):
        pool.take_due(number * every_s)
        serve(pool, A, f"m{number}", number * every_s)
    return (times - 1) * every_s


def test_the_environment_used_last_is_used_next() -> None:
    pool = fixed()
    for _ in range(2):
        pool.begin(A, 0)
    for now, member in ((1, "x"), (2, "y")):
        pool.end(A, now)
        pool.add(member, A, "", now, PRICE)
    assert [pool.begin(A, 3) for _ in range(3)] == ["y", "x", None]


def test_environments_are_never_shared_between_keys() -> None:
    pool = fixed()
    serve(pool, A, "x", 0)
    assert pool.begin(("a", "2", "outgoing"), 1) is None
    assert pool.begin(("a", "1", "none"), 1) is None
    assert pool.begin(A, 1) == "x"


def test_an_idle_environment_expires_when_its_time_is_over_and_not_before() -> None:
    pool = fixed(10)
    serve(pool, A, "x", 0)
    serve(pool, B, "y", 5)
    assert pool.due_at == 10
    assert pool.take_due(9.9).expired == []
    assert pool.take_due(10).expired == ["x"]
    assert pool.due_at == 15
    assert pool.take_due(15).expired == ["y"]
    assert (pool.due_at, len(pool)) == (math.inf, 0)


def test_use_renews_the_time() -> None:
    pool = fixed(10)
    serve(pool, A, "x", 0)
    assert serve(pool, A, "never made", 9) == "x"
    assert pool.take_due(10).expired == []
    assert pool.due_at == 19


def test_a_periodic_version_goes_at_once_and_is_made_ahead_of_its_next_arrival() -> None:
    pool: Pool = IdlePool(AdaptiveKeepAlive(600), GreedyDual())
    last = teach(pool, every_s=1_815)
    assert pool.take_due(last).expired == ["m7"]
    assert pool.due_at == last + 30 * 60 * 0.9
    due = pool.take_due(pool.due_at)
    assert due.ahead == ["make a"]
    pool.add_ahead("warmed", A, last + 1_621, PRICE)
    assert pool.begin(A, last + 1_815) == "warmed"


def test_what_was_made_ahead_in_vain_goes_and_is_not_made_again() -> None:
    pool: Pool = IdlePool(AdaptiveKeepAlive(600), GreedyDual())
    last = teach(pool, every_s=1_815)
    pool.take_due(last)
    pool.take_due(pool.due_at)
    pool.add_ahead("warmed", A, last + 1_621, PRICE)
    due = pool.take_due(last + 31 * 60 * 1.1)
    assert (due.expired, due.ahead, pool.due_at) == (["warmed"], [], math.inf)


def test_an_arrival_before_its_time_calls_the_making_off() -> None:
    pool: Pool = IdlePool(AdaptiveKeepAlive(600), GreedyDual())
    last = teach(pool, every_s=1_815)
    pool.take_due(last)
    assert pool.begin(A, last + 100) is None
    assert pool.take_due(last + 1_700).ahead == []


def test_under_pressure_the_one_worth_least_goes_whatever_its_age() -> None:
    pool = fixed(1_000)
    serve(pool, A, "dear", 0, Price(5_000, 100))
    serve(pool, B, "cheap", 1, Price(10, 100))
    assert [pool.evict(), pool.evict(), pool.evict()] == ["cheap", "dear", None]


def test_frequency_counts_although_one_environment_serves_it_all() -> None:
    pool = fixed(1_000)
    for now in range(5):
        serve(pool, A, "busy", now)
    serve(pool, B, "new", 6)
    assert pool.evict() == "new"


def test_what_is_not_used_any_more_goes_in_the_end_however_dear() -> None:
    pool = fixed(math.inf)
    serve(pool, A, "dear", 0, Price(1_000, 100))
    evicted = []
    for number in range(30):
        serve(pool, (f"f{number}", "1", "none"), f"m{number}", number, Price(100, 100))
        evicted.append(pool.evict())
    assert "dear" in evicted


def test_one_that_ended_by_itself_is_given_to_nobody() -> None:
    pool = fixed()
    serve(pool, A, "x", 0)
    assert pool.remove("x")
    assert not pool.remove("x")
    assert pool.begin(A, 1) is None


def test_other_revisions_are_taken_out_and_what_was_planned_for_them_is_off() -> None:
    pool: Pool = IdlePool(AdaptiveKeepAlive(600), GreedyDual())
    last = teach(pool, every_s=1_815)
    serve(pool, B, "other", last)
    assert pool.keep_revision("a", "2") == ["m7"]
    assert pool.take_due(last + 1_700).ahead == []
    pool.end(A, last + 1_700)


def test_a_new_revision_inherits_what_was_learnt_of_the_version() -> None:
    pool: Pool = IdlePool(AdaptiveKeepAlive(600), GreedyDual())
    last = teach(pool, every_s=1_815)
    pool.keep_revision("a", "2")
    serve(pool, ("a", "2", "outgoing"), "new", last)
    assert pool.take_due(last).expired == ["new"]


def test_versions_that_nobody_uses_are_forgotten_so_that_memory_is_bounded() -> None:
    pool = fixed(1)
    for number in range(idle_pool.MAX_SHELVES + 10):
        serve(pool, (f"f{number}", "1", "none"), "x", number)
        pool.remove("x")
    assert len(pool._shelves) <= idle_pool.MAX_SHELVES
    assert len(pool._idle_times) <= idle_pool.MAX_SHELVES


def test_no_member_is_lost_or_given_twice_whatever_happens() -> None:
    rng = random.Random(3)
    for keep_alive in (FixedKeepAlive(300), AdaptiveKeepAlive(300)):
        pool: Pool = IdlePool(keep_alive, GreedyDual())
        busy: list[tuple[str, PoolKey]] = []
        idle: set[str] = set()
        now, made = 0.0, 0
        for _ in range(5_000):
            now += rng.expovariate(1 / 60)
            key = rng.choice((A, B))
            choice = rng.random()
            if choice < 0.45:
                member = pool.begin(key, now)
                if member is None:
                    made += 1
                    member = f"m{made}"
                else:
                    idle.remove(member)
                busy.append((member, key))
            elif choice < 0.9 and busy:
                member, key = busy.pop(rng.randrange(len(busy)))
                pool.end(key, now)
                if rng.random() < 0.9:
                    pool.add(member, key, key[0], now, PRICE)
                    idle.add(member)
            elif choice < 0.93 and (evicted := pool.evict()) is not None:
                idle.remove(evicted)
            due = pool.take_due(now)
            idle -= set(due.expired)
            for subject in due.ahead:
                made += 1
                pool.add_ahead(f"m{made}", A if subject == "a" else B, now, PRICE)
                idle.add(f"m{made}")
            assert len(pool) == len(idle)
            assert pool.due_at > now or not idle
