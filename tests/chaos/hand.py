"""A person's hand in either table: no lock, no check, whatever the program is doing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from stores.base import Row, iso
from tests.chaos.world import DATABASE_FILE, all_rows, state_folder
from tests.runs.faults_world import Rows

_RESTORED = ("encrypted_secret", "encrypted_refresh", "status", "last_error", "failure_count", "client_id")
_TIMES = ("access_token_expiry", "last_refreshed")


class Hand:
    """Edits rows by their keys.

    Args:
        rows: the table.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._table = rows.world.table

    def rows(self) -> list[Row]:
        """Every row with a credential."""
        return [row for row in all_rows(self._rows) if row.encrypted_refresh]

    def rows_of(self, name: str) -> list[Row]:
        """Those of one location."""
        return [row for row in self.rows() if row.location_id == name]

    def in_minutes(self, minutes: int | None) -> datetime | None:
        """So many minutes from now."""
        return None if minutes is None else self._rows.world.clock.now() + timedelta(minutes=minutes)

    def edit(self, row: Row, **cells: Any) -> None:
        """Overwrite some cells."""
        if self._table is not None:
            self._table.edit(row.key, {name: None if cell == "" else cell for name, cell in cells.items()})
            return
        named = ", ".join(f"{name} = ?" for name in cells)
        values = [iso(cell) if isinstance(cell, datetime) else cell for cell in cells.values()]
        self._execute(f"UPDATE credentials SET {named} WHERE id = ?", *values, int(row.key))

    def remove(self, row: Row) -> None:
        """Delete a row."""
        if self._table is not None:
            self._table.remove(row.key)
        else:
            self._execute("DELETE FROM credentials WHERE id = ?", int(row.key))

    def duplicate(self, row: Row) -> bool:
        """Copy a row; False where the table has no such thing."""
        if self._table is not None:
            self._table.duplicate(row.key)
        return self._table is not None

    def restore(self, old: Row, now: Row | None) -> None:
        """Put the cells of an earlier time back; into a new row where it is gone."""
        cells = {name: getattr(old, name) for name in (*_RESTORED, *_TIMES)}
        if now is not None:
            self.edit(now, **cells)
        else:
            expiry = cells.pop("access_token_expiry")
            filled = {name: cell for name, cell in cells.items() if cell not in ("", None)}
            self._rows.add(old.provider, old.location_id, expiry, **filled)

    def _execute(self, statement: str, *values: Any) -> None:
        database = sqlite3.connect(state_folder(self._rows) / DATABASE_FILE, isolation_level=None, timeout=30)
        with closing(database):
            database.execute(statement, values)
