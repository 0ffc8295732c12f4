"""The values of Airtable formulas: blank, text, number, boolean, time, and how each is read as another.

Documented behaviour: support.airtable.com/docs/formula-field-reference. Reported ones are marked so.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

from tests.world.airtable.columns import iso, parse_iso

Value = str | float | bool | datetime | None  # None: blank; int is a float to the type checker


class FormulaError(Exception):
    """`#ERROR!`: the formula is right, this record's values are not."""


class FormulaSyntaxError(Exception):
    """The formula itself is wrong. The text is the reason as Airtable words it."""


def truthy(value: Value) -> bool:
    """Whether a condition holds, and whether a filter lets a record through."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return value not in (None, "", 0, False)


def to_text(value: Value) -> str:
    """As text: a blank is "", a whole number has no point, TRUE() is 1."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def to_number(value: Value) -> float:
    """As a number: a blank is 0. Raises `FormulaError` for text and times."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    raise FormulaError


def to_time(value: Value) -> datetime:
    """As a time; text is read as ISO 8601, in UTC where it names no zone. Raises `FormulaError`."""
    moment = parse_iso(value) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        return moment
    raise FormulaError


def to_value(cell: object) -> Value:
    """A cell as a value: a date is its first moment in UTC, a list its members with commas between them.

    Raises `FormulaError` for `{"error": "#ERROR!"}`.
    """
    if isinstance(cell, list):
        return ", ".join(to_text(to_value(one)) for one in cell)
    if isinstance(cell, dict):
        if "error" in cell:
            raise FormulaError
        if "specialValue" in cell:
            return float("nan")
        return next((one for one in cell.values() if isinstance(one, str)), None)
    if isinstance(cell, date) and not isinstance(cell, datetime):
        return datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    return cell  # type: ignore[return-value]


def equal(left: Value, right: Value) -> bool:
    """`=`: a blank equals "", 0 and FALSE() (reported); text and numbers are compared as text."""
    if left is None or right is None:
        other = right if left is None else left
        return other in (None, "", 0, False)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return to_text(left) == to_text(right)


def less(left: Value, right: Value) -> bool:
    """`<`: times by the moment, text by its characters, everything else as numbers, a blank as 0."""
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    return _rank(left) < _rank(right)


def _rank(value: Value) -> float:
    return value.timestamp() * 1000 if isinstance(value, datetime) else to_number(value)
