"""When a schedule is due: `at(...)`, `rate(...)` and `cron(...)` of the contract, with time zones. Pure.

Cron here is not that of Unix: six fields, days of the week from 1 (Sunday) to 7, one of the two days is `?`.

A time that a change to summer time leaves out is skipped; one that the change back repeats is due once, the first time
(Scheduler user guide, "Daylight savings time"). A rate counts elapsed time, whatever the clocks on the wall do.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 1970, 2199
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_WEEKDAYS = {name: number for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}
_UNITS_S = {"minute": 60, "hour": 3600, "day": 86400}
_EXPRESSION = re.compile(r"(at|rate|cron)\((.*)\)")
_RATE = re.compile(r"([1-9][0-9]{0,8}) (minute|hour|day)(s?)")
_AT = "%Y-%m-%dT%H:%M:%S"

Days = Callable[[int, int], set[int]]
"""The days of a month of a year."""


class ExpressionRefused(ValueError):
    """Says what is wrong with an expression."""


class Expression(Protocol):
    def next_after(self, moment: float) -> float | None:
        """The first due time later than `moment`, both in seconds since 1970; None when there is none any more."""
        ...


class At:
    """Once."""

    def __init__(self, due_at: float | None) -> None:
        self._due_at = due_at

    def next_after(self, moment: float) -> float | None:
        return self._due_at if self._due_at is not None and self._due_at > moment else None


class Rate:
    """Every `period_s`, counted from `start_at`, which is itself due."""

    def __init__(self, period_s: int, start_at: float) -> None:
        self.period_s = period_s
        self._start_at = start_at

    def next_after(self, moment: float) -> float | None:
        if moment < self._start_at:
            return self._start_at
        return self._start_at + ((moment - self._start_at) // self.period_s + 1) * self.period_s


class Cron:
    """By the calendar of a time zone."""

    def __init__(self, fields: str, zone: ZoneInfo) -> None:
        parts = fields.split()
        if len(parts) != 6:
            raise ExpressionRefused(f"a cron expression has 6 fields, this one has {len(parts)}")
        minutes, hours, days, months, weekdays, years = (part.upper() for part in parts)
        if (days == "?") == (weekdays == "?"):
            raise ExpressionRefused("exactly one of day-of-month and day-of-week must be '?'")
        self._zone = zone
        self._minutes = sorted(_read_field(minutes, "minutes", 0, 59))
        self._hours = sorted(_read_field(hours, "hours", 0, 23))
        self._months = _read_field(months, "month", 1, 12, _MONTHS)
        self._years = _read_field(years, "year", FIRST_YEAR, LAST_YEAR)
        self._days = _read_days(days) if weekdays == "?" else _read_weekdays(weekdays)

    def next_after(self, moment: float) -> float | None:
        after = datetime.fromtimestamp(moment, self._zone).replace(tzinfo=None)
        for wall in self._walk(after):
            due_at = _seconds_of(wall, self._zone)
            if due_at is not None and due_at > moment:
                return due_at
        return None

    def _walk(self, after: datetime) -> Iterator[datetime]:
        """The times on the wall later than `after`, in order."""
        for year in range(after.year, LAST_YEAR + 1):
            if year not in self._years:
                continue
            for month in range(1, 13):
                if month not in self._months or (year, month) < (after.year, after.month):
                    continue
                for day in sorted(self._days(year, month)):
                    yield from self._walk_day(year, month, day, after)

    def _walk_day(self, year: int, month: int, day: int, after: datetime) -> Iterator[datetime]:
        if (year, month, day) < (after.year, after.month, after.day):
            return
        for hour in self._hours:
            if (year, month, day, hour) < (after.year, after.month, after.day, after.hour):
                continue
            for minute in self._minutes:
                wall = datetime(year, month, day, hour, minute)
                if wall > after:
                    yield wall


def parse_expression(text: str, *, zone: str = "UTC", start_at: float = 0.0) -> Expression:
    """`start_at` (seconds since 1970) is where a rate begins to count. Raises ExpressionRefused."""
    try:
        place = ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise ExpressionRefused(f"there is no time zone {zone}") from None
    matched = _EXPRESSION.fullmatch(text)
    if matched is None:
        raise ExpressionRefused("an expression is at(yyyy-mm-ddThh:mm:ss), rate(value unit) or cron(fields)")
    kind, inner = matched.groups()
    if kind == "cron":
        return Cron(inner, place)
    if kind == "at":
        try:
            return At(_seconds_of(datetime.strptime(inner, _AT), place))
        except ValueError:
            raise ExpressionRefused(f"'{inner}' is not a time such as 2030-01-31T09:00:00") from None
    rate = _RATE.fullmatch(inner)
    if rate is None or (rate[1] == "1") == bool(rate[3]):
        raise ExpressionRefused("a rate is a positive number and minute, hour or day, or minutes, hours or days")
    return Rate(int(rate[1]) * _UNITS_S[rate[2]], start_at)


def _seconds_of(wall: datetime, zone: ZoneInfo) -> float | None:
    """None for a time that the clocks of the zone leave out."""
    seconds = wall.replace(tzinfo=zone, fold=0).timestamp()
    return seconds if datetime.fromtimestamp(seconds, zone).replace(tzinfo=None, fold=0) == wall else None


def _read_field(text: str, name: str, low: int, high: int, names: dict[str, int] | None = None) -> set[int]:
    """Lists of numbers, ranges and steps; a range may go round the end (`FRI-MON`, `22-3`)."""
    found: set[int] = set()
    for part in text.split(","):
        base, slash, step_text = part.partition("/")
        step = 1
        if slash:
            if not step_text.isdecimal() or int(step_text) == 0:
                raise ExpressionRefused(f"{name}: '{part}' has no step after '/'")
            step = int(step_text)
        first_text, dash, last_text = base.partition("-")
        if base == "*":
            first, last = low, high
        elif dash:
            first, last = (_read_number(one, name, low, high, names) for one in (first_text, last_text))
        else:
            first = _read_number(base, name, low, high, names)
            last = high if slash else first
        if first > last:
            span = high - low + 1
            found.update((number - low) % span + low for number in range(first, last + span + 1, step))
        else:
            found.update(range(first, last + 1, step))
    return found


def _read_number(text: str, name: str, low: int, high: int, names: dict[str, int] | None = None) -> int:
    if names is not None and text in names:
        return names[text]
    if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
        raise ExpressionRefused(f"{name}: '{text}' is not a number from {low} to {high}")
    return int(text)


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _weekday(year: int, month: int, day: int) -> int:
    """1 (Sunday) to 7."""
    return (calendar.weekday(year, month, day) + 1) % 7 + 1


def _read_days(text: str) -> Days:
    if text == "L":
        return lambda year, month: {_length(year, month)}
    if text == "LW":
        return lambda year, month: {_nearest_workday(year, month, _length(year, month))}
    if text.endswith("W"):
        wanted = _read_number(text[:-1], "day-of-month", 1, 31)
        return lambda year, month: {_nearest_workday(year, month, wanted)} if wanted <= _length(year, month) else set()
    from_end = re.fullmatch(r"L-([0-9]{1,2})", text)
    if from_end is not None:
        back = _read_number(from_end[1], "day-of-month", 1, 30)
        return lambda year, month: {day for day in (_length(year, month) - back,) if day > 0}
    days = _read_field(text, "day-of-month", 1, 31)
    return lambda year, month: {day for day in days if day <= _length(year, month)}


def _nearest_workday(year: int, month: int, day: int) -> int:
    """Within the month."""
    weekday = _weekday(year, month, day)
    if weekday == 7:
        return day - 1 if day > 1 else day + 2
    if weekday == 1:
        return day + 1 if day < _length(year, month) else day - 2
    return day


def _read_weekdays(text: str) -> Days:
    if text == "L":
        return _weekdays_of({7})
    if "#" in text:
        weekday_text, _, nth_text = text.partition("#")
        weekday = _read_number(weekday_text, "day-of-week", 1, 7, _WEEKDAYS)
        nth = _read_number(nth_text, "day-of-week", 1, 5)
        return lambda year, month: {
            day
            for day in range(nth * 7 - 6, min(nth * 7, _length(year, month)) + 1)
            if _weekday(year, month, day) == weekday
        }
    if text.endswith("L"):
        last = _read_number(text[:-1], "day-of-week", 1, 7, _WEEKDAYS)
        return lambda year, month: {
            day
            for day in range(_length(year, month) - 6, _length(year, month) + 1)
            if _weekday(year, month, day) == last
        }
    return _weekdays_of(_read_field(text, "day-of-week", 1, 7, _WEEKDAYS))


def _weekdays_of(weekdays: set[int]) -> Days:
    return lambda year, month: {
        day for day in range(1, _length(year, month) + 1) if _weekday(year, month, day) in weekdays
    }


def at_text(moment: float) -> str:
    """As the contract writes a due time: 2030-01-31T09:00:00Z."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
