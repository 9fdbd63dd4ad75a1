"""One account's slots seen by several processes: here as several views of one table, and once as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lambent.dataplane.dispatch.admission import Throttled
from lambent.dataplane.dispatch.ledger import Ledger, make_table
from lambent.dataplane.dispatch.shared_admission import SharedAdmission

ACCOUNT = "123456789012"


@pytest.fixture
def ledgers() -> Iterator[list[Ledger]]:
    table = make_table(3)
    wakes = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(3)]
    yield [Ledger(table, wakes, index) for index in range(3)]
    for fd in (table, *wakes):
        os.close(fd)


def admissions(ledgers: list[Ledger], limit: int) -> list[SharedAdmission]:
    return [SharedAdmission(limit, ACCOUNT, ledger) for ledger in ledgers]


def pass_wakes(ledgers: list[Ledger]) -> None:
    """What the event loop of each process does when its descriptor is readable."""
    for ledger in ledgers:
        ledger.take_wake()


def test_the_limit_holds_over_all_processes_together(ledgers: list[Ledger]) -> None:
    first, second, _ = admissions(ledgers, 3)
    first.take("a")
    second.take("b")
    first.take("a")
    for admission in (first, second):
        with pytest.raises(Throttled) as refused:
            admission.take("c")
        assert refused.value.reason == "ConcurrentInvocationLimitExceeded"
    second.give_back("b")
    first.take("c")


def test_reserved_slots_are_taken_from_the_shared_ones_in_all_processes(ledgers: list[Ledger]) -> None:
    first, second, _ = admissions(ledgers, 3)
    for admission in (first, second):
        admission.set_reserved("r", 2)
    second.take("r")
    second.take("r")
    first.take("a")
    with pytest.raises(Throttled):
        second.take("b")
    with pytest.raises(Throttled) as refused:
        second.take("r")
    assert refused.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_what_runs_is_counted_where_it_belongs_when_a_reservation_comes_and_goes(ledgers: list[Ledger]) -> None:
    first, second, _ = admissions(ledgers, 2)
    first.take("r")
    for admission in (first, second):
        admission.set_reserved("r", 1)
    second.take("a")
    with pytest.raises(Throttled):
        second.take("b")
    for admission in (first, second):
        admission.set_reserved("r", None)
    with pytest.raises(Throttled):
        second.take("b")
    first.give_back("r")
    second.take("b")


async def test_waiters_of_all_processes_are_served_first_come_first_served(ledgers: list[Ledger]) -> None:
    first, second, third = admissions(ledgers, 1)
    first.take("a")
    served: list[str] = []

    async def wait(admission: SharedAdmission, name: str) -> None:
        await admission.wait(name, 60_000)
        served.append(name)

    tasks = []
    for admission, name in ((second, "one"), (third, "two"), (second, "three"), (first, "four")):
        tasks.append(asyncio.create_task(wait(admission, name)))
        await asyncio.sleep(0)
    giver, holder = first, "a"
    for name, admission in (("one", second), ("two", third), ("three", second), ("four", first)):
        giver.give_back(holder)
        with pytest.raises(Throttled):
            third.take("pushes in")
        pass_wakes(ledgers)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert served[-1] == name
        giver, holder = admission, name
    await asyncio.gather(*tasks)


async def test_a_waiter_that_gives_up_does_not_hold_up_those_of_other_processes(ledgers: list[Ledger]) -> None:
    first, second, third = admissions(ledgers, 1)
    first.take("a")
    leaves = asyncio.create_task(second.wait("b", 60_000))
    await asyncio.sleep(0)
    stays = asyncio.create_task(third.wait("c", 60_000))
    await asyncio.sleep(0)
    leaves.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaves
    first.give_back("a")
    pass_wakes(ledgers)
    await stays


async def test_a_dead_process_gives_back_its_place_in_line_at_once_and_its_slots_when_it_is_swept(
    ledgers: list[Ledger],
) -> None:
    dead, living, _ = admissions(ledgers, 1)
    dead.take("a")
    waiting = asyncio.create_task(dead.wait("a", 60_000))
    await asyncio.sleep(0)
    ledgers[2].forget(0, keep_taken=True)
    with pytest.raises(Throttled):
        living.take("b")
    ledgers[2].forget(0)
    living.take("b")
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


TAKER = """
import sys
from lambent.dataplane.dispatch.admission import Throttled
from lambent.dataplane.dispatch.ledger import Ledger
from lambent.dataplane.dispatch.shared_admission import SharedAdmission
table, index, *wakes = map(int, sys.argv[1:])
admission = SharedAdmission(5, "123456789012", Ledger(table, wakes, index))
taken = most = 0
for turn in range(20_000):
    try:
        admission.take("f")
        taken += 1
    except Throttled:
        pass
    if taken and turn % 3 == 0:
        admission.give_back("f")
        taken -= 1
    most = max(most, admission._shared_running + admission._ledger.taken_elsewhere(admission._row))
print(most, taken)
"""


def test_no_slot_is_lost_or_doubled_among_real_processes(ledgers: list[Ledger]) -> None:
    table, wakes = ledgers[0]._fd, list(map(str, ledgers[0]._wake_fds))
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(table), str(index), *wakes],
            pass_fds=[table, *map(int, wakes)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    results = [tuple(map(int, run.communicate()[0].split())) for run in runs]
    assert max(most for most, _ in results) <= 5
    counted = Ledger(table, ledgers[0]._wake_fds, 0)
    row = counted.open_row(ACCOUNT)
    assert counted.taken_elsewhere(row) == results[1][1] + results[2][1]
