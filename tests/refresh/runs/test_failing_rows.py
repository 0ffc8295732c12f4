"""What is remembered of rows that fail: dead grants are left alone, news is told once, recoveries are seen."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from tests import exits
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows, meanwhile, table_of
from tests.world.airtable import AirtableServer
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.clock import iso, parse_time

pytestmark = pytest.mark.by_turns("rows")

DAY = 86_400
DOUBTFUL = "unreliable_invalid_grant = true\n"


def run(world: World, *flags: str) -> Result:
    return world.program.run("--json", *flags)


def sent(world: World) -> int:
    return len(world.oauth.requests)


@pytest.fixture
def six(world: World, airtable: AirtableServer) -> World:
    """A table that has the required columns only; every row is acme's."""
    world.airtable, world.table = airtable, airtable.six_column_table()
    world.program.settings |= {
        "AIRTABLE_API_KEY": airtable.token,
        "AIRTABLE_BASE_ID": airtable.base_id,
        "AIRTABLE_ENDPOINT_URL": airtable.url,
        "DEFAULT_PROVIDER": "acme",
    }
    return world


@pytest.fixture(params=["sqlite", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store, with a `status` column."""
    return table_of(request.param, request)


def add(world: World, location: str) -> str:
    """A due row in a table of six columns."""
    cells = world.cells("acme", location)
    del cells["provider"]
    return str(world.table.add(cells))


def doubt(world: World) -> None:
    """From now on acme is known to refuse grants that live."""
    path = world.program.home / "providers.toml"
    path.write_text(path.read_text().replace("[acme]\n", f"[acme]\n{DOUBTFUL}"))


# A table without a `status` column


def test_a_dead_grant_is_remembered_where_the_table_cannot_say_so_and_is_not_sent_again(six: World) -> None:
    add(six, "dead")
    six.oauth.revoke("dead")
    first = run(six)
    assert (first.code, first.outcomes()) == (exits.FAILED, {"dead": "reauthorize"})
    for _ in range(3):
        six.clock.advance(DAY + 60)
        again = run(six)
        assert (again.code, again.json()["results"]) == (exits.DONE, [])
    assert sent(six) == 1
    assert run(six, "--all").json()["results"] == []
    assert sent(six) == 1


def test_another_cell_pasted_into_such_a_row_is_tried_at_once_and_ends_the_memory(six: World) -> None:
    record = add(six, "dead")
    six.oauth.revoke("dead")
    run(six)
    fresh = six.cells("acme", "dead")
    six.table.edit(record, {"encrypted_refresh": fresh["encrypted_refresh"]})
    six.clock.advance(60)
    assert run(six).outcomes() == {"dead": "refreshed"}
    assert six.program.run("status", "--json").json()["counts"] == {"valid": 1}


def test_status_shows_a_dead_grant_that_only_the_state_folder_knows_of(six: World) -> None:
    """Until somebody pastes another cell: that one is not known to be dead."""
    record = add(six, "dead")
    add(six, "good")
    six.oauth.revoke("dead")
    run(six)
    assert six.program.run("status", "--check").code == exits.FAILED
    shown = six.program.run("status", "--json")
    states = {row["location_id"]: (row["state"], row["failure_count"]) for row in shown.json()["rows"]}
    assert states == {"dead": ("login_needed", 1), "good": ("valid", 0)}
    six.table.edit(record, {"encrypted_refresh": six.cells("acme", "dead")["encrypted_refresh"]})
    later = six.program.run("status", "--json")
    assert later.json()["counts"] == {"valid": 2}
    assert [row["note"] for row in later.json()["rows"]] == [None, "due"]


def test_get_says_of_such_a_row_that_somebody_must_log_in(six: World) -> None:
    add(six, "dead")
    run(six)
    six.oauth.revoke("dead")
    six.clock.advance(3000)
    run(six)
    before = sent(six)
    alive = six.program.run("get", "dead", "--min-valid", "3000")
    assert (alive.code, alive.out != "") == (exits.DONE, True)
    six.clock.advance(3000)
    told = six.program.run("get", "dead")
    assert told.code == exits.FAILED
    for said in (alive.err, told.err):
        assert "dead acme: reauthorize, HTTP 400, invalid_grant" in said
        assert "log in again" in said
    assert sent(six) == before


def test_failures_of_a_row_are_counted_where_the_table_cannot(six: World) -> None:
    add(six, "loc")
    six.oauth.fail(faults.refused("invalid_scope"), times=2)
    for count in (1, 2):
        run(six)
        [row] = six.program.run("status", "--json").json()["rows"]
        assert (row["failure_count"], row["last_error"]) == (count, "HTTP 400, invalid_scope")


# A table with one


def test_a_row_whose_credential_was_fixed_but_not_its_status_is_found_within_a_day(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "dead")
    world.oauth.revoke("dead")
    assert run(world).outcomes() == {"dead": "reauthorize"}
    assert rows.row("dead").status == "reauthorize"
    rows.edit("dead", encrypted_refresh=world.cells("acme", "dead")["encrypted_refresh"])
    world.clock.advance(3600)
    assert run(world).json()["results"] == []
    world.clock.advance(DAY)
    assert run(world).outcomes() == {"dead": "refreshed"}
    assert rows.row("dead").status == "active"
    assert rows.is_current("dead")


def test_a_dead_grant_is_looked_at_once_a_day_and_never_sent(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "dead")
    world.oauth.revoke("dead")
    run(world)
    for _ in range(4):
        world.clock.advance(DAY / 2)
        assert run(world).json()["results"] == []
    assert sent(world) == 1


def test_a_status_that_a_person_set_themselves_is_left_to_them(rows: Rows) -> None:
    """Nothing is known of its grant, so nothing is tried, however many days go by."""
    rows.add("acme", "theirs", status="reauthorize")
    rows.add("acme", "dead")
    rows.world.oauth.revoke("dead")
    for _ in range(3):
        run(rows.world)
        rows.world.clock.advance(DAY + 60)
    assert rows.row("theirs").failure_count == 0
    assert sent(rows.world) == 1


# A provider that is known to err


@pytest.mark.long
def test_a_doubtful_refusal_is_tried_once_a_day_for_seven_days(rows: Rows) -> None:
    world = rows.world
    doubt(world)
    rows.add("acme", "loc")
    world.oauth.revoke("loc")
    run(world)
    for _ in range(8 * 9):  # cron, every three hours
        world.clock.advance(DAY / 8)
        run(world)
    assert sent(world) == 8  # at first and on seven days after it
    assert rows.row("loc").status == "reauthorize"


@pytest.mark.long
def test_in_a_table_without_a_status_a_doubtful_refusal_is_tried_as_rarely(six: World) -> None:
    doubt(six)
    add(six, "loc")
    six.oauth.revoke("loc")
    run(six)
    for _ in range(4 * 9):
        six.clock.advance(DAY / 4)
        run(six)
    assert sent(six) == 8


@pytest.mark.long
def test_a_run_that_takes_its_time_costs_no_doubtful_row_a_day(rows: Rows) -> None:
    """The look at dead rows comes a little before the refusal, every time."""
    world = rows.world
    doubt(world)
    rows.add("acme", "loc")
    world.oauth.revoke("loc")
    world.oauth.fail(meanwhile(lambda: world.clock.advance(50)), times=math.inf)
    for day in range(12):
        world.clock.advance((START + timedelta(days=day) - world.clock.now()).total_seconds())
        run(world)
    assert sent(world) == 8


def test_a_doubtful_refusal_that_was_none_ends_with_the_next_day_s_try(rows: Rows) -> None:
    world = rows.world
    doubt(world)
    rows.add("acme", "loc")
    world.oauth.fail(faults.refused("invalid_grant"))
    assert run(world).outcomes() == {"loc": "reauthorize"}
    world.clock.advance(3600)
    assert run(world).json()["results"] == []
    world.clock.advance(DAY)
    assert run(world).outcomes() == {"loc": "refreshed"}
    assert (rows.row("loc").status, rows.row("loc").failure_count) == ("active", 0)


# News


def test_a_row_that_somebody_must_fix_is_written_to_once(rows: Rows) -> None:
    """It costs a call each time, and whoever watches the table would see it change in every run."""
    rows.add("acme", "bad", provider_params="{")
    run(rows.world)
    told = rows.row("bad")
    assert (told.failure_count, told.last_error) == (1, "provider_params is not a JSON object of texts")
    run(rows.world)
    assert rows.row("bad") == told


def test_a_failure_is_reported_when_it_begins_and_only_counted_while_it_lasts(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "bad", provider_params="{")
    rows.add("acme", "loc")
    world.oauth.fail(faults.refused("invalid_scope"), times=2)
    first = world.program.run()
    assert "bad acme: operator, provider_params is not a JSON object" in first.err
    assert "loc acme: operator, HTTP 400, invalid_scope" in first.err
    assert "still fail" not in first.err
    second = world.program.run()
    assert second.code == exits.FAILED
    assert "HTTP 400" not in second.err
    assert "provider_params" not in second.err
    assert "1 row still fails as it did before: bad acme. Write it like" in second.err
    assert "1 row still fails as it did before: loc acme. Correct the row" in second.err
    third = world.program.run()
    assert "loc acme: refreshed, until 2026-03-01 13:00 UTC; it had failed before" in third.err
    assert "1 row still fails as it did before: bad acme" in third.err
    world.clock.advance(3600)
    assert "it had failed before" not in world.program.run().err


def test_where_the_token_stays_the_same_a_recovery_ends_the_memory_of_a_failure_too(world: World) -> None:
    SqliteRows(world).add("acme-never", "loc")
    for _ in range(2):
        world.oauth.fail(faults.refused("invalid_scope"))
        assert "loc acme-never: operator, HTTP 400, invalid_scope" in world.program.run().err
        assert "it had failed before" in world.program.run().err
        world.clock.advance(3600)
        assert "it had failed before" not in world.program.run().err
        world.clock.advance(3600)


def test_the_change_to_reauthorize_is_reported_although_the_row_had_failed_before(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    world.oauth.fail(faults.refused("invalid_scope"))
    world.program.run()
    world.oauth.revoke("loc")
    told = world.program.run()
    assert "loc acme: reauthorize" in told.err
    assert "log in again" in told.err
    assert "loc" not in world.program.run().err


def test_another_reason_for_the_same_row_s_fault_is_reported_again(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc", provider_params="{")
    world.program.run()
    rows.edit("loc", provider_params="", client_id="")
    assert "loc acme: operator, client_id is empty" in world.program.run().err


def test_whoever_asks_for_certain_rows_sees_their_failure_each_time(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    world.oauth.fail(faults.refused("invalid_scope"), times=2)
    for _ in range(2):
        told = world.program.run("--location", "loc")
        assert "loc acme: operator, HTTP 400, invalid_scope" in told.err
        assert "still fail" not in told.err


def test_of_many_rows_that_go_on_failing_ten_are_named(world: World) -> None:
    rows = SqliteRows(world)
    for number in range(13):
        rows.add("acme", f"loc{number:02}", provider_params="{")
    world.program.run()
    assert "13 rows still fail as they did before: loc00 acme, " in (said := world.program.run().err)
    assert "loc09 acme and 3 others" in said
    assert "loc10" not in said


def test_a_row_whose_name_no_file_takes_costs_nobody_else_their_tokens(airtable_world: World) -> None:
    """Half a surrogate pair in a cell: neither UTF-8 nor SQLite has a way to write it."""
    rows = AirtableRows(airtable_world)
    names = [f"loc{number}" for number in range(5)]
    for name in names:
        rows.add("gohighlevel", name)
    airtable_world.table.add(airtable_world.cells("gohighlevel", "odd \ud800"))
    result = run(airtable_world)
    assert result.code == exits.FAILED
    assert result.outcomes() == dict.fromkeys(names, "refreshed") | {"odd ?": "operator"}
    assert all(map(rows.is_current, names))


def test_a_dry_run_tells_what_cannot_be_refreshed_and_marks_nothing(rows: Rows) -> None:
    rows.add("acme", "bad", START + timedelta(minutes=1), provider_params="{")
    shown = run(rows.world, "--dry-run")
    assert (shown.code, shown.json()["counts"]) == (exits.DONE, {"due": 0})
    assert "bad: provider_params is not a JSON object of texts." in shown.err
    assert rows.row("bad").last_error == ""
    expiry = rows.row("bad").access_token_expiry
    assert expiry is not None
    assert iso(expiry) == "2026-03-01T12:01:00.000Z"


# A pause that a provider asked for


PAUSES = {
    "429": faults.too_many_requests(3600),
    "503": faults.status(503, b"busy", {"Retry-After": "3600"}),
}


@pytest.mark.parametrize("fault", PAUSES.values(), ids=PAUSES)
def test_a_pause_that_a_provider_asks_for_is_kept_by_the_runs_within_it(rows: Rows, fault: faults.Fault) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(fault)
    asked_at = rows.world.clock.now()
    assert run(rows.world).outcomes() == {"loc": "transient"}
    for _ in range(3):
        rows.world.clock.advance(900)
        result = run(rows.world)
        [waiting] = result.json()["waiting"]
        assert (result.code, result.json()["results"]) == (exits.FAILED, [])
        assert waiting["reason"] == "its provider asked for a pause"
        until = parse_time(waiting["until"])
        assert until is not None
        assert timedelta(0) <= until - asked_at - timedelta(hours=1) < timedelta(seconds=60)
    assert sent(rows.world) == 1
    rows.world.clock.advance(1000)
    assert run(rows.world).outcomes() == {"loc": "refreshed"}


@pytest.mark.parametrize("flags", [["--all"], ["--location", "loc"]])
def test_a_pause_counts_for_runs_by_hand_too_and_never_for_more_than_a_day(rows: Rows, flags: list[str]) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(faults.too_many_requests(10 * DAY))
    run(rows.world)
    rows.world.clock.advance(DAY - 600)
    assert (run(rows.world, *flags).code, sent(rows.world)) == (exits.FAILED, 1)
    rows.world.clock.advance(700)
    assert run(rows.world, *flags).outcomes() == {"loc": "refreshed"}


def test_a_pause_ends_with_the_credential_that_it_was_asked_for(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(faults.too_many_requests(3600))
    run(rows.world)
    rows.world.clock.advance(60)
    rows.edit("loc", encrypted_refresh=rows.world.cells("acme-never", "loc")["encrypted_refresh"])
    assert run(rows.world).outcomes() == {"loc": "refreshed"}


def test_a_pause_that_a_wrong_clock_noted_is_not_waited_for(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(faults.too_many_requests(3600))
    run(rows.world)
    rows.world.clock.set_back(10 * DAY)
    assert run(rows.world).outcomes() == {"loc": "refreshed"}


# What a run learns, it knows to its end


def test_a_grant_that_a_replay_finds_dead_is_not_sent_by_the_daily_look_of_the_same_run(rows: Rows) -> None:
    rows.add("acme", "loc")
    if rows.world.airtable is not None:
        rows.world.airtable.requests_per_second = None  # the struck process has a clock of its own
    rows.world.oauth.revoke("loc")
    assert run(rows.world).outcomes() == {"loc": "reauthorize"}
    another = rows.world.cells("acme", "loc")["encrypted_refresh"]
    rows.edit("loc", encrypted_refresh=another, status="active", access_token_expiry=None)
    rows.world.oauth.revoke("loc")
    struck(rows.world, Point.KEPT, Fate.KILL)
    before = sent(rows.world)
    rows.world.clock.advance(3 * DAY)
    result = run(rows.world)
    assert (result.outcomes(), sent(rows.world) - before) == ({"loc": "reauthorize"}, 0)
    assert rows.row("loc").status == "reauthorize"
