"""The one table of columns against what is made of it."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

import pytest

from token_refresh.base.columns import (
    ALL_COLUMNS,
    COLUMNS,
    DETAIL_NAMES,
    REQUIRED_COLUMNS,
    SEALED_COLUMNS,
    Column,
    ColumnType,
    split_details,
)
from token_refresh.stores.base import Row, make_row

EXAMPLES = {ColumnType.DATETIME: "2026-03-01T12:00:00Z", ColumnType.NUMBER: 3}


def test_every_field_of_a_row_but_what_is_the_stores_own_is_one_column() -> None:
    assert sorted(column.attribute for column in ALL_COLUMNS) == sorted(
        one.name for one in fields(Row) if one.name not in ("key", "error", "created_at", "updated_at")
    )


@pytest.mark.parametrize("column", ALL_COLUMNS, ids=lambda column: column.name)
def test_a_column_is_read_into_its_field_and_into_no_other(column: Column) -> None:
    value = EXAMPLES.get(column.type, " words ")
    empty, read = (make_row("key", cells.get, columns=ALL_COLUMNS) for cells in ({}, {column.name: value}))
    changed = [one.name for one in fields(Row) if getattr(read, one.name) != getattr(empty, one.name)]
    assert changed == [column.attribute]
    held = getattr(read, column.attribute)
    assert isinstance(held, datetime) if column.type is ColumnType.DATETIME else held in (3, "words")


def test_a_table_of_six_columns_is_enough_and_three_of_them_are_sealed() -> None:
    """The six that a user may have had before this program."""
    assert len(REQUIRED_COLUMNS) == 6
    assert {column.name for column in COLUMNS if column.is_sealed} <= set(REQUIRED_COLUMNS)
    assert set(SEALED_COLUMNS) - set(REQUIRED_COLUMNS) == {"id_token", "previous_refresh"}


def test_what_a_table_has_no_column_for_goes_into_its_parameters_and_a_secret_never() -> None:
    details = {
        "scopes": "mail",
        "email": "a@b.example",
        "id_token": "an id token",
        "connected_at": "2026-03-01T12:00:00Z",
    }
    assert split_details(details, DETAIL_NAMES) == (details, {})
    assert split_details(details, REQUIRED_COLUMNS) == ({}, {"granted_scope": "mail", "email": "a@b.example"})
