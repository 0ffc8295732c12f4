"""What runs did, for 400 days: a line a run, and one a provider and day; and counts that only ever grow.

In a file in the table's state folder, or, where the table is in PostgreSQL, in tables beside it, which
`stores/database/migrations` makes. Nothing in it is needed to refresh a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial
from typing import NamedTuple

from token_refresh.base.clock import iso
from token_refresh.base.events import Outcome
from token_refresh.base.text import safe_error
from token_refresh.notifiers.facts import OTHER
from token_refresh.notifiers.ledger import Execute, Transact
from token_refresh.notifiers.summary import RunSummary

FILE = "history.sqlite3"
KEPT = timedelta(days=400)
MOST_RUNS = 60_000  # of the longest lines that is less than 20 MB
STORE_CALLS = "store_calls"  # among the counts; it is of no provider
_RUN = (
    *("ended_at", "run_id", "started_at", "exit_code", "is_scheduled"),
    *("due", "refreshed", "failed", "waiting", "store_calls", "error"),
)
_OUTCOMES = ", ".join(f"{outcome} INTEGER NOT NULL DEFAULT 0" for outcome in Outcome)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS history_runs ({", ".join(_RUN)}, PRIMARY KEY (ended_at, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history_days (day, provider, {_OUTCOMES}, PRIMARY KEY (day, provider)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history_counts (provider, name, count, PRIMARY KEY (provider, name)) WITHOUT ROWID;
"""
# In words that SQLite and PostgreSQL share. A time is text: ISO 8601 in UTC, which sorts like the time itself.
_ADD_RUN = (
    f"INSERT INTO history_runs ({', '.join(_RUN)}) VALUES ({', '.join(f':{name}' for name in _RUN)}) "  # noqa: S608
    "ON CONFLICT (ended_at, run_id) DO NOTHING RETURNING run_id"
)
_ADD_TO_DAY = (
    "INSERT INTO history_days (day, provider, {0}) VALUES (:day, :provider, :count) "
    "ON CONFLICT (day, provider) DO UPDATE SET {0} = history_days.{0} + excluded.{0}"
)
_ADD_TO_COUNT = (
    "INSERT INTO history_counts (provider, name, count) VALUES (:provider, :name, :count) "
    "ON CONFLICT (provider, name) DO UPDATE SET count = history_counts.count + excluded.count"
)
_DAYS = f"SELECT day, provider, {', '.join(Outcome)} FROM history_days WHERE day >= :since ORDER BY day, provider"  # noqa: S608
_COUNTS = "SELECT provider, name, count FROM history_counts"
_TRIM = (
    "DELETE FROM history_days WHERE day < :day",
    "DELETE FROM history_runs WHERE ended_at < :day",
    "DELETE FROM history_runs WHERE ended_at <= "
    "(SELECT ended_at FROM history_runs ORDER BY ended_at DESC LIMIT 1 OFFSET :most)",
)


class Day(NamedTuple):
    """What a provider's rows came to on a day, in UTC: `counts` says how many to which outcome, each of them named."""

    day: date
    provider: str
    counts: Mapping[str, int]


class History:
    """The history of one store.

    Args:
        transact: in the file or the database where it is.
        slug_of: a provider's name in the catalogue; None where nobody has it: a table may say anything.

    Raises:
        ActionableError: any method, when the disk refuses, or another process keeps it.
    """

    def __init__(self, transact: Transact, slug_of: Callable[[str], str | None] = str) -> None:
        self._transact, self._slug_of = transact, slug_of

    def record(self, summary: RunSummary) -> None:
        """Add a run, once, however often it is asked to."""
        ends = Counter((self._slug_of(one.provider) or OTHER, str(one.outcome)) for one in summary.run.results)
        self._transact(partial(_record, summary, ends))

    def days(self, since: date) -> list[Day]:
        """Each day's and provider's rows from that day on, in order; a day without any row is not there."""
        found = self._transact(lambda execute: execute(_DAYS, {"since": since.isoformat()}))
        return [
            Day(date.fromisoformat(day), provider, dict(zip(map(str, Outcome), counts, strict=True)))
            for day, provider, *counts in found
        ]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many rows came to which end since the counting began, by provider and outcome; and `STORE_CALLS`."""
        return {(provider, name): count for provider, name, count in self._transact(lambda run: run(_COUNTS, {}))}


def _record(summary: RunSummary, ends: Mapping[tuple[str, str], int], execute: Execute) -> None:
    run, at = summary.run, iso(summary.ended_at)
    error = run.error or run.store_error or run.journal_error
    failed = sum(result.kind is not None for result in run.results)
    line = (
        *(at, run.run_id, iso(run.started_at), summary.exit_code, summary.is_scheduled),
        *(run.due, run.counts().get(Outcome.REFRESHED, 0), failed, len(run.waiting), summary.store_calls),
        safe_error(str(error)) if error is not None else "",
    )
    if not execute(_ADD_RUN, dict(zip(_RUN, line, strict=True))):
        return  # it is there already
    execute(_ADD_TO_COUNT, {"provider": "", "name": STORE_CALLS, "count": summary.store_calls})
    for (provider, outcome), count in sorted(ends.items()):  # in one order: several machines may be at it
        execute(_ADD_TO_DAY.format(outcome), {"day": at[:10], "provider": provider, "count": count})
        execute(_ADD_TO_COUNT, {"provider": provider, "name": outcome, "count": count})
    for statement in _TRIM:
        execute(statement, {"day": iso(summary.ended_at - KEPT)[:10], "most": MOST_RUNS})
