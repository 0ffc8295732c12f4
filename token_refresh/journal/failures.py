"""Which rows fail, and since when: on the row where the table has the columns, and always here.

A dead grant is dead only for the refresh cell it was found on, so the cell is remembered, as a keyed hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crypto import Keyring
from token_refresh.base.clock import Clock, iso, parse_time
from token_refresh.journal.file import JournalFile, Statement, read_only
from token_refresh.stores.base import STATUS_REAUTHORIZE, Row

A_DAY = timedelta(hours=23)  # less than 24: a run is never on the second, and no day is to go by without a look
_LOOK = "dead grants"
_COLUMNS = ("row_key", "cell", "status", "last_error", "failure_count", "dead_since", "tried_at")
_QUERY = f"SELECT {', '.join(_COLUMNS)} FROM failures"  # noqa: S608 - names


@dataclass(frozen=True)
class Failure:
    """What is remembered of a row that fails.

    Attributes:
        cell: the fingerprint of the refresh cell it failed with, and of the one that the token was moved to.
        dead_since: when its grant was found dead; None where it was not.
    """

    row_key: str
    cell: str
    status: str
    last_error: str
    failure_count: int
    dead_since: datetime | None
    tried_at: datetime | None


class Failures:
    """The memory of failures of one store.

    Args:
        file: where it is kept.
        keyring: recognises cells.
        clock: the time.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(self, file: JournalFile, keyring: Keyring, clock: Clock) -> None:
        self._file = file
        self._keyring = keyring
        self._clock = clock
        self._all: dict[str, Failure] | None = None

    def of(self, row: Row) -> Failure | None:
        """What is remembered of a row with the refresh cell that is in it."""
        failure = self._known().get(row.key)
        return failure if failure is not None and _is_of(failure, row, self._keyring) else None

    def was_of_another_cell(self, row: Row) -> bool:
        """Whether the row's grant was found dead, but on another refresh cell than the one in it."""
        failure = self._known().get(row.key)
        return failure is not None and failure.dead_since is not None and not _is_of(failure, row, self._keyring)

    def note(self, failed: Iterable[Row], well: Iterable[str]) -> None:
        """Remember these rows, each as it is after its failure, and forget those with the keys in `well`."""
        now = iso(self._clock.now())
        # A grant that is found dead again, on the same cell, has been dead since the first time.
        remember = (
            "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (row_key) DO UPDATE SET"
            " dead_since = CASE WHEN cell = excluded.cell AND dead_since <> '' THEN dead_since"
            " ELSE excluded.dead_since END, cell = excluded.cell, status = excluded.status,"
            " last_error = excluded.last_error, failure_count = excluded.failure_count, tried_at = excluded.tried_at"
        )
        statements: list[Statement] = [
            (
                remember,
                (
                    row.key,
                    row.location_id,
                    row.provider,
                    self._keyring.fingerprint(row.encrypted_refresh),
                    row.status,
                    row.last_error,
                    row.failure_count,
                    now if row.status == STATUS_REAUTHORIZE else "",
                    now,
                ),
            )
            for row in failed
        ]
        statements += [("DELETE FROM failures WHERE row_key = ?", (key,)) for key in well if key in self._known()]
        if statements:
            # Not synced: what a power failure undoes is found out again.
            self._file.commit(statements, synced=False)

    def following(self, marks: Mapping[str, str]) -> list[Statement]:
        """What makes failures, found on cells with these fingerprints, count for the cells that replace them."""
        return [
            ("UPDATE failures SET cell = ? WHERE row_key = ?", (f"{old} {marks[old]}", failure.row_key))
            for failure in self._known().values()
            for old in failure.cell.split()
            if old in marks
        ]

    def looks_today(self) -> bool:
        """Whether rows with a dead grant are to be looked at again; asks once a day, and notes it."""
        now = self._clock.now()
        looked = [parse_time(at) for [at] in self._file.select("SELECT looked_at FROM looks WHERE name = ?", _LOOK)]
        if any(at is not None and timedelta(0) <= now - at < A_DAY for at in looked):
            return False
        self._file.commit([("INSERT OR REPLACE INTO looks VALUES (?, ?)", (_LOOK, iso(now)))], synced=False)
        return any(failure.dead_since is not None for failure in self._known().values())

    def _known(self) -> dict[str, Failure]:
        """Everything as it was when this process began."""
        if self._all is None:
            self._all = _by_row(self._file.select_everywhere(_QUERY))
        return self._all


def all_recalled(rows: Iterable[Row], folder: Path, keyring: Keyring, columns: frozenset[str]) -> list[Row]:
    """The rows with what their table has no columns for, read beside a run that is active."""
    found = _by_row(read_only(folder, _QUERY))
    known = [(row, found.get(row.key)) for row in rows]
    return [row if one is None or not _is_of(one, row, keyring) else recalled(row, one, columns) for row, one in known]


def recalled(row: Row, failure: Failure | None, columns: frozenset[str]) -> Row:
    """The row with what its table has no columns for."""
    if failure is None:
        return row
    known = {"status": failure.status, "last_error": failure.last_error, "failure_count": failure.failure_count}
    missing: dict[str, Any] = {name: value for name, value in known.items() if name not in columns}
    return replace(row, **missing) if missing else row


def _is_of(failure: Failure, row: Row, keyring: Keyring) -> bool:
    return not set(failure.cell.split()).isdisjoint(keyring.fingerprints(row.encrypted_refresh))


def _by_row(records: Iterable[Any]) -> dict[str, Failure]:
    found: dict[str, Failure] = {}
    for record in records:
        key, cell, status, last_error, failure_count, dead_since, tried_at = record
        one = Failure(key, cell, status, last_error, failure_count, parse_time(dead_since), parse_time(tried_at))
        if key not in found or (one.tried_at or _NEVER) > (found[key].tried_at or _NEVER):
            found[key] = one
    return found


_NEVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
