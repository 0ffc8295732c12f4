"""The time, handed in rather than asked for, so that a test can move it; and how it is written."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS = 10, 10_000_000  # between two runs without cron

LONGEST_RETRY_AFTER_SECONDS = 86_400.0
_LONGEST_NUMBER = 15  # digits


class Clock(Protocol):
    """What the program knows of time."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for intervals."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        time.sleep(seconds)


def parse_time(value: object) -> datetime | None:
    """An aware time in UTC from a time or an ISO 8601 text; None where it is missing, unreadable or has no zone."""
    if not isinstance(value, str | datetime):
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def parse_day(text: str) -> datetime | None:
    """The start of a day in UTC, written as `2026-11-28`; None where it is none."""
    if not text:
        return None  # of most rows, and the sooner for it
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


@lru_cache(16)  # of many answers in one second
def http_date(value: str) -> datetime | None:
    """A time as HTTP writes it (RFC 9110 section 5.6.7); None where it is none."""
    from email.utils import parsedate_to_datetime  # a run that finds another one active needs no mail

    try:
        moment = parsedate_to_datetime(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, IndexError, OverflowError):
        return None


def retry_after(value: str, now: datetime) -> float | None:
    """The seconds that a `Retry-After` asks for, a day at most (RFC 9110 section 10.2.3); None where it asks none."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER:
        return min(float(value), LONGEST_RETRY_AFTER_SECONDS)
    if (moment := http_date(value)) is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER_SECONDS)


def iso(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC with milliseconds and `Z`; a time without a zone would shift on the way."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(length: timedelta) -> str:
    """A length of time, for people."""
    minutes = int(length.total_seconds()) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"
