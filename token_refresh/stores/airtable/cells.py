"""Cells as Airtable's JSON has them: what is sent for a value, whether it came back, and which ones are usable.

A lookup or a link is a list, a failed formula `{"error": "#ERROR!"}`, a rollup without a number
`{"specialValue": "NaN"}`: airtable.com/developers/web/api/field-model. None of them is text, whatever it holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.columns import COLUMNS, ColumnType
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.airtable.answers import days_alone
from token_refresh.stores.airtable.columns import COLUMN_TYPES
from token_refresh.stores.base import Value

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FIRST_YEAR, _LAST_YEAR = 1970, 9000  # beyond them a time less or more a lifetime may be none
_TOLERANCE_SECONDS = 1.0


def json_of(value: Value) -> str | int | None:
    """What is sent for a value. None empties a cell of any type; an empty text is no option of a single select."""
    if isinstance(value, datetime):
        return iso(value)
    return None if value == "" else value


def is_kept(sent: str | int | None, shown: object) -> bool:
    """Whether Airtable shows what was sent. A line end behind a text counts: rich text shows itself by it."""
    if not sent:
        return not text_of(shown) if isinstance(shown, str) else not shown
    if isinstance(sent, int):
        return shown == sent and not isinstance(shown, bool)
    moment, other = parse_time(sent), parse_time(shown)
    if moment is not None and other is not None:
        return abs((moment - other).total_seconds()) < _TOLERANCE_SECONDS
    return isinstance(shown, str) and _composed(shown) == _composed(sent)


def text_of(cell: object) -> str:
    """A cell of text as `make_row` reads it; empty where it holds anything else."""
    return _unescaped(cell.encode(errors="replace").decode().strip()) if isinstance(cell, str) else ""


@dataclass(frozen=True)
class Cells:
    """The cells of one record, by the program's names of columns.

    Attributes:
        usable: those that hold what belongs there; the others are None.
        error: why the record cannot be used, where a cell is of another type than its column has to be.
    """

    usable: Mapping[str, object] = field(repr=False)
    error: ActionableError | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], own_name: Callable[[str], str]) -> Cells:
        """The cells of a record as Airtable shows it; `own_name` gives the table's own name of a column.

        Raises:
            StoreRefusedError: a column holds days without a time, which no column of times ever shows.
        """
        usable: dict[str, object] = {}
        error: ActionableError | None = None
        for column in COLUMNS:
            name = own_name(column.name)
            cell = record["fields"].get(name)
            if column.type is ColumnType.DATETIME:
                cell = _bounded(name, cell)
            fits = cell is None or _fits(column.type, cell)
            cell = _unescaped(cell) if isinstance(cell, str) else cell
            usable[column.name] = cell if fits else None
            if not fits:
                error = error or _error(record["id"], name, cell, COLUMN_TYPES[column.name][1])
        return cls(usable, error)


def _unescaped(text: str) -> str:
    """An encrypted value without the backslashes of rich text: none is its own, and the column may be plain by now."""
    return text.replace("\\", "") if text.startswith("sealed:") else text


def _fits(kind: ColumnType, cell: object) -> bool:
    if kind is ColumnType.NUMBER:
        return isinstance(cell, int | float) and not isinstance(cell, bool)
    return isinstance(cell, str)


def _bounded(name: str, cell: object) -> object:
    """The cell of a time; None for one that no token of ours can have."""
    if isinstance(cell, str) and _DAY.fullmatch(cell.strip()):
        raise days_alone(name)
    moment = parse_time(cell)
    return cell if moment is None or _FIRST_YEAR <= moment.year <= _LAST_YEAR else None


def _error(record_id: str, name: str, cell: object, needed: str) -> ActionableError:
    return ActionableError(
        f"{name} holds {_in_words(cell)} (record {record_id}), which is never sent",
        f"Make the column {name} {needed} in Airtable, and write the value into it.",
        Kind.ROW,
    )


def _in_words(cell: object) -> str:
    """What a cell holds, without showing it."""
    if isinstance(cell, list):
        return "a list, as lookups and links do"
    if isinstance(cell, dict):
        return "an error" if "error" in cell else "a special value" if "specialValue" in cell else "an object"
    if isinstance(cell, bool):
        return "a checkbox"
    return "a number" if isinstance(cell, int | float) else "text"


def _composed(text: str) -> str:
    """One form of letters that Unicode can write in several."""
    return unicodedata.normalize("NFC", text)
