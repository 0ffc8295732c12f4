"""One transaction on a database and its tables: for the store, and for what is kept beside it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from token_refresh.stores.base import StoreError, StoreRefusedError
from token_refresh.stores.database.backend import Backend, newer
from token_refresh.stores.database.schema import CREDENTIALS, IDENTITY, SCHEMA_VERSION

_T = TypeVar("_T")


def transact(database: Backend, act: Callable[[Connection], _T]) -> _T:
    """Do `act` in a transaction of its own, on tables of this version. A server that is away is not waited for.

    Raises:
        StoreError: it was not done.
    """
    database.check()
    once = partial(_once, database)
    prepare_tables(database, once)
    return once(act)


def transact_in_words(database: Backend, act: Callable[[Callable[[str, Mapping[str, Any]], list[Any]]], _T]) -> _T:
    """Like `transact`, for who writes its own SQL: `act` gets what runs a statement, whose values are named `:so`."""

    def act_on(connection: Connection) -> _T:
        def execute(statement: str, values: Mapping[str, Any]) -> list[Any]:
            found = connection.execute(sa.text(statement), values)
            return [*found] if found.returns_rows else []

        return act(execute)

    return transact(database, act_on)


def prepare_tables(database: Backend, transact: Callable[[Callable[[Connection], Any]], Any]) -> list[str]:
    """Make the tables, or bring them up to date, where that is not done yet; what was done, in a sentence."""
    if database.identity:
        return []
    version = transact(database.version)
    if version > SCHEMA_VERSION:
        raise newer()
    if version < SCHEMA_VERSION:
        transact(database.migrate)
    database.identity = transact(_identity)
    if version == SCHEMA_VERSION:
        return []
    return [f"the table {CREDENTIALS.name} was " + ("brought up to date" if version else "made")]


def refusal_of(database: Backend, error: Exception) -> StoreError:
    """What was refused, in words that quote no value."""
    if isinstance(error, IntegrityError):
        return database.conflict(error)
    if isinstance(error, SQLAlchemyError):
        return database.refusal(error)
    return StoreRefusedError("a value cannot be stored in a database", "Correct it.")


def _once(database: Backend, act: Callable[[Connection], _T]) -> _T:
    try:
        with database.engine.begin() as connection:
            return act(connection)
    except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
        refusal = refusal_of(database, error)
    raise refusal  # out here: inside, `__context__` would be the original, which carries what was to be written


def _identity(connection: Connection) -> str:
    """The id that the database keeps; another one where somebody emptied its table. Safe to repeat."""
    known = connection.execute(sa.select(sa.func.min(IDENTITY.c.id))).scalar_one()
    if known is None:
        known = secrets.token_hex(16)
        connection.execute(sa.insert(IDENTITY).values(id=known))
    return str(known)
