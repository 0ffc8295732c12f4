"""What runs did, for 400 days: a line a run, and one a provider and day; and counts that only ever grow.

A file that cannot be read any more is moved away, with one warning: nothing in it is needed to refresh a token.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Outcome
from token_refresh.base.text import safe_error
from token_refresh.notifiers.facts import OTHER
from token_refresh.notifiers.summary import RunSummary

FILE = "history.sqlite3"
KEPT = timedelta(days=400)
MOST_BYTES = 19 * 1024 * 1024  # of the file; the log of what is being written is small beside it
STORE_CALLS = "store_calls"  # among the counts; it is of no provider
_OLDEST = 500  # lines that go at once where the file is too large: more than a run adds
_BUSY_SECONDS = 5.0
_RUN = (
    *("ended_at", "run_id", "started_at", "exit_code", "is_scheduled"),
    *("due", "refreshed", "failed", "waiting", "store_calls", "error"),
)
_OUTCOMES = ", ".join(f"{outcome} INTEGER NOT NULL DEFAULT 0" for outcome in Outcome)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs ({", ".join(_RUN)}, PRIMARY KEY (ended_at, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (day, provider, {_OUTCOMES}, PRIMARY KEY (day, provider)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (provider, name, count, PRIMARY KEY (provider, name)) WITHOUT ROWID;
"""
_ADD_RUN = f"INSERT OR IGNORE INTO runs VALUES ({', '.join('?' for _ in _RUN)})"  # noqa: S608 - names
_GROW = "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
_OLD_RUNS = "DELETE FROM runs WHERE (ended_at, run_id) IN (SELECT ended_at, run_id FROM runs ORDER BY 1 LIMIT ?)"


class History:
    """The history of one store.

    Args:
        folder: the store's state folder.
        say: warn of something, with what to do about it.
        slug_of: a provider's name in the catalogue; None where nobody has it: a table may say anything.

    Raises:
        ActionableError: any method, when the disk refuses, or another process keeps it.
    """

    def __init__(
        self, folder: Path, say: Callable[[str, str], None], slug_of: Callable[[str], str | None] = str
    ) -> None:
        self._file = folder / FILE
        self._say = say
        self._slug_of = slug_of

    def record(self, summary: RunSummary) -> None:
        """Add a run, once, however often it is asked to."""
        ends = Counter((self._slug_of(one.provider) or OTHER, str(one.outcome)) for one in summary.run.results)
        self._act(lambda database: _record(database, summary, ends))

    def counts(self) -> dict[tuple[str, str], int]:
        """How many rows came to which end since the counting began, by provider and outcome; and `STORE_CALLS`."""
        query = "SELECT provider, name, count FROM counts"
        found: list[tuple[str, str, int]] = self._act(lambda database: database.execute(query).fetchall())
        return {(provider, name): count for provider, name, count in found}

    def last_success(self) -> datetime | None:
        """When the last run ended that could do its work, whatever became of single rows."""
        query = "SELECT ended_at FROM runs WHERE exit_code IN (0, 1) ORDER BY ended_at DESC LIMIT 1"
        found: list[tuple[str]] = self._act(lambda database: database.execute(query).fetchall())
        return parse_time(found[0][0]) if found else None

    def _act(self, act: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            return self._try(act)
        except sqlite3.OperationalError as error:  # the file itself is in order
            what = f"{self._file} cannot be written ({error})"
            raise ActionableError(what, "Free disk space or correct its permissions.", Kind.CONFIGURATION) from None
        except sqlite3.DatabaseError:
            self._move_away()
            return self._try(act)

    def _try(self, act: Callable[[sqlite3.Connection], Any]) -> Any:
        if not self._file.exists():
            self._file.touch(mode=0o600)
        with closing(sqlite3.connect(self._file, isolation_level=None, timeout=_BUSY_SECONDS)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")  # what a power failure undoes is a line of a history
            database.executescript(_SCHEMA)
            database.execute("BEGIN IMMEDIATE")
            result = act(database)
            database.execute("COMMIT")
            return result

    def _move_away(self) -> None:
        kept = next(
            name for number in range(1, 1000) if not (name := self._file.with_name(f"{FILE}.{number}")).exists()
        )
        self._file.replace(kept)
        for end in ("-wal", "-shm"):
            self._file.with_name(f"{FILE}{end}").unlink(missing_ok=True)
        self._say(f"the history cannot be read any more; it was moved to {kept}, and a new one begins", "")


def _record(database: sqlite3.Connection, summary: RunSummary, ends: Mapping[tuple[str, str], int]) -> None:
    run, at = summary.run, iso(summary.ended_at)
    error = run.error or run.store_error or run.journal_error
    failed = sum(result.kind is not None for result in run.results)
    line = (
        *(at, run.run_id, iso(run.started_at), summary.exit_code, summary.is_scheduled),
        *(run.due, run.counts().get(Outcome.REFRESHED, 0), failed, len(run.waiting), summary.store_calls),
        safe_error(str(error)) if error is not None else "",
    )
    if not database.execute(_ADD_RUN, line).rowcount:
        return  # it is there already
    for (provider, outcome), count in ends.items():
        add = f"INSERT INTO days (day, provider, {outcome}) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"  # noqa: S608
        database.execute(f"{add} {outcome} = {outcome} + excluded.{outcome}", (at[:10], provider, count))
    grown = [(*name, count) for name, count in ends.items()]
    database.executemany(_GROW, [("", STORE_CALLS, summary.store_calls), *grown])
    _trim(database, summary.ended_at)


def _trim(database: sqlite3.Connection, now: datetime) -> None:
    for table, column in (("runs", "ended_at"), ("days", "day")):
        database.execute(f"DELETE FROM {table} WHERE {column} < ?", (iso(now - KEPT)[:10],))  # noqa: S608 - names
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > MOST_BYTES:
        database.execute(_OLD_RUNS, (_OLDEST,))
