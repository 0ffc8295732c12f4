"""Clocks that are wrong: ours, another machine's, and times in a table that cannot be."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Provider
from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import (
    TABLES,
    AirtableRows,
    PostgresRows,
    Rows,
    SqliteRows,
    entries,
    journal,
    table_of,
)
from tests.refresh.runs.test_faults import only, run
from tests.world import postgres as postgres_world_module
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.events import NoticeCode
from token_refresh.refresh.due import DuePolicy
from token_refresh.stores.base import Row
from token_refresh.stores.database.postgres import PostgresBackend

ACME = Provider("acme", "Acme", "https://acme.example/token", lifetime=3600)
POLICY = DuePolicy(3600, 300)
MOMENTS = st.timedeltas(timedelta(days=-20_000), timedelta(days=20_000))


pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store."""
    return table_of(request.param, request)


def codes(result: Result) -> list[str | None]:
    """The codes of the lines that a run said."""
    return [json.loads(line).get("code") for line in result.err.splitlines()]


# Times in the table


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=100), timedelta(days=4000)])
def test_a_row_that_was_refreshed_in_the_future_is_due_and_named(rows: Rows, ahead: timedelta) -> None:
    rows.add("acme", "loc", START + ahead + timedelta(hours=1), last_refreshed=START + ahead)
    rows.world.program.settings["LOG_FORMAT"] = "json"
    result = run(rows)
    assert NoticeCode.IMPOSSIBLE_TIME in codes(result)
    assert (result.code, only(result)["outcome"]) == (0, "refreshed"), result.err
    assert "its times cannot be" in result.err
    assert run(rows).json()["results"] == []


def test_a_row_that_claims_to_live_for_ten_years_is_due(rows: Rows) -> None:
    rows.add("acme", "loc", START + timedelta(days=3650), last_refreshed=START - timedelta(hours=1))
    assert only(run(rows))["outcome"] == "refreshed"


def test_where_replay_kills_the_family_an_expiry_that_cannot_be_puts_off_no_second_request(rows: Rows) -> None:
    rows.add("acme-family", "loc", START + timedelta(days=3650), last_refreshed=START - timedelta(hours=1))
    rows.world.oauth.fail(faults.reset())
    assert only(run(rows))["outcome"] == "refreshed"
    assert rows.is_current("loc")


def test_a_token_that_a_customer_set_to_live_for_a_day_is_not_due(rows: Rows) -> None:
    rows.add("acme", "loc", START + timedelta(hours=23), last_refreshed=START - timedelta(hours=1))
    assert run(rows).json()["results"] == []


@given(refreshed=MOMENTS, expires=MOMENTS)
def test_no_times_in_a_row_keep_it_from_being_due_for_longer_than_a_life(
    refreshed: timedelta, expires: timedelta
) -> None:
    row = Row("key", "loc", "app", access_token_expiry=START + expires, last_refreshed=START + refreshed)
    query = POLICY.query([ACME], "acme", START)
    if not POLICY.is_due(row, ACME, START):
        assert expires <= timedelta(days=1)
        assert refreshed <= timedelta(minutes=5)
    else:
        assert query.admits(
            Row("key", "loc", "app", "", "cell", "", row.access_token_expiry, last_refreshed=row.last_refreshed)
        )


# Our clock


@pytest.mark.parametrize("off", [-6, 6, 600])
def test_a_clock_that_is_minutes_off_airtables_is_named_and_the_run_goes_on(airtable_world: World, off: int) -> None:
    table = AirtableRows(airtable_world)
    table.add("acme", "loc")
    now = airtable_world.clock.now()
    assert airtable_world.airtable is not None
    airtable_world.airtable.http.now = lambda: (now + timedelta(minutes=off)).timestamp()
    airtable_world.program.settings["LOG_FORMAT"] = "json"
    result = run(table)
    assert only(result)["outcome"] == "refreshed"
    assert codes(result).count(NoticeCode.CLOCK_OFF) == 1
    assert "the clock here says 2026-03-01 12:00 UTC, that of Airtable" in result.err
    assert "NTP" in result.err


@pytest.mark.parametrize("days", [-2, 2, 4000])
@pytest.mark.parametrize("is_due", [True, False])
def test_a_clock_that_is_a_day_off_airtables_refreshes_nothing(airtable_world: World, days: int, is_due: bool) -> None:
    table = AirtableRows(airtable_world)
    table.add("acme", "loc", None if is_due else START + timedelta(minutes=90))
    now = airtable_world.clock.now()
    assert airtable_world.airtable is not None
    airtable_world.airtable.http.now = lambda: (now + timedelta(days=days)).timestamp()
    result = run(table)
    assert (result.code, airtable_world.oauth.requests) == (2, [])
    assert "that of Airtable" in result.err


def test_a_clock_that_is_far_off_the_database_servers_refreshes_nothing(
    postgres_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresBackend, "clock", postgres_world_module.read_clock)
    table = PostgresRows(postgres_world)
    table.add("acme", "loc")
    result = run(table)  # on the clock of the tests, which stands in another month than the server's
    assert (result.code, postgres_world.oauth.requests) == (2, [])
    assert "that of the database" in result.err


def test_a_clock_that_is_off_a_providers_is_named_once(world: World) -> None:
    table = SqliteRows(world)
    for number in range(3):
        table.add("acme", f"loc{number}")
    world.oauth._http.now = lambda: (START + timedelta(hours=1)).timestamp()
    result = run(table)
    assert result.code == 0
    assert result.err.count("the clock here says") == 1
    assert "that of acme" in result.err


# What an earlier run wrote with a clock that was wrong


def test_a_request_that_left_in_the_future_is_waited_for_from_the_first_run_that_sees_it(rows: Rows) -> None:
    rows.add("acme-until-used", "loc")
    rows.world.clock.advance(timedelta(days=100).total_seconds())
    rows.world.oauth.fail(faults.acted_then_dropped(), times=9)
    run(rows)
    rows.world.oauth.behave()
    assert [entry.step for entry in entries(rows.world)] == ["lost"]
    rows.world.clock.set_back(timedelta(days=100).total_seconds())
    [entry] = entries(rows.world)
    assert entry.sent_at > rows.world.clock.now() + timedelta(days=99)
    assert run(rows).json()["results"] == []
    rows.world.clock.advance(100)
    assert only(run(rows))["outcome"] == "refreshed"
    assert rows.is_current("loc")


def test_a_lost_answer_does_not_wait_for_the_end_of_an_access_token_that_a_wrong_clock_wrote(rows: Rows) -> None:
    """That time may be days away, and the token ended long ago."""
    rows.world.program.settings["REFRESH_INTERVAL"] = "600"
    rows.world.clock.advance(timedelta(days=3).total_seconds())
    rows.add("acme-family", "loc", rows.world.clock.now() + timedelta(hours=1), last_refreshed=rows.world.clock.now())
    rows.world.oauth.fail(faults.reset())
    assert run(rows, "--all").code == exits.FAILED
    rows.world.clock.set_back(timedelta(days=3).total_seconds())
    run(rows)  # the request may be on its way, from the first run that sees it
    rows.world.clock.advance(100)
    assert only(run(rows))["outcome"] == "refreshed"
    assert rows.is_current("loc")


@pytest.mark.parametrize("is_right", [True, False])
def test_spent_tokens_are_forgotten_only_by_a_clock_that_another_one_confirms(world: World, is_right: bool) -> None:
    table = SqliteRows(world)
    table.add("acme", "loc")
    token = table.stored("loc")
    run(table)
    world.clock.advance(timedelta(days=401).total_seconds())
    if not is_right:
        world.oauth._http.now = START.timestamp
    assert only(run(table))["outcome"] == "refreshed"
    with journal(world) as opened:
        assert (opened.spent_at(opened._keyring.fingerprints(token)) is None) is is_right
