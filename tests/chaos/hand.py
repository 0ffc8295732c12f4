"""A person's hand in either table: no lock, no check, whatever the program is doing."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tests.chaos.world import all_rows
from tests.refresh.runs.faults_world import DatabaseRows, PostgresRows, Rows
from token_refresh.stores.base import Row
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

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
        is_row = CREDENTIALS.c.id == int(row.key)
        self._execute(CREDENTIALS.update().where(is_row).values(**cells))

    def remove(self, row: Row) -> None:
        """Delete a row."""
        if self._table is not None:
            self._table.remove(row.key)
        else:
            self._execute(CREDENTIALS.delete().where(CREDENTIALS.c.id == int(row.key)))

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

    def contents(self) -> list[tuple[str, dict[str, Any]]]:
        """The whole table, with what the program does not show: each row's key and cells."""
        if self._table is not None:
            return [(record["id"], record["fields"]) for record in self._table.records()]
        with self._store() as store, store._engine.connect() as connection:
            return [(str(row.id), dict(row._mapping)) for row in connection.execute(sa.select(CREDENTIALS))]

    def put_back(self, contents: list[tuple[str, dict[str, Any]]]) -> None:
        """The whole table as it was. At Airtable by hand: the records stay the same where they are still there."""
        if self._table is None:
            self._execute(CREDENTIALS.delete())
            for _, cells in contents:
                self._execute(CREDENTIALS.insert().values(**cells))
            return
        there = {record["fields"]["locationId"]: record for record in self._table.records()}
        for _, cells in contents:
            if (record := there.get(cells["locationId"])) is not None:
                self._table.edit(record["id"], dict.fromkeys(record["fields"]) | cells)
            else:
                self._table.add(cells)

    def refuse_writes_of(self, location: str) -> None:
        """A rule that somebody made for a database: the refresh cell of this location is not to be changed."""
        what = "BEFORE UPDATE OF encrypted_refresh ON credentials"
        if isinstance(self._rows, PostgresRows):
            body = f"BEGIN IF NEW.location_id = '{location}' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END"
            self._execute(sa.text(f"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"))
            self._execute(sa.text(f"CREATE TRIGGER no {what} FOR EACH ROW EXECUTE FUNCTION no()"))
        else:
            body = "BEGIN SELECT RAISE(ABORT, 'no'); END"
            self._execute(sa.text(f"CREATE TRIGGER no {what} WHEN NEW.location_id = '{location}' {body}"))

    def accept_writes(self) -> None:
        """The rule is gone."""
        if isinstance(self._rows, PostgresRows):
            self._execute(sa.text("DROP FUNCTION IF EXISTS no CASCADE"))
        elif self._table is None:
            self._execute(sa.text("DROP TRIGGER IF EXISTS no"))

    def _store(self) -> closing[DatabaseStore]:
        assert isinstance(self._rows, DatabaseRows)
        return closing(DatabaseStore(self._rows.address(), self._rows.world.clock))

    def _execute(self, statement: sa.Executable) -> None:
        with self._store() as store:
            store._transact(lambda connection: connection.execute(statement))
