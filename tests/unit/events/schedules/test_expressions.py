from __future__ import annotations

import random
import warnings
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from lambent.events.schedules.expressions import ExpressionRefused, parse_expression


def moment(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def dues(text: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    expression = parse_expression(text, zone=zone)
    at: float | None = moment(after, zone)
    found: list[str] = []
    for _ in range(count):
        assert at is not None
        at = expression.next_after(at)
        if at is None:
            break
        found.append(datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("fields", "after", "expected"),
    [
        ("0 9 ? * 2#1 *", "2026-01-01", ["2026-01-05 09:00", "2026-02-02 09:00"]),
        ("0 9 ? * 6L *", "2026-01-01", ["2026-01-30 09:00", "2026-02-27 09:00"]),
        ("0 9 ? * MON#5 *", "2026-01-01", ["2026-03-30 09:00", "2026-06-29 09:00"]),
        ("0 9 L * ? *", "2028-02-01", ["2028-02-29 09:00", "2028-03-31 09:00"]),
        ("0 9 L-2 * ? *", "2026-02-01", ["2026-02-26 09:00", "2026-03-29 09:00"]),
        ("0 9 LW * ? *", "2026-01-01", ["2026-01-30 09:00", "2026-02-27 09:00"]),
        ("0 9 1W * ? *", "2026-08-01", ["2026-08-03 09:00", "2026-09-01 09:00"]),
        ("0 9 15W * ? *", "2026-08-01", ["2026-08-14 09:00", "2026-09-15 09:00"]),
        ("0 9 31W * ? *", "2026-01-31", ["2026-03-31 09:00", "2026-05-29 09:00"]),
        ("0 0 29 FEB ? *", "2026-01-01", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0/30 22-23 ? * FRI-SUN *", "2026-01-02T23:00", ["2026-01-02 23:30", "2026-01-03 22:00"]),
        ("0 12 1 1 ? 2027,2030", "2026-01-01", ["2027-01-01 12:00", "2030-01-01 12:00"]),
        ("0 12 1 1 ? 2025", "2026-01-01", []),
    ],
)
def test_cron_reads_the_dialect_of_the_contract(fields: str, after: str, expected: list[str]) -> None:
    assert dues(f"cron({fields})", after, 2) == expected


def test_a_time_that_summer_time_leaves_out_is_skipped() -> None:
    found = dues("cron(30 2 * * ? *)", "2026-03-07T12:00", 2, "America/New_York")
    assert found == ["2026-03-09 02:30", "2026-03-10 02:30"]


def test_a_time_that_comes_twice_is_due_once() -> None:
    found = dues("cron(30 1 * * ? *)", "2026-10-31T12:00", 2, "America/New_York")
    assert found == ["2026-11-01 01:30", "2026-11-02 01:30"]


def test_a_rate_counts_elapsed_time_from_its_start() -> None:
    start = moment("2026-03-07T12:00", "America/New_York")
    rate = parse_expression("rate(1 day)", zone="America/New_York", start_at=start)
    assert rate.next_after(start - 5) == start
    assert rate.next_after(start) == start + 86_400
    assert rate.next_after(start + 86_400) == start + 2 * 86_400


def test_at_is_due_once_in_its_zone() -> None:
    once = parse_expression("at(2030-06-01T09:00:00)", zone="Europe/Riga")
    due_at = moment("2030-06-01T06:00:00")
    assert once.next_after(0) == due_at
    assert once.next_after(due_at) is None


@pytest.mark.parametrize(
    "text",
    [
        "rate(1 minutes)", "rate(2 minute)", "rate(0 minutes)", "rate(5 weeks)", "cron(0 9 * * * *)",
        "cron(0 9 ? * ? *)", "cron(0 9 * * ?)", "cron(60 9 * * ? *)", "cron(0 9 ? * 8 *)", "cron(0 9 ? * 2#6 *)",
        "cron(0/0 9 * * ? *)", "cron(0 9 32W * ? *)", "at(2030-13-01T00:00:00)", "every minute", "",
    ],
)  # fmt: skip
def test_what_is_not_an_expression_is_refused(text: str) -> None:
    with pytest.raises(ExpressionRefused):
        parse_expression(text)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ExpressionRefused):
        parse_expression("rate(1 day)", zone="Mars/Base")


def test_due_times_are_those_of_aws_croniter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aws_croniter import AwsCroniter
    chosen = random.Random(4)
    for _ in range(60):
        minute = chosen.choice(["0", "*/20", "5,35", "10-12"])
        hour = chosen.choice(["*", "9", "8-10", "0/6"])
        month = chosen.choice(["*", "JAN,JUL", "2-4"])
        day, weekday = chosen.choice(
            [
                ("*", "?"),
                ("L", "?"),
                ("1,15", "?"),
                ("?", "MON-FRI"),
                ("?", "2#1"),
                ("?", "6L"),
                ("?", "1"),
                ("15W", "?"),
            ]
        )
        fields = f"{minute} {hour} {day} {month} {weekday} *"
        after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=chosen.randrange(500_000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            oracle = [one.timestamp() for one in AwsCroniter(fields).get_next(after, 3)]
        expression, ours, at = parse_expression(f"cron({fields})"), [], after.timestamp()
        for _ in range(3):
            following = expression.next_after(at)
            assert following is not None
            ours.append(at := following)
        assert ours == oracle, fields
