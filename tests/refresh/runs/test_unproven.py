"""Answers that bring a new refresh token and no proof that it works, and answers in a form that nobody knows."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import crypto
from tests import exits
from tests.chaos.hand import Hand
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import TABLES, Rows, SqliteRows, entries, journal, meanwhile, table_of
from tests.refresh.runs.test_faults import only, run
from tests.refresh.runs.test_faults_inside import OtherStore, on, run_context_of
from tests.refresh.runs.test_faults_inside import run as run_once
from tests.refresh.runs.test_which_token_counts import assert_next_run_refreshes, is_spent
from tests.world.oauth import faults
from tests.world.oauth.faults import Fault
from tests.world.program import Result
from token_refresh.journal.entries import Journal
from token_refresh.journal.file import refused
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.refresh.write_back import MAX_UNPROVEN
from token_refresh.stores.base import Store, StoreUnavailableError

SAMPLE = {"refresh_token": "sample-refresh"}


pytestmark = pytest.mark.by_turns("rows", "databases")


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store."""
    return table_of(request.param, request)


@pytest.fixture(params=[name for name in TABLES if name != "airtable"])
def databases(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of database."""
    return table_of(request.param, request)


@pytest.fixture
def table(world: World) -> SqliteRows:
    """Rows of the embedded database."""
    return SqliteRows(world)


def alone(content: dict[str, Any]) -> bytes:
    """The refresh token without the access token beside it."""
    return json.dumps({"refresh_token": content["refresh_token"]}).encode()


def broken_off(content: dict[str, Any]) -> bytes:
    """The answer up to behind the refresh token."""
    ordered = {"refresh_token": content["refresh_token"], "access_token": content["access_token"]}
    return json.dumps(ordered).encode()[:-10]


def broken_off_one_level_down(content: dict[str, Any]) -> bytes:
    """The same where the tokens are in a member."""
    return b'{"status": 0, "body": ' + broken_off(content)


def strange(content: dict[str, Any]) -> bytes:
    """Two levels down, where nobody looks."""
    return json.dumps({"response": {"data": content}}).encode()


def behind_a_failure(code: int = 503) -> Fault:
    """The provider acts, and the server in front of it says that it failed, with the answer as its body."""

    def apply(call: faults.Call, act: faults.Act) -> Any:
        return replace(act(), status=code)

    return Fault(f"acted, {code}", apply)


def sent(rows: Rows, since: int = 0) -> list[str]:
    """The refresh tokens that the provider was sent."""
    return [dict(request.form())["refresh_token"] for request in rows.world.oauth.requests[since:]]


# A new refresh token without an access token


def test_where_the_disk_is_full_when_it_came_the_run_says_so_and_the_next_one_stores_it(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise refused(sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(Journal, "note_unproven", refuse)
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.amended(alone))
    result = run(rows)
    assert result.code == exits.USAGE
    assert "the journal cannot be written (database or disk is full)" in result.err
    assert "internal error" not in result.said
    monkeypatch.undo()
    assert run(rows).code == exits.DONE
    assert rows.is_current("loc")
    assert len(sent(rows)) == 2


@pytest.mark.parametrize("change", [alone, broken_off, broken_off_one_level_down])
def test_a_token_that_came_without_an_access_token_is_stored_and_proved_by_one_more_refresh_in_the_same_run(
    rows: Rows, change: Callable[[dict[str, Any]], bytes]
) -> None:
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(faults.amended(change))
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (0, "refreshed"), result.err
    tokens = sent(rows)
    assert (len(tokens), tokens[0]) == (2, first)
    assert rows.is_current("loc")
    assert rows.world.oauth.is_live(rows.access("loc"))
    assert entries(rows.world) == []
    assert is_spent(rows, first)
    assert is_spent(rows, tokens[1])


def test_where_a_rule_of_the_table_refuses_the_token_before_the_next_run_puts_it_back(databases: Rows) -> None:
    databases.add("acme-family", "loc")
    first, hand = databases.stored("loc"), Hand(databases)
    databases.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    databases.world.oauth.fail(meanwhile(lambda: hand.refuse_writes_of("loc")))
    result = only(run(databases))
    assert result["outcome"] == "operator"
    assert result["error"].startswith("the earlier tokens are in the journal: ")
    hand.accept_writes()
    run(databases)
    assert databases.stored("loc") == first
    assert sent(databases) == [first, "sample-refresh"]
    assert_next_run_refreshes(databases)


def test_an_unproven_token_that_is_refused_gives_way_to_the_one_before(rows: Rows) -> None:
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "unknown")
    assert sent(rows) == [first, "sample-refresh"]
    assert rows.stored("loc") == first
    assert not is_spent(rows, first)
    assert_next_run_refreshes(rows)


def away(*_: object) -> None:
    """What a store does that does not answer."""
    raise StoreUnavailableError("the store does not answer", "Wait.")


def leave_a_sample(databases: Rows) -> str:
    """A row with a sample that was not tried yet, in a database that another host finds; the token before it."""
    databases.add("acme", "loc")
    world, first = databases.world, databases.stored("loc")
    if isinstance(databases, SqliteRows):
        world.program.settings["DATABASE_URL"] = databases.address()
    world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), token=first)
    world.oauth.fail(faults.status(503), times=9, token="sample-refresh")
    assert only(run(databases))["outcome"] == "unknown"
    return first


def test_on_a_host_without_the_journal_the_token_before_is_in_the_row(databases: Rows) -> None:
    """The first host is gone, and its journal with it; only the table is left."""
    world, first = databases.world, leave_a_sample(databases)
    assert (databases.stored("loc"), databases.row("loc").previous_refresh[:7]) == ("sample-refresh", "sealed:")
    world.oauth.behave()
    other = replace(world.program, settings=world.program.settings | {"STATE_DIR": str(world.program.home / "another")})
    since = len(world.oauth.requests)
    second = other.run("--json", "--takeover")
    assert only(second)["outcome"] == "unknown", second.out
    assert sent(databases, since) == ["sample-refresh"]
    assert (databases.stored("loc"), databases.row("loc").previous_refresh) == (first, "")
    world.clock.advance(100)
    assert only(other.run("--json"))["outcome"] == "refreshed"
    assert databases.is_current("loc")


@pytest.mark.by_turns("databases", "samples")
@pytest.mark.parametrize("samples", [["another-sample"], ["another-sample", "a-third-sample"]], ids=["two", "three"])
def test_on_a_host_without_the_journal_unproven_tokens_in_a_row_give_way_to_the_one_before_all_of_them(
    databases: Rows, samples: list[str]
) -> None:
    """The row knows the token before the first, the new journal the others: none is given up for the last."""
    world, first = databases.world, leave_a_sample(databases)
    world.oauth.behave()
    for token, after in zip(["sample-refresh", *samples], samples, strict=False):
        world.oauth.fail(faults.raw(json.dumps({"refresh_token": after}).encode()), token=token)
    other = replace(world.program, settings=world.program.settings | {"STATE_DIR": str(world.program.home / "another")})
    since = len(world.oauth.requests)
    assert only(other.run("--json", "--takeover"))["outcome"] == "unknown"
    assert sent(databases, since) == ["sample-refresh", "another-sample"]
    left = ["sample-refresh", *samples[: len(samples) if samples[1:] else 0]]  # a second one was tried in that run
    for token in (*reversed(left), first):
        assert databases.stored("loc") == token
        world.clock.advance(100)
        result = other.run("--json")
    assert only(result)["outcome"] == "refreshed", result.out
    assert databases.is_current("loc")
    assert not databases.row("loc").previous_refresh


@pytest.mark.by_turns("databases", "again")
@pytest.mark.parametrize("again", ["never", "by rotate-key", "by a replay"])
def test_a_token_before_that_row_and_journal_have_sealed_apart_is_no_other_one(databases: Rows, again: str) -> None:
    """The row alone is to know the token that was sent last, where the journal knows the one before, too."""
    world, settings = databases.world, databases.world.program.settings
    databases.add("acme-family", "loc")
    first = databases.stored("loc")
    if isinstance(databases, SqliteRows):
        settings["DATABASE_URL"] = databases.address()
    world.oauth.fail(faults.amended(alone), token=first)
    world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    if again == "by a replay":
        with run_context_of(databases) as context:
            vars(context.store.store)["write"] = away
            Refresher(context).run(Scope())
        world.clock.advance(200)
    run(databases)
    if again == "by rotate-key":
        settings |= {"ENCRYPTION_KEY_FALLBACKS": settings["ENCRYPTION_KEY"], "ENCRYPTION_KEY": crypto.generate_key()}
        assert world.program.run("rotate-key").code == exits.DONE
    real = databases.stored("loc")
    world.oauth.behave()
    world.clock.advance(3600)
    world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), token=real)
    world.oauth.fail(faults.status(503), times=9, token="sample-refresh")
    run(databases)
    assert databases.stored("loc") == "sample-refresh"
    world.oauth.behave()
    world.clock.advance(3600)
    other = replace(world.program, settings=settings | {"STATE_DIR": str(world.program.home / "another")})
    other.run("--takeover")
    assert databases.stored("loc") == real != first
    world.clock.advance(3600)
    assert only(other.run("--json"))["outcome"] == "refreshed"
    assert databases.is_current("loc")


@pytest.mark.parametrize("is_followed", [False, True])
def test_a_token_before_that_cannot_be_read_gives_way_once_the_journal_knows_another(
    databases: Rows, is_followed: bool
) -> None:
    """Its key may come back; but of a second unproven token the row is to know the one before."""
    databases.add("acme", "loc", previous_refresh="scribble")
    world = databases.world
    world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), token=databases.stored("loc"))
    another = faults.raw(json.dumps({"refresh_token": "another-sample"}).encode())
    world.oauth.fail(another if is_followed else faults.status(503), times=9, token="sample-refresh")
    run(databases)
    assert databases.stored("loc") == ("another-sample" if is_followed else "sample-refresh")
    assert databases.row("loc").previous_refresh.startswith("sealed:" if is_followed else "scribble")


def test_a_token_before_that_somebody_edited_is_not_taken(databases: Rows) -> None:
    """A cell that does not open stops neither its row nor another."""
    databases.add("acme", "loc", previous_refresh="scribble")
    databases.add("acme", "other", previous_refresh=databases.world.seal("loc", "previous_refresh", "of another row"))
    databases.world.oauth.revoke("loc")
    result = run(databases, "--all")
    assert result.outcomes() == {"loc": "reauthorize", "other": "refreshed"}
    assert databases.row("other").previous_refresh == ""


def test_a_sample_that_comes_again_and_again_costs_the_row_nothing_for_good(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), times=5, token=first)
    for _ in range(4):
        assert only(run(table))["outcome"] != "reauthorize"
        table.world.clock.advance(3600)
    table.world.oauth.behave()
    assert table.stored("loc") == first
    assert_next_run_refreshes(table)


def test_what_is_not_proved_in_one_run_is_proved_in_the_next(rows: Rows) -> None:
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(faults.amended(alone))
    rows.world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "unknown")
    assert not is_spent(rows, first)
    assert rows.is_current("loc")
    rows.world.oauth.behave()
    assert_next_run_refreshes(rows)
    assert is_spent(rows, first)


def test_a_run_that_ends_between_the_store_and_the_proof_leaves_the_proof_to_the_next(
    table: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(faults.amended(alone))
    with monkeypatch.context() as patch:
        patch.setattr("token_refresh.refresh.run.list_unproven", lambda *_: iter(()))
        assert only(run(table))["outcome"] == "unknown"
    assert len(sent(table)) == 1
    assert_next_run_refreshes(table)


class Edited(OtherStore):
    """A store in which a colleague makes the row unusable as soon as a run has written it."""

    def __init__(self, usual: Store, rows: Rows) -> None:
        super().__init__(usual)
        self._rows = rows

    def write(self, changes: Any) -> Any:
        """See `Store.write`."""
        done = self.usual.write(changes)
        self._rows.edit("loc", provider_params="{")
        return done


def test_a_row_that_cannot_be_used_any_more_waits_with_its_unproven_token(table: Rows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(faults.amended(alone))
    report = run_once(table, lambda context: on(context, Edited(context.store.store, table)))
    results = [(one.outcome, one.error) for one in report.results]
    assert results[0] == ("operator", "provider_params is not a JSON object of texts")
    assert (len(sent(table)), [entry.step for entry in entries(table.world)]) == (1, ["unproven"])
    table.edit("loc", provider_params="")
    assert_next_run_refreshes(table)
    assert entries(table.world) == []


def test_a_colleague_who_onboards_over_an_unproven_token_wins_and_the_token_is_kept(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(faults.amended(alone))
    table.world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    run(table)
    table.world.oauth.behave()
    unproven = table.stored("loc")
    table.edit("loc", encrypted_refresh=table.world.cells("acme", "loc")["encrypted_refresh"])
    table.world.clock.advance(100)
    assert only(run(table))["outcome"] == "refreshed"
    assert [entry.step for entry in entries(table.world, "superseded")] == ["superseded"]
    assert unproven not in sent(table)[-1:]


def test_an_unproven_token_is_kept_also_where_the_one_before_had_been_replaced_before_it_was_sent_again(
    table: Rows,
) -> None:
    """That earlier time does not say that somebody has proved this one."""
    table.add("acme-grace", "loc")
    world, first, cell = table.world, table.stored("loc"), table.row("loc").encrypted_refresh
    run(table)
    table.edit("loc", encrypted_refresh=cell)
    world.clock.advance(10)
    world.oauth.fail(faults.amended(alone))
    world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    run(table, "--all")
    world.oauth.behave()
    assert [entry.step for entry in entries(world) if entry.previous] == ["unproven"]
    table.edit("loc", encrypted_refresh=world.cells("acme-grace", "loc")["encrypted_refresh"])
    world.clock.advance(100)
    run(table)
    assert [entry.step for entry in entries(world) if entry.previous] == ["superseded"]


def test_an_unproven_token_is_proved_in_the_row_that_took_the_place_of_its_own(rows: Rows) -> None:
    rows.add("acme", "loc")
    first, hand = rows.stored("loc"), Hand(rows)
    rows.world.oauth.fail(faults.amended(alone))
    rows.world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    run(rows)
    rows.world.oauth.behave()
    [row] = hand.rows_of("loc")
    hand.remove(row)
    hand.restore(row, None)
    rows.world.clock.advance(100)
    result = run(rows)
    assert (only(result)["outcome"], "in the journal" in result.err) == ("refreshed", False)
    assert entries(rows.world) == []
    assert is_spent(rows, first)


def test_one_that_is_refused_there_gives_way_to_the_one_before_for_good(rows: Rows) -> None:
    rows.add("acme", "loc")
    first, hand = rows.stored("loc"), Hand(rows)
    rows.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    rows.world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    run(rows)
    rows.world.oauth.behave()
    [row] = hand.rows_of("loc")
    hand.remove(row)
    hand.restore(row, None)
    rows.world.clock.advance(100)
    assert only(run(rows))["outcome"] == "unknown"
    rows.world.clock.advance(100)
    assert only(run(rows))["outcome"] == "refreshed"
    assert sent(rows)[-2:] == ["sample-refresh", first]


def test_where_somebody_puts_the_token_before_back_it_counts_as_never_replaced(table: Rows) -> None:
    table.add("acme", "loc")
    first, cell = table.stored("loc"), table.row("loc").encrypted_refresh
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    table.world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    assert only(run(table))["outcome"] == "unknown"
    table.edit("loc", encrypted_refresh=cell)
    table.world.clock.advance(100)
    assert only(run(table))["outcome"] == "refreshed"
    assert sent(table)[-1] == first
    assert entries(table.world) == []


def refuted_while(table: Rows, doing: Callable[[], object]) -> Result:
    """A run whose unproven token is refused, while something else happens to its row."""
    table.add("acme", "loc")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    table.world.oauth.fail(meanwhile(doing), when=lambda call: call.refresh_token == "sample-refresh")
    return run(table)


def test_what_somebody_onboards_while_an_unproven_token_is_refused_stays(table: Rows) -> None:
    theirs: list[str] = []

    def onboard() -> None:
        theirs.append(table.world.cells("acme", "loc")["encrypted_refresh"])
        table.edit("loc", encrypted_refresh=theirs[0])

    assert only(refuted_while(table, onboard))["outcome"] == "changed"
    assert table.row("loc").encrypted_refresh == theirs[0]
    assert [entry.step for entry in entries(table.world)] == ["superseded"]


def test_a_row_that_another_process_takes_over_while_its_unproven_token_is_refused_is_left_to_it(table: Rows) -> None:
    result = refuted_while(table, lambda: table.edit("loc", claim_owner="another-host/1/run"))
    assert only(result)["outcome"] == "changed"
    assert table.stored("loc") == "sample-refresh"
    assert [entry.step for entry in entries(table.world)] == ["unproven"]


def test_where_refresh_tokens_never_change_a_new_one_is_proved_before_the_old_one_is_given_up(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(
        faults.amended(lambda content: json.dumps(content | {"refresh_token": "sample-refresh"}).encode())
    )
    run(rows)
    assert sent(rows) == [first, "sample-refresh"]
    assert rows.stored("loc") == first
    assert_next_run_refreshes(rows)


def test_a_sample_that_came_while_the_table_was_restored_gives_way_to_the_token_that_was_sent(table: Rows) -> None:
    """Not to the older one that the backup put into the row, which was used."""
    table.add("acme", "loc")
    backup = table.row("loc").encrypted_refresh
    run(table)
    second = table.stored("loc")
    table.world.clock.advance(7200)

    def restore(call: faults.Call, act: faults.Act) -> Any:
        table.edit("loc", encrypted_refresh=backup, access_token_expiry=None)
        return faults.raw(json.dumps(SAMPLE).encode()).apply(call, act)

    table.world.oauth.fail(Fault("a sample, while the table is restored", restore))
    run(table)
    recover(table, "--replay")
    assert table.stored("loc") == "sample-refresh"
    table.world.clock.advance(100)
    run(table)
    assert table.stored("loc") == second
    assert_next_run_refreshes(table)


def success_pages() -> Fault:
    """What a good answer looks like, with another token on each page, from a service that does nothing."""
    pages = itertools.count(1)

    def apply(call: faults.Call, act: faults.Act) -> Any:
        page = {"access_token": "sample-access", "refresh_token": f"sample-refresh-{next(pages)}"}
        return faults.raw(json.dumps(page).encode()).apply(call, act)

    return Fault("a page that shows a success", apply)


def test_where_refresh_tokens_never_change_two_pages_that_show_a_success_cost_the_row_nothing(table: Rows) -> None:
    table.add("acme-never", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(success_pages(), times=2)
    for _ in range(3):
        run(table)
        table.world.clock.advance(100)
    assert table.stored("loc") == first
    assert_next_run_refreshes(table)
    assert entries(table.world) == []


def test_a_provider_that_changes_its_refresh_tokens_although_it_never_should_does_not_fill_the_journal(
    table: Rows,
) -> None:
    table.add("acme-never", "loc")
    table.world.oauth.fail(success_pages(), times=99)
    for _ in range(6):
        run(table)
        table.world.clock.advance(100)
    assert len(sent(table)) == 12
    assert [entry.step for entry in entries(table.world)] == ["unproven"] * (MAX_UNPROVEN + 1)


def test_a_token_that_came_alone_twice_in_a_row_leaves_nothing_open_once_it_is_proved(rows: Rows) -> None:
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(faults.amended(alone), times=2)
    assert only(run(rows))["outcome"] == "unknown"
    assert rows.is_current("loc")
    assert_next_run_refreshes(rows)
    assert entries(rows.world) == []
    assert is_spent(rows, first)


def test_of_two_samples_in_a_row_each_gives_way_to_the_one_before(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    for number in "12":
        table.world.oauth.fail(faults.raw(json.dumps({"refresh_token": f"sample-refresh-{number}"}).encode()))
    for _ in range(3):
        assert only(run(table))["outcome"] == "unknown"
        table.world.clock.advance(100)
    assert table.stored("loc") == first
    assert_next_run_refreshes(table)


def test_a_run_that_was_killed_when_it_had_noted_an_unproven_token_leaves_the_one_before_to_be_tried_once(
    databases: Rows,
) -> None:
    databases.add("acme", "loc")
    first = databases.stored("loc")
    databases.world.oauth.fail(faults.acted_then(faults.raw(json.dumps(SAMPLE).encode())))
    struck(databases.world, Point.WRITE, Fate.KILL)
    for _ in range(3):
        databases.world.clock.advance(100)
        result = run(databases)
    assert sent(databases) == [first, "sample-refresh", first]
    [row] = databases.world.program.run("status", "--json").json()["rows"]
    assert row["last_error"].startswith("the answer was lost on 2026"), result.said


def test_where_a_copy_of_the_state_folder_took_an_unproven_token_for_somebody_elses_its_loss_has_its_date(
    databases: Rows,
) -> None:
    databases.add("acme", "loc")
    world, first = databases.world, databases.stored("loc")
    world.oauth.fail(faults.acted_then(faults.raw(json.dumps(SAMPLE).encode())))
    world.oauth.fail(faults.status(503), times=9, token="sample-refresh")
    run(databases)
    world.oauth.behave()
    with journal(world) as opened:
        [entry] = [one for one in opened.entries() if one.previous]
        opened.mark(entry.id, "superseded")  # as a copy does whose write comes second
    for _ in range(3):
        world.clock.advance(100)
        result = run(databases)
    assert sent(databases)[-1] == first
    [row] = world.program.run("status", "--json").json()["rows"]
    assert row["last_error"].startswith("the answer was lost on 2026"), result.said
    assert entries(world, "superseded") == []


def test_a_token_that_two_runs_noted_of_each_other_is_forgotten_when_one_has_proved_it(databases: Rows) -> None:
    """The other had claimed the row before somebody restored the table, and with it the claims."""
    databases.add("acme", "loc")
    world, first = databases.world, databases.stored("loc")
    world.oauth.fail(faults.amended(alone))
    world.oauth.fail(faults.status(503), times=9, when=lambda call: call.refresh_token != first)
    run(databases)
    world.oauth.behave()
    world.oauth.fail(meanwhile(lambda: note_what_another_run_keeps(databases)))
    world.clock.advance(100)
    assert only(run(databases))["outcome"] == "refreshed"
    assert [entry.step for entry in entries(world)] == ["unproven"]
    result = run(databases, "--all")
    assert (result.code, only(result)["outcome"]) == (exits.DONE, "refreshed")
    assert "kept, encrypted" not in result.said
    assert (entries(world), entries(world, "superseded")) == ([], [])
    assert databases.is_current("loc")


def note_what_another_run_keeps(rows: Rows) -> None:
    """A run that takes the row for its own notes what the one that has it knows of its token."""
    with journal(rows.world) as opened:
        [entry] = opened.unproven()
        opened.adopt(entry, rows.row("loc").key)


def test_a_refusal_that_was_kept_when_the_run_was_killed_puts_the_token_before_back(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    table.world.oauth.fail(faults.reset(), times=9)
    assert only(run(table))["outcome"] == "unknown"
    table.world.oauth.behave()
    table.world.clock.advance(100)
    struck(table.world, Point.KEPT, Fate.KILL)
    assert sent(table)[-1] == "sample-refresh"
    table.world.clock.advance(100)
    run(table)
    table.world.clock.advance(100)
    run(table)
    assert sent(table)[-1] == first
    assert table.is_current("loc")


def test_a_proof_that_was_kept_when_the_run_was_killed_ends_what_it_was_for(table: Rows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(faults.amended(alone))
    table.world.oauth.fail(faults.reset(), times=9)
    run(table)
    table.world.oauth.behave()
    table.world.clock.advance(100)
    struck(table.world, Point.KEPT, Fate.KILL)
    assert run(table).code == 0
    assert run(table).code == 0
    assert table.is_current("loc")
    assert entries(table.world) == []


def killed_with_the_answer_to_an_unproven_token(rows: Rows, *answers: Fault) -> str:
    """The row's token is not proved, and a run was killed when it had kept what that brought; the cell before."""
    rows.add("acme", "loc")
    world, cell = rows.world, rows.row("loc").encrypted_refresh
    world.oauth.fail(faults.amended(alone))
    world.oauth.fail(faults.reset(), times=9)
    run(rows)
    world.oauth.behave()
    for answer in answers:
        world.oauth.fail(answer)
    world.clock.advance(100)
    struck(world, Point.KEPT, Fate.KILL)
    return cell


def test_where_a_copy_of_the_state_folder_put_the_token_before_back_what_its_successor_brought_is_stored(
    databases: Rows,
) -> None:
    """The copy found the successor spent, for it did not know that this machine had sent it."""
    cell = killed_with_the_answer_to_an_unproven_token(databases)
    databases.edit("loc", encrypted_refresh=cell)
    databases.world.clock.advance(100)
    run(databases)
    assert databases.is_current("loc")
    assert_next_run_refreshes(databases)


def test_where_somebody_puts_the_token_before_back_a_kept_refusal_of_its_sample_does_not_count_for_it(
    table: Rows,
) -> None:
    table.add("acme", "loc")
    world, cell = table.world, table.row("loc").encrypted_refresh
    world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    world.oauth.fail(faults.reset(), times=9)
    run(table)
    world.oauth.behave()
    world.clock.advance(100)
    struck(world, Point.KEPT, Fate.KILL)
    table.edit("loc", encrypted_refresh=cell, previous_refresh="")
    for _ in range(2):
        world.clock.advance(100)
        run(table)
    assert table.row("loc").status != "reauthorize"
    assert table.is_current("loc")


@pytest.mark.parametrize("is_proved_later", [False, True])
def test_where_two_rows_get_one_sample_each_gets_its_own_token_before_back(table: Rows, is_proved_later: bool) -> None:
    """A page of a proxy shows the same to all."""
    for name in ("loc", "other"):
        table.add("acme", name)
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), times=2)
    if is_proved_later:
        table.world.oauth.fail(faults.status(503), times=99, token="sample-refresh")
    run(table)
    table.world.oauth.behave()
    for _ in range(3):
        table.world.clock.advance(100)
        run(table)
    assert table.is_current("loc")
    assert table.is_current("other")


@pytest.mark.parametrize("page", [SAMPLE, {"access_token": "access-alone", "expires_in": 3600}])
def test_where_the_token_before_was_put_back_what_its_successor_brought_without_a_proof_does_not_cost_the_successor(
    table: Rows, page: dict[str, Any]
) -> None:
    world = table.world
    cell = killed_with_the_answer_to_an_unproven_token(table, faults.raw(json.dumps(page).encode()))
    table.edit("loc", encrypted_refresh=cell, previous_refresh="")
    for _ in range(4):
        world.clock.advance(100)
        run(table)
    with journal(world) as opened:
        kept = b"".join(raw.body for entry in opened.entries() for raw in opened.answers(entry))
    assert world.oauth.current("loc").encode() in kept + table.stored("loc").encode()


def test_a_token_before_whose_successors_answer_was_stored_over_it_counts_as_used(table: Rows) -> None:
    table.add("acme-family", "loc")
    world, cell = table.world, table.row("loc").encrypted_refresh
    world.oauth.fail(faults.amended(alone))
    world.oauth.fail(faults.reset(), times=9)
    run(table)
    world.oauth.behave()
    world.clock.advance(3600)
    struck(world, Point.KEPT, Fate.KILL)
    table.edit("loc", encrypted_refresh=cell)
    world.clock.advance(100)
    run(table)
    assert table.is_current("loc")
    world.clock.advance(7200)
    run(table)
    before = len(sent(table))
    table.edit("loc", encrypted_refresh=cell, access_token_expiry=None)
    world.clock.advance(100)
    run(table)
    assert len(sent(table)) == before


def restored_over_a_token_that_came_alone(table: Rows, provider: str) -> str:
    """The row holds the token again that was sent before that one, which is not proved; returns it."""
    table.add(provider, "loc")
    world, first, cell = table.world, table.stored("loc"), table.row("loc").encrypted_refresh
    world.oauth.fail(faults.amended(alone))
    world.oauth.fail(faults.status(503), times=99, when=lambda call: call.refresh_token != first)
    run(table)
    world.oauth.behave()
    table.edit("loc", encrypted_refresh=cell, previous_refresh="", access_token_expiry=None)
    return first


def test_where_replay_kills_the_family_an_unproven_token_is_tried_before_the_one_before_that_a_restore_put_back(
    table: Rows,
) -> None:
    first = restored_over_a_token_that_came_alone(table, "acme-family")
    table.world.clock.advance(3600)
    run(table)
    assert sent(table).count(first) == 1
    assert table.is_current("loc")
    assert_next_run_refreshes(table)


def test_where_a_second_use_is_only_refused_an_unproven_token_is_tried_after_the_one_before_that_a_restore_put_back(
    table: Rows,
) -> None:
    restored_over_a_token_that_came_alone(table, "acme")
    table.world.clock.advance(3600)
    run(table)
    assert table.is_current("loc")
    assert_next_run_refreshes(table)


def test_an_unproven_token_that_was_not_refused_is_tried_after_a_sample_that_a_restored_token_brought(
    table: Rows,
) -> None:
    restored_over_a_token_that_came_alone(table, "acme")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    for _ in range(2):
        table.world.clock.advance(3600)
        run(table)
    assert table.is_current("loc")
    assert_next_run_refreshes(table)


def test_where_a_run_was_killed_the_token_before_is_put_back_from_the_row_that_was_imported_again(
    table: Rows,
) -> None:
    """The journal knows that the sample had been refused in the row before, and has the token before no more."""
    table.add("acme", "loc")
    world, first, hand = table.world, table.stored("loc"), Hand(table)
    table.add("acme", "other", world.clock.now() + timedelta(days=9))
    world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()), token=first)
    world.oauth.fail(faults.status(503), times=9, token="sample-refresh")
    run(table)
    world.oauth.behave()
    [row] = hand.rows_of("loc")
    world.oauth.fail(faults.status(503), times=9, token=first)
    for _ in range(2):
        world.clock.advance(100)
        run(table)
    world.oauth.behave()
    hand.remove(hand.rows_of("loc")[0])
    hand.restore(row, None)
    table.edit("loc", previous_refresh=world.seal("loc", "previous_refresh", first))
    world.clock.advance(100)
    struck(world, Point.KEPT, Fate.KILL)
    world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}
    assert sent(table)[-2:] == ["sample-refresh", first]


# A pair in the answer of a server that failed


def test_where_replay_kills_the_family_a_pair_behind_a_failure_is_tried_before_the_old_token(rows: Rows) -> None:
    rows.add("acme-family", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(behind_a_failure())
    assert (run(rows).code, rows.is_current("loc")) == (0, True)
    assert sent(rows).count(first) == 1
    assert rows.world.oauth.replayed() == []


def test_a_pair_that_was_noted_when_the_run_was_killed_is_tried_by_the_next_run(table: Rows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(behind_a_failure())
    struck(table.world, Point.WRITE, Fate.KILL)
    table.world.clock.advance(100)
    assert only(run(table))["outcome"] == "refreshed"
    assert table.is_current("loc")
    assert entries(table.world) == []


def test_a_pair_behind_a_failure_is_tried_once_the_old_token_is_refused(rows: Rows) -> None:
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(behind_a_failure())
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (0, "refreshed"), result.err
    assert sent(rows)[:2] == [first, first]
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_a_pair_of_a_failing_provider_is_stored_by_the_next_run_where_the_store_was_away(table: SqliteRows) -> None:
    """It was noted as unproven, but no row ever held it: so it was not refused either."""
    table.add("acme", "loc")
    table.world.oauth.fail(behind_a_failure())

    with run_context_of(table) as context:
        vars(context.store.store)["write"] = away
        assert Refresher(context).run(Scope()).store_error is not None
    assert not table.is_current("loc")
    assert_next_run_refreshes(table)
    assert entries(table.world) == []


def test_a_pair_on_the_page_of_an_outage_is_left_alone_while_the_old_token_works(rows: Rows) -> None:
    rows.add("acme", "loc")
    sample = json.dumps(SAMPLE | {"access_token": "sample-access"}).encode()
    rows.world.oauth.fail(faults.raw(sample, 503))
    assert only(run(rows))["outcome"] == "refreshed"
    assert "sample-refresh" not in sent(rows)
    assert rows.is_current("loc")


def test_a_pair_that_does_not_work_is_tried_once_before_the_loss_is_said(table: Rows) -> None:
    table.add("acme", "loc")
    sample = json.dumps(SAMPLE | {"access_token": "sample-access"}).encode()
    table.world.oauth.fail(faults.acted_then(faults.raw(sample, 503)))
    outcomes = []
    for _ in range(3):
        outcomes.append(only(run(table))["outcome"])
        table.world.clock.advance(3600)
        if outcomes[-1] == "reauthorize":
            break
    assert outcomes[-1] == "reauthorize"
    assert sent(table).count("sample-refresh") == 1


def test_of_two_pairs_behind_failures_the_second_is_kept_while_the_first_is_tried_and_the_run_is_killed(
    table: Rows,
) -> None:
    table.add("acme", "loc")
    sample = json.dumps(SAMPLE | {"access_token": "sample-access"}).encode()
    table.world.oauth.fail(faults.raw(sample, 503))
    table.world.oauth.fail(behind_a_failure())
    assert only(run(table))["outcome"] == "unknown"
    table.world.clock.advance(100)
    struck(table.world, Point.WRITTEN, Fate.KILL)
    assert table.stored("loc") == "sample-refresh"
    for _ in range(3):
        table.world.clock.advance(100)
        run(table)
    assert table.is_current("loc")
    assert entries(table.world) == []


def test_the_token_before_a_chain_outlives_a_run_that_is_killed_between_two_of_its_successors(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    table.world.oauth.fail(faults.raw(b'{"refresh_token": "sample-refresh-2", "access_token": "sample-access"}', 503))
    table.world.oauth.fail(faults.reset())
    assert only(run(table))["outcome"] == "unknown"
    table.world.clock.advance(100)
    struck(table.world, Point.WRITTEN, Fate.KILL)
    assert table.stored("loc") == "sample-refresh-2"
    for _ in range(4):
        table.world.clock.advance(100)
        run(table)
    assert first in sent(table)[1:]
    assert table.is_current("loc")
    assert entries(table.world) == []


def test_a_token_whose_unproven_successor_somebody_onboarded_over_does_not_count_as_used(table: Rows) -> None:
    table.add("acme", "loc")
    first = table.stored("loc")
    table.world.oauth.fail(faults.raw(json.dumps(SAMPLE).encode()))
    struck(table.world, Point.KEPT, Fate.KILL)
    table.edit("loc", encrypted_refresh=table.world.cells("acme", "loc")["encrypted_refresh"])
    run(table)
    assert [entry.step for entry in entries(table.world)] == ["superseded"]
    assert not is_spent(table, first)


def test_of_two_pages_that_show_a_pair_each_is_tried_once_and_then_the_loss_is_said(table: Rows) -> None:
    table.add("acme", "loc")
    for number in "12":
        page = {"access_token": "sample-access", "refresh_token": f"sample-refresh-{number}"}
        table.world.oauth.fail(faults.raw(json.dumps(page).encode(), 503))
    assert only(run(table))["outcome"] == "unknown"
    table.world.oauth.revoke("loc")
    outcomes = []
    for _ in range(4):
        table.world.clock.advance(3600)
        outcomes += [row["outcome"] for row in run(table).json()["results"]]
    assert outcomes[-1] == "reauthorize", outcomes
    assert [sent(table).count(f"sample-refresh-{number}") for number in "12"] == [1, 1]


# A form that is not known


def unread(rows: Rows) -> str:
    """A row whose provider answered in a form that is not known; returns the token that was sent."""
    rows.add("acme", "loc")
    token = rows.stored("loc")
    rows.world.oauth.fail(faults.amended(strange))
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "operator")
    assert "recover --resend" in only(result)["action"]
    assert sent(rows) == [token]
    return token


def recover(rows: Rows, *arguments: str) -> Result:
    return rows.world.program.run("recover", *arguments)


def test_after_a_success_of_unknown_form_the_token_is_not_sent_again_and_the_answer_is_kept(rows: Rows) -> None:
    token = unread(rows)
    rows.world.clock.advance(3600)
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "operator")
    assert sent(rows) == [token]
    [entry] = entries(rows.world, "unread")
    with journal(rows.world) as opened:
        assert rows.world.oauth.current("loc").encode() in opened.open_answer(entry).body


def test_nor_is_it_sent_when_somebody_enters_it(rows: Rows) -> None:
    token = unread(rows)
    line = ("elsewhere", "acme", "app-acme", "acme secret", token)
    result = rows.world.program.onboard("--from-csv", rows.world.program.csv(line))
    assert (result.code, "its answer has a form that is not known" in result.err) == (1, True)
    assert sent(rows) == [token]


def test_sending_it_once_more_keeps_the_answer_even_where_the_token_is_refused(rows: Rows) -> None:
    token = unread(rows)
    assert recover(rows, "--resend", "loc").code == 0
    rows.world.clock.advance(3600)
    assert only(run(rows))["outcome"] == "reauthorize"
    assert sent(rows) == [token, token]
    [entry] = entries(rows.world, "lost")
    with journal(rows.world) as opened:
        bodies = [raw.body for raw in opened.answers(entry)]
    assert rows.world.oauth.current("loc").encode() in bodies[0]


def test_sending_an_entered_token_once_more_keeps_the_answer_even_where_the_token_is_refused(table: Rows) -> None:
    world = table.world
    world.oauth.fail(faults.amended(strange))
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    assert recover(table, "--resend", "loc").code == 0
    world.clock.advance(100)
    assert "reauthorize" in run(table).err
    assert len(sent(table)) == 2
    with journal(world) as opened:
        kept = b"".join(raw.body for entry in opened.entries("unread") for raw in opened.answers(entry))
    assert world.oauth.current("loc").encode() in kept
    assert recover(table, "--discard", "loc", "--yes").code == 0


def test_sending_it_once_more_goes_on_where_the_provider_gives_another(table: Rows) -> None:
    table.add("acme-until-used", "loc")
    table.world.oauth.fail(faults.amended(strange))
    run(table)
    assert recover(table, "--resend", "loc").code == 0
    table.world.clock.advance(100)
    assert only(run(table))["outcome"] == "refreshed"
    assert table.is_current("loc")


def test_an_answer_that_is_given_up_lets_the_row_be_refreshed_as_if_nothing_had_been_sent(table: Rows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(faults.raw(b'{"tokens": []}'))
    assert only(run(table))["outcome"] == "operator"
    asked = recover(table, "--discard", "loc")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert recover(table, "--discard", "loc", "--yes").code == 0
    assert_next_run_refreshes(table)


@pytest.mark.parametrize("flag", ["--resend", "--discard"])
def test_a_location_that_waits_for_nobody_is_named(table: Rows, flag: str) -> None:
    result = recover(table, flag, "loc", "--yes")
    assert result.code == 2
    assert "'loc'" in result.err


def test_where_refresh_tokens_never_change_an_unknown_form_is_a_failure_that_passes(table: Rows) -> None:
    table.add("acme-never", "loc")
    table.world.oauth.fail(faults.amended(strange), times=9)
    assert only(run(table))["outcome"] == "transient"
    table.world.oauth.behave()
    assert_next_run_refreshes(table)
