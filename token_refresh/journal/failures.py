"""Which rows fail, and since when: on the row where the table has the columns, and always here.

A dead grant is dead only for the refresh cell it was found on, so the cell is remembered, as a keyed hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from token_refresh.base.clock import LONGEST_RETRY_AFTER_SECONDS, Clock, iso, parse_time
from token_refresh.journal.file import JournalFile, Statement, read_only

A_DAY = timedelta(hours=23)  # less than 24: a run is never on the second, and no day is to go by without a look
_LOOK = "dead grants"
_LONGEST_PAUSE = timedelta(seconds=LONGEST_RETRY_AFTER_SECONDS)


@dataclass(frozen=True)
class Failure:
    """What is remembered of a row that fails.

    Attributes:
        cell: the fingerprint of the refresh cell it failed with, and of the one that the token was moved to.
        dead_since: when its grant was found dead; None where it was not.
        retry_at: until when its provider asked to be left alone; None where it did not.
    """

    row_key: str
    location_id: str
    provider: str
    cell: str
    status: str
    last_error: str
    failure_count: int
    dead_since: datetime | None
    tried_at: datetime | None
    retry_at: datetime | None = None

    def is_of(self, cell: Iterable[str]) -> bool:
        """Whether it was found on the refresh cell with these fingerprints, one a key."""
        return not set(self.cell.split()).isdisjoint(cell)

    def paused_until(self, now: datetime) -> datetime | None:
        """`retry_at` while it is ahead; one more than a day ahead was written by a clock that was wrong."""
        is_ahead = self.retry_at is not None and timedelta(0) < self.retry_at - now <= _LONGEST_PAUSE
        return self.retry_at if is_ahead else None


_TIMES = ("dead_since", "tried_at", "retry_at")
_COLUMNS = tuple(Failure.__dataclass_fields__)
_QUERY = f"SELECT {', '.join(_COLUMNS)} FROM failures"  # noqa: S608 - names
_REMEMBER = f"INSERT OR REPLACE INTO failures VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - marks


class Failures:
    """The memory of failures of one store.

    Args:
        file: where it is kept.
        clock: the time.
        place: the table whose rows fail; see `Store.place`.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(self, file: JournalFile, clock: Clock, place: str = "") -> None:
        self._file = file
        self._clock = clock
        self._look = f"{_LOOK} {place}".strip()
        self._all: dict[str, Failure] | None = None

    def find(self, row_key: str, cell: Iterable[str]) -> Failure | None:
        """What is remembered of a row that holds the refresh cell with these fingerprints, one a key."""
        failure = self._known().get(row_key)
        return failure if failure is not None and failure.is_of(cell) else None

    def died_with_another_cell(self, row_key: str, cell: Iterable[str]) -> bool:
        """Whether the row's grant was found dead, but with another refresh cell than this one."""
        failure = self._known().get(row_key)
        return failure is not None and failure.dead_since is not None and not failure.is_of(cell)

    def record(self, failed: Iterable[Failure], recovered: Iterable[str]) -> None:
        """Remember these failures, and forget those of the rows with the keys in `recovered`."""
        statements: list[Statement] = []
        failed = [_since_first(one, self._known().get(one.row_key)) for one in failed]
        for one in failed:
            values = (one.row_key, one.location_id, one.provider, one.cell, one.status, one.last_error)
            times = (iso(at) if at is not None else "" for at in (one.dead_since, one.tried_at, one.retry_at))
            statements.append((_REMEMBER, (*values, one.failure_count, *times)))
        recovered = [key for key in recovered if key in self._known()]
        statements += [("DELETE FROM failures WHERE row_key = ?", (key,)) for key in recovered]
        self._file.execute(statements, synced=False)  # what a power failure undoes is found out again
        for one in failed:
            self._known()[one.row_key] = one
        for key in recovered:
            self._known().pop(key, None)  # it may have recovered twice

    def rekey_statements(self, marks: Mapping[str, str]) -> list[Statement]:
        """What makes failures, found on cells with these fingerprints, count for the cells that replace them."""
        return [
            ("UPDATE failures SET cell = ? WHERE row_key = ?", (f"{old} {marks[old]}", failure.row_key))
            for failure in list(self._known().values())
            for old in failure.cell.split()
            if old in marks
        ]

    def starts_daily_check(self) -> bool:
        """Whether to look at what changes slowly; yes once a day, which is noted."""
        now = self._clock.now()
        looked = self._file.select("SELECT looked_at FROM looks WHERE name = ?", self._look)
        if any((at := parse_time(text)) is not None and timedelta(0) <= now - at < A_DAY for [text] in looked):
            return False
        self._file.execute([("INSERT OR REPLACE INTO looks VALUES (?, ?)", (self._look, iso(now)))], synced=False)
        return True

    @property
    def has_dead_grant(self) -> bool:
        """Whether one is remembered."""
        return any(failure.dead_since is not None for failure in list(self._known().values()))

    def _known(self) -> dict[str, Failure]:
        """Everything as it was when this process began, and what it found since."""
        if self._all is None:
            self._all = _by_row(self._file.select_everywhere(_QUERY))
        return self._all


def _since_first(found: Failure, before: Failure | None) -> Failure:
    """A grant that is found dead again, on the same cell, has been dead since the first time."""
    if before is None or before.cell != found.cell or before.dead_since is None:
        return found
    return replace(found, dead_since=before.dead_since)


def read_failures(folder: Path) -> dict[str, Failure]:
    """The last failure of each row by its key, from the files of a store, beside a run that is active."""
    return _by_row(read_only(folder, _QUERY))


def _by_row(records: Iterable[Any]) -> dict[str, Failure]:
    found: dict[str, Failure] = {}
    for record in records:
        values = dict(zip(_COLUMNS, record, strict=True))
        one = Failure(**{**values, **{name: parse_time(values[name]) for name in _TIMES}})
        other = found.get(one.row_key)
        if other is None or (one.tried_at or _NEVER) > (other.tried_at or _NEVER):
            found[one.row_key] = one
    return found


_NEVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
