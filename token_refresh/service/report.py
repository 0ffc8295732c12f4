"""The report: every client, the next 48 hours and the last 30 days, as one HTML file that needs no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from token_refresh.base.events import FAILURES, Outcome
from token_refresh.library import TokenView
from token_refresh.service.rendering import STATES, pieces

HOURS, DAYS = 48, 30
_ORDER = tuple(STATES)
_LAST = datetime.max.replace(tzinfo=UTC)


class Bar(NamedTuple):
    """One column of a chart: how many went well, or will, and how many did not."""

    name: str
    good: int
    bad: int

    @property
    def total(self) -> int:
        """Both."""
        return self.good + self.bad


Results = tuple[date, str, Mapping[str, int]]
"""What became of the refreshes of a day at a provider: how many, by the name of an `Outcome`."""


def report(views: Iterable[TokenView], results: Sequence[Results], now: datetime) -> Iterator[str]:
    """The file, piece by piece.

    Args:
        views: every client.
        results: of the last `DAYS` days.
        now: the time, aware and in UTC.
    """
    rows = sorted(views, key=_rank)
    return pieces(
        "report.html",
        views=rows,
        counts=Counter(one.state or "waiting" for one in rows),
        now=now,
        hours=list(_hours(rows, now)),
        days=list(_days(results, now.date())),
        providers=_bars((provider, counts) for _, provider, counts in results),
    )


def _rank(view: TokenView) -> tuple[int, datetime, str]:
    return _ORDER.index(view.state or "waiting"), view.expires_at or _LAST, view.location_id


def _hours(views: Iterable[TokenView], now: datetime) -> Iterator[Bar]:
    """Whose access tokens end in each of the next hours: good are those that a refresh renews before."""
    first = now.replace(minute=0, second=0, microsecond=0)
    ends: Counter[tuple[int, bool]] = Counter()
    for view in views:
        if view.is_active and view.expires_at is not None and view.expires_at > now:
            ends[
                (view.expires_at - first) // timedelta(hours=1), view.can_refresh and view.state != "login_needed"
            ] += 1
    for hour in range(HOURS):
        yield Bar(f"{first + timedelta(hours=hour):%Y-%m-%d %H:%M}", ends[hour, True], ends[hour, False])


def _days(results: Iterable[Results], today: date) -> Iterator[Bar]:
    """Each of the last days, also those without a refresh."""
    found = {bar.name: bar for bar in _bars((day.isoformat(), counts) for day, _, counts in results)}
    for ago in reversed(range(DAYS)):
        name = (today - timedelta(days=ago)).isoformat()
        yield found.get(name, Bar(name, 0, 0))


def _bars(named: Iterable[tuple[str, Mapping[str, int]]]) -> list[Bar]:
    """The refreshes that worked and those that failed, by name."""
    good: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for name, counts in named:
        good[name] += counts.get(Outcome.REFRESHED, 0)
        bad[name] += sum(counts.get(outcome, 0) for outcome in FAILURES)
    return [Bar(name, good[name], bad[name]) for name in sorted(good)]
