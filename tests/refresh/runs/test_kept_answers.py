"""What is kept of one row is used for no other, and is not forgotten where a key, a row or a table changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from providers.base import Provider
from tests import exits
from tests.callers import revocable
from tests.commands.test_import import exported
from tests.commands.test_verify import LATER, new_key
from tests.commands.test_ways_out import answered
from tests.conftest import World
from tests.refresh.runs.faults_world import Rows, SqliteRows, entries, journal, meanwhile, table_of
from tests.refresh.runs.test_faults import run, sent
from tests.refresh.runs.test_shared_database import other
from tests.refresh.runs.test_unproven import strange
from tests.world.oauth import faults
from tests.world.program import Program

__all__ = ["other"]  # a fixture
HOUR = 3600


@pytest.fixture
def sqlite(world: World) -> SqliteRows:
    """A table that gives the key of a deleted row to the next one."""
    world.program.undone = lambda _: []
    return SqliteRows(world)


@pytest.fixture(params=["sqlite", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    made = table_of(request.param, request)
    made.world.program.undone = lambda _: []
    return made


@pytest.fixture
def shared(request: pytest.FixtureRequest, other: Program) -> Rows:
    """The table that the other machine refreshes, too."""
    made = table_of("postgres", request)
    made.world.program.undone = lambda _: []
    return made


def imported_again(rows: SqliteRows, bring: Callable[[], object]) -> None:
    """The row b, after `bring`, under another key: its own is that of c now."""
    rows.add("acme", "a", LATER)
    rows.add("acme-family", "b")
    file = exported(rows)
    key = rows.row("b").key
    bring()
    rows.remove("b")
    rows.add("acme", "c", LATER)
    assert rows.row("c").key == key
    assert rows.world.program.run("import", file, "--yes").code == exits.DONE
    rows.world.clock.advance(200)


# A row that has the key of another one


@pytest.mark.parametrize("verb", ["delete", "revoke"])
def test_the_end_of_a_row_ends_no_answer_of_the_one_that_had_its_key_before(sqlite: SqliteRows, verb: str) -> None:
    world = sqlite.world
    revocable(world)
    world.oauth.fail(faults.amended(strange))
    imported_again(sqlite, lambda: run(sqlite, "--location", "b"))
    assert world.program.run(verb, "c", "--yes").code == exits.DONE
    assert [(entry.location_id, entry.step) for entry in entries(world)] == [("b", "unread")]
    asked = sent(world)
    assert run(sqlite).outcomes() == {"b": "operator"}
    assert sent(world) == asked


def test_an_answer_that_is_read_late_and_has_no_known_form_is_kept_although_another_row_has_its_key(
    sqlite: SqliteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = sqlite.world

    def mistaken(*_: object) -> None:
        raise RuntimeError

    def unread() -> None:
        world.oauth.fail(faults.amended(strange))
        with monkeypatch.context() as patch:
            patch.setattr(Provider, "read_answer", mistaken)
            run(sqlite, "--location", "b")

    imported_again(sqlite, unread)
    asked = sent(world)
    assert run(sqlite).outcomes() == {"b": "operator"}
    assert sent(world) == asked
    assert [(entry.location_id, entry.step) for entry in entries(world)] == [("b", "unread")]


# Which of two tokens is newer


def test_what_was_kept_of_the_login_before_is_not_put_over_a_used_token_of_the_one_after_it(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc")
    theirs = world.cells("acme", "loc")["encrypted_refresh"]
    world.oauth.fail(meanwhile(lambda: rows.edit("loc", encrypted_refresh=theirs)))
    run(rows)
    assert [entry.step for entry in entries(world)] == ["superseded"]
    for _ in range(2):
        world.clock.advance(HOUR)
        backup = rows.row("loc").encrypted_refresh
        assert run(rows).outcomes() == {"loc": "refreshed"}
    world.clock.advance(HOUR)
    rows.edit("loc", encrypted_refresh=backup, access_token_expiry=None)
    result = run(rows)
    assert "Restore the newer cell, or onboard" in result.json()["results"][0]["action"]
    world.program.run("recover", "--replay")
    assert rows.row("loc").encrypted_refresh == backup


# Several providers at one location


@pytest.mark.parametrize("words", [("--resend", "loc"), ("--discard", "loc", "--yes")])
def test_the_wait_of_one_provider_s_row_is_ended_for_that_one_alone(sqlite: SqliteRows, words: tuple[str, ...]) -> None:
    program = sqlite.world.program
    sqlite.add("acme", "loc")
    sqlite.add("acme-family", "loc")
    sqlite.world.oauth.fail(faults.amended(strange), times=2)
    run(sqlite)
    refused = program.run("recover", *words)
    assert refused.code == exits.USAGE
    assert "acme, acme-family" in refused.err
    assert "--provider" in refused.err
    assert program.run("recover", *words, "--provider", "Acme").code == exits.DONE
    assert [one.provider for one in entries(sqlite.world, "unread")] == ["acme-family"]


def test_a_provider_is_taken_only_where_it_says_whose_wait_is_to_end(sqlite: SqliteRows) -> None:
    refused = sqlite.world.program.run("recover", "--provider", "acme")
    assert refused.code == exits.USAGE
    assert "--resend and --discard" in refused.err


# A key that is given up


def test_a_machine_where_the_key_was_not_rotated_sends_nothing_once_the_old_one_is_gone(
    shared: Rows, other: Program
) -> None:
    """What it knows of used and waiting tokens, it knows by the old key."""
    rows, world = shared, shared.world
    rows.add("acme-family", "loc")
    world.oauth.fail(faults.amended(strange))
    other.run("refresh", "--location", "loc")
    before = new_key(world)
    assert world.program.run("rotate-key").code == exits.DONE
    other.settings |= {"ENCRYPTION_KEY": world.program.settings["ENCRYPTION_KEY"], "ENCRYPTION_KEY_FALLBACKS": ""}
    world.clock.advance(200)
    asked = sent(world)
    refused = other.run()
    assert refused.code == exits.USAGE
    assert "what STATE_DIR knows of used tokens needs key" in refused.err
    other.settings["ENCRYPTION_KEY_FALLBACKS"] = before
    assert other.run("rotate-key").code == exits.DONE
    other.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert "has a form that is not known" in other.run().err
    assert sent(world) == asked


def test_a_used_token_is_known_although_runs_re_encrypted_the_row_and_nobody_rotated_the_key(rows: Rows) -> None:
    world = rows.world
    rows.add("acme-family", "loc")
    run(rows)
    before = new_key(world)
    for _ in range(2):
        world.clock.advance(HOUR)
        backup = rows.row("loc").encrypted_refresh
        assert run(rows).outcomes() == {"loc": "refreshed"}
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    rows.edit("loc", encrypted_refresh=backup, access_token_expiry=None)
    asked = sent(world)
    assert "rotate-key" in run(rows).err
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = before
    assert "older than the last refresh" in run(rows).err
    assert sent(world) == asked


def test_a_row_that_a_host_claims_that_is_gone_is_re_encrypted_after_a_takeover(shared: Rows, other: Program) -> None:
    rows, world = shared, shared.world
    rows.add("acme", "loc")
    world.oauth.fail(faults.acted_then_dropped())
    other.run()
    assert rows.row("loc").status == "reauthorize"
    new_key(world)
    world.clock.advance(HOUR)
    unfinished = world.program.run("rotate-key")
    assert unfinished.code == exits.FAILED
    assert "claimed it and has not finished with it" in unfinished.out
    assert "refresh --takeover" in unfinished.out
    world.program.run("refresh", "--takeover")
    assert world.program.run("rotate-key").code == exits.DONE


# What is said to be done


@pytest.mark.parametrize(("kind", "is_journal_lost"), [("sqlite", False), ("sqlite", True), ("airtable", False)])
def test_a_grant_whose_new_token_is_not_proved_is_revoked_by_the_token_before_too(
    request: pytest.FixtureRequest, kind: str, is_journal_lost: bool
) -> None:
    """A page may have shown the new one; its provider takes the revocation of a token that never was.

    A database has the token before in the row as well.
    """
    rows = table_of(kind, request)
    world = rows.world
    world.program.undone = lambda _: []
    revocable(world)
    own = Path(world.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", "[acme]\nrevoke_ends = true\n"))
    rows.add("acme", "loc")
    living = rows.stored("loc")
    world.oauth.fail(faults.raw(b'{"refresh_token": "sample-refresh"}'))
    world.oauth.fail(faults.too_many_requests(HOUR), times=9)
    run(rows)
    assert rows.stored("loc") == "sample-refresh"
    world.oauth.behave()
    world.clock.advance(2 * HOUR)
    if is_journal_lost:
        with journal(world) as opened:
            opened.finish([entry.id for entry in opened.entries()])
    assert world.program.run("revoke", "loc", "--yes").code == exits.DONE
    assert world.oauth.tokens[living].revoked_at is not None


def test_a_replay_that_stored_nothing_of_what_waits_is_no_success(sqlite: SqliteRows) -> None:
    program = sqlite.world.program
    answered(sqlite)
    before = new_key(sqlite.world, keep=False)
    left = program.run("recover", "--replay")
    assert (left.code, "does not open" in left.err) == (exits.FAILED, True)
    assert program.run("recover").code == exits.DONE  # to list them is one
    program.settings["ENCRYPTION_KEY_FALLBACKS"] = before
    assert program.run("recover", "--replay").code == exits.DONE
