"""Stores to test, each with a back door: what a colleague sees and edits by hand."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.world.airtable import AirtableServer, Table
from tests.world.clock import FakeClock
from tests.world.postgres import PostgresServer
from token_refresh.net.tls import Adapter
from token_refresh.stores.airtable import AirtableOptions, AirtableStore
from token_refresh.stores.base import Claimant, DueQuery, Row, Store
from token_refresh.stores.database import DatabaseStore


class Place(ABC):
    """A store and its back door; columns have the names that the program uses."""

    store: Store

    @abstractmethod
    def add(self, cells: Mapping[str, Any]) -> str:
        """A new row, made by hand; returns its key."""

    @abstractmethod
    def edit(self, key: str, **cells: Any) -> None:
        """Overwrite cells by hand."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Delete a row by hand."""

    @abstractmethod
    def cells(self, key: str) -> dict[str, Any]:
        """The filled cells of a row."""

    @abstractmethod
    def keys(self) -> list[str]:
        """Every row there is."""

    def clear(self) -> None:
        """Delete every row."""
        for key in self.keys():
            self.remove(key)


class AirtablePlace(Place):
    """A table at the fake Airtable."""

    def __init__(self, server: AirtableServer, table: Table, clock: FakeClock, folder: Path, **options: Any) -> None:
        self.server = server
        self.table = table
        self.options = airtable_options(server, folder, table_name=table.name, **options)
        self.store = AirtableStore(self.options, clock)

    def add(self, cells: Mapping[str, Any]) -> str:
        return self.table.add({name: cell for name, cell in cells.items() if cell not in (None, "")})

    def edit(self, key: str, **cells: Any) -> None:
        self.table.edit(key, cells)

    def remove(self, key: str) -> None:
        self.table.remove(key)

    def cells(self, key: str) -> dict[str, Any]:
        return self.table.cells(key)

    def keys(self) -> list[str]:
        return [record["id"] for record in self.table.records()]

    def touched(self, key: str) -> set[str]:
        """The columns of a row that the store wrote, as against a person."""
        return {change.column for change in self.table.changes(key, by=self.server.token)}


class DatabasePlace(Place):
    """An SQLite file, with a second connection as the back door."""

    def __init__(self, file: Path, clock: FakeClock) -> None:
        self.file = file
        self.address = f"sqlite:///{file}?timeout=0.05"
        self.store = DatabaseStore(self.address, clock)
        self.shell = sqlite3.connect(file, isolation_level=None)
        self.shell.row_factory = sqlite3.Row

    def close(self) -> None:
        """Let go of it."""
        self.store.close()
        self.shell.close()

    def add(self, cells: Mapping[str, Any]) -> str:
        named = {_snake(name): _written(cell) for name, cell in cells.items() if cell is not None}
        marks = ", ".join("?" for _ in named)
        done = self.shell.execute(
            f"INSERT INTO credentials ({', '.join(named)}) VALUES ({marks})", list(named.values())
        )
        return str(done.lastrowid)

    def edit(self, key: str, **cells: Any) -> None:
        for name, cell in cells.items():
            statement = f"UPDATE credentials SET {_snake(name)} = ? WHERE id = ?"
            self.shell.execute(statement, [_written(cell), int(key)])

    def remove(self, key: str) -> None:
        self.shell.execute("DELETE FROM credentials WHERE id = ?", [int(key)])

    def cells(self, key: str) -> dict[str, Any]:
        row = self.shell.execute("SELECT * FROM credentials WHERE id = ?", [int(key)]).fetchone()
        named = {("locationId" if name == "location_id" else name): row[name] for name in row.keys()}  # noqa: SIM118
        return {name: cell for name, cell in named.items() if cell not in (None, "", 0)}

    def keys(self) -> list[str]:
        return [str(row[0]) for row in self.shell.execute("SELECT id FROM credentials ORDER BY id")]


class PostgresPlace(Place):
    """A PostgreSQL database, with a second connection as the back door."""

    def __init__(self, server: PostgresServer, clock: FakeClock) -> None:
        self.server = server
        self.address = server.database()
        self.store = DatabaseStore(self.address, clock)
        self.shell = server.connect(self.address)

    def close(self) -> None:
        """Let go of it, and delete it."""
        self.store.close()
        self.shell.close()
        self.server.drop(self.address)

    def add(self, cells: Mapping[str, Any]) -> str:
        named = {_snake(name): cell for name, cell in cells.items() if cell is not None}
        marks = ", ".join("%s" for _ in named)
        statement = f"INSERT INTO credentials ({', '.join(named)}) VALUES ({marks}) RETURNING id"
        [row] = self._execute(statement, *named.values())
        return str(row["id"])

    def edit(self, key: str, **cells: Any) -> None:
        for name, cell in cells.items():
            self._execute(f"UPDATE credentials SET {_snake(name)} = %s WHERE id = %s", cell, int(key))

    def remove(self, key: str) -> None:
        self._execute("DELETE FROM credentials WHERE id = %s", int(key))

    def cells(self, key: str) -> dict[str, Any]:
        [row] = self._execute("SELECT * FROM credentials WHERE id = %s", int(key))
        named = {("locationId" if name == "location_id" else name): cell for name, cell in row.items()}
        return {name: cell for name, cell in named.items() if cell not in (None, "", 0)}

    def keys(self) -> list[str]:
        return [str(row["id"]) for row in self._execute("SELECT id FROM credentials ORDER BY id")]

    def _execute(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        done = self.shell.execute(statement.encode(), values)
        return done.fetchall() if done.description else []


def claimed(store: Store, query: DueQuery, claimant: Claimant, limit: int = 100) -> list[Row]:
    """The rows of all rounds that a claimant gets."""
    return [row for rows in store.claim_due(query, claimant, limit) for row in rows]


def airtable_options(
    server: AirtableServer, folder: Path, ca_bundle: Path | None = None, **changed: Any
) -> AirtableOptions:
    """Options for the fake's first base."""
    usual: dict[str, Any] = {
        "api_key": server.token,
        "base_id": server.base_id,
        "identity": f"airtable {server.base_id}",
        "table_name": "APISecrets",
        "id_field": "locationId",
        "endpoint_url": server.url,
        "requests_per_second": 4,
        "schema_file": folder / "columns.json",
        "pace_file": folder / "pace.json",
        "adapter": Adapter(ca_bundle, connections=1),
    }
    return AirtableOptions(**(usual | changed))


def _snake(name: str) -> str:
    return "location_id" if name == "locationId" else name


def _written(cell: Any) -> Any:
    return cell.isoformat(timespec="milliseconds").replace("+00:00", "Z") if isinstance(cell, datetime) else cell
