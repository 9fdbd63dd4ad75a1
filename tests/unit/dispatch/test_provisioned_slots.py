"""Slots of provisioned concurrency: taken away from the others whether used or not, and never too many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest

from lambent.dataplane.dispatch.admission import AccountAdmission, Throttled
from lambent.dataplane.dispatch.ledger import Ledger, make_table
from lambent.dataplane.dispatch.shared_admission import SharedAdmission

LIVE, OTHER = "1/f/live@1", "1/f/other@1"


@pytest.fixture(params=["one process", "several processes"])
def admit(request: pytest.FixtureRequest) -> Iterator[Callable[[int], AccountAdmission]]:
    if request.param == "one process":
        yield AccountAdmission
        return
    table, wakes = make_table(2), [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
    yield lambda limit: SharedAdmission(limit, "1" * 12, Ledger(table, wakes, 0))
    for fd in (table, *wakes):
        os.close(fd)


Admit = Callable[[int], AccountAdmission]


def take_all(admission: AccountAdmission, function: str) -> int:
    taken = 0
    while True:
        try:
            admission.take(function)
        except Throttled:
            return taken
        taken += 1


def test_what_is_provisioned_is_taken_from_the_account_whether_it_is_used_or_not(admit: Admit) -> None:
    admission = admit(5)
    admission.set_provisioned("f", {LIVE: 2})
    assert take_all(admission, "g") == 3
    assert admission.take_provisioned(LIVE)
    assert admission.take_provisioned(LIVE)
    assert not admission.take_provisioned(LIVE)
    assert admission.running == 5


def test_a_slot_given_back_is_the_shares_own_again(admit: Admit) -> None:
    admission = admit(2)
    admission.set_provisioned("f", {LIVE: 1})
    assert admission.take_provisioned(LIVE)
    admission.give_back_provisioned(LIVE)
    assert take_all(admission, "f") == 1
    assert admission.take_provisioned(LIVE)


def test_what_is_provisioned_is_within_what_is_reserved(admit: Admit) -> None:
    admission = admit(10)
    admission.set_reserved("f", 3)
    admission.set_provisioned("f", {LIVE: 2})
    assert take_all(admission, "f") == 1
    assert take_all(admission, "g") == 7
    assert admission.take_provisioned(LIVE)
    assert admission.take_provisioned(LIVE)
    assert admission.running == 10


def test_a_share_gets_nothing_while_others_still_run_on_what_it_was_given(admit: Admit) -> None:
    admission = admit(3)
    assert take_all(admission, "g") == 3
    admission.set_provisioned("f", {LIVE: 1})
    assert not admission.take_provisioned(LIVE)
    admission.give_back("g")
    assert admission.take_provisioned(LIVE)
    with pytest.raises(Throttled):
        admission.take("g")


def test_what_runs_in_a_share_that_became_smaller_counts_as_any_other(admit: Admit) -> None:
    admission = admit(4)
    admission.set_provisioned("f", {LIVE: 3})
    for _ in range(3):
        assert admission.take_provisioned(LIVE)
    admission.set_provisioned("f", {LIVE: 1})
    assert take_all(admission, "g") == 1
    admission.give_back_provisioned(LIVE)
    assert take_all(admission, "g") == 1
    admission.give_back_provisioned(LIVE)
    admission.give_back_provisioned(LIVE)
    assert take_all(admission, "g") == 1
    assert admission.running == 3
    assert admission.take_provisioned(LIVE)


def test_what_runs_in_a_share_that_is_gone_goes_on_and_gives_its_slot_back_to_all(admit: Admit) -> None:
    admission = admit(2)
    admission.set_provisioned("f", {LIVE: 2})
    assert admission.take_provisioned(LIVE)
    admission.set_provisioned("f", {OTHER: 1})
    with pytest.raises(Throttled):
        admission.take("g")
    assert admission.take_provisioned(OTHER)
    admission.give_back_provisioned(LIVE)
    admission.take("g")
    assert admission.running == 2


def test_a_share_of_the_same_name_again_counts_what_still_runs_in_it(admit: Admit) -> None:
    admission = admit(9)
    admission.set_provisioned("f", {LIVE: 1})
    assert admission.take_provisioned(LIVE)
    admission.set_provisioned("f", {})
    admission.set_provisioned("f", {LIVE: 1})
    assert not admission.take_provisioned(LIVE)
    admission.give_back_provisioned(LIVE)
    assert admission.take_provisioned(LIVE)


def test_a_reservation_that_comes_and_goes_keeps_the_count_exact(admit: Admit) -> None:
    admission = admit(6)
    admission.set_provisioned("f", {LIVE: 2})
    assert admission.take_provisioned(LIVE)
    admission.take("f")
    admission.set_reserved("f", 4)
    assert take_all(admission, "g") == 2
    assert take_all(admission, "f") == 1
    admission.set_reserved("f", None)
    # 2 provisioned, 2 others of f and 2 of g: nothing is left.
    assert take_all(admission, "g") == 0
    assert admission.take_provisioned(LIVE)
    assert admission.running == 6


async def test_whoever_waits_is_given_a_slot_of_his_share_before_a_newcomer(admit: Admit) -> None:
    admission = admit(2)
    admission.set_provisioned("f", {LIVE: 1})
    assert admission.take_provisioned(LIVE)
    admission.take("g")
    waiting = asyncio.create_task(admission.wait("f", 60_000, LIVE))
    await asyncio.sleep(0)
    admission.give_back_provisioned(LIVE)
    assert not admission.take_provisioned(LIVE)
    assert await waiting is True
    admission.give_back_provisioned(LIVE)
    assert admission.take_provisioned(LIVE)


async def test_whoever_waits_for_a_share_takes_a_slot_of_the_account_when_that_comes_first(admit: Admit) -> None:
    admission = admit(2)
    admission.set_provisioned("f", {LIVE: 1})
    assert admission.take_provisioned(LIVE)
    admission.take("g")
    waiting = asyncio.create_task(admission.wait("f", 60_000, LIVE))
    await asyncio.sleep(0)
    admission.give_back("g")
    assert await waiting is False
    assert admission.running == 2


async def test_a_slot_that_comes_when_patience_ends_is_not_lost(admit: Admit) -> None:
    admission = admit(2)
    admission.set_provisioned("f", {LIVE: 1})
    assert admission.take_provisioned(LIVE)
    admission.take("g")
    waiting = asyncio.create_task(admission.wait("f", 60_000, LIVE))
    await asyncio.sleep(0)
    admission.give_back_provisioned(LIVE)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert admission.running == 1
    assert admission.take_provisioned(LIVE)


def test_what_is_provisioned_in_one_process_is_not_there_for_another() -> None:
    table, wakes = make_table(2), [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
    home, other = (SharedAdmission(4, "1" * 12, Ledger(table, wakes, index)) for index in range(2))
    for admission in (home, other):
        admission.set_provisioned("f", {LIVE: 2})
    assert take_all(other, "g") == 2
    assert home.take_provisioned(LIVE)
    assert home.take_provisioned(LIVE)
    for admission in (home, other):
        # Two run on in the home, of which one counts as any other from now on.
        admission.set_provisioned("f", {LIVE: 1})
    assert take_all(other, "g") == 0
    home.give_back_provisioned(LIVE)
    assert take_all(other, "g") == 1
    for fd in (table, *wakes):
        os.close(fd)
