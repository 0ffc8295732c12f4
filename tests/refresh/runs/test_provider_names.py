"""A provider is meant by any of its names, in whatever spelling: by flags, files, settings, programs, and rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.callers import log_in, manager_of, revocable
from tests.conftest import World
from tests.refresh.runs.faults_world import TABLES, Rows, SqliteRows, table_of

pytestmark = pytest.mark.by_turns("rows")

LISTED = ("gohighlevel", "GoHighLevel", "highlevel", "ghl")  # what the catalogue itself calls it
FREE = ("HighLevel", "GHL", "Go High-Level", " GOHIGHLEVEL ")
HOUR = 3600


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    return table_of(request.param, request)


def add(rows: Rows, *names: str, hours: float | None = None) -> None:
    """A row for each spelling, at a location of that name."""
    expiry = None if hours is None else rows.world.clock.now() + timedelta(hours=hours)
    for name in names:
        cells = rows.world.cells("gohighlevel", name.strip())
        rows.put(cells | {"provider": name, "access_token_expiry": expiry})


def test_a_row_in_any_spelling_is_refreshed_at_its_own_provider_and_keeps_its_cell(rows: Rows) -> None:
    add(rows, *LISTED, *FREE)
    run = rows.world.program.run("--json")
    assert run.outcomes() == {name.strip(): "refreshed" for name in (*LISTED, *FREE)}
    assert {result["provider"] for result in run.json()["results"]} == {"gohighlevel"}
    assert rows.row("GHL").provider == "GHL"
    status = rows.world.program.run("status", "--json").json()
    assert {(row["provider"], row["state"]) for row in status["rows"]} == {("gohighlevel", "valid")}


def test_a_listed_name_is_due_as_early_as_the_slug_and_any_other_before_its_token_ends(rows: Rows) -> None:
    """A day's token is renewed when eight hours are left; the store's filter knows the names of the catalogue."""
    add(rows, *LISTED, *FREE, hours=7)
    assert set(rows.world.program.run("--json").outcomes()) == set(LISTED)
    rows.world.clock.advance(6 * HOUR)  # the last run before their end
    assert rows.world.program.run("--json").outcomes() == {name.strip(): "refreshed" for name in FREE}


def test_the_flag_takes_any_name_and_finds_the_rows_of_listed_names(rows: Rows) -> None:
    add(rows, *LISTED)
    rows.add("google", "other")
    run = rows.world.program.run("--all", "--provider", "High-Level", "--json")
    assert set(run.outcomes()) == set(LISTED)


def test_a_token_of_such_a_row_is_got_and_its_grant_ended_under_any_name(rows: Rows) -> None:
    world = rows.world
    revocable(world)
    rows.put(world.cells("acme", "loc") | {"provider": "A.C.M.E."})
    token = world.program.run("get", "loc", "--provider", "Acme").out.strip()
    assert token == world.oauth.current_access("loc")
    ended = world.program.run("revoke", "loc", "--provider", "ACME", "--yes")
    assert (ended.code, rows.row("loc").encrypted_refresh) == (0, ""), ended.err


def test_rows_of_one_location_that_spell_their_provider_differently_are_one_too_many(rows: Rows) -> None:
    for name in ("ghl", "gohighlevel"):
        rows.put(rows.world.cells("gohighlevel", "loc") | {"provider": name})
    run = rows.world.program.run("--json")
    assert [result["outcome"] for result in run.json()["results"]] == ["operator", "operator"]
    assert "several rows have the same location and provider" in run.json()["results"][0]["error"]
    assert rows.world.oauth.requests == []


def test_a_line_of_a_file_that_names_the_provider_differently_replaces_the_row_that_is_there(world: World) -> None:
    first, second = (world.csv_line("gohighlevel", "loc") for _ in range(2))
    for name, line in (("GHL", first), ("HighLevel", second)):
        result = world.program.onboard("--from-csv", world.program.csv((line[0], name, *line[2:])), "--replace")
        assert result.code == 0, result.err
    assert world.rows()["loc"]["provider"] == "gohighlevel"
    assert world.token_of("loc") == world.oauth.current("loc")


def test_settings_may_use_an_alias(world: World) -> None:
    settings = world.program.settings
    settings["HIGHLEVEL_TOKEN_URL"] = settings.pop("GOHIGHLEVEL_TOKEN_URL")
    settings |= {"HIGHLEVEL_CLIENT_ID": "app-highlevel", "HIGHLEVEL_CLIENT_SECRET": "highlevel secret"}
    settings["DEFAULT_PROVIDER"] = "High Level"
    blank = {"provider": "", "client_id": "", "encrypted_secret": ""}
    SqliteRows(world).put(world.cells("gohighlevel", "loc") | blank)
    run = world.program.run("--json")
    assert run.outcomes() == {"loc": "refreshed"}
    assert run.json()["results"][0]["provider"] == "gohighlevel"


def test_settings_of_one_provider_under_two_names_end_the_run(world: World) -> None:
    world.program.settings["GHL_CLIENT_ID"] = "another"
    run = world.program.run()
    assert run.code == 2
    assert "GHL_… and GOHIGHLEVEL_… are settings of one provider, gohighlevel" in run.err
    assert "Keep one of the two names." in run.err


def test_programs_may_use_any_name(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager, "loc", client_id="app-acme", client_secret="acme secret", provider="acme")
    assert manager.get_valid_access_token("loc", "A-C-M-E") == world.oauth.current_access("loc")
    assert manager.get("loc", "Acme").provider == "acme"
    token = world.oauth.grant("acme", "app-acme", location_id="loc")
    manager.store_tokens("loc", "ACME", refresh_token=token)
    assert [view.provider for view in manager.list_tokens()] == ["acme"]
    assert world.token_of("loc") == token


@pytest.mark.long
def test_an_entry_that_cannot_be_read_is_the_matter_of_its_rows_alone(world: World) -> None:
    program = world.program
    (program.install() / "providers/catalog/zoom.toml").write_text("token_url = ")
    for provider in ("google", "zoom"):
        world.add_client(provider)
        SqliteRows(world).put(world.cells(provider, provider))
    run = program.spawn("refresh", "--json")
    assert (run.code, run.outcomes()) == (1, {"google": "refreshed", "zoom": "operator"}), run.err
    [failed] = [result for result in run.json()["results"] if result["outcome"] == "operator"]
    assert failed["error"].startswith("the catalogue's zoom.toml is not TOML")
    assert "Traceback" not in run.err
