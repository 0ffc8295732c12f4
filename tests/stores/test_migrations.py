"""Tables of every earlier version are brought up to this one's, in both databases alike, with what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from tests.stores.versions import make_sqlite
from tests.world.clock import START, FakeClock
from tests.world.postgres import PostgresServer
from token_refresh.stores.base import Change
from token_refresh.stores.database import SCHEMA_VERSION, DatabaseStore, postgres

EARLIER = range(1, SCHEMA_VERSION)
STATUS_RULES = 6  # the first version in which `is_active` follows the status
ROW = {"location_id": "loc", "provider": "google", "encrypted_refresh": "cell", "id_token": "sealed"}


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    """A database with nothing in it."""
    address = postgres.database("template0")
    yield address
    postgres.drop(address)


def sqlite_of(version: int, folder: Path) -> str:
    """A file of that version with a row; its address."""
    file = folder / f"{version}.sqlite3"
    make_sqlite(file, version, *([ROW] if version else []))
    return f"sqlite:///{file}"


def postgres_of(version: int, address: str) -> str:
    """The empty database made that version's, with a row."""
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        if version:
            config = Config(attributes={"connection": connection, "version_table": postgres.VERSION_TABLE})
            config.set_main_option("script_location", str(postgres.MIGRATIONS))
            config.set_main_option("path_separator", "os")
            command.upgrade(config, f"{version:04}")
            marks = ", ".join(f":{name}" for name in ROW)
            connection.execute(sa.text(f"INSERT INTO credentials ({', '.join(ROW)}) VALUES ({marks})"), ROW)
    engine.dispose()
    return address


@pytest.mark.by_turns("kind")
@pytest.mark.parametrize("version", EARLIER)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_earlier_version_is_brought_up_with_its_rows(kind: str, version: int, tmp_path: Path, empty: str) -> None:
    address = sqlite_of(version, tmp_path) if kind == "sqlite" else postgres_of(version, empty)
    with closing(DatabaseStore(address, FakeClock())) as store:
        [row] = store.rows()
        assert (row.location_id, row.provider, row.encrypted_refresh, row.status) == ("loc", "google", "cell", "active")
        with store._engine.begin() as connection:
            assert store._backend.version(connection) == SCHEMA_VERSION
            assert connection.exec_driver_sql("SELECT id_token FROM credentials").scalar_one() == "sealed"
    with closing(DatabaseStore(address, FakeClock())) as store:
        assert len(list(store.rows())) == 1
        store.write([Change(row.key, "cell", {"username": "tom", "connected_at": START, "previous_refresh": "before"})])
        [row] = store.rows(complete=True)
        assert (row.username, row.connected_at, row.previous_refresh) == ("tom", START, "before")


@pytest.mark.parametrize("version", range(1, STATUS_RULES))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_an_earlier_version_had_disabled_is_not_active(
    kind: str, version: int, tmp_path: Path, empty: str
) -> None:
    address = sqlite_of(version, tmp_path) if kind == "sqlite" else postgres_of(version, empty)
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE credentials SET status = 'disabled'")
    engine.dispose()
    with closing(DatabaseStore(address, FakeClock())) as store, store._engine.begin() as connection:
        assert not connection.exec_driver_sql("SELECT is_active FROM credentials").scalar_one()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")  # of the index of an expression
@pytest.mark.by_turns("version")
@pytest.mark.parametrize("version", [0, *EARLIER])
def test_both_databases_have_the_same_tables_whatever_they_began_with(version: int, tmp_path: Path, empty: str) -> None:
    sqlite, on_postgres = described(sqlite_of(version, tmp_path)), described(postgres_of(version, empty))
    history = {name for name in on_postgres if name.startswith("history_")}  # of SQLite in a file of its own
    assert history == {"history_runs", "history_days", "history_counts"}
    assert sqlite == {name: table for name, table in on_postgres.items() if name not in history}
    assert set(sqlite) == {
        *("credentials", "notes", "provider_pauses", "store_identity"),
        *("api_keys", "links", "pending_logins"),
    }


def described(address: str) -> dict[str, Any]:
    """The tables as they are after a start, in words that fit both databases."""
    with closing(DatabaseStore(address, FakeClock())) as store:
        look = sa.inspect(store._engine)
        return {
            table: {
                "columns": [column_of(column) for column in look.get_columns(table)],
                "key": look.get_pk_constraint(table)["constrained_columns"],
                "unique": [one["column_names"] for one in look.get_unique_constraints(table)],
                "indexes": sorted(
                    (str(one["name"]), one["column_names"])
                    for one in look.get_indexes(table)
                    # Those of an expression are not reflected alike; PostgreSQL lists that of a constraint as well.
                    if not one["unique"] and one["name"] not in ("ix_credentials_unreadable", "ix_credentials_location")
                ),
            }
            for table in look.get_table_names()
            if table != postgres.VERSION_TABLE
        }


def column_of(column: Any) -> tuple[str, str, bool, str]:
    """Name, kind, whether it may be empty, and what a new row has there."""
    kinds = {"BIGINT": "INTEGER", "TIMESTAMP": "TIME", "VARCHAR": "TIME"}
    kind = str(column["type"]).partition("(")[0].partition(" ")[0]
    default = str(column["default"] or "").partition("::")[0].strip("'")
    default = {"1": "true", "false": "0"}.get(default, default) if kind == "BOOLEAN" else default
    is_id = column["name"] == "id"  # counted by a sequence in the one, by itself in the other
    return column["name"], kinds.get(kind, kind), column["nullable"], "" if is_id else default


def test_a_row_in_any_state_survives(tmp_path: Path) -> None:
    """`now` in a cell is no time for an index to evaluate."""
    address = sqlite_of(2, tmp_path)
    with closing(sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)) as shell:
        for word in ("now", "2031-02-30T00:00:00.000Z", "", "2026-03-01T12:00:00.000Z"):
            shell.execute("INSERT INTO credentials (location_id, access_token_expiry) VALUES (?, ?)", [word, word])
    with closing(DatabaseStore(address, FakeClock())) as store:
        assert {row.location_id for row in store.rows() if row.access_token_expiry == START} == {
            "2026-03-01T12:00:00.000Z"
        }
        assert len(list(store.rows())) == 5
