"""Nothing is stuck: whatever state journal and row are in, the command that docs/nothing-lost.md names ends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

import crypto
from crypto import Context
from tests import exits
from tests.chaos.hand import Hand
from tests.conftest import World
from tests.refresh.runs.faults_world import Rows, SqliteRows, entries, journal
from tests.refresh.runs.test_faults import run
from tests.refresh.runs.test_identity import copied, shared
from tests.refresh.runs.test_unproven import alone, strange
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.journal.entries import ANSWER_FIELD

AN_HOUR = 3600


def recover(rows: Rows, *arguments: str) -> Result:
    result = rows.world.program.run("recover", *arguments)
    assert result.code == exits.DONE, result.err
    return result


def forget(rows: Rows) -> None:
    """What the journal holds."""
    for entry in entries(rows.world):
        recover(rows, "--forget", str(entry.id), "--yes")


def onboard(rows: Rows) -> None:
    """A new grant over whatever is there."""
    program = rows.world.program
    result = program.onboard("--from-csv", program.csv(rows.world.csv_line("acme", "loc")), "--replace")
    assert result.code == exits.DONE, result.err


def onboard_and_forget(rows: Rows) -> None:
    """A new grant, and what was kept of the one before is given up."""
    onboard(rows)
    rows.world.clock.advance(AN_HOUR)
    run(rows)
    forget(rows)


# What brings each state about, in the embedded database, with one row


def lost(rows: Rows) -> None:
    """The answer was lost, and so was that to the second request."""
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.reset(), times=2)
    run(rows)


def unproven(rows: Rows) -> None:
    """The row holds a new token, and no answer has proved it."""
    rows.add("acme", "loc")
    first = rows.stored("loc")
    rows.world.oauth.fail(faults.amended(alone))
    rows.world.oauth.fail(faults.reset(), times=2, when=lambda call: call.refresh_token != first)
    run(rows)


def unread(rows: Rows) -> None:
    """The answer has a form that is not known."""
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.amended(strange))
    run(rows)


def answered(rows: Rows) -> None:
    """The answer is in the journal, and nothing of it in the row."""
    rows.add("acme", "loc")
    before = rows.row("loc")
    rows.world.oauth.fail(faults.amended(strange))  # the entry that this leaves gets the right answer
    run(rows)
    [entry] = entries(rows.world)
    oauth = rows.world.oauth
    body = json.dumps({"access_token": oauth.current_access("loc"), "refresh_token": oauth.current("loc")})
    with journal(rows.world) as opened:
        raw = replace(opened.open_answer(entry), body=body.encode())
        opened.keep(entry.id, raw, Context(ANSWER_FIELD, "loc", entry.origin))
    assert rows.row("loc").encrypted_refresh == before.encrypted_refresh


def dead(rows: Rows) -> None:
    """Its grant was revoked."""
    rows.add("acme", "loc")
    rows.world.oauth.revoke("loc")
    run(rows)


def older(rows: Rows) -> None:
    """The row was restored to a token that has a successor."""
    rows.add("acme", "loc")
    before = rows.row("loc").encrypted_refresh
    run(rows)
    rows.edit("loc", encrypted_refresh=before, access_token_expiry=None)


def and_deleted(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the row is deleted."""

    def deleted(rows: Rows) -> None:
        bring(rows)
        rows.remove("loc")

    return deleted


def and_key_reused(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the row is deleted, and SQLite gives its key to the next one."""

    def reused(rows: Rows) -> None:
        bring(rows)
        rows.remove("loc")
        rows.add("acme-never", "other")

    return reused


def and_emptied(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the credential is taken out of the row."""

    def emptied(rows: Rows) -> None:
        bring(rows)
        rows.edit("loc", encrypted_refresh="", encrypted_secret="", status="disabled")

    return emptied


def and_disabled(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the row is disabled."""

    def disabled(rows: Rows) -> None:
        bring(rows)
        rows.edit("loc", status="disabled")

    return disabled


def and_key_gone(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the key is gone for ever."""

    def gone(rows: Rows) -> None:
        bring(rows)
        rows.world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()

    return gone


def and_copied(bring: Callable[[Rows], None]) -> Callable[[Rows], None]:
    """Then the state folder is moved to another disk."""

    def moved(rows: Rows) -> None:
        shared(rows)
        bring(rows)
        rows.world.program.settings |= copied(rows.world.program).settings

    return moved


def enable(rows: Rows) -> None:
    rows.edit("loc", status="active")


def superseded(rows: Rows) -> None:
    """Somebody onboarded the row before the answer could be stored."""
    answered(rows)
    rows.edit("loc", encrypted_refresh=rows.world.cells("acme", "loc")["encrypted_refresh"])
    run(rows)


def take_over(rows: Rows) -> None:
    rows.world.program.run("refresh", "--takeover")


def onboard_take_over_and_forget(rows: Rows) -> None:
    onboard(rows)
    take_over(rows)
    forget(rows)


@dataclass(frozen=True)
class Case:
    """How a state comes about, what the next run says of it, and what ends it: commands, or an edit, and then runs.

    `is_gone`: its row was deleted, and what ends it is that nothing is left in the journal.
    """

    bring: Callable[[Rows], None]
    said: str
    end: Callable[[Rows], object]
    is_gone: bool = False


NEXT_RUN: Callable[[Rows], None] = lambda rows: None  # noqa: E731
CASES = {
    "lost": Case(lost, "", NEXT_RUN),
    "lost, row onboarded": Case(lost, "", onboard),
    "lost, row deleted": Case(and_deleted(lost), "", forget, is_gone=True),
    "lost, key of its row reused": Case(and_key_reused(lost), "", forget, is_gone=True),
    "lost, row emptied": Case(and_emptied(lost), "", forget, is_gone=True),
    "lost, row disabled": Case(and_disabled(lost), "", enable),
    "lost, folder copied": Case(and_copied(lost), "--takeover", take_over),
    "answered": Case(answered, "", NEXT_RUN),
    "answered, row deleted": Case(and_deleted(answered), "the row is gone", forget, is_gone=True),
    "answered, row emptied": Case(and_emptied(answered), "", forget, is_gone=True),
    "answered, row disabled": Case(and_disabled(answered), "", enable),
    "answered, folder copied": Case(and_copied(answered), "--takeover", take_over),
    "answered, key gone": Case(and_key_gone(answered), "Restore that key.", onboard_take_over_and_forget),
    "unproven": Case(unproven, "", NEXT_RUN),
    "unproven, row onboarded": Case(unproven, "", onboard_and_forget),
    "unproven, row deleted": Case(and_deleted(unproven), "kept, encrypted, in the journal", forget, is_gone=True),
    "unproven, row disabled": Case(and_disabled(unproven), "", enable),
    "unproven, folder copied": Case(and_copied(unproven), "--takeover", take_over),
    "unread, given up": Case(unread, "recover --resend", lambda rows: recover(rows, "--discard", "loc", "--yes")),
    "unread, row onboarded": Case(unread, "recover --resend", onboard_and_forget),
    "unread, row deleted": Case(
        and_deleted(unread), "", lambda rows: recover(rows, "--discard", "loc", "--yes"), is_gone=True
    ),
    "unread, row disabled": Case(and_disabled(unread), "", onboard_and_forget),
    "dead": Case(dead, "", onboard),
    "older than the last refresh": Case(older, "older than the last refresh", onboard),
}


@pytest.mark.parametrize("state", CASES)
def test_every_state_is_ended_by_the_command_that_is_documented_for_it(world: World, state: str) -> None:
    case, rows = CASES[state], SqliteRows(world)
    case.bring(rows)
    world.clock.advance(1)
    assert case.said in run(rows).err
    case.end(rows)
    for _ in range(2):  # the second finds what an answer that was given up has cost
        world.clock.advance(AN_HOUR)
        run(rows)
    assert entries(world) == []
    if case.is_gone:
        return
    row = rows.row("loc")
    is_lost = state == "unread, given up"  # and with it what it held
    assert (row.status == "reauthorize") == is_lost
    assert is_lost or (rows.is_current("loc") and world.oauth.is_live(rows.access("loc")))
    assert world.oauth.violations == []


@pytest.mark.parametrize("can_be_read", [True, False])
@pytest.mark.parametrize("bring", [lost, unproven, unread])
def test_what_a_row_waits_by_that_was_deleted_and_imported_again_is_not_forgotten(
    world: World, bring: Callable[[Rows], None], can_be_read: bool
) -> None:
    """A row that cannot be read may hold the token."""
    rows, hand = SqliteRows(world), Hand(SqliteRows(world))
    bring(rows)
    rows.add("acme-never", "other")  # else it would get the key that it had
    [row] = hand.rows_of("loc")
    hand.remove(row)
    hand.restore(row, None)
    if not can_be_read:
        hand.edit(hand.rows_of("loc")[0], encrypted_secret="scribble")
    before = entries(world)
    for entry in before:
        assert world.program.run("recover", "--forget", str(entry.id), "--yes").code == exits.USAGE
    assert entries(world) == before
    onboard(rows)
    forget(rows)
    assert entries(world) == []


LATER = "Nothing to do now: the next run tries again"
LISTED = {
    "lost": (lost, "lost", LATER, "recover --forget 1 --yes"),
    "unproven": (unproven, "unproven", LATER, "recover --forget "),
    "answered": (answered, "answered", "Store them: ", "recover --replay"),
    "unread": (unread, "unread", "recover --resend loc --provider acme. ", "recover --discard loc --provider acme."),
    "superseded": (superseded, "superseded", "recover --replay. ", "recover --forget 1 --yes"),
    "key gone": (and_key_gone(answered), "answered", "which is not among the configured keys", "Restore that key."),
}


@pytest.mark.parametrize("state", LISTED)
def test_the_list_says_of_each_entry_what_to_do(world: World, state: str) -> None:
    (bring, step, *said), rows = LISTED[state], SqliteRows(world)
    bring(rows)
    [entry, *_] = [one for one in recover(rows, "--json").json()["entries"] if one["step"] == step]
    assert [one for one in said if one not in entry["action"]] == []
    head, *lines = recover(rows).out.splitlines()
    assert head.endswith("  what to do")
    assert any(line.endswith(entry["action"]) for line in lines)


def test_the_list_says_of_an_onboarding_that_the_next_run_ends_it(world: World) -> None:
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "entered")))
    [entry] = recover(SqliteRows(world), "--json").json()["entries"]
    assert entry["action"].startswith("The next run brings it to its end, or says what it waits for.")


def test_the_list_quotes_an_id_and_what_it_shows_is_taken(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "-$(id)")
    world.oauth.fail(faults.amended(strange))
    run(rows)
    [entry] = recover(rows, "--json").json()["entries"]
    assert "recover --resend='-$(id)' --provider acme. " in entry["action"]
    recover(rows, "--discard=-$(id)", "--yes")
