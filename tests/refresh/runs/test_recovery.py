"""What the next run makes of a journal that a run left behind, whatever became of its rows meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import crypto
from crypto import Context
from providers.base import RawAnswer
from tests import exits
from tests.conftest import World
from tests.journal.requests import intend, is_spent
from tests.refresh.runs.faults_world import (
    TABLES,
    AirtableRows,
    Rows,
    SqliteRows,
    entries,
    journal,
    kept_token,
    meanwhile,
    refuse_answers,
    spare_files,
    table_of,
)
from tests.refresh.runs.test_faults import only, outage, run, sent
from tests.refresh.runs.test_faults_inside import FullJournal, full
from tests.refresh.runs.test_faults_inside import run as run_once
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.events import NoticeCode
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.clients.proof import Prover
from token_refresh.journal.entries import ANSWER_FIELD
from token_refresh.journal.file import JournalError

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    airtable_world.program.settings["LOG_FORMAT"] = "json"
    return AirtableRows(airtable_world)


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store."""
    made = table_of(request.param, request)
    made.world.program.settings["LOG_FORMAT"] = "json"
    return made


def left(table: AirtableRows, *names: str) -> None:
    """These rows were refreshed by a run that could not store them; the store is well again."""
    for name in names:
        table.add("acme", name)
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    assert len(entries(table.world, "answered")) == len(names)


# New tokens wait for the store


def test_of_a_row_that_was_onboarded_again_theirs_stays_and_ours_is_kept_in_the_journal(table: AirtableRows) -> None:
    left(table, "loc")
    ours = table.world.oauth.current("loc")
    table.edit("loc", encrypted_refresh=table.world.cells("acme", "loc")["encrypted_refresh"])
    result = run(table)
    assert "loc: the row was changed or deleted meanwhile; the earlier tokens are kept" in result.err
    assert result.codes()[:1] == [NoticeCode.SUPERSEDED]
    assert result.outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")
    [aside] = entries(table.world)
    assert (aside.step, kept_token(table.world, aside)) == ("superseded", ours)
    assert "are kept, encrypted" not in run(table).err


def test_a_row_whose_token_was_re_encrypted_meanwhile_gets_its_successor(table: AirtableRows) -> None:
    left(table, "loc")
    table.edit("loc", encrypted_refresh=table.world.seal("loc", "encrypted_refresh", table.stored("loc")))
    run(table)
    assert table.is_current("loc")
    assert entries(table.world) == []
    assert sent(table.world) == 1


def test_of_a_row_that_is_gone_the_tokens_are_kept_in_the_journal(table: AirtableRows) -> None:
    left(table, "loc", "other")
    table.remove("loc")
    result = run(table)
    assert "loc: the row is gone; its tokens are kept, encrypted, in the journal" in result.err
    assert result.codes()[:1] == [NoticeCode.ROW_GONE]
    assert result.outcomes() == {"other": "refreshed"}
    [aside] = entries(table.world)
    assert (aside.step, kept_token(table.world, aside)) == ("superseded", table.world.oauth.current("loc"))


def test_a_row_that_cannot_be_used_as_it_is_keeps_its_tokens_waiting_and_is_not_refreshed(table: AirtableRows) -> None:
    left(table, "loc", "other")
    table.edit("loc", provider_params="{")
    before = sent(table.world)
    result = run(table)
    assert "loc: new tokens wait in the journal, but provider_params is not a JSON object" in result.err
    assert result.codes()[:1] == [NoticeCode.TOKENS_WAIT]
    assert result.outcomes() == {"other": "refreshed"}
    table.edit("loc", provider_params=None)
    assert run(table).outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")
    assert sent(table.world) == before


def test_an_answer_that_does_not_open_blocks_its_row_alone_and_names_what_is_missing(table: AirtableRows) -> None:
    left(table, "loc", "other")
    [entry] = [entry for entry in entries(table.world) if entry.location_id == "loc"]
    with journal(table.world) as opened:
        foreign = crypto.Keyring(b"k" * 32)
        opened.keep_sealed(entry.id, foreign.seal("{}", Context(ANSWER_FIELD, "loc", entry.origin)))
    before = sent(table.world)
    result = run(table)
    assert f"loc: an answer in the journal does not open: it is encrypted with key {foreign.key_id}" in result.err
    assert result.codes()[:1] == [NoticeCode.KEY_MISSING]
    assert "Restore that key." in result.err
    assert result.outcomes() == {"other": "refreshed"}
    assert sent(table.world) == before
    assert len(entries(table.world)) == 1


def test_a_journal_that_cannot_be_written_ends_the_replay_and_loses_nothing(table: AirtableRows) -> None:
    left(table, "loc")
    table.remove("loc")

    def change(context: Any) -> Any:
        context.journal.__class__ = FullJournal
        context.journal.refuses = "mark"
        return context

    with pytest.raises(JournalError):
        run_once(table, change)
    assert len(entries(table.world, "answered")) == 1


# Answers without tokens wait: the run died between writing them down and acting on them


def answered(rows: Rows, raw: RawAnswer, *, was_lost: bool = False) -> None:
    """A run of which only the journal knows: it got this answer, and died."""
    run(rows)  # makes the state folder
    rows.add("acme", "loc")
    row, origin = rows.row("loc"), rows.world.oauth.url
    with journal(rows.world) as opened:
        entry_id = intend(opened, row, rows.stored("loc"), "acme", origin)
        if was_lost:
            opened.send_again(entry_id, origin, is_lost=True)
        opened.keep(entry_id, raw, Context(ANSWER_FIELD, "loc", origin))
    rows.world.clock.advance(200)


def raw(rows: Rows, status: int, error: str = "") -> RawAnswer:
    body = json.dumps({"error": error}).encode() if error else b""
    return RawAnswer(status, {}, body, rows.world.clock.now())


def test_an_answer_that_did_nothing_is_forgotten_and_the_row_is_tried_again(rows: Rows) -> None:
    answered(rows, raw(rows, 429))
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert entries(rows.world) == []
    assert sent(rows.world) == 1


def test_an_answer_that_did_nothing_after_one_that_was_lost_leaves_it_lost(rows: Rows) -> None:
    answered(rows, raw(rows, 429), was_lost=True)
    rows.world.oauth.revoke("loc")
    result = only(run(rows))
    assert result["outcome"] == "reauthorize"
    assert "the answer was lost on 2026-03-01 12:00 UTC" in result["error"]


def test_an_answer_that_cannot_be_read_counts_as_lost(rows: Rows) -> None:
    answered(rows, raw(rows, 502))
    rows.world.oauth.revoke("loc")
    assert "the answer was lost on 2026-03-01 12:00 UTC" in only(run(rows))["error"]


def test_a_dead_grant_is_reported_without_another_request(rows: Rows) -> None:
    answered(rows, raw(rows, 400, "invalid_grant"))
    assert only(run(rows))["outcome"] == "reauthorize"
    assert sent(rows.world) == 0
    assert rows.row("loc").status == "reauthorize"


def test_an_answer_without_tokens_is_forgotten_when_the_row_has_another_cell(rows: Rows) -> None:
    answered(rows, raw(rows, 400, "invalid_grant"))
    rows.edit("loc", encrypted_refresh=rows.world.cells("acme", "loc")["encrypted_refresh"])
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert entries(rows.world) == []


SHOWN = b'{"access_token": "sample-access", "refresh_token": "sample-refresh"}'


@pytest.mark.parametrize(
    ("status", "body", "steps"),
    [(429, b"", []), (400, b'{"error": "invalid_request"}', []), (404, SHOWN, []), (503, b"", ["lost"])],
)
def test_of_a_row_that_is_gone_an_answer_without_tokens_is_not_kept(
    rows: Rows, status: int, body: bytes, steps: list[str]
) -> None:
    """Kept aside it would say that the row's token has a successor, should the row come back."""
    rows.add("acme", "other")
    answered(rows, RawAnswer(status, {}, body, rows.world.clock.now()))
    cells = {"locationId": "loc", "provider": "acme", "client_id": "app-acme"}
    cells |= {name: getattr(rows.row("loc"), name) for name in ("encrypted_secret", "encrypted_refresh")}
    rows.remove("loc")
    result = run(rows)
    assert "are kept, encrypted" not in result.err
    assert [entry.step for entry in entries(rows.world)] == steps
    rows.put(cells)
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_of_a_row_that_is_gone_an_answer_in_a_form_that_is_not_known_is_kept(rows: Rows) -> None:
    """Should the row come back, its token is not sent: the answer may hold its successor."""
    strange = RawAnswer(200, {"content-type": "application/json"}, b'{"tokens": []}', rows.world.clock.now(), True)
    answered(rows, strange)
    cells = {"locationId": "loc", "provider": "acme", "client_id": "app-acme"}
    cells |= {name: getattr(rows.row("loc"), name) for name in ("encrypted_secret", "encrypted_refresh")}
    rows.remove("loc")
    run(rows)
    assert [entry.step for entry in entries(rows.world)] == ["unread"]
    rows.put(cells)
    assert run(rows).outcomes() == {"loc": "operator"}
    assert sent(rows.world) == 0


def test_a_page_in_the_journal_that_shows_a_token_replaces_none(rows: Rows) -> None:
    answered(rows, RawAnswer(503, {}, b"<pre>" + SHOWN, rows.world.clock.now()))
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_an_answer_whose_tokens_are_in_the_row_already_is_forgotten_and_the_old_token_is_not_sent_again(
    rows: Rows,
) -> None:
    """The run died between the store's confirmation and the journal's."""
    world = rows.world
    rows.add("acme", "loc")
    old = rows.row("loc").encrypted_refresh
    with full(rows, "finish") as change:
        run_once(rows, change)
    assert len(entries(world, "answered")) == 1
    assert run(rows).json()["results"] == []
    assert entries(world) == []
    rows.edit("loc", encrypted_refresh=old)
    world.clock.advance(3600)
    assert "was the row restored from a backup?" in only(run(rows))["error"]
    assert sent(world) == 1


# An onboarding was cut off


@pytest.fixture
def onboarding(rows: Rows) -> Callable[..., Result]:
    """Onboards `loc` at acme; no answer comes."""

    def act(*flags: str) -> Result:
        rows.world.oauth.fail(faults.reset(), times=2)
        file = rows.world.program.csv(rows.world.csv_line("acme", "loc"))
        result = rows.world.program.onboard("--from-csv", file, *flags)
        rows.world.clock.advance(200)
        return result

    return act


def providers(world: World) -> Path:
    return Path(world.program.settings["PROVIDERS_FILE"])


def test_an_onboarding_without_answer_is_asked_for_once_more_and_saved(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    assert onboarding().code == exits.FAILED
    result = run(rows)
    assert "loc: its onboarding was brought to an end: refreshed" in result.err
    assert NoticeCode.ONBOARDING_FINISHED in result.codes()
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_an_onboarding_that_the_next_run_gets_no_answer_to_either_is_kept_and_a_login_asked_for(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    onboarding()
    rows.world.oauth.fail(faults.reset())
    assert "Log in again and onboard the new token; the entered one is kept" in run(rows).err
    assert [entry.step for entry in entries(rows.world)] == ["superseded"]
    assert "Log in again" not in run(rows).err
    assert sent(rows.world) == 3


def test_an_onboarding_over_an_existing_row_proves_that_it_can_be_written_first(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    rows.add("acme", "loc")
    onboarding("--replace")
    token = rows.world.oauth.current("loc")
    assert run(rows).code == exits.DONE
    assert rows.is_current("loc")
    assert rows.stored("loc") != token


def test_an_onboarding_at_a_provider_that_is_no_longer_listed_waits_for_it(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    onboarding()
    known = providers(rows.world).read_text()
    providers(rows.world).write_text(known.replace("[acme]", "[other]").replace('name = "acme"', 'name = "other"'))
    result = run(rows)
    assert "loc: its onboarding waits in the journal: " in result.err
    assert (result.code, NoticeCode.ONBOARDING_WAITS in result.codes()) == (exits.FAILED, True)
    assert sent(rows.world) == 2
    providers(rows.world).write_text(known)
    assert "brought to an end: refreshed" in run(rows).err
    assert rows.is_current("loc")


def test_an_onboarding_is_not_sent_to_another_host_than_it_was_entered_for(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    onboarding()
    known = providers(rows.world).read_text()
    providers(rows.world).write_text(known.replace(rows.world.oauth.token_url("acme"), "https://acme.example/token"))
    result = run(rows)
    assert f"loc: its onboarding waits in the journal: it was for {rows.world.oauth.url}, not https://acme.example" in (
        result.err
    )
    assert sent(rows.world) == 2


def test_an_onboarding_whose_key_is_gone_waits_for_it_and_hinders_no_other(
    rows: Rows, onboarding: Callable[..., Result]
) -> None:
    onboarding()
    right = rows.world.program.settings["ENCRYPTION_KEY"]
    rows.world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    rows.add("acme", "other")
    result = run(rows, "--takeover")
    assert "loc: its onboarding in the journal does not open: it is encrypted with key" in result.err
    assert "Restore that key." in result.err
    assert result.outcomes() == {"other": "refreshed"}
    another = rows.world.program.csv(rows.world.csv_line("acme", "third"))
    assert rows.world.program.onboard("--from-csv", another).code == 0
    rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = right
    assert "brought to an end: refreshed" in run(rows).err


def test_an_onboarding_that_this_program_cannot_read_stays_and_hinders_no_other(rows: Rows) -> None:
    """Another version wrote it."""
    run(rows)
    with journal(rows.world) as opened:
        opened.admit("loc", "acme", rows.world.oauth.url, "", "token", '{"colour": "green"}')
    rows.world.clock.advance(200)
    rows.add("acme", "other")
    result = run(rows)
    assert "loc: its onboarding stays in the journal: internal error: TypeError at credential.py:" in result.err
    assert result.outcomes() == {"other": "refreshed"}
    assert len(entries(rows.world)) == 1


def test_a_store_that_is_away_when_an_onboarding_goes_on_is_an_outage(table: AirtableRows) -> None:
    world = table.world
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    world.clock.advance(200)
    assert world.airtable is not None
    world.airtable.inject(airtable_faults.status(503), times=None)
    before = sent(world)
    assert run(table).code == exits.STORE
    assert sent(world) == before
    world.airtable.faults.clear()
    assert "brought to an end: refreshed" in run(table).err


def test_an_unproved_credential_does_not_replace_what_somebody_entered_meanwhile(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("acme", "loc", encrypted_refresh="")
    theirs = rows.world.cells("acme", "loc")["encrypted_refresh"]
    line = rows.world.csv_line("acme", "loc")
    before = Prover.refuse_used

    def meanwhile(self: Prover, *arguments: Any) -> None:
        rows.edit("loc", encrypted_refresh=theirs)
        before(self, *arguments)

    monkeypatch.setattr(Prover, "refuse_used", meanwhile)
    result = rows.world.program.onboard("--from-csv", rows.world.program.csv(line), "--no-check")
    assert "somebody changed the row meanwhile, and theirs stays" in result.err
    assert "is kept, encrypted" not in result.err
    assert rows.row("loc").encrypted_refresh == theirs


# The journal refuses


NO_FOLDER = "/dev/null"  # STATE_DIR_SPARE, on a disk that takes nothing either


@pytest.mark.parametrize("spare", ["", NO_FOLDER])
def test_answers_that_only_the_store_took_are_neither_printed_nor_left_in_a_file(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, spare: str
) -> None:
    if spare:
        rows.world.program.settings["STATE_DIR_SPARE"] = spare
    refuse_answers(monkeypatch)
    rows.add("acme", "loc")
    refreshed = run(rows)
    assert (refreshed.code, refreshed.outcomes()) == (exits.USAGE, {"loc": "refreshed"})
    entered = rows.world.program.onboard("--from-csv", rows.world.program.csv(rows.world.csv_line("acme", "new")))
    assert "sealed:v1:" not in refreshed.said + entered.said
    assert "unsaved" not in refreshed.json()
    assert all(map(rows.is_current, ("loc", "new")))
    assert spare or spare_files(rows.world) == []


def test_a_lost_answer_is_remembered_although_another_client_got_the_key_of_its_row(world: World) -> None:
    """SQLite gives it to the next row, as an import makes them. To send that token again could revoke the grant."""
    table = SqliteRows(world)
    world.program.settings["REFRESH_INTERVAL"] = "600"
    cells = world.cells("acme-family", "loc")
    cells |= {"access_token_expiry": world.clock.now() + timedelta(hours=1), "last_refreshed": world.clock.now()}
    table.put(cells)
    world.oauth.fail(faults.reset())
    run(table, "--all")
    key = table.row("loc").key
    table.remove("loc")
    table.add("acme-never", "other")
    table.put(cells)
    assert table.row("other").key == key
    world.clock.advance(100)
    result = run(table, "--all")
    assert result.outcomes() == {"other": "refreshed"}, result.err
    assert [entry.location_id for entry in entries(world)] == ["loc"]


# What was kept aside is wanted again


def deleted_during_its_refresh(rows: Rows, provider: str) -> str:
    """A row that somebody deleted while it was refreshed; the cell that it held."""
    rows.add(provider, "loc")
    cell = rows.row("loc").encrypted_refresh
    rows.world.oauth.fail(meanwhile(lambda: rows.remove("loc")))
    run(rows)
    assert [entry.step for entry in entries(rows.world)] == ["superseded"]
    return cell


@pytest.mark.parametrize("is_resealed", [False, True])
def test_a_row_that_comes_back_with_its_spent_token_is_not_sent_and_gets_what_was_kept(
    rows: Rows, is_resealed: bool
) -> None:
    cell = deleted_during_its_refresh(rows, "acme")
    current = rows.world.oauth.current("loc")
    with journal(rows.world) as opened:  # somebody else's onboarding is aside, too
        opened.mark(opened.admit("other", "acme", "https://acme.example", "", "token", "{}"), "superseded")
    rows.add("acme", "loc")
    if is_resealed:
        cell = rows.world.seal("loc", "encrypted_refresh", rows.world.open_refresh("loc", cell))
    rows.edit("loc", encrypted_refresh=cell)
    before = sent(rows.world)
    told = only(run(rows))
    assert (told["outcome"], told["action"]) == ("operator", f"Store them: {TOKEN_MANAGER} recover --replay")
    assert sent(rows.world) == before
    assert rows.world.program.run("recover", "--replay").code == 0
    assert rows.stored("loc") == current
    assert [entry.location_id for entry in entries(rows.world)] == ["other"]


@pytest.mark.parametrize(("provider", "params"), [("acme-family", ""), ("acme", "{")])
def test_what_was_kept_of_a_row_that_is_gone_goes_into_no_other_of_its_location(
    rows: Rows, provider: str, params: str
) -> None:
    deleted_during_its_refresh(rows, "acme")
    rows.add(provider, "loc", provider_params=params)
    cell = rows.row("loc").encrypted_refresh
    rows.world.program.run("recover", "--replay")
    assert rows.row("loc").encrypted_refresh == cell
    assert [entry.step for entry in entries(rows.world)] == ["superseded"]


class AnotherStore(SqliteRows):
    """A database beside the embedded one."""

    def address(self) -> str:
        return f"sqlite:///{self.world.program.home / 'another.sqlite3'}"


def test_what_the_journal_of_another_store_keeps_goes_into_no_row_with_a_token_of_its_own(world: World) -> None:
    deleted_during_its_refresh(SqliteRows(world), "acme")
    [before] = world.journalled()
    other = AnotherStore(world)
    world.program.settings["DATABASE_URL"] = other.address()
    other.add("acme", "loc")
    assert world.program.run("recover", "--replay").code == exits.DONE
    assert other.is_current("loc")
    assert world.journalled() == [before]


def test_the_access_token_of_a_row_that_is_gone_is_kept_in_the_journal_and_spends_nothing(table: AirtableRows) -> None:
    table.add("acme-never", "loc")
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    token = table.stored("loc")
    table.remove("loc")
    run(table)
    assert [entry.step for entry in entries(table.world)] == ["superseded"]
    with journal(table.world) as opened:
        assert not is_spent(opened, token)
