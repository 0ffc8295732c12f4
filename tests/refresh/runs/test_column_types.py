"""Tables whose columns change, or cannot hold, what belongs there: found before it costs a token, else nothing is lost.

Each with and without the scope that shows the schema: without it, only the cells tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import exits
from tests.conftest import World
from tests.world.airtable import Column, columns
from tests.world.http import Request, Response
from tests.world.program import Result
from token_refresh.base.clock import iso
from token_refresh.base.events import NoticeCode

DATA_ALONE = ("data.records:read", "data.records:write")


def hide_schema(world: World) -> None:
    """From now on the token sees records alone."""
    assert world.airtable is not None
    world.airtable.add_token("pat-data", scopes=DATA_ALONE)
    world.program.settings["AIRTABLE_API_KEY"] = "pat-data"


def table_with(world: World, *instead: Column) -> None:
    """Let the program work on a table with these columns in the place of their namesakes."""
    assert world.airtable is not None
    world.table = world.airtable.credentials_table("Odd", instead=instead)
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Odd"


def onboard(world: World, location: str, *flags: str) -> Result:
    """A person adds a client from a file."""
    return world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", location)), *flags)


def assert_held(world: World, location: str) -> None:
    """The row holds the newest refresh token of its grant, readable."""
    [record] = world.table.find(locationId=location)
    cell = world.table.cells(record)["encrypted_refresh"]
    assert world.open_refresh(location, cell) == world.oauth.current(location)


def retype(world: World, column: Column) -> None:
    """A person changes the type of a column; its cells stay."""
    found = world.table.column(column.name)
    found.type, found.options = column.type, column.options


def client_id_of(request: Request) -> str:
    """Whom a token request names."""
    return dict(parse_qsl(request.body.decode()))["client_id"]


# What is written is not what is there


def test_a_date_without_time_costs_one_round_of_tokens_and_loses_none(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.day("access_token_expiry"))
    keys = [world.table.add(world.cells("acme", f"loc-{number}")) for number in range(3)]
    first = world.program.run()
    assert first.code == 2
    assert "access_token_expiry" in first.err
    assert "a date that includes a time" in first.err
    asked = len(world.oauth.requests)
    assert world.program.run().code == 2
    assert len(world.oauth.requests) == asked
    retype(world, columns.date_time("access_token_expiry"))
    for key in keys:
        world.table.edit(key, {"access_token_expiry": None})
    healed = world.program.run("--json")
    assert healed.code == 0
    assert set(healed.outcomes().values()) == {"refreshed"}
    assert len(world.oauth.requests) == asked
    assert world.oauth.replayed() == []
    for number in range(3):
        assert_held(world, f"loc-{number}")
    assert world.journalled() == []


def test_a_date_without_time_that_is_filled_is_found_before_any_token(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.day("access_token_expiry"))
    world.table.add(world.cells("acme", "loc") | {"access_token_expiry": "2025-01-01"})
    run = world.program.run()
    assert run.code == 2
    assert "access_token_expiry" in run.err
    assert world.oauth.requests == []


@pytest.mark.parametrize("name", ["encrypted_refresh", "encrypted_secret", "last_access_token"])
def test_onboarding_into_rich_text_saves_nothing_and_says_so(airtable_world: World, name: str) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.rich_text(name))
    world.program.settings["SEAL_ACCESS_TOKENS"] = "on"
    run = onboard(world, "loc")
    assert run.code == 2
    assert name in run.said
    assert "plain long text" in run.said
    assert world.table.records() == []
    assert [entry["step"] for entry in world.journalled()] == ["answered"]
    asked = len(world.oauth.requests)
    retype(world, columns.long_text(name))
    assert world.program.run().code == 0
    assert len(world.oauth.requests) == asked
    assert_held(world, "loc")
    assert world.journalled() == []


def test_onboarding_over_a_row_in_rich_text_leaves_the_row(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.rich_text("encrypted_secret"))
    record = world.table.add({"locationId": "loc", "provider": "acme"})
    assert onboard(world, "loc").code == 2
    assert "encrypted_refresh" not in world.table.cells(record)
    asked = len(world.oauth.requests)
    retype(world, columns.long_text("encrypted_secret"))
    assert world.program.run().code == 0
    assert len(world.oauth.requests) == asked
    assert_held(world, "loc")


def test_a_change_that_rich_text_makes_later_is_not_counted_as_stored(airtable_world: World) -> None:
    """The column was changed after the schema was read, and that is kept for a day."""
    world = airtable_world
    world.table.add(world.cells("acme", "loc"))
    other = world.table.add(world.cells("acme", "far") | {"access_token_expiry": iso(world.clock.now() + timedelta(9))})
    assert world.program.run().code == 0
    retype(world, columns.rich_text("last_access_token"))
    world.clock.advance(3600)
    world.program.settings["SEAL_ACCESS_TOKENS"] = "on"
    run = world.program.run()
    assert run.code == 2
    assert "last_access_token" in run.err
    asked = len(world.oauth.requests)
    retype(world, columns.long_text("last_access_token"))
    healed = world.program.run("--json")
    assert (healed.code, healed.outcomes()) == (0, {"loc": "refreshed"})
    assert len(world.oauth.requests) == asked
    assert_held(world, "loc")
    assert "last_access_token" not in world.table.cells(other)


def escaped(cell: str) -> str:
    """As rich text has it; the last letter, too, for not every cell has an underscore."""
    return cell[:-1].replace("_", "\\_") + "\\" + cell[-1]


@pytest.mark.parametrize("holds_new", [True, False])
def test_what_rich_text_left_in_a_row_keeps_its_new_tokens_from_nobody(airtable_world: World, holds_new: bool) -> None:
    """The run was killed before it took the cell back, or the column changed that one, too; then it is plain again."""
    world = airtable_world
    hide_schema(world)
    record = world.table.add(world.cells("acme", "loc"))
    before = world.table.cells(record)["encrypted_refresh"]
    written: list[str] = []

    def escape(request: Request, act: Callable[[], Response]) -> Response:
        answer = act()
        new = world.table.cells(record)["encrypted_refresh"]
        written.append(new if holds_new and new != before else before)
        world.table.edit(record, {"encrypted_refresh": escaped(written[-1]) + "\n"})
        shown = json.loads(answer.body)
        shown["records"][0]["fields"]["encrypted_refresh"] = world.table.cells(record)["encrypted_refresh"]
        return replace(answer, body=json.dumps(shown).encode())

    assert world.airtable is not None
    world.airtable.inject(escape, kind="update", times=None, when=lambda request: b"encrypted_refresh" in request.body)
    assert world.program.run().code == exits.USAGE
    world.airtable.faults.clear()
    world.table.edit(record, {"encrypted_refresh": escaped(written[0])})
    asked = len(world.oauth.requests)
    assert world.program.run().code == exits.DONE
    assert len(world.oauth.requests) == asked
    assert world.program.run("--all").code == exits.DONE
    assert_held(world, "loc")


def test_what_airtable_does_to_the_words_of_an_error_stops_nobody(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.rich_text("last_error"))
    dead = world.cells("acme", "dead")
    world.oauth.revoke(world.open_refresh("dead", dead["encrypted_refresh"]))
    world.table.add(dead)
    world.table.add(world.cells("acme", "well"))
    run = world.program.run("--json")
    assert run.outcomes() == {"dead": "reauthorize", "well": "refreshed"}
    assert run.code == 1
    assert "last_error" in run.err
    asked = len(world.oauth.requests)
    world.program.run("--json")
    assert len(world.oauth.requests) == asked


# Cells of another type


LISTED = {
    "a lookup": ["app-acme"],
    "two values": ["app-acme", "b"],
    "a link": ["recAAAAAAAAAAAAAA"],
    "an error": {"error": "#ERROR!"},
    "no number": {"specialValue": "NaN"},
    "a checkbox": True,
    "a number": 5,
    "generated text": {"state": "generated", "value": "app-acme", "isStale": False},
}
READ_COLUMNS = ("locationId", "client_id", "encrypted_secret", "encrypted_refresh", "provider", "provider_params")


@pytest.mark.by_turns("name")
@pytest.mark.parametrize("name", READ_COLUMNS)
@pytest.mark.parametrize("value", LISTED.values(), ids=LISTED)
def test_a_cell_of_another_type_is_its_rows_fault(airtable_world: World, name: str, value: Any) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.shown(name))
    cells = world.cells("acme", "odd")
    cells.pop(name, None)
    world.table.compute(world.table.add(cells), name, value)
    run = world.program.run("--json")
    assert run.code == 1
    [row] = run.json()["results"]
    assert row["outcome"] == "operator"
    assert name in row["error"]
    assert row["action"]
    assert world.oauth.requests == []
    assert "['" not in run.said
    assert "app-acme" not in run.said


def test_onboarding_onto_a_row_with_such_a_cell_sends_nothing_and_names_it(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.shown("client_id"))
    record = world.table.add({"locationId": "loc", "provider": "acme"})
    world.table.compute(record, "client_id", LISTED["a lookup"])
    run = onboard(world, "loc")
    assert run.code == 1
    assert "client_id" in run.said
    assert world.oauth.requests == []
    assert "encrypted_refresh" not in world.table.cells(record)


def test_the_other_rows_go_on(airtable_world: World) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.shown("client_id"))
    rows = [world.cells("acme", f"loc-{number}") for number in range(4)]
    for number, cells in enumerate(rows):
        client_id = cells.pop("client_id")
        world.table.compute(world.table.add(cells), "client_id", [client_id] if number == 2 else client_id)
    run = world.program.run("--json")
    assert run.outcomes() == {"loc-0": "refreshed", "loc-1": "refreshed", "loc-2": "operator", "loc-3": "refreshed"}
    assert {client_id_of(request) for request in world.oauth.requests} == {"app-acme"}


ODD_COLUMNS = [
    columns.shown("client_id"),
    columns.link("client_id"),
    columns.multi_select("provider", "acme"),
    columns.number("locationId"),
    columns.checkbox("client_id"),
    columns.rich_text("locationId"),
    columns.shown("provider_params", "aiText"),
    columns.shown("failure_count", "rollup"),
    columns.day("access_token_expiry"),
    columns.day("refresh_token_expiry"),
]


@pytest.mark.parametrize("column", ODD_COLUMNS, ids=lambda column: f"{column.name} {column.type}")
def test_where_the_schema_shows_it_the_run_ends_before_any_token(airtable_world: World, column: Column) -> None:
    world = airtable_world
    table_with(world, column)
    cells = world.cells("acme", "loc")
    cells.pop(column.name, None)
    world.table.add(cells)
    run = world.program.run()
    assert run.code == 2
    assert column.name in run.err
    assert column.type in run.err
    assert onboard(world, "new").code == 2
    assert world.oauth.requests == []


def test_an_id_column_of_another_name_is_checked_too(airtable_world: World) -> None:
    world = airtable_world
    table_with(world, columns.number("Place"))
    world.program.settings["AIRTABLE_ID_FIELD"] = "Place"
    run = world.program.run()
    assert run.code == 2
    assert "Place has the type number" in run.err


@pytest.mark.parametrize("spelling", ["name", "id"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_table_is_found_by_name_and_by_id(airtable_world: World, spelling: str, slash: str) -> None:
    world = airtable_world
    assert world.airtable is not None
    world.table.add(world.cells("acme", "loc"))
    world.program.settings["AIRTABLE_TABLE_NAME"] = world.table.id if spelling == "id" else world.table.name
    world.program.settings["AIRTABLE_ENDPOINT_URL"] = world.airtable.url + slash
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}


ZONES = ["utc", "client", "Asia/Tokyo", "America/New_York"]


@pytest.mark.by_turns("zone")
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("day", ["local", "friendly", "us", "european", "iso"])
def test_every_format_of_a_time_will_do(airtable_world: World, zone: str, day: str) -> None:
    world = airtable_world
    hide_schema(world)
    table_with(world, columns.date_time("access_token_expiry", zone, day, "12hour"))
    world.table.add(world.cells("acme", "loc"))
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert world.program.run("--json").outcomes() == {}


# A verdict that the table cannot hold


@pytest.mark.parametrize("sees_schema", [True, False])
def test_a_dead_grant_is_remembered_where_its_option_is_missing(airtable_world: World, sees_schema: bool) -> None:
    world = airtable_world
    if not sees_schema:
        hide_schema(world)
    table_with(world, columns.single_select("status", "active", "disabled"))
    dead = world.cells("acme", "dead")
    token = world.open_refresh("dead", dead["encrypted_refresh"])
    world.oauth.revoke(token)
    key = world.table.add(dead | {"status": "active"})
    keys = [world.table.add(world.cells("acme", f"well-{number}")) for number in range(9)]
    world.program.settings["LOG_FORMAT"] = "json"
    run = world.program.run("--json")
    assert run.code == 1
    assert run.outcomes().pop("dead") == "reauthorize"
    assert sorted(map(str, run.outcomes().values())) == ["reauthorize"] + ["refreshed"] * 9
    [line] = [line for line in run.lines() if "option reauthorize" in str(line)]
    assert NoticeCode.COLUMN_UNSUITABLE in str(line)
    assert "invalid_grant" in world.table.cells(key)["last_error"]
    assert world.table.cells(key)["failure_count"] == 1
    assert all("access_token_expiry" in world.table.cells(one) for one in keys)
    for _ in range(3):
        world.clock.advance(600)
        world.program.run("--json")
    assert world.oauth.tokens[token].times_sent == 1
    [listed] = [row for row in world.program.run("status", "--json").json()["rows"] if row["location_id"] == "dead"]
    assert listed["state"] == "login_needed"
    assert onboard(world, "dead", "--replace").code == 0
    assert world.table.cells(key)["status"] == "active"


def test_a_disabled_row_stays_disabled_where_an_option_is_missing(airtable_world: World) -> None:
    world = airtable_world
    table_with(world, columns.single_select("status", "active", "disabled"))
    dead = world.cells("acme", "dead")
    world.oauth.revoke(world.open_refresh("dead", dead["encrypted_refresh"]))
    key = world.table.add(dead)
    world.program.run()
    world.table.edit(key, {"status": "disabled"})
    asked = len(world.oauth.requests)
    world.clock.advance(90_000)
    world.program.run()
    world.program.run("--all")
    assert len(world.oauth.requests) == asked


@pytest.mark.parametrize("sees_schema", [True, False])
def test_a_client_is_onboarded_where_the_option_active_is_missing(airtable_world: World, sees_schema: bool) -> None:
    world = airtable_world
    if not sees_schema:
        hide_schema(world)
    table_with(world, columns.single_select("status", "Active", "Off"))
    assert onboard(world, "loc").code == 0
    [record] = world.table.find(locationId="loc")
    assert "status" not in world.table.cells(record)


# Values out of all bounds


@pytest.mark.parametrize("count", [1e19, -1e19, 1e308, 10**400, 2**63 - 1, 2.5])
def test_a_failure_count_out_of_bounds_stops_nobody(airtable_world: World, count: float) -> None:
    world = airtable_world
    dead = world.cells("acme", "dead")
    world.oauth.revoke(world.open_refresh("dead", dead["encrypted_refresh"]))
    record = world.table.add(dead)
    world.table.rows[record].cells[world.table.column("failure_count").id] = count
    world.table.add(world.cells("acme", "well"))
    assert world.program.run("--json").outcomes() == {"dead": "reauthorize", "well": "refreshed"}
    assert world.program.run("status", "--json").code == 0


FAR_TIMES = ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "+020206-01-01T00:00:00.000Z", "-000001-01-01"]


@pytest.mark.by_turns("name")
@pytest.mark.parametrize("moment", FAR_TIMES)
@pytest.mark.parametrize("name", ["access_token_expiry", "last_refreshed", "refresh_token_expiry"])
def test_a_time_out_of_bounds_stops_nobody(airtable_world: World, name: str, moment: str) -> None:
    world = airtable_world
    table_with(world, columns.shown(name, "rollup"))
    hide_schema(world)
    record = world.table.add(world.cells("acme", "far"))
    world.table.compute(record, name, moment)
    world.table.add(world.cells("acme", "well"))
    world.table.column(name).type = "dateTime"
    world.table.rows[record].cells[world.table.column(name).id] = moment
    run = world.program.run("--json")
    assert run.outcomes()["well"] == "refreshed"
    assert run.code in (0, 1)
    assert world.program.run("status", "--json").code == 0
    assert world.program.run("doctor", "--json").code in (0, 1)


@pytest.mark.long
def test_a_page_larger_than_any_answer_may_be_is_read_in_smaller_ones(airtable_world: World) -> None:
    world = airtable_world
    cells = world.cells("acme", "loc")
    for number in range(100):
        world.table.add({"locationId": f"big-{number}", "encrypted_refresh": "ж" * 99_000})
    world.table.add(cells)
    run = world.program.run("--json")
    assert run.outcomes().pop("loc") == "refreshed"
    assert sorted(set(map(str, run.outcomes().values()))) == ["operator", "refreshed"]
    assert run.code == 1


# Whatever a cell holds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ANY_COLUMN = (*READ_COLUMNS, "status", "last_error", "refreshed_by", "failure_count", "access_token_expiry")


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*ANY_COLUMN, "last_refreshed", "refresh_token_expiry"]), value=JSON)
def test_no_cell_stops_the_others_or_sends_what_is_no_text(airtable_world: World, name: str, value: Any) -> None:
    world = airtable_world
    hide_schema(world)
    assert world.airtable is not None
    world.airtable.workspace.bases[world.airtable.base_id].tables.clear()
    table_with(world, columns.shown(name, "aiText"))
    cells = world.cells("acme", "odd")
    cells.pop(name, None)
    record = world.table.add(cells)
    world.table.column(name).type = "aiText"
    world.table.compute(record, name, value)
    sent = len(world.oauth.requests)
    run = world.program.run("--json")
    assert "Traceback" not in run.err
    assert "internal error" not in run.said
    for request in world.oauth.requests[sent:]:
        assert not client_id_of(request).startswith(("[", "{"))
