"""Histograms, plans and worth, by hand."""

from __future__ import annotations

import random

import pytest

from lambent.dataplane.dispatch.keepalive.adaptive import AdaptiveKeepAlive
from lambent.dataplane.dispatch.keepalive.histogram import BINS, MAX_SAMPLES, IdleTimes
from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive, Plan
from lambent.dataplane.dispatch.keepalive.worth import GreedyDual, OldestFirst, Price

FALLBACK = Plan(0.0, 600.0)


def times(*minutes: float) -> IdleTimes:
    idle_times = IdleTimes()
    for minute in minutes:
        idle_times.add(minute * 60)
    return idle_times


def seconds(plan: Plan) -> tuple[float, float]:
    return plan.warm_after_s, plan.keep_until_s


def test_fixed_keeps_everything_for_the_same_time() -> None:
    assert FixedKeepAlive(7).plan(times(1, 2, 3)) == FixedKeepAlive(7).further == Plan(0.0, 7)


def test_percentiles_are_the_bins_that_hold_them() -> None:
    idle_times = times(*[3.5] * 90, *[20.5] * 10)
    assert [idle_times.percentile_bin(percent) for percent in (5, 90, 91, 99)] == [3, 3, 20, 20]


def test_what_lies_beyond_four_hours_is_counted_apart() -> None:
    idle_times = times(239.9, 240, 1_000)
    assert (idle_times.total, idle_times.outside, idle_times.percentile_bin(99)) == (1, 2, BINS - 1)


def test_a_histogram_forgets_by_halves_and_never_overflows() -> None:
    idle_times = times(*[1.0] * (20 * MAX_SAMPLES))
    assert 0 < idle_times.total < MAX_SAMPLES
    assert idle_times.percentile_bin(99) == 1


def test_what_a_time_costs_is_the_mean_of_the_idle_times_cut_at_it() -> None:
    # Middles of bins: 90 s and 1,830 s, and one that never came back within four hours.
    assert times(1, 30, 500).held_s(600) == pytest.approx((90 + 600 + 600) / 3)


def test_a_periodic_version_is_released_and_made_again_before_its_next_arrival() -> None:
    plan = AdaptiveKeepAlive(600).plan(times(*[30.2] * 10))
    assert seconds(plan) == pytest.approx((30 * 60 * 0.9, 31 * 60 * 1.1))


def test_a_version_that_comes_back_at_once_is_kept_no_longer_than_that() -> None:
    assert seconds(AdaptiveKeepAlive(600).plan(times(*[0.1] * 100))) == pytest.approx((0, 66))


@pytest.mark.parametrize(
    "idle_times",
    [
        times(),
        times(*[30.0] * 4),
        times(*[30.0] * 10, *[300.0] * 11),
        times(*range(BINS)),
    ],
    ids=["nothing known", "too little known", "mostly out of bounds", "spread evenly"],
)
def test_what_is_not_representative_falls_back_to_the_fixed_time(idle_times: IdleTimes) -> None:
    assert AdaptiveKeepAlive(600).plan(idle_times) == FALLBACK


def test_a_tail_that_costs_more_than_the_expense_allows_falls_back_to_the_fixed_time() -> None:
    assert AdaptiveKeepAlive(600).plan(times(*[0.5] * 95, *[200.0] * 50)) == FALLBACK


def test_what_a_version_was_scaled_out_to_is_kept_for_the_fixed_time() -> None:
    assert AdaptiveKeepAlive(600).further == FALLBACK


def test_a_plan_follows_a_change_of_habit() -> None:
    policy, idle_times = AdaptiveKeepAlive(600), times(*[30.2] * 10)
    policy.plan(idle_times)
    for _ in range(2_000):
        idle_times.add(10)
        plan = policy.plan(idle_times)
    assert seconds(plan) == pytest.approx((0, 66))


def test_whatever_was_seen_a_plan_has_an_order_and_an_end() -> None:
    rng = random.Random(7)
    for _ in range(300):
        idle_times = IdleTimes()
        longest = rng.choice((60, 3_600, 20_000))
        for _ in range(rng.randint(0, 200)):
            idle_times.add(rng.random() * longest)
        plan = AdaptiveKeepAlive(600).plan(idle_times)
        assert 0 <= plan.warm_after_s < plan.keep_until_s <= BINS * 60 * 1.1


def test_greedy_dual_is_frequency_times_cost_by_size_over_a_rising_clock() -> None:
    worth = GreedyDual()
    assert worth.of(4, Price(100, 50)) == 8
    worth.note_evicted(8)
    assert worth.of(1, Price(100, 50)) == 10
    worth.note_evicted(3)
    assert worth.of(1, Price(100, 50)) == 10


def test_oldest_first_does_not_look_at_the_price() -> None:
    worth = OldestFirst()
    assert worth.of(1_000, Price(1_000, 1)) < worth.of(1, Price(1, 1_000))
