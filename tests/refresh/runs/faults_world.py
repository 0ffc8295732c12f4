"""Rows in any store, seen the same way, and what the journal keeps of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.world.oauth.faults import Call, Fault
from tests.world.postgres import mapped
from token_refresh.journal.entries import Entry, Journal
from token_refresh.journal.file import JournalError
from token_refresh.stores.base import Row
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

STEPS = ("sent", "answered", "lost", "superseded", "unproven", "unread")


class Rows(ABC):
    """The table of a world, whatever keeps it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add(self, provider: str, location: str, expiry: datetime | None = None, **more: Any) -> None:
        """A row with a fresh grant."""
        self.put(self.world.cells(provider, location) | {"access_token_expiry": expiry} | more)

    @abstractmethod
    def put(self, cells: dict[str, Any]) -> None:
        """A row with these cells."""

    @abstractmethod
    def edit(self, location: str, **cells: Any) -> None:
        """Overwrite cells, as a colleague does."""

    @abstractmethod
    def remove(self, location: str) -> None:
        """Delete the row."""

    @abstractmethod
    def row(self, location: str) -> Row:
        """The row as it is now."""

    def stored(self, location: str) -> str:
        """The refresh token in the row."""
        return self.world.open_refresh(location, self.row(location).encrypted_refresh)

    def access(self, location: str) -> str:
        """The access token in the row, sealed there or not."""
        return self.world.open_access(location, self.row(location).last_access_token)

    def access_of_all(self) -> dict[str, str]:
        """The same of every row that has one, by location: the table is read once."""
        named = [(str(row.get("location_id", row.get("locationId"))), row) for row in self.world._rows()]
        cells = {location: row.get("last_access_token") for location, row in named}
        return {location: self.world.open_access(location, cell) for location, cell in cells.items() if cell}

    def is_current(self, location: str) -> bool:
        """Whether the row holds the one refresh token that the provider accepts."""
        return self.stored(location) == self.world.oauth.current(location)


class DatabaseRows(Rows):
    """See `Rows`: a database, by the program's own store."""

    @abstractmethod
    def address(self) -> str:
        """Where it is."""

    @contextmanager
    def _store(self) -> Iterator[DatabaseStore]:
        with closing(DatabaseStore(self.address(), self.world.clock)) as store:
            yield store

    def put(self, cells: dict[str, Any]) -> None:
        with self._store() as store:
            store.create(cells)

    def edit(self, location: str, **cells: Any) -> None:
        with self._store() as store, store._engine.begin() as connection:
            connection.execute(CREDENTIALS.update().where(CREDENTIALS.c.location_id == location).values(**cells))

    def remove(self, location: str) -> None:
        with self._store() as store, store._engine.begin() as connection:
            connection.execute(CREDENTIALS.delete().where(CREDENTIALS.c.location_id == location))

    def row(self, location: str) -> Row:
        with self._store() as store:
            [row] = store.find(location)
        return row


class SqliteRows(DatabaseRows):
    """See `Rows`: the embedded database."""

    def address(self) -> str:
        folder = Path(self.world.program.settings["STATE_DIR"])
        folder.mkdir(mode=0o700, exist_ok=True)
        return f"sqlite:///{folder / 'tokens.sqlite3'}"


class PostgresRows(DatabaseRows):
    """See `Rows`: a database of the tests' server."""

    def address(self) -> str:
        return mapped(self.world.program.settings["DATABASE_URL"])


class AirtableRows(Rows):
    """See `Rows`: a table at the fake."""

    def put(self, cells: dict[str, Any]) -> None:
        self.world.table.add(cells)

    def edit(self, location: str, **cells: Any) -> None:
        [record] = self.world.table.find(locationId=location)
        self.world.table.edit(record, cells)

    def remove(self, location: str) -> None:
        [record] = self.world.table.find(locationId=location)
        self.world.table.remove(record)

    def row(self, location: str) -> Row:
        from token_refresh.stores.base import make_row

        [record] = self.world.table.find(locationId=location)
        return make_row(record, self.world.table.cells(record).get)


TABLES: dict[str, tuple[str, type[Rows]]] = {
    "sqlite": ("world", SqliteRows),
    "postgres": ("postgres_world", PostgresRows),
    "airtable": ("airtable_world", AirtableRows),
}  # of each kind of store: the fixture that sets the program on it, and its rows
DATABASES = ("sqlite", "postgres")  # where rows are claimed


def table_of(store: str, request: pytest.FixtureRequest) -> Rows:
    """An empty table of this kind, and the program on it."""
    world, kind = TABLES[store]
    return kind(request.getfixturevalue(world))


@contextmanager
def journal(world: World) -> Iterator[Journal]:
    """The journal that the runs of this world left."""
    [folder] = {path.parent for path in Path(world.program.settings["STATE_DIR"]).glob("*/journal-*.sqlite3")}
    opened = Journal(folder, world.program.keyring, world.program.clock)
    try:
        yield opened
    finally:
        opened.close()


def entries(world: World, *steps: str) -> list[Entry]:
    """The journal's entries at these steps; all of them by default."""
    with journal(world) as opened:
        return opened.entries(*(steps or STEPS))


def spare_files(world: World) -> list[Path]:
    """What lies in the folder for answers that the journal's disk refused."""
    return sorted(Path(world.program.settings["STATE_DIR_SPARE"]).glob("*"))


def refuse_answers(patch: pytest.MonkeyPatch) -> None:
    """From now on the journal's disk takes requests, but no answer: not even the ballast is room enough."""

    def refuse(_: Journal, entry_id: int, sealed: str) -> None:
        raise JournalError("the journal cannot be written (disk full)", "Free disk space.")

    patch.setattr(Journal, "keep_sealed", refuse)


def kept_token(world: World, entry: Entry) -> str:
    """The refresh token in the answer that an entry keeps."""
    with journal(world) as opened:
        token: str = json.loads(opened.open_answer(entry).body)["refresh_token"]
    return token


def meanwhile(act: Any) -> Fault:
    """While the provider answers rightly, something happens elsewhere."""

    def apply(call: Call, answer: Any) -> Any:
        act()
        return answer()

    return Fault("meanwhile", apply)
