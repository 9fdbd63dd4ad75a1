"""Concurrency limits are exact, fair, and lose no slot."""

from __future__ import annotations

import asyncio

import pytest

from lambent.dataplane.dispatch.admission import MAX_WAITERS, AccountAdmission, Throttled


def test_the_invocation_beyond_the_account_limit_is_throttled_with_the_contracts_reason() -> None:
    admission = AccountAdmission(2)
    admission.take("f")
    admission.take("g")
    with pytest.raises(Throttled) as caught:
        admission.take("f")
    assert caught.value.status == 429
    assert caught.value.code == "TooManyRequestsException"
    assert caught.value.members["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert caught.value.headers["Retry-After"] == "1"


def test_a_slot_given_back_can_be_taken_again() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    admission.give_back("f")
    admission.take("g")
    assert admission.running == 1


def test_a_function_with_reserved_concurrency_uses_its_own_slots_only() -> None:
    admission = AccountAdmission(10)
    admission.set_reserved("f", 1)
    admission.take("f")
    with pytest.raises(Throttled) as caught:
        admission.take("f")
    assert caught.value.members["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_reserved_slots_are_not_there_for_other_functions() -> None:
    admission = AccountAdmission(3)
    admission.set_reserved("f", 2)
    admission.take("g")
    with pytest.raises(Throttled):
        admission.take("g")
    admission.take("f")


def test_reserved_concurrency_of_zero_stops_a_function() -> None:
    admission = AccountAdmission(10)
    admission.set_reserved("f", 0)
    with pytest.raises(Throttled):
        admission.take("f")


def test_what_runs_is_counted_where_it_belongs_after_a_reservation_changes() -> None:
    admission = AccountAdmission(3)
    admission.take("f")
    admission.take("f")
    admission.set_reserved("f", 1)
    admission.take("g")
    admission.take("g")
    with pytest.raises(Throttled):
        admission.take("g")
    admission.give_back("f")
    admission.give_back("f")
    admission.set_reserved("f", None)
    admission.take("f")
    with pytest.raises(Throttled):
        admission.take("f")
    assert admission.running == 3


async def test_who_waits_is_served_in_order() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    order: list[int] = []

    async def wait(number: int) -> None:
        await admission.wait("f", 60_000)
        order.append(number)
        admission.give_back("f")

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(wait(number)))
        await asyncio.sleep(0)
    admission.give_back("f")
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert admission.running == 0


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    waiting = asyncio.create_task(admission.wait("f", 60_000))
    await asyncio.sleep(0)
    admission.give_back("f")
    with pytest.raises(Throttled):
        admission.take("f")
    await waiting
    assert admission.running == 1


async def test_patience_that_ends_is_a_throttle_and_leaves_no_trace() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    with pytest.raises(Throttled):
        await admission.wait("f", 1)
    admission.give_back("f")
    admission.take("f")
    assert admission.running == 1


async def test_a_cancelled_waiter_gives_its_turn_to_the_next() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    first = asyncio.create_task(admission.wait("f", 60_000))
    second = asyncio.create_task(admission.wait("f", 60_000))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    admission.give_back("f")
    await second
    assert admission.running == 1


async def test_a_slot_granted_in_the_moment_of_cancellation_is_not_lost() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    waiting = asyncio.create_task(admission.wait("f", 60_000))
    await asyncio.sleep(0)
    admission.give_back("f")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert admission.running == 0


async def test_a_raised_limit_lets_waiters_in() -> None:
    admission = AccountAdmission(1)
    admission.take("f")
    waiting = asyncio.create_task(admission.wait("f", 60_000))
    await asyncio.sleep(0)
    admission.set_limit(2)
    await waiting
    assert admission.running == 2


async def test_the_queue_of_waiters_is_bounded() -> None:
    admission = AccountAdmission(0)
    tasks = [asyncio.create_task(admission.wait("f", 60_000)) for _ in range(MAX_WAITERS)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled):
        await admission.wait("f", 60_000)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_limits_hold_exactly_under_a_thousand_tasks() -> None:
    admission = AccountAdmission(7)
    most = 0

    async def run() -> None:
        nonlocal most
        await admission.wait("f", 60_000)
        most = max(most, admission.running)
        await asyncio.sleep(0)
        admission.give_back("f")

    await asyncio.gather(*(run() for _ in range(1000)))
    assert most == 7
    assert admission.running == 0
