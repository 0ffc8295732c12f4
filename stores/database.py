"""A database as a store, by SQLAlchemy Core: one table, `credentials`, conditional writes.

A SQLite file is created on first use.
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.types import TypeDecorator, TypeEngine

from clock import Clock
from stores.base import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    STATUS_ACTIVE,
    Change,
    Claimant,
    DueQuery,
    Row,
    Store,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    WriteResult,
    Written,
    iso,
    make_row,
    parse_time,
    unknown_columns,
)

_T = TypeVar("_T")

SCHEMA_VERSION = 2
ROWS_A_PAGE = 500
SWITCH_SECONDS = 0.02
BUSY_SECONDS = 30  # how long SQLite waits for another process's write
_ISO_FORMAT = "%Y-%m-%dT%H:%M:%fZ"  # SQLite's words for what `iso` writes
_WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))  # what `make_row` strips; SQLite knows one space
_LARGEST_ID = 2**63 - 1
_OPEN_TO_OTHERS = 0o077


class _UtcTime(TypeDecorator[datetime]):
    """An aware time: `timestamptz` where there is one, in SQLite ISO 8601 text that sorts like the time itself."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.String() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return iso(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return parse_time(value) if dialect.name == "sqlite" else value


_METADATA = sa.MetaData()
_IS_CLAIMED = sa.text("claim_owner IS NOT NULL")
CREDENTIALS = sa.Table(
    "credentials",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False, server_default=""),
    sa.Column("client_id", sa.Text, nullable=False, server_default=""),
    sa.Column("encrypted_secret", sa.Text, nullable=False, server_default=""),
    sa.Column("encrypted_refresh", sa.Text, nullable=False, server_default=""),
    sa.Column("last_access_token", sa.Text, nullable=False, server_default=""),
    sa.Column("access_token_expiry", _UtcTime),
    sa.Column("provider_params", sa.Text, nullable=False, server_default=""),
    sa.Column("status", sa.Text, nullable=False, server_default=STATUS_ACTIVE),
    sa.Column("last_error", sa.Text, nullable=False, server_default=""),
    sa.Column("last_refreshed", _UtcTime),
    sa.Column("refreshed_by", sa.Text, nullable=False, server_default=""),
    sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refresh_token_expiry", _UtcTime),
    sa.Column("redirect_uri", sa.Text),
    sa.Column("workspace_email", sa.Text),
    sa.Column("workspace_name", sa.Text),
    sa.Column("scopes", sa.Text),
    sa.Column("token_type", sa.Text),
    sa.Column("id_token", sa.Text),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", _UtcTime),
    sa.Column("updated_at", _UtcTime),
    sa.Column("last_used_at", _UtcTime),
    sa.Column("claim_owner", sa.Text),
    sa.Column("claim_generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claimed_at", _UtcTime),
    sa.UniqueConstraint("location_id", "provider"),
    sa.Index("ix_credentials_access_token_expiry", "access_token_expiry"),
)
_CLAIM_INDEX = sa.Index(
    "ix_credentials_claim_owner",
    CREDENTIALS.c.claim_owner,
    sqlite_where=_IS_CLAIMED,
    postgresql_where=_IS_CLAIMED,
)

_COLUMN_NAMES = {name: name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)} | {"locationId": "location_id"}
_ALL = [CREDENTIALS.c.id, *(CREDENTIALS.c[name] for name in _COLUMN_NAMES.values())]
_ALL_BUT_TOKEN = [column for column in _ALL if column.name != "last_access_token"]


class DatabaseStore(Store):
    """See `Store`.

    Args:
        url: an SQLAlchemy address.
        clock: for `created_at` and `updated_at`.

    Raises:
        StoreRefusedError: the file can be read by others, or a newer version of the program made it.
        StoreUnavailableError: the database cannot be opened.
    """

    kind = "database"
    claims = True
    flush_size = 100
    max_wait_seconds = 1.0

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._url = _parsed(url)
        self._calls = 0
        self._owner = ""
        self._generations: dict[int, int] = {}  # of the rows that this process has claimed
        if self._url.get_backend_name() != "sqlite":
            raise StoreRefusedError(
                "this version stores in Airtable or SQLite, not in PostgreSQL", "Set DATABASE_URL to sqlite:///FILE."
            )
        _prepare_file(Path(self._url.database or ""))
        busy = {} if "timeout" in self._url.query else {"timeout": BUSY_SECONDS}
        self._engine = sa.create_engine(
            self._url, hide_parameters=True, connect_args={"check_same_thread": False, **busy}
        )
        sa.event.listen(self._engine, "connect", _set_up)
        try:
            self._create_table()
        except StoreError:
            self.close()
            raise

    @property
    def calls(self) -> int:
        """See `Store.calls`: transactions."""
        return self._calls

    @property
    def columns(self) -> frozenset[str]:
        """See `Store.columns`."""
        return frozenset(_COLUMN_NAMES)

    def due(self, query: DueQuery) -> list[Row]:
        """See `Store.due`."""
        rows = self._select(_ALL_BUT_TOKEN, *_due_conditions(query))
        return [row for row in rows if query.admits(row)]

    def claim_due(self, query: DueQuery, claimant: Claimant, limit: int) -> tuple[list[Row], bool]:
        """See `Store.claim_due`. The claim is committed before anything is done with the row."""
        self._owner = claimant.owner
        expiry = CREDENTIALS.c.access_token_expiry
        free = sa.select(CREDENTIALS.c.id).where(*_due_conditions(query), _is_free(claimant))
        chosen = free.order_by(expiry.asc().nulls_first()).limit(limit).with_for_update(skip_locked=True)
        claim = (
            sa.update(CREDENTIALS)
            .where(CREDENTIALS.c.id.in_(chosen))
            .values(
                claim_owner=claimant.owner,
                claim_generation=CREDENTIALS.c.claim_generation + 1,
                claimed_at=self._clock.now(),
            )
            .returning(*_ALL_BUT_TOKEN, CREDENTIALS.c.claim_generation)
        )
        records = self._transact(lambda connection: connection.execute(claim).mappings().all())
        self._generations |= {record["id"]: record["claim_generation"] for record in records}
        rows = [_row(record) for record in records]
        return [row for row in rows if query.admits(row)], len(rows) < limit

    def inherit(self, heir: Claimant, slot: int) -> None:
        """See `Store.inherit`."""
        values = {"claim_owner": heir.of_slot(heir.slot) + "inherited"}
        inherit = sa.update(CREDENTIALS).where(_begins(heir.of_slot(slot))).values(values)
        self._transact(lambda connection: connection.execute(inherit))

    def release(self, claimant: Claimant, keep: Collection[str]) -> None:
        """See `Store.release`."""
        mine = CREDENTIALS.c.claim_owner == claimant.owner
        claimed = sa.select(CREDENTIALS.c.id).where(mine)
        kept = {_id(key) for key in keep}

        def act(connection: Connection) -> None:
            ids = [{"row_id": number} for number in connection.execute(claimed).scalars() if number not in kept]
            if ids:
                connection.execute(sa.update(CREDENTIALS).where(_IS_ROW, mine).values(_UNCLAIMED), ids)

        self._transact(act)
        self._generations.clear()

    def held_elsewhere(self, query: DueQuery, claimant: Claimant) -> dict[str, int]:
        """See `Store.held_elsewhere`."""
        owner, count = CREDENTIALS.c.claim_owner, sa.func.count()
        is_held = sa.and_(owner.is_not(None), owner != claimant.owner)
        held = sa.select(owner, count).where(*_due_conditions(query), is_held).group_by(owner)
        return self._transact(lambda connection: {str(name): int(many) for name, many in connection.execute(held)})

    def rows(self, *, complete: bool = False) -> Iterator[Row]:
        """See `Store.rows`. Read in pages, so that a large table is never in memory as a whole."""
        after = -1 - _LARGEST_ID
        while page := self._select(_columns(complete), CREDENTIALS.c.id > after, limit=ROWS_A_PAGE):
            yield from page
            after = int(page[-1].key)

    def find(self, location_id: str) -> list[Row]:
        """See `Store.find`."""
        return self._select(_ALL, _stripped(CREDENTIALS.c.location_id) == location_id.strip())

    def read(self, keys: Sequence[str], *, complete: bool = False) -> dict[str, Row]:
        """See `Store.read`."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), ROWS_A_PAGE):  # SQLite bounds the number of parameters
            ids = [_id(key) for key in keys[start : start + ROWS_A_PAGE]]
            found |= {row.key: row for row in self._select(_columns(complete), CREDENTIALS.c.id.in_(ids))}
        return found

    def prove_writable(self, row: Row) -> None:
        """See `Store.prove_writable`."""
        same = {"access_token_expiry": CREDENTIALS.c.access_token_expiry}
        update = sa.update(CREDENTIALS).where(CREDENTIALS.c.id == _id(row.key)).values(same)
        self._transact(lambda connection: connection.execute(update))

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """See `Store.write`. One transaction for all; where a value is refused, one for each."""
        now = self._clock.now()
        try:
            return self._transact(lambda connection: [self._write_one(connection, change, now) for change in changes])
        except StoreRefusedError as error:
            if len(changes) == 1:
                return [WriteResult(Written.REFUSED, error)]
            return [result for change in changes for result in self.write([change])]
        except StoreError as error:
            return [WriteResult(Written.UNDONE, error) for _ in changes]

    def create(self, values: Mapping[str, Value]) -> str:
        """See `Store.create`."""
        missing = unknown_columns(values, self.columns)
        if missing:
            raise StoreRefusedError(f"the table has no column {', '.join(missing)}", "Leave it out.")
        now = self._clock.now()
        cells = {**_cells(values), "created_at": now, "updated_at": now}
        created = sa.insert(CREDENTIALS).values(cells).returning(CREDENTIALS.c.id)
        return str(self._transact(lambda connection: connection.execute(created).scalar_one()))

    def close(self) -> None:
        """See `Store.close`."""
        self._engine.dispose()

    def _select(
        self, columns: Sequence[sa.Column[Any]], *conditions: sa.ColumnElement[bool], limit: int | None = None
    ) -> list[Row]:
        query = sa.select(*columns).where(*conditions)
        if limit is not None:
            query = query.order_by(CREDENTIALS.c.id).limit(limit)
        return self._transact(lambda connection: [_row(record) for record in connection.execute(query).mappings()])

    def _transact(self, act: Callable[[Connection], _T]) -> _T:
        """Do `act` in a transaction of its own."""
        self._calls += 1
        try:
            with self._engine.begin() as connection:
                return act(connection)
        except IntegrityError:
            refusal: StoreError = StoreRefusedError(
                "the database already has a row of this location and provider", "Replace that row instead."
            )
        except SQLAlchemyError as error:
            refusal = _unavailable(error)
        except (UnicodeEncodeError, OverflowError):
            refusal = StoreRefusedError("a value cannot be stored in a database", "Correct it.")
        # Raised out here: inside, `__context__` would be the original, which carries what was to be written.
        raise refusal

    def _write_one(self, connection: Connection, change: Change, now: datetime) -> WriteResult:
        row_id = _id(change.key)
        cells = {**_cells(change.values), "updated_at": now}
        values = {f"new_{name}": value for name, value in cells.items()}
        seen = {f"seen_{name}": cell for name, cell in change.guards.items()}
        generation = self._generations.get(row_id)
        claim = {"owner": self._owner, "generation": generation} if generation is not None else {}
        update = _update(
            tuple(cells),
            tuple(change.guards),
            change.free_for,
            is_claimed=generation is not None,
            keeps_claim=change.keeps_claim,
        )
        if connection.execute(update, {"row_id": row_id, **seen, **claim, **values}).rowcount == 1:
            return WriteResult(Written.STORED)
        stand = (CREDENTIALS.c[name] for name in (*change.guards, "claim_owner", "claim_generation"))
        found = connection.execute(sa.select(*stand).where(_IS_ROW), {"row_id": row_id}).mappings().one_or_none()
        return WriteResult(_what_stands(change, generation, found))

    def _create_table(self) -> None:
        version = self._transact(lambda connection: connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if version > SCHEMA_VERSION:
            raise StoreRefusedError(
                "a newer version of this program made the database", "Update the program on this machine."
            )
        if version < SCHEMA_VERSION:
            self._transact(_migrate)


def _prepare_file(path: Path) -> None:
    """Create the file for its owner alone; refuse one that others can read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            # Only a new file: to open and close one in use would drop this process's own SQLite locks on it (POSIX).
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise StoreRefusedError(
            f"the database {path} cannot be opened ({error.strerror})", "Correct DATABASE_URL or its permissions."
        ) from None
    if mode & _OPEN_TO_OTHERS:
        raise StoreRefusedError(f"other users can read the database {path}", f"Run: chmod 600 {path}")


def _migrate(connection: Connection) -> None:
    # Two programs may start at once: whoever is second finds the table there.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    if connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1:
        connection.exec_driver_sql("ALTER TABLE credentials ADD COLUMN claimed_at VARCHAR")
        _CLAIM_INDEX.create(connection)
    _METADATA.create_all(connection)
    there = {column["name"] for column in sa.inspect(connection).get_columns(CREDENTIALS.name)}
    if not set(CREDENTIALS.c.keys()) <= there:
        raise StoreRefusedError(
            "the database has a table credentials of another program", "Set DATABASE_URL to a file of its own."
        )
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _parsed(url: str) -> sa.URL:
    with suppress(ArgumentError):
        return make_url(url)
    raise StoreRefusedError("DATABASE_URL is no database address", "Set it to sqlite:///FILE.")


def _set_up(connection: Any, _: object) -> None:
    # Bytes that are no text spoil one cell, not the listing; the driver's own error would quote them.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        _switch_to_wal(connection)
        # In WAL mode NORMAL may lose the last commits on power loss: here that would be a refresh token.
        connection.execute("PRAGMA synchronous=EXTRA")
    except sqlite3.Error:
        connection.close()  # nobody else knows of it yet
        raise


def _switch_to_wal(connection: Any) -> None:
    """SQLite's busy timeout does not cover this switch, so two programs at their first start would collide."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(SWITCH_SECONDS)


def _due_conditions(query: DueQuery) -> list[sa.ColumnElement[bool]]:
    table = CREDENTIALS.c
    conditions = [table.encrypted_refresh != "", table.status.not_in(query.idle), table.is_active.is_(sa.true())]
    if query.locations:
        conditions.append(_stripped(table.location_id).in_(query.locations))
    if not query.everything:
        latest = max([query.other_cutoff, *query.cutoffs.values()])
        named = _stripped(table.provider)
        provider = sa.case((named == "", query.default_provider), else_=named)
        cutoffs = {name: sa.literal(cutoff, _UtcTime) for name, cutoff in query.cutoffs.items()}
        other = sa.literal(query.other_cutoff, _UtcTime)
        cutoff = sa.case(cutoffs, value=provider, else_=other) if cutoffs else other
        expiry = table.access_token_expiry
        soon = sa.and_(expiry < sa.literal(latest, _UtcTime), expiry < cutoff)
        # Whatever is not as `iso` writes it is let through and read here; adding nothing normalizes a 30 February.
        normal = sa.func.strftime(_ISO_FORMAT, expiry, "+0 days", type_=sa.String)
        unreadable = normal.is_distinct_from(sa.cast(expiry, sa.String))
        conditions.append(sa.or_(expiry.is_(None), unreadable, soon))
    return conditions


def _columns(complete: bool) -> Sequence[sa.Column[Any]]:
    return _ALL if complete else _ALL_BUT_TOKEN


def _row(record: Mapping[Any, Any]) -> Row:
    return make_row(str(record["id"]), lambda name: record.get(_COLUMN_NAMES[name]))


def _stripped(column: sa.Column[str]) -> sa.Function[str]:
    return sa.func.trim(column, _WHITE_SPACE, type_=sa.Text)


def _id(key: str) -> int:
    """The row's id; one that no row has where the key is none of ours."""
    number = int(key) if re.fullmatch("[0-9]{1,19}", key) else -1
    return number if number <= _LARGEST_ID else -1


def _cells(values: Mapping[str, Value]) -> dict[str, Value]:
    """Cells by column; None empties one, whatever its type."""
    cells = {_COLUMN_NAMES[name]: value for name, value in values.items()}
    return {name: _empty(CREDENTIALS.c[name]) if value is None else value for name, value in cells.items()}


def _empty(column: sa.Column[Any]) -> Value:
    if column.nullable:
        return None
    return 0 if isinstance(column.type, sa.Integer) else ""


_IS_ROW = CREDENTIALS.c.id == sa.bindparam("row_id", type_=sa.Integer)
_UNCLAIMED: dict[str, Any] = {"claim_owner": None, "claimed_at": None}


def _what_stands(change: Change, generation: int | None, found: Mapping[Any, Any] | None) -> Written:
    """Why an update met no row: `found` is what the row says now."""
    if found is None:
        return Written.GONE
    # A claim that was given up and taken by nobody since: this very change was written, and its answer lost.
    if generation is not None and found["claim_owner"] is None and found["claim_generation"] == generation:
        return Written.STORED
    verdict = change.judge({name: (found[name] or "").strip() for name in change.guards})
    if verdict is None and change.free_for is not None:
        return Written.BUSY
    return verdict or (Written.CHANGED if generation is None else Written.UNCLAIMED)


@functools.cache
def _update(
    columns: tuple[str, ...], guards: tuple[str, ...], free_for: str | None, *, is_claimed: bool, keeps_claim: bool
) -> sa.Update:
    """The conditional update of these columns; a run has a handful of kinds, and building one costs more than it."""
    owner = CREDENTIALS.c.claim_owner
    conditions = [_stripped(CREDENTIALS.c[name]) == sa.bindparam(f"seen_{name}", type_=sa.Text) for name in guards]
    if is_claimed:
        conditions.append(owner == sa.bindparam("owner", type_=sa.Text))
        conditions.append(CREDENTIALS.c.claim_generation == sa.bindparam("generation", type_=sa.Integer))
    if free_for is not None:
        conditions.append(sa.or_(owner.is_(None), _begins(free_for)) if free_for else owner.is_(None))
    cells: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=CREDENTIALS.c[name].type) for name in columns}
    if is_claimed and not keeps_claim:
        cells |= _UNCLAIMED
    return sa.update(CREDENTIALS).where(_IS_ROW, *conditions).values(cells)


def _is_free(claimant: Claimant) -> sa.ColumnElement[bool]:
    """A row that nobody has, or a dead process of this one's slot."""
    owner = CREDENTIALS.c.claim_owner
    free = [owner.is_(None), sa.and_(_begins(claimant.of_slot(claimant.slot)), owner != claimant.owner)]
    if claimant.takes_over:
        free.append(sa.not_(_begins(claimant.of_host)))
    return sa.or_(*free)


def _begins(prefix: str) -> sa.ColumnElement[bool]:
    return CREDENTIALS.c.claim_owner.startswith(prefix, autoescape=True)


def _unavailable(error: SQLAlchemyError) -> StoreUnavailableError:
    # The driver's own words: "database is locked", "disk I/O error". SQLAlchemy's would quote the statement.
    said = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
    return StoreUnavailableError(f"the database cannot be used ({said})", "Check the disk and who else has it open.")
