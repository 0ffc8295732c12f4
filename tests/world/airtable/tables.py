"""Bases, tables and records, and a log of every cell ever written.

All methods may be called from any thread: one lock guards a whole workspace. The methods of `Table` that a test
calls take the part of a colleague in Airtable's own window: no request, no limit, but the same column types.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from string import ascii_letters, digits
from typing import Any

from tests.world.airtable import errors
from tests.world.airtable.columns import SHOWN_TYPES, Column, iso
from tests.world.airtable.formula import Formula
from tests.world.http import Request

PERSON = "person"


@dataclass(frozen=True)
class Change:
    """One cell that someone wrote. Equal values count too: a write is a write.

    `by` is the name of the token, or who the test said it was; `via` the request, or `None` for a direct edit.
    `before` and `after` are JSON values, `None` for an empty cell.
    """

    at: datetime
    by: str
    via: Request | None
    table: str
    record: str
    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Author:
    """Who writes: for the log."""

    name: str
    via: Request | None = None


@dataclass
class Row:
    """One record. `rank` decides its place in a listing without order."""

    id: str
    created: datetime
    number: int
    rank: float
    cells: dict[str, Any] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)


class Workspace:
    """What all bases of one server share: the lock, the source of ids, the wall clock and the log."""

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self.lock = threading.RLock()
        self.random = random.Random(seed)
        self.now = now
        self.changes: list[Change] = []
        self.bases: dict[str, Base] = {}

    def new_id(self, prefix: str) -> str:
        """An id of Airtable's form: three letters and fourteen characters."""
        return prefix + "".join(self.random.choices(ascii_letters + digits, k=14))


class Base:
    """One base and its tables."""

    def __init__(self, workspace: Workspace, base_id: str, name: str) -> None:
        self.workspace = workspace
        self.id = base_id
        self.name = name
        self.tables: dict[str, Table] = {}

    def create_table(self, name: str, columns: Sequence[Column], description: str = "") -> Table:
        """A new table. Raises `ApiError` (422) for a name that is taken."""
        with self.workspace.lock:
            if any(table.name == name for table in self.tables.values()):
                raise errors.error(422, "DUPLICATE_TABLE_NAME", f"A table named {name} already exists")
            table = Table(self, self.workspace.new_id("tbl"), name, description)
            for column in columns:
                table.add_column(column)
            self.tables[table.id] = table
            return table

    def table(self, id_or_name: str) -> Table | None:
        """The table of this id or name."""
        if id_or_name in self.tables:
            return self.tables[id_or_name]
        return next((table for table in self.tables.values() if table.name == id_or_name), None)

    def copied_to(self, base: Base, *, keeps_record_ids: bool) -> None:
        """Put copies of all tables into `base`, which is empty; tables and columns keep their ids."""
        for table in self.tables.values():
            copy = Table(base, table.id, table.name, table.description)
            copy.columns = deepcopy(table.columns)
            for row in deepcopy(list(table.rows.values())):
                row.id = row.id if keeps_record_ids else self.workspace.new_id("rec")
                copy.rows[row.id] = row
            base.tables[copy.id] = copy

    def row(self, record_id: str) -> tuple[Table, Row] | None:
        """A record of any table: ids are unique in a base."""
        for table in self.tables.values():
            if record_id in table.rows:
                return table, table.rows[record_id]
        return None


class Table:
    """One table: columns, records, and what was done to them."""

    def __init__(self, base: Base, table_id: str, name: str, description: str = "") -> None:
        self.base = base
        self.workspace = base.workspace
        self.id = table_id
        self.name = name
        self.description = description
        self.view_id = self.workspace.new_id("viw")
        self.columns: dict[str, Column] = {}
        self.rows: dict[str, Row] = {}
        self._made = 0

    # Columns

    def add_column(self, column: Column) -> Column:
        """Add a copy of `column`. Raises `ApiError` (422) for a name that is taken."""
        with self.workspace.lock:
            if any(there.name.lower() == column.name.lower() for there in self.columns.values()):
                raise errors.error(422, "DUPLICATE_OR_EMPTY_FIELD_NAME")
            added = deepcopy(column)
            added.id = self.workspace.new_id("fld")
            for choice in added.options.get("choices", []):
                choice.setdefault("id", self.workspace.new_id("sel"))
            self.columns[added.id] = added
            return added

    def column(self, id_or_name: str) -> Column:
        """The column of this id or name. Raises `ApiError` (422) that names an unknown one."""
        found = self.columns.get(id_or_name)
        found = found or next((column for column in self.columns.values() if column.name == id_or_name), None)
        if found is None:
            raise errors.unknown_field(id_or_name)
        return found

    def rename_column(self, old: str, new: str) -> None:
        """Give a column another name; its id and its cells stay."""
        with self.workspace.lock:
            self.column(old).name = new

    def remove_column(self, name: str) -> None:
        """Delete a column and its cells."""
        with self.workspace.lock:
            column = self.columns.pop(self.column(name).id)
            for row in self.rows.values():
                row.cells.pop(column.id, None)

    # Records, for tests

    def add(self, cells: Mapping[str, Any] | None = None, *, by: str = PERSON) -> str:
        """A new record; returns its id."""
        return self.add_many([cells or {}], by=by)[0]

    def add_many(self, records: Iterable[Mapping[str, Any]], *, by: str = PERSON) -> list[str]:
        """Many new records; returns their ids in order."""
        with self.workspace.lock:
            prepared = [self.prepare(cells) for cells in records]
            return [self.create(cells, Author(by)).id for cells in prepared]

    def edit(self, record_id: str, cells: Mapping[str, Any], *, by: str = PERSON) -> None:
        """Overwrite some cells of a record; `None` empties one."""
        with self.workspace.lock:
            self.update(self.rows[record_id], self.prepare(cells), Author(by))

    def compute(self, record_id: str, column: str, value: Any) -> None:
        """Let Airtable show this JSON value in a computed cell; `None` for an empty one."""
        with self.workspace.lock:
            found = self.column(column)
            if found.type not in SHOWN_TYPES:
                raise ValueError(f"{column} is {found.type}")
            self._write(self.rows[record_id], {found.id: value}, Author("Airtable"))

    def remove(self, record_id: str, *, by: str = PERSON) -> None:
        """Delete a record."""
        with self.workspace.lock:
            self.delete(self.rows[record_id], Author(by))

    def duplicate(self, record_id: str, *, by: str = PERSON) -> str:
        """Copy a record, as the window's "duplicate record" does; returns the copy's id."""
        with self.workspace.lock:
            return self.create(dict(self.rows[record_id].cells), Author(by)).id

    def cells(self, record_id: str) -> dict[str, Any]:
        """A record's filled cells by column name, as the API shows them. Raises `KeyError`."""
        with self.workspace.lock:
            return self.shown(self.rows[record_id])["fields"]  # type: ignore[no-any-return]

    def cell(self, record_id: str, column: str) -> Any:
        """One cell as the API shows it; `None` where it is empty. Raises `KeyError`, `ApiError`."""
        self.column(column)
        return self.cells(record_id).get(column)

    def records(self) -> list[dict[str, Any]]:
        """All records in the order of their creation, as the API shows them."""
        with self.workspace.lock:
            return [self.shown(row) for row in self.rows.values()]

    def find(self, **cells: Any) -> list[str]:
        """The ids of the records that have all these cells."""
        wanted = cells.items()
        return [record["id"] for record in self.records() if wanted <= record["fields"].items()]

    def changes(self, record_id: str | None = None, column: str | None = None, by: str | None = None) -> list[Change]:
        """The log of this table, oldest first, narrowed to a record, a column, an author."""
        with self.workspace.lock:
            return [
                change
                for change in self.workspace.changes
                if change.table == self.id
                and record_id in (None, change.record)
                and column in (None, change.column)
                and by in (None, change.by)
            ]

    def __len__(self) -> int:
        return len(self.rows)

    # Records, for the API; the caller holds the lock

    def prepare(self, cells: Mapping[str, Any], *, typecast: bool = False) -> dict[str, Any]:
        """Written values as cells by column id; nothing is changed yet. Raises `ApiError` (422)."""
        prepared = {}
        for name, value in cells.items():
            column = self.column(name)
            prepared[column.id] = column.parse(_written(value), typecast=typecast)
        return prepared

    def create(self, prepared: Mapping[str, Any], author: Author) -> Row:
        """A new record of prepared cells."""
        self._made += 1
        space = self.workspace
        row = Row(space.new_id("rec"), space.now().astimezone(UTC), self._made, space.random.random())
        self.rows[row.id] = row
        self._write(row, {key: cell for key, cell in prepared.items() if cell is not None}, author)
        return row

    def update(self, row: Row, prepared: Mapping[str, Any], author: Author, *, replace: bool = False) -> None:
        """Write prepared cells; `replace` empties every other column (PUT)."""
        cells = dict(prepared)
        if replace:
            cells = {key: None for key in row.cells if key not in cells} | cells
        self._write(row, cells, author)

    def delete(self, row: Row, author: Author) -> None:
        """Delete a record; each of its cells is logged as emptied."""
        self._write(row, dict.fromkeys(row.cells), author)
        del self.rows[row.id]

    def shown(self, row: Row, *, by_id: bool = False, only: Sequence[Column] | None = None) -> dict[str, Any]:
        """A record as the API shows it: empty cells are absent."""
        fields = {}
        for column in self.columns.values() if only is None else only:
            cell = self.value(row, column)
            if cell is not None:
                fields[column.id if by_id else column.name] = column.render(cell)
        return {"id": row.id, "createdTime": iso(row.created), "fields": fields}

    def value(self, row: Row, column: Column) -> Any:
        """A cell, computed where the column is; `None` where it is empty."""
        if not column.computed or column.type in SHOWN_TYPES:
            return row.cells.get(column.id)
        if column.type == "createdTime":
            return row.created
        if column.type == "lastModifiedTime":
            return max(row.modified.values(), default=None)
        if column.type == "autoNumber":
            return row.number
        return self.calculate(column.options["formula"], row)

    def calculate(self, expression: str, row: Row) -> Any:
        """What a formula gives for a record; `None` for a blank, and `{"error": "#ERROR!"}` for an error."""
        return Formula.of(expression, self).shown(self, row, self.workspace.now())

    def schema(self, *, visible_fields: bool = False) -> dict[str, Any]:
        """As the schema endpoints show it."""
        view: dict[str, Any] = {"id": self.view_id, "name": "Grid view", "type": "grid"}
        if visible_fields:
            view["visibleFieldIds"] = list(self.columns)
        shown = {
            "id": self.id,
            "name": self.name,
            "primaryFieldId": next(iter(self.columns), ""),
            "fields": [column.schema() for column in self.columns.values()],
            "views": [view],
        }
        return {**shown, "description": self.description} if self.description else shown

    def _write(self, row: Row, cells: Mapping[str, Any], author: Author) -> None:
        now = self.workspace.now().astimezone(UTC)
        for key, cell in cells.items():
            column = self.columns[key]
            before, after = (None if c is None else column.render(c) for c in (row.cells.get(key), cell))
            self.workspace.changes.append(
                Change(now, author.name, author.via, self.id, row.id, column.name, before, after)
            )
            row.modified[key] = now
            row.cells.pop(key, None)
            if cell is not None:
                row.cells[key] = cell
                self._learn_choice(column, cell)

    def _learn_choice(self, column: Column, cell: Any) -> None:
        """`typecast` makes a select option of what was written."""
        if column.type == "singleSelect" and cell not in column.choices:
            column.options["choices"].append({"id": self.workspace.new_id("sel"), "name": cell})


def _written(value: Any) -> Any:
    """A test may hand in a `datetime`; a naive one is read in the column's zone, as its text would be."""
    if not isinstance(value, datetime):
        return value
    return value.isoformat() if value.tzinfo is None else iso(value)
