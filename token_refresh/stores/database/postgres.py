"""PostgreSQL, by psycopg 3 and Alembic: both are extras, which SQLite does without."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from token_refresh.base.clock import parse_time
from token_refresh.base.program import install_extra
from token_refresh.stores.base import StoreError, StoreRefusedError, StoreUnavailableError
from token_refresh.stores.database.backend import Backend, ShutOutError, newer, ruled_out, taken
from token_refresh.stores.database.schema import CREDENTIALS, SCHEMA_VERSION

PACKAGES = ("psycopg", "alembic")
VERSION_TABLE = "token_refresh_version"  # a database may have a table of Alembic's own name already
MIGRATIONS = Path(__file__).with_name("migrations")
PATIENCE_SECONDS = 30.0
_LOCK_ID = 0x746F6B656E  # of the advisory lock that migrations take; any number will do

# A lock that somebody's open transaction holds is waited for as long as SQLite waits; a process that was stopped in
# the middle of its own must not hold others up for longer. And what a commit confirms is on the server's disk, whatever
# is usual there: the journal forgets it then. In each transaction, for a pooler may share a session with others.
# READ COMMITTED whatever is usual there: where a claim meets another, it goes on to rows that are free.
_BEGIN_SQL = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; "
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
# Times are read in the one style that the driver knows, whatever is set for user or database.
_SESSION = "SET datestyle = 'ISO'"
# A server that vanished without a word is noticed. What the address says goes first.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "token-refresh",
    "client_encoding": "utf8",
}
_SHOWN = frozenset(  # options of an address whose values say where the database is and how it is reached
    {"host", "hostaddr", "port", "dbname", "user", "application_name", "sslmode", "sslrootcert", "sslcert", "sslcrl"}
    | {"sslkey", "passfile", "service", "target_session_attrs", "channel_binding", "gssencmode", "client_encoding"}
)
_SHORTEST_OPTION = 4  # characters; a shorter value, such as a number, is in every sentence
_LOST_STATES = ("08", "57P")  # the connection failed; the server was shut down, or is starting
_PRIMARY_KEY = "credentials_pkey"
_UNIQUE, _READ_ONLY = "23505", "25006"
_TOO_LARGE = "54"  # such as a location id that no index takes: psycopg has it among the outages
_RULES = ("P0", "44")  # a trigger raised an error; a view's check option
_MEND = "Check that PostgreSQL runs, that it can be reached from here, and that it lets the user of DATABASE_URL in."
# Where no connection came about, psycopg has no SQLSTATE, only words: libpq's own, which are English, and the server's,
# which mostly are. In another language even what passes counts as lasting: the exit code is 2, and the next run tries.
_CONNECTING = ("connection failed", "connection is bad")
_FATAL = re.compile(r"FATAL: |no password supplied")  # the server, or a pooler in front of it, ends the connection
_PASSES = re.compile(  # 57P03, 57P01, 53300; and PgBouncer's
    r"database system is (starting up|shutting down|in recovery mode)|(not yet|not currently) accepting connections"
    r"|consistent recovery state has not been|too many (clients|connections)|connection slots are reserved"
    r"|administrator command|pooler is|server_login_retry|query_wait_timeout|server conn crashed|max_client_conn"
    r"|no more connections allowed|cannot connect to server|could not connect to server|server login failed: connect"
    r"|terminating connection|MaxClientsInSessionMode|Max client connections|timeout"
)
_LET_IN = "Correct user, password and database in DATABASE_URL, or let that user in; docs/postgres.md says how."
_POOLER = "Take options out of DATABASE_URL, or name the server itself instead of the pooler in front of it."
_NOT_SAFE = re.compile(
    r"certificate verify failed|signature failure|alert (.* )?certificate|alert unknown ca|does not match host name"
    r"|does not support SSL|certificate file|private key file|channel binding is required|connection is bad: invalid"
)
_SAFE = "Correct sslmode and sslrootcert in DATABASE_URL, or the server's certificate; docs/postgres.md says how."
_WRITABLE = (
    "Name the primary server in DATABASE_URL, no standby, and let its user write (default_transaction_read_only)."
)
_DENIED = re.compile(r'permission denied for (schema|table|sequence) "?([^"]+)"?')
_GRANTS = {  # what the program does with each; PostgreSQL 15 and later let nobody make tables in `public` unasked
    "schema": "USAGE, CREATE ON SCHEMA",
    "table": "SELECT, INSERT, UPDATE, DELETE ON TABLE",
    "sequence": "USAGE ON SEQUENCE",
}
_OPTION = "Correct or remove that option in DATABASE_URL."
_RIGHTS = "Give the user of DATABASE_URL what it lacks; docs/postgres.md says what that is."


class PostgresBackend(Backend):
    """See `Backend`.

    Raises:
        StoreRefusedError: a package is missing.
    """

    insert = staticmethod(insert)
    patience_seconds = PATIENCE_SECONDS

    def __init__(self, url: sa.URL, connections: int) -> None:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise StoreRefusedError(
                f"PostgreSQL needs packages that are not installed: {', '.join(missing)}",
                install_extra("postgres"),
            )
        self._secrets = _secret_parts(url)
        options = {name: value for name, value in _CONNECT.items() if name not in url.query}
        self.engine = sa.create_engine(
            url,
            hide_parameters=True,
            pool_size=connections,  # many workers share the server's connections
            max_overflow=0 if connections > 1 else 1,  # threads wait for one; a lone one may need a second to migrate
            pool_timeout=PATIENCE_SECONDS,
            pool_use_lifo=True,  # what a crowd needed is not kept busy by one caller, and a server may end it
            # Statements that are prepared by themselves are lost behind a pooler that shares connections.
            connect_args={"prepare_threshold": None, **options},
        )
        self._error: type[Exception] = getattr(self.engine.dialect.dbapi, "Error", OSError)
        self._connections: WeakSet[Any] = WeakSet()
        sa.event.listen(self.engine, "connect", lambda connection, _: self._connections.add(connection))
        sa.event.listen(self.engine, "connect", _set_up)
        sa.event.listen(self.engine, "checkout", self._begin)

    def abort(self) -> None:
        """See `Backend.abort`: a wait for the server ends at once when its socket is shut down."""
        super().abort()
        for connection in list(self._connections):
            with suppress(OSError, self._error), socket.socket(fileno=os.dup(connection.fileno())) as handle:
                handle.shutdown(socket.SHUT_RDWR)

    def version(self, connection: Connection) -> int:
        """See `Backend.version`. Names the encoding of a database that cannot hold every text."""
        driver: Any = connection.connection.dbapi_connection
        encoding = driver.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            raise ShutOutError(
                f"the database has the encoding {encoding}, which cannot hold every name",
                "Make another one, and move what is in it: CREATE DATABASE NAME ENCODING 'UTF8' TEMPLATE template0",
            )
        # Not by `to_regclass`: a session may remember for a while that there was no such table.
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return 0
        found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one_or_none()  # noqa: S608
        return int(found or 0)

    def migrate(self, connection: Connection) -> None:
        """See `Backend.migrate`."""
        from alembic import command
        from alembic.config import Config

        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
        version = self.version(connection)  # another program may have been at work meanwhile, and a newer one
        if version > SCHEMA_VERSION:
            raise newer()
        if version == 0 and sa.inspect(connection).has_table(CREDENTIALS.name):
            raise StoreRefusedError(
                "the database has a table credentials of another program",
                "Set DATABASE_URL to a database of its own, or to a schema of its own (options=-csearch_path=NAME).",
            )
        config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")

    def clock(self, connection: Connection) -> datetime | None:
        """See `Backend.clock`."""
        return parse_time(connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one())

    def conflict(self, error: IntegrityError) -> StoreError:
        """See `Backend.conflict`."""
        if _state(error) != _UNIQUE:
            return ruled_out()
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) == _PRIMARY_KEY:
            return ShutOutError(
                "the database gives new rows numbers that are taken: its sequence was left behind, as by a restore",
                "Run in the database: "
                "SELECT setval(pg_get_serial_sequence('credentials', 'id'), max(id)) FROM credentials;",
            )
        return taken()

    def refusal(self, error: SQLAlchemyError) -> StoreError:
        """See `Backend.refusal`."""
        state = _state(error)
        if isinstance(error, DataError) or state.startswith(_TOO_LARGE):  # its words may quote the value
            return StoreRefusedError("a value cannot be stored in a database", "Correct it.")
        if state.startswith(_RULES):
            return ruled_out()
        line = _first_line(error)
        said = self._masked(line)
        if state == _READ_ONLY:
            return StoreUnavailableError(f"the database rejects writes ({said})", _WRITABLE)
        if line.startswith("invalid connection option"):  # psycopg's own words, before anything is called
            return ShutOutError(f"PostgreSQL refuses: {said}", _OPTION)
        if isinstance(error, ProgrammingError):  # no right, no such table
            return ShutOutError(f"PostgreSQL refuses: {said}", self._missing_right(line))
        if _is_not_let_in(line):
            action = _POOLER if "startup parameter" in line else _LET_IN
            return ShutOutError(f"PostgreSQL does not let the program in ({said})", action)
        if _is_kept_out(line, _NOT_SAFE):
            return ShutOutError(f"there is no connection to PostgreSQL as DATABASE_URL asks for ({said})", _SAFE)
        return StoreUnavailableError(f"the database cannot be used ({said})", _MEND)

    def is_lost(self, error: SQLAlchemyError) -> bool:
        """See `Backend.is_lost`."""
        if isinstance(self.refusal(error), ShutOutError):
            return False
        state = _state(error)
        is_away = isinstance(error, OperationalError) and (not state or state.startswith(_LOST_STATES))
        return is_away or (isinstance(error, DBAPIError) and error.connection_invalidated)

    def _begin(self, driver: Any, record: sa.pool.ConnectionPoolEntry, _: object) -> None:
        """Begin the one transaction that a connection is taken for, at the price of a ping.

        A server that was restarted is noticed by it before anything is asked: another connection is made then.
        """
        try:
            driver.execute(_BEGIN_SQL)
        except self._error:
            if driver.closed and record.info.pop("was_used", False):
                raise sa.exc.InvalidatePoolError from None
            raise
        record.info["was_used"] = True

    def _missing_right(self, line: str) -> str:
        """The statement that gives the right which a refusal says is missing."""
        denied = _DENIED.match(line)
        if denied is None:
            return _RIGHTS
        quote = self.engine.dialect.identifier_preparer.quote
        user = quote(self.engine.url.username) if self.engine.url.username else "USER"
        grant = f"GRANT {_GRANTS[denied[1]]} {quote(denied[2])} TO {user};"
        return f"As a superuser or the owner of the database run: {grant}"

    def _masked(self, said: str) -> str:
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return said


def _secret_parts(url: sa.URL) -> list[str]:
    """What of an address is not shown, longest first: its passwords, and each option but those that name a place."""
    options = {name: values for name, values in url.normalized_query.items() if name not in _SHOWN}
    passwords = {str(url.password or ""), *options.pop("password", ())} - {""}
    others = {value for values in options.values() for value in values if len(value) >= _SHORTEST_OPTION}
    return sorted(passwords | others, key=len, reverse=True)


def _state(error: SQLAlchemyError) -> str:
    """The SQLSTATE; empty where no server has spoken."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def is_shut_out(error: SQLAlchemyError) -> bool:
    """Whether no connection came about, and none will until somebody corrects the address or the server's rules."""
    line = _first_line(error)
    return _is_not_let_in(line) or _is_kept_out(line, _NOT_SAFE)


def _is_not_let_in(line: str) -> bool:
    """Whether the server's answer is no, and will be: all but the few that pass are."""
    return _is_kept_out(line, _FATAL) and _PASSES.search(line) is None


def _is_kept_out(line: str, by: re.Pattern[str]) -> bool:
    return line.startswith(_CONNECTING) and by.search(line) is not None


def _first_line(error: SQLAlchemyError) -> str:
    """What follows may quote a row, or the statement."""
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    diagnosis = getattr(error.orig, "diag", None)
    said: str = getattr(diagnosis, "message_primary", None) or str(error.orig)
    return said.strip().partition("\n")[0]


def _set_up(connection: Any, _: object) -> None:
    from psycopg import DataError as Unloadable
    from psycopg.types.datetime import TimestamptzLoader

    class Lenient(TimestamptzLoader):
        """`infinity`, or a year that Python does not know, spoils one cell, not the listing."""

        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except Unloadable:
                return None

    connection.adapters.register_loader("timestamptz", Lenient)
    connection.autocommit = True  # transactions begin by `_BEGIN_SQL`; by the driver they would take another trip
    connection.execute(_SESSION)
