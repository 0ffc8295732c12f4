"""The same from PostgreSQL, with the tables exactly as their documents define them: UUID, JSON, times with a zone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from tests.transfer import sources
from tests.transfer.sources import HOUR, Earlier
from tests.transfer.test_layouts import DATABASES, SCOPES, all_rows, check_scopes, check_whole_way, imported
from tests.world.clock import START
from tests.world.postgres import PostgresServer, name_of, plain
from token_refresh.transfer.source_database import SourceDatabase

_AS_DOCUMENTED = {
    "id UUID PRIMARY KEY,": "id UUID PRIMARY KEY DEFAULT gen_random_uuid(),",
    "INTEGER PRIMARY KEY AUTOINCREMENT": "SERIAL PRIMARY KEY",
    "    id INTEGER PRIMARY KEY": "    id SERIAL PRIMARY KEY",
    "DEFAULT CURRENT_TIMESTAMP": "DEFAULT NOW()",
}


class OnPostgres(Earlier):
    """See `Earlier`. `address` is the database's."""

    server: Any = None
    address = ""

    def make(self, ddl: str) -> None:
        for here, there in _AS_DOCUMENTED.items():
            ddl = ddl.replace(here, there)
        with self.server.connect(self.address) as connection:
            connection.execute(ddl)
        self.name = plain(self.address)

    def insert(self, table: str, **values: Any) -> None:
        if table == "user_tokens":
            del values["id"]  # the database makes one
        marks = ", ".join(["%s"] * len(values))
        with self.server.connect(self.address) as connection:
            connection.execute("SET TIME ZONE 'UTC'")
            connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))


@pytest.fixture
def place(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of its own, which the makers of tables then use."""
    address = postgres.database("template0")
    monkeypatch.setattr(OnPostgres, "server", postgres)
    monkeypatch.setattr(OnPostgres, "address", address)
    monkeypatch.setattr(sources, "Earlier", OnPostgres)
    yield address
    postgres.drop(address)


@pytest.mark.by_turns("make")
@pytest.mark.parametrize("make", DATABASES)
def test_what_postgresql_holds_comes_over_once_and_refreshes(
    world: World, place: str, make: Callable[[World], Earlier]
) -> None:
    check_whole_way(make(world), SqliteRows(world))


@pytest.mark.parametrize("make", [sources.user_tokens, sources.git_connections, sources.clients_and_tokens])
def test_a_time_with_a_zone_is_kept(world: World, place: str, make: Callable[[World], Earlier]) -> None:
    earlier = make(world)
    imported(earlier, "--yes")
    ends = {row.access_token_expiry for row in all_rows(SqliteRows(world), earlier).values()}
    assert ends == {START + HOUR}


@pytest.mark.parametrize("end", ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC"])
def test_a_time_that_python_does_not_know_costs_a_refresh_and_nothing_else(world: World, place: str, end: str) -> None:
    earlier = sources.user_tokens(world)
    sources.add_user(earlier, "kim", 3, expires_at=end)
    result, done = imported(earlier, "--yes")
    assert (result.code, set(done.values())) == (0, {"created"}), result.err
    ends = {location: row.access_token_expiry for location, row in all_rows(SqliteRows(world), earlier).items()}
    assert ends == {"tom": START + HOUR, "ann": START + HOUR, "kim": None}


@pytest.mark.parametrize(("scopes", "scope"), SCOPES)
def test_scopes_are_read_however_they_were_kept(world: World, place: str, scopes: str, scope: str | None) -> None:
    check_scopes(sources.git_connections(world), scopes, scope)


def test_times_are_read_whatever_style_the_server_has(world: World, place: str) -> None:
    earlier = sources.clients_and_tokens(world)
    with OnPostgres.server.connect(place) as connection:
        connection.execute(f"ALTER DATABASE {name_of(place)} SET datestyle TO 'German'")
    result, _ = imported(earlier, "--yes")
    assert result.code == 0, result.err
    ends = {row.access_token_expiry for row in all_rows(SqliteRows(world), earlier).values()}
    assert ends == {START + HOUR}


def test_a_source_takes_no_write(place: str) -> None:
    database = SourceDatabase(place)
    with pytest.raises(Exception, match="cannot be read"), database._connected() as connection:
        connection.exec_driver_sql("CREATE TABLE mine (id INTEGER)")
    database.close()


def test_a_server_that_does_not_answer_is_reported(world: World) -> None:
    result = world.program.run("import", "--layout", "git-connections", "postgresql://tom@127.0.0.1:1/x")
    assert result.code == 3
    assert "Connection refused" in result.err
