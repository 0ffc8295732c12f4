"""`setup` as a new user meets it: an empty base, a half-made table, a token that may not change anything."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import PostgresRows
from tests.world.airtable import AirtableServer, columns
from tests.world.postgres import PostgresServer, plain
from token_refresh.base.columns import COLUMN_NAMES, OPTIONAL_COLUMNS
from token_refresh.journal.lock import run_lock

ALL = set(COLUMN_NAMES)


@pytest.fixture
def base(world: World, airtable: AirtableServer) -> World:
    """The program pointed at a base without the table."""
    world.airtable = airtable
    world.program.settings |= {
        "AIRTABLE_API_KEY": airtable.token,
        "AIRTABLE_BASE_ID": airtable.base_id,
        "AIRTABLE_ENDPOINT_URL": airtable.url,
    }
    return world


def _names(world: World) -> set[str]:
    assert world.airtable is not None
    return {column["name"] for column in world.airtable.table("APISecrets").schema()["fields"]}


def test_an_empty_base_gets_a_table_that_a_refresh_can_use(base: World) -> None:
    made = base.program.run("setup")
    assert (made.code, "the table APISecrets was made" in made.err) == (0, True)
    assert _names(base) == ALL
    line = base.csv_line("google", "loc")
    assert base.program.onboard("--from-csv", base.program.csv(line)).code == 0
    assert base.program.run("--all", "--json").outcomes() == {"loc": "refreshed"}


def test_missing_columns_are_added_and_a_second_time_nothing_is(base: World) -> None:
    assert base.airtable is not None
    base.airtable.six_column_table()
    made = base.program.run("setup", "--json")
    assert made.json()["made"] == [f"the column {name} was made" for name in OPTIONAL_COLUMNS]
    assert _names(base) == ALL
    assert base.program.run("setup", "--json").json()["made"] == []


def test_the_id_column_may_have_another_name(base: World) -> None:
    base.program.settings["AIRTABLE_ID_FIELD"] = "client"
    assert base.program.run("setup").code == 0
    assert _names(base) == ALL - {"locationId"} | {"client"}


def test_new_columns_are_used_at_once(base: World) -> None:
    """What was known of the table for a day is forgotten."""
    assert base.airtable is not None
    table = base.airtable.six_column_table()
    cells = base.cells("gohighlevel", "loc")
    del cells["provider"]
    record = table.add(cells)
    assert base.program.run().code == 0
    assert base.program.run("setup").code == 0
    assert base.program.run("--all").code == 0
    assert table.cell(record, "refreshed_by")


def test_where_a_token_may_not_change_the_schema_it_says_what_to_click(base: World) -> None:
    assert base.airtable is not None
    base.airtable.six_column_table()
    scopes = ("data.records:read", "data.records:write", "schema.bases:read")
    base.airtable.add_token("pat-reader", scopes=scopes)
    base.program.settings["AIRTABLE_API_KEY"] = "pat-reader"
    refused = base.program.run("setup")
    assert refused.code == 2
    for words in ("schema.bases:write", "provider (single line text)", "last_refreshed (date with time, in UTC)"):
        assert words in refused.err


def test_that_a_token_may_not_see_the_schema_is_reported(base: World) -> None:
    assert base.airtable is not None
    base.airtable.six_column_table()
    base.airtable.add_token("pat-blind", scopes=("data.records:read", "data.records:write"))
    base.program.settings["AIRTABLE_API_KEY"] = "pat-blind"
    refused = base.program.run("setup")
    assert refused.code == 2
    assert "schema.bases:read" in refused.err
    assert "encrypted_refresh (long text without rich text)" in refused.err


def test_a_column_of_the_wrong_type_is_named_with_its_fix(base: World) -> None:
    assert base.airtable is not None
    base.airtable.credentials_table(instead=[columns.rich_text("encrypted_refresh")])
    refused = base.program.run("setup")
    assert refused.code == 2
    assert "encrypted_refresh has the type richText" in refused.err
    assert "without rich text" in refused.err


def test_no_column_is_made_while_a_run_is_active(base: World) -> None:
    assert base.airtable is not None
    base.airtable.six_column_table()
    assert base.program.run("status").code == 0
    [folder] = {path.parent for path in base.program.home.glob("state/*/columns-*.json")}
    with run_lock(folder, base.clock):
        assert base.program.run("setup").code == 75
    assert base.program.run("setup", "--json").json()["made"]


def test_an_empty_embedded_database_gets_its_table_once(world: World) -> None:
    assert_made_once(world)


def test_an_empty_postgresql_gets_its_table_once(world: World, postgres: PostgresServer) -> None:
    address = postgres.database("template0")
    world.program.settings["DATABASE_URL"] = plain(address)
    assert_made_once(world)
    rows = PostgresRows(world)
    rows.add("acme", "loc")
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")
    postgres.drop(address)


def assert_made_once(world: World) -> None:
    done = world.program.run("setup", "--json")
    assert (done.code, done.json()) == (0, {"store": "database", "made": ["the table credentials was made"]})
    again = world.program.run("setup", "--json")
    assert (again.code, again.json()) == (0, {"store": "database", "made": []})
    assert "the table was complete already" in again.err


def test_that_a_postgresql_user_may_make_no_table_is_reported(world: World, postgres: PostgresServer) -> None:
    address = postgres.database("template0")
    with closing(postgres.connect(address)) as shell:
        shell.execute("DROP ROLE IF EXISTS onlooker; CREATE ROLE onlooker LOGIN")
    world.program.settings["DATABASE_URL"] = plain(address).replace("postgres:@", "onlooker@")
    refused = world.program.run("setup")
    assert refused.code == 2
    assert "permission denied for schema public" in refused.err
    assert "GRANT USAGE, CREATE ON SCHEMA public TO onlooker;" in refused.err
    postgres.drop(address)
