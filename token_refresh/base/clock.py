"""The time, handed in rather than asked for, so that a test can move it; and how it is written."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS = 10, 10_000_000  # between two runs without cron


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


def iso(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC with milliseconds and `Z`; a time without a zone would shift on the way."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
