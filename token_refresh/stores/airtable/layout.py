"""Making the table, or the columns that it lacks; where the token may not, saying exactly what to click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyairtable import Api

from token_refresh.base.columns import COLUMNS, ColumnType
from token_refresh.stores.airtable.answers import map_errors
from token_refresh.stores.airtable.columns import columns_of, faults_of
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.base import IDLE_STATUSES, STATUS_ACTIVE, StoreRefusedError

# airtable.com/developers/web/api/field-model. `utc`: in any other zone people read the cells wrongly.
_TEXT: dict[str, Any] = {"type": "singleLineText"}
_LONG_TEXT: dict[str, Any] = {"type": "multilineText"}
_TIME: dict[str, Any] = {
    "type": "dateTime",
    "options": {"timeZone": "utc", "dateFormat": {"name": "iso"}, "timeFormat": {"name": "24hour"}},
}
_STATUS: dict[str, Any] = {
    "type": "singleSelect",
    "options": {"choices": [{"name": status} for status in (STATUS_ACTIVE, *IDLE_STATUSES)]},
}
_COUNT: dict[str, Any] = {"type": "number", "options": {"precision": 0}}
_TYPES = {
    ColumnType.ID: _TEXT,
    ColumnType.NAME: _TEXT,
    ColumnType.CHOICE: _STATUS,
    ColumnType.TEXT: _TEXT,
    ColumnType.LONG_TEXT: _LONG_TEXT,
    ColumnType.DATETIME: _TIME,
    ColumnType.NUMBER: _COUNT,
}
_MADE_AS = {column.name: _TYPES[column.type] for column in COLUMNS}
_IN_WORDS = {
    "singleLineText": "single line text",
    "multilineText": "long text without rich text",
    "dateTime": "date with time, in UTC",
    "singleSelect": f"single select with the options {', '.join((STATUS_ACTIVE, *IDLE_STATUSES))}",
    "number": "number, an integer",
}


class Layout:
    """The table as it should be.

    Args:
        options: which base and table.
        api: to ask and to make.
    """

    def __init__(self, options: AirtableOptions, api: Api) -> None:
        self._options = options
        self._api = api
        self._url = api.build_url("meta", "bases", options.base_id, "tables")

    def complete(self) -> list[str]:
        """Make what is missing; one sentence for each thing made.

        Raises:
            StoreRefusedError: the token may not see or change the schema, or a column has the wrong type, which
                cannot be changed from outside. The action says what to click.
        """
        table = self._table()
        if table is None:
            self._make_table()
            return [f"the table {self._options.table_name} was made, with all columns"]
        schema = columns_of(table["fields"], self._options)
        missing = [name for name in _MADE_AS if name not in schema]
        for name in missing:
            self._make_column(table["id"], name, missing)
        faults = faults_of(schema, frozenset(_MADE_AS) - set(missing))
        if faults:
            raise faults[0]
        return [f"the column {self._column(name)} was made" for name in missing]

    def _table(self) -> Mapping[str, Any] | None:
        try:
            tables = map_errors(lambda: list(self._api.get(self._url)["tables"]))
        except StoreRefusedError:
            raise StoreRefusedError(
                "the personal access token may not see the schema of this base",
                f"Give it schema.bases:read and schema.bases:write, or make the columns by hand: {_by_hand(_MADE_AS)}.",
            ) from None
        wanted = self._options.table_name
        return next((table for table in tables if wanted in (table.get("name"), table.get("id"))), None)

    def _make_table(self) -> None:
        columns = [self._spec(name) for name in _MADE_AS]
        content = {"name": self._options.table_name, "fields": columns}
        self._post(self._url, content, f"Make the table {self._options.table_name} by hand: {_by_hand(_MADE_AS)}.")

    def _make_column(self, table_id: str, name: str, missing: Sequence[str]) -> None:
        still = missing[missing.index(name) :]
        url = self._api.build_url("meta", "bases", self._options.base_id, "tables", table_id, "fields")
        self._post(url, self._spec(name), f"Make these columns in Airtable by hand: {_by_hand(still)}.")

    def _post(self, url: str, content: dict[str, Any], by_hand: str) -> None:
        try:
            map_errors(lambda: self._api.post(url, json=content))
        except StoreRefusedError as error:
            refusal = StoreRefusedError(
                "the personal access token may not change the schema of this base, or Airtable refuses the change",
                f"Give it schema.bases:write and its user the role Creator. Or: {by_hand}",
            )
            refusal.__context__ = error.__context__
        else:
            return
        raise refusal

    def _spec(self, name: str) -> dict[str, Any]:
        return {"name": self._column(name), **_MADE_AS[name]}

    def _column(self, name: str) -> str:
        return self._options.id_field if name == "locationId" else name


def _by_hand(names: Sequence[str] | Mapping[str, Any]) -> str:
    return "; ".join(f"{name} ({_IN_WORDS[_MADE_AS[name]['type']]})" for name in names)
