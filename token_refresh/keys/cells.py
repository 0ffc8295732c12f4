"""The sealed cells of one row, each by itself: which open, which need re-encrypting, and what re-encrypts those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crypto import is_sealed
from token_refresh.base.columns import SEALED_COLUMNS
from token_refresh.stores.base import Change, Row, Value
from token_refresh.stores.sealed import Binding, CellError, Seals


@dataclass(frozen=True)
class CellCheck:
    """What became of opening each sealed cell of one row by itself.

    Attributes:
        opened: what they hold, by column.
        stale: the columns of those that open and need re-encrypting.
        errors: one for each cell that does not open.
    """

    opened: Mapping[str, str] = field(repr=False)
    stale: tuple[str, ...]
    errors: tuple[CellError, ...]


def check_cells(seals: Seals, row: Row, binding: Binding) -> CellCheck:
    """Try each sealed cell of the row by itself; empty cells and plain access tokens are passed over."""
    opened: dict[str, str] = {}
    errors: list[CellError] = []
    cells = _sealed_cells(row)
    for column, cell in cells.items():
        try:
            opened[column] = seals.open_text(column, cell, row, binding)
        except CellError as error:
            errors.append(error)
    stale = tuple(column for column in opened if seals.is_stale(column, cells[column], row, binding))
    return CellCheck(opened, stale, tuple(errors))


def check_moved_cells(seals: Seals, row: Row, binding: Binding, location_id: str, origin: str) -> CellCheck:
    """The same where cells may still be sealed for a former location id and host.

    Those that open only there count as stale; those that open in their place already are left.
    """
    here = check_cells(seals, row, binding)
    there = check_cells(seals, replace(row, location_id=location_id), Binding(origin))
    moved = tuple(error.column for error in here.errors if error.column in there.opened)
    errors = tuple(error for error in here.errors if error.column not in moved)
    return CellCheck({**there.opened, **here.opened}, moved, errors)


def resealing(seals: Seals, row: Row, binding: Binding, check: CellCheck, free_for: str) -> Change:
    """What re-encrypts the stale cells of a row for this binding, only while they are as they were read.

    And only while nobody refreshes the row (`free_for`: see `Change`): the token in it may be on its way.
    """
    values: dict[str, Value] = dict.fromkeys(check.stale)  # empty, where a cell of an older form holds nothing
    values |= seals.cells(row.location_id, binding, **{column: check.opened[column] for column in check.stale})
    cells = _sealed_cells(row)
    beside = {column: cells[column] for column in check.stale if column != "encrypted_refresh"}
    return Change(row.key, row.encrypted_refresh, values, beside=beside, free_for=free_for)


def _sealed_cells(row: Row) -> dict[str, str]:
    cells = {column: str(getattr(row, column)) for column in SEALED_COLUMNS}
    return {
        column: cell for column, cell in cells.items() if cell and (column != "last_access_token" or is_sealed(cell))
    }
