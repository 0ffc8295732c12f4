"""`import`: what was exported comes back as it was, once, and never over something newer."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import crypto
from tests.callers import log_in, manager_of
from tests.commands.test_verify import LATER, new_key, older_form, rows, store_folder
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, AirtableRows, Rows, SqliteRows, table_of
from tests.world.airtable import AirtableServer, faults
from tests.world.oauth import faults as oauth_faults
from tests.world.program import Result
from token_refresh.journal.lock import run_lock
from token_refresh.stores.base import Row

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture
LOCATIONS = ("a", "=b", "c d")


def exported(rows: Rows, form: str = "json") -> str:
    """An export of the table; returns the file's name."""
    path = rows.world.program.home / f"export.{form}"
    result = rows.world.program.run("export", "--format", form, "--output", str(path))
    assert result.code == 0, result.err
    return str(path)


def imported(rows: Rows, file: str, *argv: str) -> tuple[Result, dict[str, str]]:
    """What `import --json` did to each row."""
    result = rows.world.program.run("import", file, "--json", *argv)
    return result, outcomes(result)


def outcomes(result: Result) -> dict[str, str]:
    return {one["location_id"] or one["row"]: one["outcome"] for one in result.json().get("results", ())}


def fill(rows: Rows) -> dict[str, Row]:
    """Some rows; what they are."""
    for location in LOCATIONS:
        access = rows.world.seal(location, "last_access_token", "access")
        rows.add("acme", location, LATER, last_access_token=access, last_error="-1", failure_count=2)
    return {location: rows.row(location) for location in LOCATIONS}


def edited(file: str, location: str, **cells: Any) -> str:
    """The JSON export with other cells in one row."""
    content = json.loads(Path(file).read_text())
    for row in content["rows"]:
        if row["locationId"] == location:
            row.update(cells)
    Path(file).write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_empty_table_gets_the_same_rows_and_a_second_import_changes_nothing(rows: Rows, form: str) -> None:
    before = fill(rows)
    file = exported(rows, form)
    for location in LOCATIONS:
        rows.remove(location)
    result, done = imported(rows, file, "--yes")
    assert (result.code, set(done.values()), len(done)) == (0, {"created"}, 3)
    after = {location: rows.row(location) for location in LOCATIONS}
    assert {name: replace(row, key="", last_access_token="access") for name, row in after.items()} == {
        name: replace(row, key="", last_access_token="access") for name, row in before.items()
    }
    # Which automations read at Airtable.
    cells = [row.last_access_token for row in after.values()]
    assert {cell == "access" for cell in cells} == {isinstance(rows, AirtableRows)}
    assert {rows.access(location) for location in LOCATIONS} == {"access"}
    result, done = imported(rows, file, "--yes")
    assert (result.code, set(done.values())) == (0, {"unchanged"})
    assert {location: rows.row(location) for location in LOCATIONS} == after
    assert set(rows.world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}
    assert all(rows.is_current(location) for location in LOCATIONS)


@pytest.mark.parametrize("other", DATABASES)
def test_a_backup_goes_from_one_kind_of_store_to_the_other(
    airtable_world: World, request: pytest.FixtureRequest, other: str
) -> None:
    rows = AirtableRows(airtable_world)
    rows.add("acme", "a", LATER, last_access_token="in the clear")
    file = exported(rows)
    for name in ("AIRTABLE_API_KEY", "AIRTABLE_BASE_ID", "AIRTABLE_ENDPOINT_URL"):
        del airtable_world.program.settings[name]
    there = table_of(other, request)
    assert imported(there, file, "--yes")[1] == {"a": "created"}
    # Without its access token the row is due at once.
    assert (there.row("a").access_token_expiry, there.row("a").last_access_token) == (None, "")
    assert airtable_world.program.run("--json").outcomes() == {"a": "refreshed"}


def test_without_a_yes_it_stays_at_the_plan(rows: Rows) -> None:
    fill(rows)
    file = exported(rows)
    rows.remove("a")
    rows.edit("=b", client_id="another")
    result, plan = imported(rows, file)
    assert (result.code, result.json()["dry_run"]) == (0, True)
    assert plan == {"a": "created", "=b": "kept", "c d": "unchanged"}
    assert "--yes" in result.err
    with pytest.raises(ValueError, match="unpack"):
        rows.row("a")
    assert "client_id" in rows.world.program.run("import", file).out


def test_an_older_backup_does_not_overwrite_a_newer_token_unless_asked_to(rows: Rows) -> None:
    fill(rows)
    file = exported(rows)
    old = rows.row("a")
    assert rows.world.program.run("--all").code == 0
    newer = rows.row("a")
    result, done = imported(rows, file, "--yes")
    assert (result.code, set(done.values())) == (0, {"kept"})
    assert "may be newer" in json.dumps(result.json())
    assert rows.row("a") == newer
    result, done = imported(rows, file, "--yes", "--replace")
    assert (result.code, set(done.values())) == (0, {"replaced"})
    assert replace(rows.row("a"), last_access_token="access") == replace(old, last_access_token="access")
    # The journal knows the token for spent: it is not sent to a provider that would revoke the grant for it.
    sent = len(rows.world.oauth.requests)
    assert rows.world.program.run("--all", "--json").outcomes()["a"] == "operator"
    assert len(rows.world.oauth.requests) == sent


def test_an_access_token_that_somebody_wrote_into_an_export_is_not_believed(rows: Rows) -> None:
    fill(rows)
    file = edited(exported(rows), "a", last_access_token="in the clear")
    rows.remove("a")
    assert imported(rows, file, "--yes")[1]["a"] == "created"
    assert (rows.row("a").last_access_token, rows.row("a").access_token_expiry) == ("", None)


@pytest.mark.parametrize("flag", ["--allow-host", "--redirect-uri"])
def test_a_flag_of_the_layouts_is_no_flag_of_an_export(rows: Rows, flag: str) -> None:
    fill(rows)
    result = rows.world.program.run("import", exported(rows), flag, "acme.example", "--yes")
    assert result.code == 2
    assert "--layout" in result.err


def test_cells_that_were_re_encrypted_since_are_no_difference(rows: Rows) -> None:
    """A backup of before a rotation holds what the table holds."""
    fill(rows)
    file = exported(rows)
    new_key(rows.world)
    assert rows.world.program.run("rotate-key").code == 0
    assert set(imported(rows, file, "--yes")[1].values()) == {"unchanged"}


@pytest.mark.parametrize("rows", DATABASES, indirect=True)
def test_a_row_that_is_being_refreshed_is_not_replaced(rows: Rows) -> None:
    fill(rows)
    file = exported(rows)
    rows.edit("a", client_id="another", claim_owner="host/1/run")
    before = rows.row("a")
    assert imported(rows, file, "--yes", "--replace")[1]["a"] == "refused"
    assert rows.row("a") == before


def test_a_refresh_that_left_the_credential_alone_is_no_difference(rows: Rows) -> None:
    rows.add("acme-never", "a", LATER)
    file = exported(rows)
    assert rows.world.program.run("--all").code == 0
    assert imported(rows, file, "--yes")[1] == {"a": "unchanged"}
    assert rows.row("a").last_access_token


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"locationId": "elsewhere"}, "encrypted_refresh"),
        ({"provider": "nobody"}, "nobody"),
        ({"provider_params": "{"}, "provider_params"),
        ({"encrypted_secret": "sealed:v1:nonsense"}, "encrypted_secret"),
        ({"last_access_token": "sealed:v1:nonsense"}, "last_access_token"),
        ({"locationId": ""}, "locationId"),
        ({"access_token_expiry": "soon"}, "access_token_expiry"),
        ({"failure_count": "many"}, "failure_count"),
        ({"client_id": ["a"]}, "no row"),
        ({"extra": "x"}, "not known"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_alone(world: World, cells: Mapping[str, Any], reason: str) -> None:
    rows = SqliteRows(world)
    fill(rows)
    file = edited(exported(rows), "a", **cells)
    for location in LOCATIONS:
        rows.remove(location)
    result, done = imported(rows, file, "--yes")
    assert result.code == 1
    assert sorted(done.values()) == ["created", "created", "refused"]
    [refused] = [one for one in result.json()["results"] if one["outcome"] == "refused"]
    assert reason in refused["error"]
    assert refused["action"]
    assert sorted(world.rows()) == ["=b", "c d"]


def test_cells_of_an_unknown_key_are_refused_and_of_a_fallback_taken_as_they_are(rows: Rows) -> None:
    before = fill(rows)
    file = exported(rows)
    old = new_key(rows.world, keep=False)
    for location in LOCATIONS:
        rows.remove(location)
    wrong = rows.world.program.run("import", file, "--yes")
    assert wrong.code == 2
    assert "decrypts no value of the 3 rows" in wrong.err
    rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = old
    assert set(imported(rows, file, "--yes")[1].values()) == {"created"}
    assert rows.row("a").encrypted_refresh == before["a"].encrypted_refresh


def test_one_row_of_an_unknown_key_is_refused_alone(world: World) -> None:
    rows = SqliteRows(world)
    fill(rows)
    file = exported(rows)
    foreign = crypto.Keyring(crypto.parse_key(crypto.generate_key()))
    cell = foreign.seal("token", crypto.Context("encrypted_refresh", "a", world.oauth.url))
    edited(file, "a", encrypted_refresh=cell)
    for location in LOCATIONS:
        rows.remove(location)
    result, done = imported(rows, file, "--yes")
    assert (result.code, done["a"], done["=b"]) == (1, "refused", "created")
    assert foreign.key_id in result.out


def test_an_older_form_is_taken_only_where_the_host_is_fixed(rows: Rows) -> None:
    host = rows.world.oauth.url.partition("://")[2]
    old = older_form(rows.world, "token")
    rows.add("acme", "fixed", LATER, encrypted_refresh=old)
    rows.add(
        "acme-instance", "own", LATER, encrypted_refresh=older_form(rows.world, "other"),
        provider_params=json.dumps({"instance": host}),
    )  # fmt: skip
    file = exported(rows)
    rows.remove("fixed")
    rows.remove("own")
    assert imported(rows, file, "--yes")[1] == {"fixed": "created", "own": "refused"}
    assert rows.row("fixed").encrypted_refresh == old


def test_double_rows_are_refused(rows: Rows) -> None:
    fill(rows)
    file = exported(rows)
    content = json.loads(Path(file).read_text())
    content["rows"].append(content["rows"][0])
    Path(file).write_text(json.dumps(content))
    for location in LOCATIONS:
        rows.remove(location)
    result = rows.world.program.run("import", file, "--yes", "--json")
    steps = sorted(one["outcome"] for one in result.json()["results"])
    assert steps == ["created", "created", "refused", "refused"]


def test_a_refresh_cell_that_another_row_holds_is_refused(rows: Rows) -> None:
    old = older_form(rows.world, "token")
    rows.add("acme", "a", LATER, encrypted_refresh=old)
    file = exported(rows)
    edited(file, "a", locationId="b", encrypted_secret="")
    result, done = imported(rows, file, "--yes")
    assert (result.code, done) == (1, {"b": "refused"})
    assert "'a'" in result.json()["results"][0]["error"]


def test_a_table_without_the_column_that_a_row_needs_refuses_it(
    airtable_world: World, airtable: AirtableServer
) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    file = exported(rows)
    airtable.six_column_table("Six")
    airtable_world.program.settings["AIRTABLE_TABLE_NAME"] = "Six"
    result, done = imported(rows, file, "--yes")
    assert (result.code, set(done.values())) == (1, {"refused"})
    assert "no column provider" in result.json()["results"][0]["error"]
    airtable_world.program.settings["DEFAULT_PROVIDER"] = "acme"
    assert set(imported(rows, file, "--yes")[1].values()) == {"created"}


def test_the_table_has_the_row_twice(airtable_world: World) -> None:
    rows = AirtableRows(airtable_world)
    rows.add("acme", "a", LATER)
    file = exported(rows)
    rows.add("acme", "a", LATER)
    assert imported(rows, file, "--yes", "--replace")[1] == {"a": "refused"}


def test_a_store_that_fails_half_way_is_reported_and_the_next_import_goes_on(
    airtable_world: World, airtable: AirtableServer
) -> None:
    """The answer to the second batch is lost: nobody may create those rows twice."""
    rows = AirtableRows(airtable_world)
    locations = [f"loc {number}" for number in range(25)]
    for location in locations:
        rows.add("acme", location, LATER)
    file = exported(rows)
    for location in locations:
        rows.remove(location)
    airtable.inject(faults.unacknowledged(), kind="create", nth=2)
    failed = airtable_world.program.run("import", file, "--yes")
    assert failed.code == 3
    assert "stored: 10 of 25 rows" in failed.err
    calls = len(airtable.requests)
    assert sorted(imported(rows, file, "--yes")[1].values()) == ["created"] * 5 + ["unchanged"] * 20
    assert len(airtable.requests) - calls <= 3
    assert len(airtable_world.table.records()) == 25


def test_a_row_that_the_store_refuses_is_refused_alone(airtable_world: World, airtable: AirtableServer) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    file = exported(rows)
    for location in LOCATIONS:
        rows.remove(location)
    airtable.inject(
        faults.unprocessable(message="no such luck"), kind="create", times=None,
        when=lambda request: b'"c d"' in request.body,
    )  # fmt: skip
    result, done = imported(rows, file, "--yes")
    assert (result.code, done) == (1, {"a": "created", "=b": "created", "c d": "refused"})
    assert all(one["error"] and one["action"] for one in result.json()["results"] if one["outcome"] == "refused")
    rows.edit("a", client_id="another")
    airtable.inject(faults.unprocessable(message="no such luck"), kind="update", times=None)
    result, done = imported(rows, file, "--yes", "--replace")
    assert (result.code, done["a"]) == (1, "refused")
    assert AirtableRows(airtable_world).row("a").client_id == "another"


def test_another_run_is_waited_for_and_then_reported(airtable_world: World) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    file = exported(rows)
    rows.remove("a")
    with run_lock(store_folder(airtable_world), airtable_world.clock):
        assert airtable_world.program.run("import", file).code == 0  # a look needs no lock
        assert airtable_world.program.run("import", file, "--yes").code == 75
    assert airtable_world.clock.slept >= 120  # longer than a run of cron's usually takes
    assert imported(rows, file, "--yes")[1]["a"] == "created"


@pytest.mark.parametrize(
    ("answer", "there"), [("y", True), pytest.param("n", False, marks=pytest.mark.long), ("", False)]
)
def test_at_a_terminal_the_plan_is_shown_and_a_yes_asked_for(world: World, answer: str, there: bool) -> None:
    rows = SqliteRows(world)
    fill(rows)
    file = exported(rows)
    rows.remove("a")
    with world.program.at_terminal("import", file) as terminal:
        terminal.expect("Create 1 row and replace 0?")
        terminal.type(answer + "\r")
        assert terminal.end() == 0
    assert ("a" in world.rows()) is there


def test_a_row_that_is_changed_while_the_question_stands_is_left(world: World) -> None:
    rows = SqliteRows(world)
    fill(rows)
    file = exported(rows)
    for location in ("a", "=b"):
        rows.edit(location, client_id="second")
    with world.program.at_terminal("import", file, "--replace") as terminal:
        terminal.expect("Create 0 rows and replace 2?")
        rows.edit("a", client_id="third")
        terminal.type("y\r")
        assert terminal.end() == 0
    assert (rows.row("a").client_id, rows.row("=b").client_id) == ("third", "app-acme")


def test_a_replacement_that_the_store_does_not_confirm_is_reported(
    airtable_world: World, airtable: AirtableServer
) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    file = exported(rows)
    rows.edit("a", client_id="another")
    airtable.inject(faults.status(503), kind="update", times=None)
    assert airtable_world.program.run("import", file, "--yes", "--replace").code == 3
    airtable.faults.clear()
    assert imported(rows, file, "--yes", "--replace")[1]["a"] == "replaced"


# From a database to Airtable


def test_what_airtable_has_no_column_for_is_named(world: World, request: pytest.FixtureRequest) -> None:
    log_in(world, manager_of(world), username="tom", id_token="an.id.token", token_type="Bearer")
    file = exported(SqliteRows(world))
    airtable = AirtableRows(request.getfixturevalue("airtable_world"))
    result, done = imported(airtable, file, "--yes")
    assert (result.code, done) == (0, {"loc1": "created"})
    assert "left behind: token_type (1 row), id_token (1 row), username (1 row), connected_at (1 row)" in result.err
    assert airtable.is_current("loc1")


def test_details_come_back_into_a_database(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager, username="tom", id_token="an.id.token", scope="mail")
    before = SqliteRows(world).row("loc1")
    file = exported(SqliteRows(world), "csv")
    manager.close()
    for path in (world.program.home / "state").glob("tokens.sqlite3*"):
        path.unlink()
    assert imported(SqliteRows(world), file, "--yes")[1] == {"loc1": "created"}
    assert SqliteRows(world).row("loc1") == before
    assert "left behind" not in world.program.run("verify").err


def test_clients_in_a_database_that_is_used_no_more_are_named(world: World, request: pytest.FixtureRequest) -> None:
    """Whoever sets the keys of Airtable beside them would leave them behind without a word."""
    manager = manager_of(world)
    log_in(world, manager, "one")
    log_in(world, manager, "two")
    assert "clients are in " not in world.program.run("status").err
    airtable = AirtableRows(request.getfixturevalue("airtable_world"))
    told = world.program.run("status").err
    assert "2 clients are in " in told
    assert "TOKEN_STORE=database DATABASE_URL=sqlite:///" in told
    place = {"TOKEN_STORE": "database", "DATABASE_URL": SqliteRows(world).address()}
    file = exported(SqliteRows(replace(world, program=replace(world.program, settings=world.program.settings | place))))
    assert set(imported(airtable, file, "--yes")[1].values()) == {"created"}
    (world.program.home / "state/tokens.sqlite3").rename(world.program.home / "state/moved.sqlite3")
    assert "clients are in " not in world.program.run("status").err


@pytest.mark.parametrize("spelling", ["the default", "another", "through a link"])
def test_the_database_that_is_used_is_not_taken_for_one_that_was_left_however_its_folder_is_called(
    world: World, spelling: str
) -> None:
    state = world.program.home / "tokens of 100 % of my clients"
    world.program.settings["STATE_DIR"] = str(state)
    log_in(world, manager_of(world), "one")
    if spelling == "another":
        world.program.settings["DATABASE_URL"] = (
            f"sqlite:///{quote(str(state.parent))}/./{quote(state.name)}/tokens.sqlite3"
        )
    elif spelling == "through a link":
        (world.program.home / "link").symlink_to(state)
        world.program.settings["DATABASE_URL"] = f"sqlite:///{world.program.home}/link/tokens.sqlite3"
    result = world.program.run("status")
    assert (result.code, "client is in " in result.err, "one" in result.out) == (0, False, True)


def test_clients_in_the_default_file_are_named_where_the_settings_name_a_new_one(world: World) -> None:
    log_in(world, manager_of(world), "one")
    world.program.settings["DATABASE_URL"] = f"sqlite:///{world.program.home}/new.sqlite3"
    assert "1 client is in " in world.program.run("status").err


def test_the_address_of_a_database_that_is_used_no_more_can_be_copied(postgres_world: World) -> None:
    state = postgres_world.program.home / "tokens of 100 % of my clients"
    embedded = {"TOKEN_STORE": "database", "DATABASE_URL": f"sqlite:///{quote(str(state))}/tokens.sqlite3"}
    postgres_world.program.settings["STATE_DIR"] = str(state)
    own = dict(postgres_world.program.settings)
    postgres_world.program.settings |= embedded
    log_in(postgres_world, manager_of(postgres_world), "one")
    postgres_world.program.settings.clear()
    postgres_world.program.settings |= own
    told = postgres_world.program.run("status").err
    assert f"1 client is in {state}/tokens.sqlite3; " in told
    assert f" DATABASE_URL={embedded['DATABASE_URL']} set for " in told


def test_a_broken_database_that_is_used_no_more_concerns_nobody(postgres_world: World) -> None:
    (postgres_world.program.home / "state").mkdir(mode=0o700, exist_ok=True)
    (postgres_world.program.home / "state/tokens.sqlite3").write_text("no database")
    result = postgres_world.program.run("status")
    assert (result.code, "tokens.sqlite3" in result.err) == (0, False)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_an_export_that_a_spreadsheet_saved_comes_back(rows: Rows, separator: str) -> None:
    before = fill(rows)
    file = Path(exported(rows, "csv"))
    lines = list(csv.reader(file.read_text().splitlines()))
    with file.open("w", newline="") as stream:
        csv.writer(stream, delimiter=separator).writerows(lines)
    for location in before:
        rows.remove(location)
    assert set(imported(rows, str(file), "--yes")[1].values()) == {"created"}
    assert {location: rows.row(location).encrypted_refresh for location in before} == {
        location: row.encrypted_refresh for location, row in before.items()
    }


def test_a_line_with_a_cell_too_many_is_named_by_its_client(rows: Rows) -> None:
    fill(rows)
    file = Path(exported(rows, "csv"))
    head, first, *others = file.read_text().splitlines()
    file.write_text("\n".join([head, f'{first},"more"', *others]) + "\n")
    result, _ = imported(rows, str(file))
    [bad] = [one for one in result.json()["results"] if one["outcome"] == "refused"]
    assert bad["location_id"] in LOCATIONS


def test_no_row_is_imported_while_a_newer_credential_of_it_waits_in_the_journal(rows: Rows) -> None:
    """The row was emptied, and its onboarding cut off: the older one of the backup would win."""
    world = rows.world
    rows.add("acme", "a")
    file = exported(rows)
    rows.edit("a", encrypted_refresh="", encrypted_secret="")
    world.oauth.fail(oauth_faults.reset(), times=9)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "a")), "--replace")
    world.oauth.behave()
    result, done = imported(rows, file, "--yes", "--replace")
    assert (result.code, done) == (1, {"a": "refused"})
    assert "a newer credential of it waits in the journal" in result.out
    world.clock.advance(200)
    assert "brought to an end: refreshed" in world.program.run().err
    assert rows.is_current("a")
