"""The tables, as this version of the program knows them, and makes them in a new SQLite file.

A change of them is a new `SCHEMA_VERSION`, a step in `sqlite` and a revision of the same number in `migrations`, by
which PostgreSQL's are made.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.columns import ALL_COLUMNS, COLUMNS, Column, ColumnType
from token_refresh.stores.base import STATUS_ACTIVE

SCHEMA_VERSION = 11
LARGEST_ID = 2**63 - 1
# What `make_row` strips; SQLite knows one space. As a literal: by a parameter no index of it would be found.
_WHITE_SPACE = "'" + "".join(filter(str.isspace, map(chr, range(0x3001)))) + "'"


class UtcTime(TypeDecorator[datetime]):
    """An aware time: `timestamptz` where there is one, in SQLite ISO 8601 text that sorts like the time itself."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See `TypeDecorator`."""
        return dialect.type_descriptor(sa.String() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """See `TypeDecorator`."""
        return iso(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """See `TypeDecorator`."""
        return parse_time(value) if dialect.name == "sqlite" else value


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers only an INTEGER by itself
METADATA = sa.MetaData()
_IS_CLAIMED = sa.text("claim_owner IS NOT NULL")
IS_ALARMING = sa.text("(failure_count > 0 OR last_error <> '' OR status = 'reauthorize')")
LOCATION_INDEX = f"CREATE INDEX ix_credentials_location ON credentials (trim(location_id, {_WHITE_SPACE}))"
_IS_ACTIVE = sa.text("is_active IS 1")  # as a query says it to SQLite: only the same words let it use the index
_IDENTITY = ("locationId", "provider")


def _column(column: Column) -> sa.Column[Any]:
    """As the first revision in `migrations` has it."""
    name = column.attribute
    if column.type is ColumnType.DATETIME:
        return sa.Column(name, UtcTime)
    if column.type is ColumnType.NUMBER:
        return sa.Column(name, sa.Integer, nullable=False, server_default="0")
    default = {"location_id": None, "status": STATUS_ACTIVE}.get(name, "")
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


CREDENTIALS = sa.Table(
    "credentials",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    *map(_column, sorted(COLUMNS, key=lambda column: column.name not in _IDENTITY)),  # in this order since revision 1
    sa.Column("redirect_uri", sa.Text),
    sa.Column("workspace_email", sa.Text),
    sa.Column("workspace_name", sa.Text),
    sa.Column("scopes", sa.Text),
    sa.Column("token_type", sa.Text),
    sa.Column("id_token", sa.Text),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", UtcTime),
    sa.Column("updated_at", UtcTime),
    sa.Column("last_used_at", UtcTime),
    sa.Column("claim_owner", sa.Text),
    sa.Column("claim_generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claimed_at", UtcTime),
    sa.Column("username", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("connected_at", UtcTime),
    sa.Column("previous_refresh", sa.Text),
    sa.UniqueConstraint("location_id", "provider"),
    sa.Index("ix_credentials_due", "access_token_expiry", sqlite_where=_IS_ACTIVE),
    sa.Index("ix_credentials_last_refreshed", "last_refreshed", sqlite_where=_IS_ACTIVE),
    sa.Index("ix_credentials_refresh_token_expiry", "refresh_token_expiry", sqlite_where=_IS_ACTIVE),
    sa.Index("ix_credentials_claim_owner", "claim_owner", sqlite_where=_IS_CLAIMED),
    sa.Index("ix_credentials_alarming", "status", sqlite_where=IS_ALARMING),
)
PAUSES = sa.Table(
    "provider_pauses",
    METADATA,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("until", UtcTime, nullable=False),
    sa.Column("is_broken", sa.Boolean, nullable=False, server_default=sa.false()),
)
NOTES = sa.Table(
    "notes",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False, server_default=""),
    sa.Column("held_until", UtcTime),
)
IDENTITY = sa.Table("store_identity", METADATA, sa.Column("id", sa.Text, primary_key=True))  # one row, for good
# Who may use the HTTP service: see the room `access`. At Airtable they are in a file of their own.
API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("secret_hash", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("last_used_at", UtcTime),
    sa.UniqueConstraint("name"),
)
KEY_OF_ID = API_KEYS.select().where(API_KEYS.c.id == sa.bindparam("key_id"))  # made once: each request asks for it
LINKS = sa.Table(
    "links",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    sa.Column("token_hash", sa.Text, nullable=False),
    sa.Column("row_id", sa.Text, nullable=False),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.UniqueConstraint("token_hash"),
)
PENDING_LOGINS = sa.Table(
    "pending_logins",
    METADATA,
    sa.Column("state_hash", sa.Text, primary_key=True),
    sa.Column("browser_hash", sa.Text, nullable=False),
    sa.Column("link_id", ID),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("ends_at", UtcTime, nullable=False),
)

_IDS = [CREDENTIALS.c.id, CREDENTIALS.c.is_active]
_SECRET = ("last_access_token", "id_token", "previous_refresh")
_ONLY_TOKEN = sa.case((CREDENTIALS.c.encrypted_refresh == "", CREDENTIALS.c.last_access_token), else_="")
_COLUMN_OF = {column.attribute: column for column in ALL_COLUMNS}
_TIMES = [CREDENTIALS.c.created_at, CREDENTIALS.c.updated_at]
# What is read of a row: all of it; what is shown; and what a refresh needs, which is what a large table is listed with.
ALL = (*_IDS, *(CREDENTIALS.c[name] for name in _COLUMN_OF), *_TIMES)
SHOWN = (*(one for one in ALL if one.name not in _SECRET), _ONLY_TOKEN.label("last_access_token"))
LISTED = (
    *_IDS,
    *(CREDENTIALS.c[column.attribute] for column in COLUMNS if column.name not in _SECRET),
    CREDENTIALS.c.previous_refresh,
)


@functools.cache
def held_in(columns: tuple[Any, ...]) -> list[Column]:
    """Which of the program's columns a selection of these holds."""
    return [_COLUMN_OF[column.name] for column in columns if column.name in _COLUMN_OF]


class Unreadable(FunctionElement[bool]):
    """Whether a row's expiry is missing, or is nothing that a `Row` can hold: then the row is due.

    In words that an index of either database answers.
    """

    inherit_cache = True
    type = sa.Boolean()


class Readable(FunctionElement[bool]):
    """The opposite, in words that cost least where all rows are looked at: the few others are in SQLite's index."""

    inherit_cache = True
    type = sa.Boolean()


# Whatever is not as `iso` writes it is let through and read by the program; adding nothing normalizes a 30 February.
# An index may hold no `now`, and `strftime` would understand that word in a cell: so it is asked for nothing else.
SQLITE_UNREADABLE = (
    "CASE WHEN access_token_expiry GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T"
    "[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]Z' "
    "THEN strftime('%Y-%m-%dT%H:%M:%fZ', access_token_expiry, '+0 days') IS NOT access_token_expiry ELSE 1 END"
)


@compiles(Unreadable, "sqlite")
def _in_sqlite(_element: Unreadable, _compiler: Any, **_options: Any) -> str:
    return f"({SQLITE_UNREADABLE})"  # SQLAlchemy adds `= 1`, which the index needs


@compiles(Readable, "sqlite")
def _all_but_these_in_sqlite(_element: Readable, _compiler: Any, **_options: Any) -> str:
    return f"(credentials.id NOT IN (SELECT id FROM credentials WHERE ({SQLITE_UNREADABLE}) = 1))"  # noqa: S608


@compiles(Unreadable, "postgresql")
def _in_postgres(_element: Unreadable, _compiler: Any, **_options: Any) -> str:
    # `infinity`, and the years that Python does not know.
    return "(credentials.access_token_expiry IS NULL OR credentials.access_token_expiry >= '9999-12-31Z')"


class LowerCase(FunctionElement[str]):
    """A column's text in lower case, of whatever script: SQLite's own `lower` knows ASCII alone, and is faster."""

    inherit_cache = True
    type = sa.Text()


@compiles(LowerCase, "sqlite")
def _lower_in_sqlite(element: LowerCase, compiler: Any, **options: Any) -> str:
    return f"lower_case({compiler.process(element.clauses, **options)})"  # see `sqlite`


@compiles(LowerCase, "postgresql")
def _lower_in_postgres(element: LowerCase, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(Readable, "postgresql")
def _all_but_these_in_postgres(_element: Readable, compiler: Any, **options: Any) -> str:
    return f"(NOT {_in_postgres(Unreadable(), compiler, **options)})"


def stripped(column: sa.ColumnElement[str]) -> sa.Function[str]:
    """The column's text as a `Row` has it."""
    return sa.func.trim(column, sa.literal_column(_WHITE_SPACE), type_=sa.Text)
