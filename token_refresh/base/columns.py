"""Every column of a table of credentials, once. Stores, exports, `setup` and the seals take theirs from here.

An export holds all that its table has; a cell of a sealed column that is not sealed is left out of it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
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


COLUMNS = (  # of every table
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
DETAILS = (  # of databases: what an answer or an earlier program says of a client beside its tokens
    Column("scopes", "scopes", ColumnType.TEXT),  # what was granted, blank-separated (RFC 6749 section 3.3)
    Column("token_type", "token_type", ColumnType.TEXT),
    Column("id_token", "id_token", ColumnType.LONG_TEXT, is_sealed=True),
    Column("redirect_uri", "redirect_uri", ColumnType.TEXT),
    Column("workspace_email", "workspace_email", ColumnType.TEXT),
    Column("workspace_name", "workspace_name", ColumnType.TEXT),
    Column("username", "username", ColumnType.TEXT),
    Column("email", "email", ColumnType.TEXT),
    Column("connected_at", "connected_at", ColumnType.DATETIME),  # when somebody last logged in
    Column("last_used_at", "last_used_at", ColumnType.DATETIME),  # when a token was last served, to five minutes
    # The refresh token before one that no refresh has proved yet, for a host that lacks the journal's entry.
    Column("previous_refresh", "previous_refresh", ColumnType.LONG_TEXT, is_sealed=True),
)
ALL_COLUMNS = (*COLUMNS, *DETAILS)


def _names(columns: Iterable[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


COLUMN_NAMES = _names(COLUMNS)
DETAIL_NAMES = _names(DETAILS)
ALL_COLUMN_NAMES = _names(ALL_COLUMNS)
REQUIRED_COLUMNS = _names(column for column in COLUMNS if column.is_required)
OPTIONAL_COLUMNS = _names(column for column in COLUMNS if not column.is_required)
SEALED_COLUMNS = tuple(sorted(_names(column for column in ALL_COLUMNS if column.is_sealed)))
ATTRIBUTES = {column.name: column.attribute for column in ALL_COLUMNS}

_IN_PARAMS = {  # keys of `provider_params`, which stand for these details where a table has no columns for them
    "scopes": "granted_scope",
    **{name: name for name in ("redirect_uri", "workspace_email", "workspace_name", "username", "email")},
}


def split_details(details: Mapping[str, str], columns: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Details by where a table with these columns keeps them: in a column, in its `provider_params`; others nowhere."""
    known = {name: value for name, value in details.items() if name in columns}
    params = {_IN_PARAMS[name]: value for name, value in details.items() if name in _IN_PARAMS and name not in known}
    return known, params
