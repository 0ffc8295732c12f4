"""The database of another program, only to be read: its tables as plain records, whatever made them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError

from token_refresh.base.program import install_extra
from token_refresh.stores.base import StoreRefusedError, StoreUnavailableError

CONNECT_SECONDS = 10
_ITS_ADDRESS = "Correct its address, or the permissions of whoever reads it."
_IS_IT_THERE = "Is this the right database, and the right --layout?"


class SourceDatabase:
    """Reads tables; nothing is ever written.

    Args:
        url: of SQLAlchemy, checked: a driver that is installed, and no port that is none.

    Raises:
        StoreRefusedError: there is no driver for it.
    """

    def __init__(self, url: str) -> None:
        address, file = sa.make_url(url), unquote(url.partition("///")[2].partition("?")[0])
        options: dict[str, Any] = {"connect_args": {"connect_timeout": CONNECT_SECONDS}}
        if address.get_backend_name() == "sqlite":
            options = {"creator": lambda: _open_file(file), "poolclass": sa.pool.NullPool}
        try:
            self._engine = sa.create_engine(address, hide_parameters=True, **options)
        except ModuleNotFoundError:
            raise StoreRefusedError(
                "PostgreSQL needs a package that is not installed: psycopg",
                install_extra("postgres"),
            ) from None

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Every record, these columns of it, values as the driver gives them; PostgreSQL's times and JSON as text.

        Raises:
            StoreRefusedError: there is no such table, or it lacks a column, or the server lets nobody in so.
            StoreUnavailableError: the database cannot be read.
        """
        with self._connected() as connection:
            missing = sorted(set(columns) - _columns(connection, table))
            if missing:
                raise StoreRefusedError(f"the table {table} has no column {', '.join(missing)}", _IS_IT_THERE)
            wanted: list[sa.ColumnElement[Any]] = [sa.column(name) for name in columns]
            for record in connection.execute(sa.select(*wanted).select_from(sa.table(table))).mappings():
                yield dict(record)

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execution_options(postgresql_readonly=True)
                    _read_as_text(connection)
                yield connection
            return
        except SQLAlchemyError as error:
            # The driver's own first line; SQLAlchemy's would quote the statement.
            said = str(error.orig).partition("\n")[0] if isinstance(error, DBAPIError) else type(error).__name__
            kind = StoreRefusedError if self._is_shut_out(error) else StoreUnavailableError
            failure = kind(f"the source cannot be read ({said})", _ITS_ADDRESS)
        raise failure

    def _is_shut_out(self, error: SQLAlchemyError) -> bool:
        if self._engine.dialect.name != "postgresql":
            return False
        from token_refresh.stores.database.postgres import is_shut_out

        return is_shut_out(error)


def _open_file(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
    # Bytes that are no text spoil one value, not the listing; the driver's own error would quote them.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _read_as_text(connection: Connection) -> None:
    """As SQLite gives it: `infinity`, or JSON that Python does not take, spoils one value, not the listing."""
    from psycopg.types.string import TextLoader

    adapters = connection.connection.driver_connection.adapters  # type: ignore[union-attr]
    for kind in ("timestamp", "timestamptz", "json", "jsonb"):
        adapters.register_loader(kind, TextLoader)
    connection.exec_driver_sql("SET datestyle TO ISO")


def _columns(connection: Connection, table: str) -> set[str]:
    try:
        return {column["name"] for column in sa.inspect(connection).get_columns(table)}
    except NoSuchTableError:
        raise StoreRefusedError(f"the source has no table {table}", _IS_IT_THERE) from None
