"""Which columns the table has: from the cache, else the schema, else learnt from what Airtable refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from pyairtable import Api, Table

from token_refresh.base.clock import Clock
from token_refresh.base.columns import COLUMN_NAMES, COLUMNS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, ColumnType
from token_refresh.stores.airtable.answers import UnknownColumnError, missing_columns, translated
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.base import StoreRefusedError

SCHEMA_SECONDS = 86_400

_T = TypeVar("_T")

# What a column must be, as Airtable's schema names it, and in words. The others are taken as they come.
_PLAIN_TEXT = (("singleLineText", "multilineText"), "plain long text, without rich text formatting")
_CHOICE = (("singleLineText", "multilineText", "singleSelect"), "plain text, or a single select")
_ACCEPTED = {
    ColumnType.NAME: _CHOICE,
    ColumnType.CHOICE: _CHOICE,
    ColumnType.TEXT: _PLAIN_TEXT,
    ColumnType.LONG_TEXT: _PLAIN_TEXT,
    ColumnType.DATETIME: (("dateTime",), "a date that includes a time"),
    ColumnType.NUMBER: (("number",), "a number"),
}
COLUMN_TYPES = {column.name: _ACCEPTED[column.type] for column in COLUMNS if column.type in _ACCEPTED}


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
        self._known: frozenset[str] | None = None
        self._names: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """The table's name and id, where the schema is known. Raises like `known`."""
        self.known()
        return self._names

    def known(self) -> frozenset[str]:
        """What the table has; asked for once a day.

        Raises:
            StoreRefusedError: a required column is missing, or one has a type that cannot hold what belongs there.
        """
        if self._known is None:
            self._known = self._cached_columns() or self._fetch_columns()
        return self._known

    def forget(self) -> None:
        """The table was changed: ask again."""
        self._known = None
        self._options.schema_file.unlink(missing_ok=True)

    def name(self, name: str) -> str:
        """The table's own name of a column."""
        return self._options.id_field if name == "locationId" else name

    def relearning(self, act: Callable[[], _T]) -> _T:
        """Do `act`; where Airtable does not know a column, learn the columns again and do it once more."""
        try:
            return act()
        except UnknownColumnError:
            self._known = self._fetch_columns()
            return act()

    def _cached_columns(self) -> frozenset[str] | None:
        try:
            cached = json.loads(self._options.schema_file.read_text())
            fresh = 0 <= self._clock.now().timestamp() - cached["read_at"] < SCHEMA_SECONDS
            columns = frozenset(cached["columns"])
            self._names = frozenset(cached["names"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return columns if fresh and columns.issuperset(REQUIRED_COLUMNS) else None

    def _fetch_columns(self) -> frozenset[str]:
        types = self._schema_columns()
        columns = self._learnt_columns() if types is None else self._usable(types)
        kept = {"read_at": self._clock.now().timestamp(), "columns": sorted(columns), "names": sorted(self._names)}
        with suppress(OSError):  # a full disk must not keep tokens out of the table
            self._options.schema_file.write_text(json.dumps(kept))
        return columns

    def _schema_columns(self) -> dict[str, str] | None:
        """The types of the table's columns by name; None where the token may not see the schema."""
        url = self._api.build_url("meta", "bases", self._options.base_id, "tables")

        def ask() -> list[tuple[str, str, dict[str, str]]]:
            tables = self._api.get(url)["tables"]
            return [(table["name"], table["id"], types_of(table["fields"])) for table in tables]

        try:
            tables = translated(ask)
        except StoreRefusedError:
            return None
        for name, table_id, types in tables:
            if self._options.table_name in (name, table_id):
                self._names = frozenset((name, table_id))
                return types
        shown = ", ".join(sorted(name for name, _, _ in tables))
        raise StoreRefusedError(
            f"the base has no table {self._options.table_name!r}; it has: {shown}", "Correct AIRTABLE_TABLE_NAME."
        )

    def _usable(self, types: Mapping[str, str]) -> frozenset[str]:
        missing = [self.name(name) for name in REQUIRED_COLUMNS if self.name(name) not in types]
        if missing:
            raise missing_columns(missing)
        columns = frozenset(REQUIRED_COLUMNS) | (types.keys() & set(OPTIONAL_COLUMNS))
        faults = faults_of(types, columns)
        if faults:
            raise faults[0]
        return columns

    def _learnt_columns(self) -> frozenset[str]:
        """Ask for every column; each refusal names one that is not there."""
        names = set(COLUMN_NAMES)
        while True:
            asked = sorted(self.name(name) for name in names)
            try:
                translated(partial(self._table.first, fields=asked))
                return frozenset(names)
            except UnknownColumnError as error:
                if error.column not in names & set(OPTIONAL_COLUMNS):
                    raise missing_columns([error.column or "that the program needs"]) from None
                names.discard(error.column)


def types_of(fields: Any) -> dict[str, str]:
    """The types of columns by name, from the schema's `fields`."""
    return {str(column["name"]): str(column["type"]) for column in fields}


def faults_of(types: Mapping[str, str], columns: frozenset[str]) -> list[StoreRefusedError]:
    """One error for each of `columns` that cannot hold what belongs there."""
    wrong = [name for name in sorted(columns & COLUMN_TYPES.keys()) if types[name] not in COLUMN_TYPES[name][0]]
    return [
        StoreRefusedError(
            f"the column {name} has the type {types[name]}, which cannot hold what belongs there",
            f"Make it {COLUMN_TYPES[name][1]} in Airtable.",
        )
        for name in wrong
    ]
