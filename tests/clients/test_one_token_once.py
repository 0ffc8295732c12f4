"""A refresh token that a person enters is sent by nobody else meanwhile, and not where it was sent already."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests import exits
from tests.commands.test_onboard_csv import onboard
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, AirtableRows, Rows, SqliteRows, entries, meanwhile, table_of
from tests.refresh.runs.test_faults import run, sent
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.events import NoticeCode
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import AdmissionError, NewCredential


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> Rows:
    made = table_of(request.param, request)
    made.world.program.undone = lambda _: []
    return made


@contextmanager
def refusing(rows: SqliteRows) -> Iterator[None]:
    """Nobody can write tokens into the table."""
    with closing(sqlite3.connect(rows.address().removeprefix("sqlite:///"))) as database:
        database.execute(
            "CREATE TRIGGER refuses BEFORE UPDATE OF encrypted_refresh ON credentials"
            " WHEN new.encrypted_refresh != old.encrypted_refresh BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        yield
        database.execute("DROP TRIGGER refuses")


# At once


def test_of_two_onboardings_of_one_token_at_once_one_sends_it(rows: Rows) -> None:
    world = rows.world
    file = world.program.csv(world.csv_line("acme-family", "loc"))
    seen: list[Result] = []
    world.oauth.fail(meanwhile(lambda: seen.append(world.program.onboard("--from-csv", file))))
    assert world.program.onboard("--from-csv", file).code == exits.DONE
    assert [result.code for result in seen] == [exits.BUSY]
    assert world.oauth.sent_twice() == []
    assert rows.is_current("loc")


def test_a_token_that_a_run_is_sending_is_not_sent_by_who_enters_it_once_more(rows: Rows) -> None:
    world = rows.world
    line = world.csv_line("acme-family", "loc")
    onboard(world, line, flags=["--no-check"])
    refused: list[str] = []

    def enter() -> None:
        location, provider, client_id, secret, token = line
        with run_context_of(rows) as context, pytest.raises(AdmissionError) as raised:
            Admission(context).admit(NewCredential(location, provider, client_id, secret, token), Terms(replace=True))
        refused.append(str(raised.value))

    world.oauth.fail(meanwhile(enter))
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert "another process is refreshing it" in refused[0]
    assert world.oauth.sent_twice() == []
    assert rows.is_current("loc")


def test_a_row_s_own_token_is_sent_by_who_enters_it_once_more_where_no_run_does(rows: Rows) -> None:
    line = rows.world.csv_line("acme-family", "loc")
    onboard(rows.world, line, flags=["--no-check"])
    location, provider, client_id, secret, token = line
    with run_context_of(rows) as context:
        entered = NewCredential(location, provider, client_id, secret, token)
        assert Admission(context).admit(entered, Terms(replace=True)).outcome == "refreshed"
    assert rows.is_current("loc")
    rows.world.clock.advance(3600)
    assert run(rows).outcomes() == {"loc": "refreshed"}  # nobody has claimed it


def test_a_row_s_own_token_that_a_run_has_just_sent_is_not_sent_by_who_enters_it_once_more(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = rows.world.csv_line("acme-family", "loc")
    onboard(rows.world, line, flags=["--no-check"])
    location, provider, client_id, secret, token = line
    with run_context_of(rows) as context:
        claim_due, store = context.store.store.claim_due, context.store.store

        def late(*what: Any) -> Any:
            monkeypatch.setattr(store, "claim_due", claim_due)
            run(rows)
            return claim_due(*what)

        monkeypatch.setattr(store, "claim_due", late)
        with pytest.raises(AdmissionError, match="refreshed meanwhile"):
            Admission(context).admit(NewCredential(location, provider, client_id, secret, token), Terms(replace=True))
    assert rows.world.oauth.sent_twice() == []
    assert rows.is_current("loc")


# Sent already


@pytest.mark.parametrize("location", ["loc", "elsewhere"])
def test_a_token_whose_successor_waits_in_the_journal_is_not_sent(world: World, location: str) -> None:
    rows = SqliteRows(world)
    world.program.undone = lambda _: []
    line = world.csv_line("acme-family", "loc")
    onboard(world, line, flags=["--no-check"])
    with refusing(rows):
        run(rows)
    rows.edit("loc", provider_params="{")
    asked = sent(world)
    refused = onboard(world, (location, *line[1:]), flags=["--replace"])
    assert (refused.code, sent(world)) == (exits.FAILED, asked), refused.said
    rows.edit("loc", provider_params="")
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")


def test_a_used_token_of_another_row_is_not_done_in_this_one(world: World) -> None:
    world.program.undone = lambda _: []
    first, second = world.csv_line("acme", "loc1"), world.csv_line("acme", "loc2")
    onboard(world, first, second)
    assert onboard(world, first, flags=["--replace"]).code == exits.DONE
    refused = onboard(world, ("loc2", *first[1:]), flags=["--replace"])
    assert (refused.code, "used up" in refused.said) == (exits.FAILED, True)


@pytest.mark.parametrize("wrong", [2, 3])
def test_a_line_whose_client_was_corrected_is_not_done(world: World, wrong: int) -> None:
    world.program.undone = lambda _: []
    line = world.csv_line("acme", "loc")
    mistaken = (*line[:wrong], "app-wrong", *line[wrong + 1 :])
    onboard(world, mistaken, flags=["--no-check"])
    assert run(SqliteRows(world)).code == exits.FAILED
    assert onboard(world, line, flags=["--replace"]).code == exits.DONE
    assert SqliteRows(world).stored("loc") == world.oauth.current("loc") != line[4]


# What a person is told


def test_an_onboarding_that_the_table_refuses_once_more_is_not_said_to_be_over(airtable_world: World) -> None:
    world, rows = airtable_world, AirtableRows(airtable_world)
    assert world.airtable is not None
    world.airtable.inject(airtable_faults.unprocessable(), kind="create", times=None)
    onboard(world, world.csv_line("acme", "loc"))
    world.program.settings["LOG_FORMAT"] = "json"
    result = run(rows)
    assert (result.code, NoticeCode.ONBOARDING_WAITS in result.codes()) == (exits.FAILED, True)
    assert world.program.run("status", "--check").code == exits.FAILED
    world.airtable.faults.clear()
    assert run(rows).codes() == [NoticeCode.ONBOARDING_FINISHED]
    assert rows.is_current("loc")


def test_an_onboarding_that_nobody_needs_any_more_can_be_ended(world: World) -> None:
    """Its provider is gone for good, and so may be the client."""
    world.program.undone = lambda _: []
    world.oauth.fail(faults.reset(), times=2)
    onboard(world, world.csv_line("acme", "loc"))
    early = world.program.run("recover", "--forget", "1", "--yes")
    assert early.code == exits.USAGE  # its request may still arrive
    world.clock.advance(200)
    listed = world.program.run("recover")
    assert "recover --forget 1 --yes" in listed.out
    assert world.program.run("recover", "--forget", "1", "--yes").code == exits.DONE
    assert entries(world) == []


def test_a_token_that_was_entered_for_a_wrong_location_names_it_and_what_to_do(world: World) -> None:
    world.program.undone = lambda _: []
    rows = SqliteRows(world)
    rows.add("acme", "wrong")
    line = world.csv_line("acme", "loc")
    theirs = world.cells("acme", "wrong")["encrypted_refresh"]
    world.oauth.fail(meanwhile(lambda: rows.edit("wrong", encrypted_refresh=theirs)))
    onboard(world, ("wrong", *line[1:]), flags=["--replace"])
    refused = onboard(world, line)
    assert "it was entered for wrong acme before" in refused.said
    assert "recover --forget 1 --yes" in refused.said


@pytest.mark.parametrize("location", ["zero \0 byte", "two\nlines", "x" * 1001])
def test_a_location_that_no_table_takes_stops_no_other_line(rows: Rows, location: str) -> None:
    lines = [rows.world.csv_line("acme", name) for name in ("one", "two", "three")]
    quoted = f'"{location}"'
    result = onboard(rows.world, lines[0], (quoted, *lines[1][1:]), lines[2])
    assert (result.code, "the location id holds a character that is not printed, or more" in result.said) == (1, True)
    assert rows.is_current("one")
    assert rows.is_current("three")
    assert sent(rows.world) == 2
