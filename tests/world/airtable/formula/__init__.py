"""Airtable's formula language, as `filterByFormula` and formula columns speak it.

A formula is parsed once into functions of a record, then applied to any number of records. Syntax and functions:
support.airtable.com/docs/formula-field-reference.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.world.airtable import errors
from tests.world.airtable.formula.nodes import INVALID, IdAmong, Node, Record
from tests.world.airtable.formula.parser import Parser
from tests.world.airtable.formula.values import FormulaError, FormulaSyntaxError, truthy

if TYPE_CHECKING:
    from tests.world.airtable.tables import Row, Table


class Formula:
    """A parsed formula of one table. Make it with `Formula.of`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @classmethod
    def of(cls, text: str, table: Table) -> Formula:
        """Parse `text`. Raises `ApiError` (422 INVALID_FILTER_BY_FORMULA)."""
        names = tuple((column.name, column.id) for column in table.columns.values())
        try:
            return cls(_parsed(text, names))
        except FormulaSyntaxError as wrong:
            raise errors.invalid_formula(str(wrong)) from None
        except RecursionError:
            raise errors.invalid_formula(INVALID) from None

    @property
    def ids(self) -> frozenset[str] | None:
        """Where the formula only asks for certain records: their ids."""
        return self._node.ids if isinstance(self._node, IdAmong) else None

    def admits(self, table: Table, row: Row, now: datetime) -> bool:
        """Whether a filter lets this record through: not for a blank, "", 0, FALSE(), NaN or an error."""
        try:
            return truthy(self._node(Record(table, row, now)))
        except (FormulaError, OverflowError):
            return False

    def shown(self, table: Table, row: Row, now: datetime) -> Any:
        """The cell of a formula column: `None` for a blank, `{"error": "#ERROR!"}` for an error."""
        try:
            value = self._node(Record(table, row, now))
        except (FormulaError, OverflowError):
            return {"error": "#ERROR!"}
        if isinstance(value, float) and not math.isfinite(value):
            return {"specialValue": "NaN" if math.isnan(value) else "Infinity"}
        return int(value) if isinstance(value, float) and value.is_integer() else value


@lru_cache(maxsize=256)
def _parsed(text: str, names: tuple[tuple[str, str], ...]) -> Node:
    return Parser(text, dict(names)).parse()
