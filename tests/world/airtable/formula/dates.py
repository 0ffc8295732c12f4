"""The date functions of Airtable formulas. All times are UTC; a text is read as ISO 8601.

Comparing with a blank is false, computing with one is an error.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.world.airtable.formula.values import FormulaError, Value, to_number, to_text, to_time

_SECONDS: Mapping[str, float] = {
    "milliseconds": 0.001,
    "seconds": 1,
    "minutes": 60,
    "hours": 3600,
    "days": 86400,
    "weeks": 604800,
}
_MONTHS: Mapping[str, int] = {"months": 1, "quarters": 3, "years": 12}
_SHORT: Mapping[str, str] = {
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
    "M": "months",
    "Q": "quarters",
    "y": "years",
}


def _unit(name: Value) -> str:
    """A unit as a plural: `day`, `days` and `d` are one. Raises `FormulaError`."""
    given = to_text(name)
    unit = _SHORT.get(given) or given.lower().rstrip("s") + "s"
    if unit not in _SECONDS and unit not in _MONTHS:
        raise FormulaError
    return unit


def _compared(compare: Callable[[datetime, datetime], bool]) -> Callable[..., Value]:
    def call(left: Value, right: Value) -> Value:
        if left in (None, "") or right in (None, ""):
            return False
        return compare(to_time(left), to_time(right))

    return call


def _is_same(left: Value, right: Value, unit: Value = "milliseconds") -> Value:
    if left in (None, "") or right in (None, ""):
        return False
    return _floor(to_time(left), _unit(unit)) == _floor(to_time(right), _unit(unit))


def _floor(moment: datetime, unit: str) -> tuple[int, ...]:
    """What two times that are the same up to `unit` have in common."""
    if unit == "weeks":
        return (moment.toordinal() // 7,)  # a multiple of seven is a Sunday
    if unit == "quarters":
        return (moment.year, (moment.month - 1) // 3)
    parts = (*moment.timetuple()[:6], moment.microsecond // 1000)
    return parts[: ("years", "months", "days", "hours", "minutes", "seconds", "milliseconds").index(unit) + 1]


def _add(moment: Value, count: Value, unit: Value) -> Value:
    start, amount, name = to_time(moment), to_number(count), _unit(unit)
    try:
        if name in _SECONDS:
            return start + timedelta(seconds=amount * _SECONDS[name])
        return _add_months(start, int(amount) * _MONTHS[name])
    except (OverflowError, ValueError):
        raise FormulaError from None


def _add_months(start: datetime, months: int) -> datetime:
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last_day))


def _difference(left: Value, right: Value, unit: Value = "seconds") -> Value:
    """`left` minus `right` in whole units, towards zero."""
    later, earlier, name = to_time(left), to_time(right), _unit(unit)
    if name in _SECONDS:
        return int((later - earlier) / timedelta(seconds=_SECONDS[name]))
    return int(_months_between(earlier, later) / _MONTHS[name])


def _months_between(earlier: datetime, later: datetime) -> int:
    if later < earlier:
        return -_months_between(later, earlier)
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    return months - (_add_months(earlier, months) > later)


# Reading and writing times in moment.js formats

_FORMATS: Mapping[str, Callable[[datetime], str]] = {
    "YYYY": lambda t: f"{t.year:04}",
    "YY": lambda t: f"{t.year % 100:02}",
    "Q": lambda t: str((t.month + 2) // 3),
    "MMMM": lambda t: f"{t:%B}",
    "MMM": lambda t: f"{t:%b}",
    "MM": lambda t: f"{t.month:02}",
    "M": lambda t: str(t.month),
    "DDDD": lambda t: f"{t:%j}",
    "DD": lambda t: f"{t.day:02}",
    "D": lambda t: str(t.day),
    "dddd": lambda t: f"{t:%A}",
    "ddd": lambda t: f"{t:%a}",
    "HH": lambda t: f"{t.hour:02}",
    "H": lambda t: str(t.hour),
    "hh": lambda t: f"{t.hour % 12 or 12:02}",
    "h": lambda t: str(t.hour % 12 or 12),
    "mm": lambda t: f"{t.minute:02}",
    "m": lambda t: str(t.minute),
    "ss": lambda t: f"{t.second:02}",
    "s": lambda t: str(t.second),
    "SSS": lambda t: f"{t.microsecond // 1000:03}",
    "A": lambda t: f"{t:%p}",
    "a": lambda t: f"{t:%p}".lower(),
    "X": lambda t: str(int(t.timestamp())),
    "x": lambda t: str(int(t.timestamp() * 1000)),
    "Z": lambda t: f"{t:%z}"[:3] + ":" + f"{t:%z}"[3:],
    "L": lambda t: f"{t:%m/%d/%Y}",
    "l": lambda t: f"{t.month}/{t.day}/{t.year}",
}
_FORMAT_TOKEN = re.compile(r"\[([^\]]*)\]|" + "|".join(sorted(_FORMATS, key=len, reverse=True)))
_DIRECTIVES: Mapping[str, str] = {
    "YYYY": "%Y",
    "YY": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%m",
    "DD": "%d",
    "D": "%d",
    "HH": "%H",
    "H": "%H",
    "hh": "%I",
    "h": "%I",
    "mm": "%M",
    "m": "%M",
    "ss": "%S",
    "s": "%S",
    "SSS": "%f",
    "A": "%p",
    "a": "%p",
    "Z": "%z",
}


def _format(moment: Value, pattern: Value = "YYYY-MM-DDTHH:mm:ss.SSSZ") -> Value:
    time = to_time(moment)

    def written(found: re.Match[str]) -> str:
        return found[1] if found[1] is not None else _FORMATS[found[0]](time)

    return _FORMAT_TOKEN.sub(written, to_text(pattern))


def _parse(text: Value, pattern: Value = None, _locale: Value = None) -> Value:
    """Text as a time; an error where it is none, and for a blank."""
    if pattern is None:
        return to_time(text)
    wanted = to_text(pattern)
    try:
        if wanted in {"X", "x"}:
            return datetime.fromtimestamp(float(to_text(text)) / (1 if wanted == "X" else 1000), UTC)
        directives = _FORMAT_TOKEN.sub(_directive, wanted)
        if "%z" in directives:
            return datetime.strptime(to_text(text), directives).astimezone(UTC)
        return datetime.strptime(to_text(text), directives).replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise FormulaError from None


def _directive(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1].replace("%", "%%")
    if found[0] not in _DIRECTIVES:
        raise FormulaError
    return _DIRECTIVES[found[0]]


def _in_zone(moment: Value, zone: Value) -> Value:
    try:
        return to_time(moment).astimezone(ZoneInfo(to_text(zone)))
    except (ZoneInfoNotFoundError, ValueError):
        raise FormulaError from None


# Days


def _weekday(moment: Value, first: Value = "Sunday") -> Value:
    return (to_time(moment).isoweekday() - (to_text(first) == "Monday")) % 7


def _week_number(moment: Value, first: Value = "Sunday") -> Value:
    time = to_time(moment)
    start = date(time.year, 1, 1)
    offset = start.isoweekday() % 7 if to_text(first) == "Sunday" else start.weekday()
    return ((time.date() - start).days + offset) // 7 + 1


def _is_workday(day: date, holidays: set[str]) -> bool:
    return day.weekday() < 5 and day.isoformat() not in holidays


def _holidays(text: Value) -> set[str]:
    return {part.strip() for part in to_text(text).split(",")}


def _workday(moment: Value, count: Value, holidays: Value = None) -> Value:
    time, left, free = to_time(moment), int(to_number(count)), _holidays(holidays)
    step = timedelta(days=1 if left > 0 else -1)
    left = min(abs(left), 100_000)
    while left:
        time += step
        left -= _is_workday(time.date(), free)
    return time


def _workday_difference(first: Value, last: Value, holidays: Value = None) -> Value:
    start, end, free = to_time(first).date(), to_time(last).date(), _holidays(holidays)
    sign = 1 if start <= end else -1
    start, end = min(start, end), max(start, end)
    days = range((end - start).days + 1)
    return sign * sum(_is_workday(start + timedelta(days=day), free) for day in days)


FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "IS_BEFORE": (_compared(lambda left, right: left < right), 2, 2),
    "IS_AFTER": (_compared(lambda left, right: left > right), 2, 2),
    "IS_SAME": (_is_same, 2, 3),
    "DATEADD": (_add, 3, 3),
    "DATETIME_DIFF": (_difference, 2, 3),
    "DATETIME_PARSE": (_parse, 1, 3),
    "DATETIME_FORMAT": (_format, 1, 2),
    "DATESTR": (lambda moment: f"{to_time(moment):%Y-%m-%d}", 1, 1),
    "TIMESTR": (lambda moment: f"{to_time(moment):%H:%M:%S}", 1, 1),
    "SET_LOCALE": (lambda moment, _locale: to_time(moment), 2, 2),
    "SET_TIMEZONE": (_in_zone, 2, 2),
    "YEAR": (lambda moment: to_time(moment).year, 1, 1),
    "MONTH": (lambda moment: to_time(moment).month, 1, 1),
    "DAY": (lambda moment: to_time(moment).day, 1, 1),
    "HOUR": (lambda moment: to_time(moment).hour, 1, 1),
    "MINUTE": (lambda moment: to_time(moment).minute, 1, 1),
    "SECOND": (lambda moment: to_time(moment).second, 1, 1),
    "WEEKDAY": (_weekday, 1, 2),
    "WEEKNUM": (_week_number, 1, 2),
    "WORKDAY": (_workday, 2, 3),
    "WORKDAY_DIFF": (_workday_difference, 2, 3),
}
