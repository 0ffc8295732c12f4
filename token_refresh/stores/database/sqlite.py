"""SQLite: a file, created on first use for its owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from token_refresh.base.files import may_be_closed, user_name
from token_refresh.stores.base import StoreError, StoreRefusedError, StoreUnavailableError
from token_refresh.stores.database.backend import Backend, ruled_out, taken
from token_refresh.stores.database.schema import (
    CREDENTIALS,
    IDENTITY,
    IS_ALARMING,
    LOCATION_INDEX,
    METADATA,
    SCHEMA_VERSION,
    SQLITE_UNREADABLE,
)

SWITCH_SECONDS = 0.02
BUSY_SECONDS = 30  # how long SQLite waits for another process's write
_OPEN_TO_OTHERS = 0o077
_OTHERS_WRITE = 0o002
_LITTLE_ROOM = 1 << 20  # bytes; what SQLite writes beside the database grows by 32 KiB
_UNREADABLE_INDEX = f"CREATE INDEX ix_credentials_unreadable ON credentials ({SQLITE_UNREADABLE})"

# From each version to the next, as the program of that time made it.
_STEPS = {
    1: (
        "ALTER TABLE credentials ADD COLUMN claimed_at VARCHAR",
        "CREATE INDEX ix_credentials_claim_owner ON credentials (claim_owner) WHERE claim_owner IS NOT NULL",
    ),
    2: (
        "DROP INDEX ix_credentials_access_token_expiry",
        "CREATE INDEX ix_credentials_due ON credentials (access_token_expiry) WHERE is_active IS 1",
        _UNREADABLE_INDEX,
        "CREATE TABLE provider_pauses (provider TEXT NOT NULL, until VARCHAR NOT NULL, "
        "is_broken BOOLEAN DEFAULT 0 NOT NULL, PRIMARY KEY (provider))",
    ),
    3: (
        "CREATE TABLE store_identity (id TEXT NOT NULL, PRIMARY KEY (id))",
        "INSERT INTO store_identity VALUES (lower(hex(randomblob(16))))",
        "CREATE INDEX ix_credentials_last_refreshed ON credentials (last_refreshed) WHERE is_active IS 1",
    ),
    4: ("CREATE INDEX ix_credentials_refresh_token_expiry ON credentials (refresh_token_expiry) WHERE is_active IS 1",),
    5: (
        "ALTER TABLE credentials ADD COLUMN username TEXT",
        "ALTER TABLE credentials ADD COLUMN email TEXT",
        "ALTER TABLE credentials ADD COLUMN connected_at VARCHAR",
        "ALTER TABLE credentials ADD COLUMN previous_refresh TEXT",
        "UPDATE credentials SET is_active = 0 WHERE status = 'disabled'",
    ),
    6: (f"CREATE INDEX ix_credentials_alarming ON credentials (status) WHERE {IS_ALARMING}",),
    7: (
        "CREATE TABLE notes (name TEXT NOT NULL, content TEXT DEFAULT '' NOT NULL, held_until VARCHAR, "
        "PRIMARY KEY (name))",
    ),
    8: (
        "CREATE TABLE api_keys (id TEXT NOT NULL, name TEXT NOT NULL, secret_hash TEXT NOT NULL, "
        "scopes TEXT NOT NULL, created_at VARCHAR NOT NULL, last_used_at VARCHAR, PRIMARY KEY (id), UNIQUE (name))",
        "CREATE TABLE links (id INTEGER NOT NULL, token_hash TEXT NOT NULL, row_id TEXT NOT NULL, "
        "location_id TEXT NOT NULL, provider TEXT NOT NULL, expires_at VARCHAR NOT NULL, created_by TEXT NOT NULL, "
        "PRIMARY KEY (id), UNIQUE (token_hash))",
        "CREATE TABLE pending_logins (state_hash TEXT NOT NULL, browser_hash TEXT NOT NULL, link_id INTEGER, "
        "content TEXT NOT NULL, ends_at VARCHAR NOT NULL, PRIMARY KEY (state_hash))",
    ),
    9: (),  # the history, which has a file of its own beside this one
    10: (LOCATION_INDEX,),
}


OWNED_SECONDS = 1.0  # so long nobody looks again whose files are beside the database


class SqliteBackend(Backend):
    """See `Backend`. `check` makes the file, and refuses one that others can read."""

    insert = staticmethod(insert)

    def __init__(self, url: sa.URL, connections: int) -> None:
        self._path = Path(url.database or "")
        self._file: tuple[int, int] | None = None
        self._owned_until = 0.0
        busy = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}
        self.engine = sa.create_engine(
            url, hide_parameters=True, pool_size=connections, connect_args={"check_same_thread": False, **busy}
        )
        sa.event.listen(self.engine, "connect", lambda connection, _: _set_up(connection, self._path))

    def check(self) -> None:
        """See `Backend.check`. Connections to a file that was replaced would write into the old one."""
        found, now = _prepare_file(self._path), time.monotonic()
        if self._file is not None and found != self._file:
            self.close()
            self.identity = ""
        if found != self._file or now >= self._owned_until:  # a program that asks all day looks once a second
            _require_own(self._path)
            self._owned_until = now + OWNED_SECONDS
        self._file = found

    def version(self, connection: Connection) -> int:
        """See `Backend.version`."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def migrate(self, connection: Connection) -> None:
        """See `Backend.migrate`."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # whoever is second finds the tables there
        version = self.version(connection)
        if version == 0:
            self._make(connection)
        for step in range(max(version, 1), SCHEMA_VERSION) if version else ():
            for statement in _STEPS[step]:
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def conflict(self, error: IntegrityError) -> StoreError:
        """See `Backend.conflict`."""
        return taken() if str(error.orig).startswith("UNIQUE") else ruled_out()

    def refusal(self, error: SQLAlchemyError) -> StoreError:
        """See `Backend.refusal`."""
        # The driver's own words: "database is locked", "disk I/O error". SQLAlchemy's would quote the statement.
        said = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
        if isinstance(error, DBAPIError) and _is_full(error.orig, self._path):
            return StoreUnavailableError(
                f"the database cannot be used ({said}); the disk of {self._path} may be full", "Free disk space there."
            )
        return StoreUnavailableError(
            f"the database cannot be used ({said})", "Check the disk and who else has it open."
        )

    def _make(self, connection: Connection) -> None:
        if sa.inspect(connection).has_table(CREDENTIALS.name):
            raise StoreRefusedError(
                "the database has a table credentials of another program", "Set DATABASE_URL to a file of its own."
            )
        METADATA.create_all(connection)
        connection.execute(sa.insert(IDENTITY).values(id=secrets.token_hex(16)))
        for index in (_UNREADABLE_INDEX, LOCATION_INDEX):
            connection.exec_driver_sql(index)


def _prepare_file(path: Path) -> tuple[int, int]:
    """Create the file for its owner alone; refuse one that others can read. Returns which file it is."""
    try:
        if not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own_folder(path.resolve().parent)  # what is refused is not made
            # Only a new file: to open and close one in use would drop this process's own SQLite locks on it (POSIX).
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        status = path.stat()
    except OSError as error:
        raise StoreRefusedError(
            f"the database {path} cannot be opened ({error.strerror})", "Correct DATABASE_URL or its permissions."
        ) from None
    if stat.S_IMODE(status.st_mode) & _OPEN_TO_OTHERS:
        raise StoreRefusedError(f"other users can read the database {path}", f"Run: chmod 600 {shlex.quote(str(path))}")
    return status.st_dev, status.st_ino


def _require_own(path: Path) -> None:
    """Whose files these are: what is written into another user's, that user reads, also through SQLite's own files."""
    path = path.resolve()  # SQLite puts its own files beside what a link leads to
    _require_own_folder(path.parent)
    for name in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(f"{path.name}{name}")
        with contextlib.suppress(FileNotFoundError):
            owner = file.stat().st_uid
            if owner != os.geteuid():
                raise StoreRefusedError(
                    f"the database's file {file} belongs to {user_name(owner)}",
                    f"Run the program as that user, or: chown $(id -un) {shlex.quote(str(file))}",
                )


def _require_own_folder(folder: Path) -> None:
    if folder.stat().st_mode & _OTHERS_WRITE:
        or_close = f", or run: chmod o-w {shlex.quote(str(folder))}" if may_be_closed(folder) else "."
        what = f"every user can put files beside the database, in {folder}"
        raise StoreRefusedError(what, f"Put it into a folder of its own and correct DATABASE_URL{or_close}")


def _is_full(error: BaseException | None, path: Path) -> bool:
    """Whether room is what it lacks: SQLite says I/O error where a file beside the database cannot grow."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(path.parent).free < _LITTLE_ROOM
    return code == sqlite3.SQLITE_FULL


def _set_up(connection: Any, path: Path) -> None:
    # Bytes that are no text spoil one cell, not the listing; the driver's own error would quote them.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    connection.create_function("lower_case", 1, lambda text: text.lower() if isinstance(text, str) else None)
    try:
        _switch_to_wal(connection, path)
        # In WAL mode NORMAL may lose the last commits on power loss: here that would be a refresh token.
        connection.execute("PRAGMA synchronous=EXTRA")
    except sqlite3.Error:
        connection.close()  # nobody else knows of it yet
        raise


def _switch_to_wal(connection: Any, path: Path) -> None:
    """SQLite's busy timeout does not cover this switch, so two programs at their first start would collide."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline or _is_full(error, path):  # room does not come by waiting
                raise
            time.sleep(SWITCH_SECONDS)
