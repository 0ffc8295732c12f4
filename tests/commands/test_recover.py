"""`recover`: what waits in the journal, and the ways out of it, none of which asks a provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import crypto
from tests import exits
from tests.conftest import World
from tests.journal.requests import intend
from tests.refresh.runs.faults_world import (
    DATABASES,
    AirtableRows,
    PostgresRows,
    Rows,
    SqliteRows,
    entries,
    journal,
    kept_token,
    meanwhile,
    refuse_answers,
    table_of,
)
from tests.refresh.runs.test_faults import outage, run, sent
from tests.world.airtable import errors
from tests.world.airtable import faults as airtable_faults
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.postgres import PostgresServer, name_of
from tests.world.program import Result
from token_refresh.journal.entries import Journal
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.by_turns("printed")


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    """One row whose new tokens could not be stored; the store is well again."""
    made = AirtableRows(airtable_world)
    made.add("acme", "loc")
    outage(made, airtable_faults.status(503))
    assert run(made).code == exits.STORE
    assert airtable_world.airtable is not None
    airtable_world.airtable.faults.clear()
    return made


@pytest.fixture
def superseded(table: AirtableRows) -> AirtableRows:
    """The same, but superseded: somebody onboarded the row again meanwhile."""
    table.edit("loc", encrypted_refresh=table.world.cells("acme", "loc")["encrypted_refresh"])
    assert table.world.program.run("recover", "--replay").code == exits.DONE
    assert [entry.step for entry in entries(table.world)] == ["superseded"]
    return table


def only_entry(world: World, *flags: str) -> dict[str, Any]:
    [entry] = world.program.run("recover", "--json", *flags).json()["entries"]
    return dict(entry)


def test_an_empty_journal_is_said_to_be_empty(world: World) -> None:
    result = world.program.run("recover")
    assert (result.code, result.out) == (exits.DONE, "")
    assert "nothing waits in the journal" in result.err
    assert world.program.run("recover", "--json").json() == {"store": "database", "results": [], "entries": []}


def test_each_entry_is_shown_with_what_it_is_and_nothing_is_done(airtable_world: World) -> None:
    world, table = airtable_world, AirtableRows(airtable_world)
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "entered")))
    table.add("acme", "loc")
    outage(table, airtable_faults.status(503))
    run(table)
    before = sent(world)
    shown = world.program.run("recover")
    assert shown.code == exits.DONE
    assert re.search(
        r"(?m)^\d+ +loc +acme +2026-03-01 12:0\d +new tokens that are not yet in the table +Store them: ", shown.out
    )
    assert re.search(
        r"(?m)^\d+ +entered +acme .* the answer was lost; the token may be spent \(of an onboarding\)", shown.out
    )
    assert "2 entries in the journal" in shown.err
    assert "sealed:" not in shown.said
    assert sent(world) == before
    assert len(entries(world)) == 2


def test_the_list_as_json_is_what_the_documents_promise(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    world.oauth.fail(faults.reset(), times=2)
    run(rows)
    entry = only_entry(world)
    assert entry.pop("entry") == 1
    assert entry == {
        "location_id": "loc",
        "provider": "acme",
        "step": "lost",
        "is_onboarding": False,
        "started_at": "2026-03-01T12:00:00.000Z",
        "lost_at": "2026-03-01T12:00:00.000Z",
        "action": "Nothing to do now: the next run tries again, and the old access token stays in place. "
        "If its row was deleted or emptied: recover --forget 1 --yes",
    }


def test_replay_stores_what_waits_and_refreshes_nothing(table: AirtableRows) -> None:
    table.add("acme", "due")
    before = sent(table.world)
    result = table.world.program.run("recover", "--replay", "--json")
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert result.json()["entries"] == []
    assert table.is_current("loc")
    assert sent(table.world) == before
    assert "nothing waits in the journal" in result.err


@pytest.mark.long
def test_what_a_postgresql_that_went_away_did_not_take_is_stored_by_a_replay(
    postgres_world: World, postgres: PostgresServer
) -> None:
    rows, world = PostgresRows(postgres_world), postgres_world
    address, entrance = rows.address(), f"ALTER DATABASE {name_of(rows.address())} ALLOW_CONNECTIONS "
    rows.add("acme", "loc")

    def go_away() -> None:
        postgres.admin(entrance + "false")
        postgres.cut(address)

    world.oauth.fail(meanwhile(go_away))
    assert run(rows).code == exits.STORE
    assert world.program.run("recover", "--replay").code == exits.STORE
    postgres.admin(entrance + "true")
    assert only_entry(world)["step"] == "answered"
    before = sent(world)
    result = world.program.run("recover", "--replay", "--json")
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert rows.is_current("loc")
    assert entries(world) == []
    assert sent(world) == before
    assert world.program.run("--json").json()["results"] == []


def test_a_replay_that_the_store_does_not_take_is_reported_and_keeps_everything(table: AirtableRows) -> None:
    assert table.world.airtable is not None
    table.world.airtable.inject(airtable_faults.status(503), kind="update", times=None)
    result = table.world.program.run("recover", "--replay")
    assert result.code == exits.STORE
    assert "Airtable" in result.err
    assert kept_token(table.world, entries(table.world)[0]) == table.world.oauth.current("loc")


def test_a_replay_that_finds_a_dead_grant_says_so_and_fails(airtable_world: World) -> None:
    world, table = airtable_world, AirtableRows(airtable_world)
    table.add("acme", "dead")
    world.oauth.revoke("dead")
    outage(table, airtable_faults.status(503))
    run(table)
    assert world.airtable is not None
    world.airtable.faults.clear()
    result = world.program.run("recover", "--replay")
    assert result.code == exits.FAILED
    assert "dead acme: reauthorize" in result.err


def test_the_journal_is_listed_where_nobody_can_say_of_which_table_an_entry_is(table: AirtableRows) -> None:
    """Its table has another name by now, and Airtable does not answer."""
    world = table.world
    assert world.airtable is not None
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Another"
    world.airtable.inject(airtable_faults.status(503), times=None)
    listed = world.program.run("recover")
    assert (listed.code, "recover --replay" in listed.out) == (exits.DONE, True)


def test_what_a_replay_could_not_store_is_said_and_listed(table: AirtableRows) -> None:
    table.edit("loc", provider_params="{")
    result = table.world.program.run("recover", "--replay", "--json")
    assert "loc: new tokens wait in the journal, but provider_params is not a JSON object" in result.err
    assert [entry["step"] for entry in result.json()["entries"]] == ["answered"]


def test_tokens_that_waited_while_the_table_was_restored_from_a_backup_go_over_the_used_one(
    table: AirtableRows,
) -> None:
    world = table.world
    assert world.program.run("recover", "--replay").code == exits.DONE
    backup = world.table.cells(world.table.find(locationId="loc")[0])["encrypted_refresh"]
    for fails in (False, True):
        world.clock.advance(3600)
        if fails:
            outage(table, airtable_faults.status(503))
        run(table)
    assert world.airtable is not None
    world.airtable.faults.clear()
    table.edit("loc", encrypted_refresh=backup)
    asked = sent(world)
    result = run(table)
    assert result.json()["results"][-1]["action"].endswith("recover --replay")
    assert [entry.step for entry in entries(world)] == ["superseded"]
    assert world.program.run("recover", "--replay").code == exits.DONE
    assert (table.is_current("loc"), entries(world), sent(world)) == (True, [], asked)


# A printed answer


@pytest.fixture(params=DATABASES)
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Rows, str]:
    """A line of a log with a sealed answer, of a run whose disk was full and whose database then failed, too."""
    rows = table_of(request.param, request)
    world = rows.world
    rows.add("acme", "loc")

    old = rows.row("loc")
    world.program.settings["STATE_DIR_SPARE"] = "/dev/null"
    with monkeypatch.context() as disk:
        refuse_answers(disk)
        disk.setattr(Journal, "finish", lambda *_: None)
        result = world.program.run()
    assert result.code == exits.USAGE
    [line] = [line for line in result.err.splitlines() if "recover --cell -" in line]
    rows.edit("loc", encrypted_refresh=old.encrypted_refresh, access_token_expiry=None, last_access_token="")
    return rows, line


def test_a_printed_answer_is_put_where_it_belongs(printed: tuple[Rows, str]) -> None:
    rows, line = printed
    file = rows.world.program.home / "line.txt"
    file.write_text(f"from the log:\n{line}\n")
    before = sent(rows.world)
    result = rows.world.program.run("recover", "--cell", str(file), "--json")
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert rows.is_current("loc")
    assert entries(rows.world) == []
    assert sent(rows.world) == before
    assert rows.world.program.run("--json").json()["results"] == []


def test_a_printed_answer_is_taken_from_standard_input(printed: tuple[Rows, str]) -> None:
    rows, line = printed
    result = rows.world.program.spawn("recover", "--cell", "-", "--json", stdin=line)
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert rows.is_current("loc")


@pytest.fixture
def full(airtable_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirtableRows]:
    """A row that is due; until the test undoes it, a run on a disk that takes no answer, nor does the spare folder."""
    rows = AirtableRows(airtable_world)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    rows.edit("loc", access_token_expiry=None)
    airtable_world.program.settings["STATE_DIR_SPARE"] = "/dev/null"
    refuse_answers(monkeypatch)
    yield rows
    monkeypatch.undo()


def recovered(rows: AirtableRows, line: str) -> Result:
    assert rows.world.airtable is not None
    rows.world.airtable.faults.clear()
    file = rows.world.program.home / "line.txt"
    file.write_text(line)
    return rows.world.program.run("recover", "--cell", str(file), "--json")


def test_a_printed_answer_goes_to_the_request_whose_end_is_not_known(
    full: AirtableRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one, of a row of the same name that was deleted, would open it, too."""
    with journal(full.world) as opened:
        other = replace(full.row("loc"), key="recDeleted", encrypted_refresh="other")
        older = intend(opened, other, "other", "acme", full.world.oauth.url)
        opened.mark(older, "lost")
    outage(full, airtable_faults.refuse(errors.model_not_found()))
    line = full.world.program.run().out
    monkeypatch.undo()
    result = recovered(full, line)
    assert (result.code, result.outcomes()) == (exits.DONE, {"loc": "refreshed"})
    assert full.is_current("loc")
    assert [(entry.id, entry.step) for entry in entries(full.world)] == [(older, "lost")]


def test_a_printed_answer_whose_row_was_changed_meanwhile_is_superseded(
    full: AirtableRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = full.stored("loc"), full.world.cells("acme", "loc")["encrypted_refresh"]
    full.world.oauth.fail(meanwhile(lambda: full.edit("loc", encrypted_refresh=theirs)))
    line = full.world.program.run().out
    assert [entry.step for entry in entries(full.world)] == ["superseded"]
    monkeypatch.undo()
    assert recovered(full, line).code == exits.DONE
    [aside] = entries(full.world)
    assert (aside.step, kept_token(full.world, aside)) == ("superseded", full.world.oauth.current(ours))


def test_an_older_answer_of_the_same_row_never_goes_over_a_newer_token(printed: tuple[Rows, str]) -> None:
    """The row went on meanwhile, and its latest request was lost: the printed answer is to another token."""
    rows, line = printed
    world = rows.world
    file = world.program.home / "line.txt"
    file.write_text(line)
    assert world.program.run("recover", "--cell", str(file)).code == exits.DONE
    current = rows.stored("loc")
    world.oauth.fail(faults.reset(), times=2)
    rows.edit("loc", access_token_expiry=None)
    assert run(rows).code == exits.FAILED
    assert [entry.step for entry in entries(world)] == ["lost"]
    result = world.program.run("recover", "--cell", str(file))
    assert result.code == exits.FAILED
    assert "no request in this journal belongs to that answer" in result.err
    assert (rows.stored("loc"), [entry.step for entry in entries(world)]) == (current, ["lost"])


def test_an_answer_that_names_no_request_goes_to_none_that_began_after_it(world: World) -> None:
    """As version 0.1.0 printed it."""
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    run(rows)
    context = crypto.Context("answer", "loc", world.oauth.url)
    content = {"status": 200, "headers": {}, "body": "", "received_at": "2026-03-01T12:00:05.000Z"}
    sealed = world.program.keyring.seal(json.dumps(content), context)
    with journal(world) as opened:
        before, after = (intend(opened, rows.row("loc"), f"token {number}", "acme", world.oauth.url) for number in "12")
        early, late = opened.entries("sent")
        assert (early.id, late.id) == (before, after)
        assert opened.is_answer_to(early, sealed)
        assert not opened.is_answer_to(replace(late, started_at=START + timedelta(minutes=1)), sealed)


def test_an_answer_to_no_request_of_this_journal_is_refused(printed: tuple[Rows, str]) -> None:
    rows, line = printed
    rows.world.program.settings["STATE_DIR"] += "-of-another-machine"
    file = rows.world.program.home / "line.txt"
    file.write_text(line)
    result = rows.world.program.run("recover", "--cell", str(file))
    assert result.code == exits.FAILED
    assert "no request in this journal belongs to that answer, or its key is gone" in result.err
    assert "Set STATE_DIR as it was when it was printed, and add the key of that time" in result.err


def test_an_answer_whose_key_is_gone_is_refused_and_the_request_stays(printed: tuple[Rows, str]) -> None:
    rows, line = printed
    right = rows.world.program.settings["ENCRYPTION_KEY"]
    rows.world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    file = rows.world.program.home / "line.txt"
    file.write_text(line)
    assert rows.world.program.run("recover", "--cell", str(file)).code == exits.FAILED
    rows.world.program.settings["ENCRYPTION_KEY"] = right
    assert rows.world.program.run("recover", "--cell", str(file)).code == exits.DONE
    assert rows.is_current("loc")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nothing of that kind", "there is no encrypted answer in it"),
        ("", "there is no encrypted answer in it"),
        ("sealed:v1:a sealed:v1:b", "there are several encrypted answers in it"),
        ("\xff\xfe sealed:v1:a sealed:v1:b", "there are several encrypted answers in it"),
    ],
)
def test_a_file_without_exactly_one_answer_is_usage(world: World, content: str, told: str) -> None:
    file = world.program.home / "cell"
    file.write_bytes(content.encode("latin-1"))
    result = world.program.run("recover", "--cell", str(file))
    assert result.code == exits.USAGE
    assert told in result.err
    assert "Give it the part that begins with sealed:" in result.err


def test_a_file_that_cannot_be_read_is_named(world: World) -> None:
    result = world.program.run("recover", "--cell", str(world.program.home / "nowhere"))
    assert result.code == exits.USAGE
    assert "nowhere cannot be read (No such file or directory)" in result.err


# Forgetting


def test_what_is_kept_is_forgotten_when_somebody_agrees(superseded: AirtableRows) -> None:
    number = str(only_entry(superseded.world)["entry"])
    unsure = superseded.world.program.run("recover", "--forget", number)
    assert unsure.code == exits.USAGE
    assert f"entry {number} holds tokens that nobody can make again" in unsure.err
    assert "--yes" in unsure.err
    assert len(entries(superseded.world)) == 1
    assert superseded.world.program.run("recover", "--forget", number, "--yes").code == exits.DONE
    assert entries(superseded.world) == []


def test_what_a_run_may_still_need_cannot_be_forgotten(table: AirtableRows) -> None:
    number = str(only_entry(table.world)["entry"])
    result = table.world.program.run("recover", "--forget", number, "--yes")
    assert result.code == exits.USAGE
    assert f"there is no entry {number} that can be forgotten" in result.err
    assert len(entries(table.world)) == 1


def test_recover_waits_for_no_other_run(table: AirtableRows) -> None:
    [folder] = {path.parent for path in table.world.program.home.glob("state/*/run.lock")}
    with run_lock(folder, table.world.clock):
        assert table.world.program.run("recover").code == exits.BUSY
