"""Which columns the table has: from the cache, else the schema, else learnt from what Airtable refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pyairtable import Api, Table

from token_refresh.base.clock import Clock
from token_refresh.base.columns import COLUMN_NAMES, COLUMNS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, ColumnType
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.stores.airtable.answers import UnknownColumnError, map_errors, missing_columns
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.base import IDLE_STATUSES, STATUS_ACTIVE, StoreRefusedError

SCHEMA_SECONDS = 86_400

_T = TypeVar("_T")

# What a column must be, as Airtable's schema names it, and in words. Whatever else there is cannot hold it: a list
# (lookup, link), an object, a number that looks like text, a text that comes back changed (rich text).
_LINE = (("singleLineText", "multilineText", "singleSelect", "email", "url", "phoneNumber"), "a single line of text")
_PLAIN_TEXT = (("singleLineText", "multilineText"), "plain long text, without rich text formatting")
_CHOICE = (("singleLineText", "multilineText", "singleSelect"), "plain text, or a single select")
_ACCEPTED = {
    ColumnType.ID: _LINE,
    ColumnType.NAME: _CHOICE,
    ColumnType.CHOICE: _CHOICE,
    ColumnType.TEXT: _PLAIN_TEXT,
    ColumnType.LONG_TEXT: _PLAIN_TEXT,
    ColumnType.DATETIME: (("dateTime",), "a date that includes a time"),
    ColumnType.NUMBER: (("number",), "a number"),
}
COLUMN_TYPES = {column.name: _ACCEPTED[column.type] for column in COLUMNS}
_STATUSES = frozenset({STATUS_ACTIVE, *IDLE_STATUSES})


@dataclass(frozen=True)
class Found:
    """What is known of the table's columns.

    Attributes:
        names: the columns that the program can use, by its own names for them.
        missing_options: the statuses that the select column `status` lacks.
        tables: the table's name and id, where the schema is known.
    """

    names: frozenset[str]
    missing_options: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


class Columns:
    """The columns that the program can use, by its own names for them.

    Args:
        options: where the table and the cache are.
        api, table: to ask.
        clock: for the age of the cache.
    """

    def __init__(self, options: AirtableOptions, api: Api, table: Table, clock: Clock) -> None:
        self._options = options
        self._api = api
        self._table = table
        self._clock = clock
        self._found: Found | None = None
        self._tables: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """The table's name and id, where the schema is known. Raises like `known`."""
        self.known()
        return self._found.tables if self._found is not None else frozenset()

    def known(self) -> frozenset[str]:
        """What the table has; asked for once a day.

        Raises:
            StoreRefusedError: a required column is missing, or one has a type that cannot hold what belongs there.
        """
        if self._found is None:
            self._found = self._cached() or self._fetch()
        return self._found.names

    @property
    def missing_options(self) -> frozenset[str]:
        """The statuses that the select column `status` lacks, as far as is known by now."""
        return self._found.missing_options if self._found is not None else frozenset()

    def note_missing_option(self, status: str) -> None:
        """Airtable refused this status: remember it for as long as the columns."""
        assert self._found is not None
        self._found = replace(self._found, missing_options=self._found.missing_options | {status})
        self._keep(self._found)

    def forget(self) -> None:
        """The table was changed: ask again."""
        self._found = None
        self.expire()

    def expire(self) -> None:
        """Let the next program ask again; this one goes on with what it knows."""
        with suppress(OSError):
            self._options.schema_file.unlink(missing_ok=True)

    def name(self, name: str) -> str:
        """The table's own name of a column."""
        return self._options.id_field if name == "locationId" else name

    def with_schema_retry(self, act: Callable[[], _T]) -> _T:
        """Do `act`; where Airtable does not know a column, learn the columns again and do it once more."""
        try:
            return act()
        except UnknownColumnError:
            self._found = self._fetch()
            return act()

    def _cached(self) -> Found | None:
        try:
            cached = json.loads(self._options.schema_file.read_text())
            fresh = 0 <= self._clock.now().timestamp() - cached["read_at"] < SCHEMA_SECONDS
            found = Found(
                frozenset(cached["columns"]),
                frozenset(cached["missing_options"]) & _STATUSES,
                frozenset(cached["names"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if fresh and found.names.issuperset(REQUIRED_COLUMNS) else None

    def _fetch(self) -> Found:
        schema = self._schema_columns()
        found = Found(self._learnt_columns()) if schema is None else self._usable(schema)
        found = replace(found, tables=self._tables)
        self._keep(found)
        return found

    def _keep(self, found: Found) -> None:
        kept = {
            "read_at": self._clock.now().timestamp(),
            "columns": sorted(found.names),
            "names": sorted(found.tables),
            "missing_options": sorted(found.missing_options),
        }
        with suppress(OSError):  # a full disk must not keep tokens out of the table
            self._options.schema_file.write_text(json.dumps(kept))

    def _schema_columns(self) -> dict[str, SchemaColumn] | None:
        """The table's columns by the program's names; None where the token may not see the schema."""
        url = self._api.build_url("meta", "bases", self._options.base_id, "tables")

        def ask() -> list[tuple[str, str, dict[str, SchemaColumn]]]:
            tables = self._api.get(url)["tables"]
            return [(table["name"], table["id"], columns_of(table["fields"], self._options)) for table in tables]

        try:
            tables = map_errors(ask)
        except StoreRefusedError:
            return None
        for name, table_id, columns in tables:
            if self._options.table_name in (name, table_id):
                self._tables = frozenset((name, table_id))
                return columns
        shown = ", ".join(sorted(name for name, _, _ in tables))
        raise StoreRefusedError(
            f"the base has no table {self._options.table_name!r}; it has: {shown}",
            f"Correct AIRTABLE_TABLE_NAME. Or have it made: {TOKEN_MANAGER} setup",
        )

    def _usable(self, schema: Mapping[str, SchemaColumn]) -> Found:
        missing = [self.name(name) for name in REQUIRED_COLUMNS if name not in schema]
        if missing:
            raise missing_columns(missing)
        names = frozenset(REQUIRED_COLUMNS) | (schema.keys() & set(OPTIONAL_COLUMNS))
        faults = faults_of(schema, names)
        if faults:
            raise faults[0]
        options = schema["status"].options if "status" in schema else None
        return Found(names, frozenset() if options is None else _STATUSES - options)

    def _learnt_columns(self) -> frozenset[str]:
        """Ask for every column; each refusal names one that is not there."""
        names = set(COLUMN_NAMES)
        while True:
            asked = sorted(self.name(name) for name in names)
            try:
                map_errors(partial(self._table.first, fields=asked))
                return frozenset(names)
            except UnknownColumnError as error:
                if error.column not in names & set(OPTIONAL_COLUMNS):
                    raise missing_columns([error.column or "that the program needs"]) from None
                names.discard(error.column)


@dataclass(frozen=True)
class SchemaColumn:
    """A column as the schema shows it; `options` are those of a single select, None elsewhere."""

    name: str
    type: str
    options: frozenset[str] | None = None


def columns_of(fields: Any, options: AirtableOptions) -> dict[str, SchemaColumn]:
    """The columns by the program's names of them, from the schema's `fields`; others come by their own."""
    columns: dict[str, SchemaColumn] = {}
    for field in fields:
        name, choices = str(field["name"]), None
        if field["type"] == "singleSelect":
            choices = frozenset(str(choice["name"]) for choice in field["options"]["choices"])
        own = "locationId" if name == options.id_field else name
        if own != "locationId" or name == options.id_field:  # where another column has the id, this one is nobody's
            columns[own] = SchemaColumn(name, str(field["type"]), choices)
    return columns


def faults_of(schema: Mapping[str, SchemaColumn], columns: frozenset[str]) -> list[StoreRefusedError]:
    """One error for each of `columns` that cannot hold what belongs there."""
    wrong = [name for name in sorted(columns & COLUMN_TYPES.keys()) if schema[name].type not in COLUMN_TYPES[name][0]]
    return [
        StoreRefusedError(
            f"the column {schema[name].name} has the type {schema[name].type}, which cannot hold what belongs there",
            f"Make it {COLUMN_TYPES[name][1]} in Airtable.",
        )
        for name in wrong
    ]
