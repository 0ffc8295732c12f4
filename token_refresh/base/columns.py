"""Every column of a table of credentials, once. Stores, exports, `setup` and the seals take theirs from here.

An export holds all of them; a cell of a sealed column that is not sealed is left out of it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class ColumnType(enum.Enum):
    """What a column holds."""

    ID = enum.auto()  # a line of text
    NAME = enum.auto()  # a line of text, one of a few
    CHOICE = enum.auto()  # one of the statuses
    TEXT = enum.auto()
    LONG_TEXT = enum.auto()
    DATETIME = enum.auto()  # with its zone
    NUMBER = enum.auto()  # whole


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: in Airtable and in an export; `AIRTABLE_ID_FIELD` may give `locationId` another one there.
        attribute: of `Row`, and the name in a database.
        is_required: a table without it cannot be used.
        is_sealed: it holds an encrypted value; `last_access_token` only where `SEAL_ACCESS_TOKENS` says so.
    """

    name: str
    attribute: str
    type: ColumnType
    is_required: bool = False
    is_sealed: bool = False


COLUMNS = (
    Column("locationId", "location_id", ColumnType.ID, is_required=True),
    Column("client_id", "client_id", ColumnType.ID, is_required=True),
    Column("encrypted_secret", "encrypted_secret", ColumnType.LONG_TEXT, is_required=True, is_sealed=True),
    Column("encrypted_refresh", "encrypted_refresh", ColumnType.LONG_TEXT, is_required=True, is_sealed=True),
    Column("last_access_token", "last_access_token", ColumnType.LONG_TEXT, is_required=True, is_sealed=True),
    Column("access_token_expiry", "access_token_expiry", ColumnType.DATETIME, is_required=True),
    Column("provider", "provider", ColumnType.NAME),
    Column("provider_params", "provider_params", ColumnType.LONG_TEXT),
    Column("status", "status", ColumnType.CHOICE),
    Column("last_error", "last_error", ColumnType.LONG_TEXT),
    Column("last_refreshed", "last_refreshed", ColumnType.DATETIME),
    Column("refreshed_by", "refreshed_by", ColumnType.TEXT),
    Column("failure_count", "failure_count", ColumnType.NUMBER),
    Column("refresh_token_expiry", "refresh_token_expiry", ColumnType.DATETIME),
)


def _names(columns: Iterable[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


COLUMN_NAMES = _names(COLUMNS)
REQUIRED_COLUMNS = _names(column for column in COLUMNS if column.is_required)
OPTIONAL_COLUMNS = _names(column for column in COLUMNS if not column.is_required)
SEALED_COLUMNS = tuple(sorted(_names(column for column in COLUMNS if column.is_sealed)))
ATTRIBUTES = {column.name: column.attribute for column in COLUMNS}
