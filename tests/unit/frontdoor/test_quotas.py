"""Quotas: exact, whatever happens."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest

from lambent.frontdoor.rest_apis.quotas import BLOCK, Asked, Quotas
from lambent.frontdoor.rest_apis.usage_model import period_begins_at
from lambent.substrate.memory.documents import MemoryDocuments

TODAY = date(2026, 3, 18)


def ask(limit: int | None, period: str = "DAY", **quota: Any) -> Asked:
    return Asked("1", "plan", "key", {"limit": limit, "period": period, **quota} if limit is not None else None)


async def count(quotas: Quotas, asked: Asked, tries: int) -> int:
    return sum(await asyncio.gather(*(quotas.take(asked) for _ in range(tries))))


@pytest.mark.parametrize("limit", [1, 2, BLOCK - 1, BLOCK, 5 * BLOCK + 3])
async def test_just_as_many_as_the_quota_are_let_through(limit: int) -> None:
    quotas = Quotas(MemoryDocuments(), lambda: TODAY)
    assert await count(quotas, ask(limit), limit + 50) == limit
    assert (await quotas.read("1", "plan", "key")).days == {TODAY.isoformat(): limit}


@pytest.mark.parametrize("served", [0, 1, 63, 64, 100, 990, 999, 1_000])
async def test_after_a_crash_the_quota_is_not_exceeded_and_at_most_a_block_is_lost(served: int) -> None:
    documents = MemoryDocuments()
    assert await count(Quotas(documents, lambda: TODAY), ask(1_000), served) == served
    rest = await count(Quotas(documents, lambda: TODAY), ask(1_000), 1_100)
    assert 1_000 - served - BLOCK <= rest <= 1_000 - served


async def test_an_orderly_end_loses_nothing() -> None:
    documents = MemoryDocuments()
    first = Quotas(documents, lambda: TODAY)
    assert await count(first, ask(1_000), 300) == 300
    await first.stop()
    assert await count(Quotas(documents, lambda: TODAY), ask(1_000), 1_000) == 700


async def test_a_new_period_begins_with_a_whole_quota() -> None:
    day = TODAY
    quotas = Quotas(MemoryDocuments(), lambda: day)
    assert await count(quotas, ask(5, "WEEK"), 9) == 5
    day += timedelta(days=1)
    assert await count(quotas, ask(5, "WEEK"), 9) == 0
    day += timedelta(days=7)
    assert await count(quotas, ask(5, "WEEK"), 9) == 5


async def test_what_is_granted_comes_on_top_for_the_period() -> None:
    day = TODAY
    quotas = Quotas(MemoryDocuments(), lambda: day)
    assert await count(quotas, ask(5), 9) == 5
    await quotas.grant(ask(5), 3)
    assert await count(quotas, ask(5), 9) == 3
    day += timedelta(days=1)
    assert await count(quotas, ask(5), 9) == 5


async def test_requests_without_a_quota_are_counted_and_all_let_through() -> None:
    quotas = Quotas(MemoryDocuments(), lambda: TODAY)
    assert await count(quotas, ask(None), 200) == 200
    assert (await quotas.read("1", "plan", "key")).days == {TODAY.isoformat(): 200}


@pytest.mark.parametrize(
    ("quota", "begin"),
    [
        ({"period": "DAY"}, "2026-03-18"),
        ({"period": "WEEK"}, "2026-03-15"),
        ({"period": "WEEK", "offset": 3}, "2026-03-18"),
        ({"period": "WEEK", "offset": 4}, "2026-03-12"),
        ({"period": "MONTH"}, "2026-03-01"),
        ({"period": "MONTH", "offset": 17}, "2026-03-18"),
        ({"period": "MONTH", "offset": 18}, "2026-02-19"),
    ],
)
def test_periods_begin_where_the_contract_says(quota: dict[str, Any], begin: str) -> None:
    # A Wednesday; weeks begin on Sunday.
    assert period_begins_at(quota, TODAY).isoformat() == begin
