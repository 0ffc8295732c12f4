"""`rotate-key`: afterwards the new key alone opens everything, or it is said what still needs the old one."""

from __future__ import annotations

import json
from typing import Any

import pytest

import crypto
from crypto import Context
from tests.commands.test_verify import LATER, new_key, older_form, rows, store_folder, verified
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, AirtableRows, Rows, SqliteRows, entries, meanwhile
from tests.world.airtable import AirtableServer
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture


def rotated(world: World, *argv: str) -> tuple[Result, dict[str, Any]]:
    """What `rotate-key --json` says."""
    result = world.program.run("rotate-key", "--json", *argv)
    return result, result.json()


def left(said: dict[str, Any]) -> dict[str, str]:
    """Why it is not done, by location."""
    return {one["location_id"]: one["error"] for one in said["left"]}


def assert_done(rows: Rows) -> None:
    """The new key alone opens everything, and nothing needs re-encrypting."""
    rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    result, said = verified(rows.world)
    assert (result.code, said["stale"]) == (0, [])


def fill(rows: Rows, count: int = 3) -> dict[str, str]:
    """Rows with three sealed cells each; their refresh tokens."""
    for number in range(count):
        location = f"loc {number}"
        access = rows.world.seal(location, "last_access_token", f"access {number}")
        rows.add("acme", location, LATER, last_access_token=access)
    return {f"loc {number}": rows.stored(f"loc {number}") for number in range(count)}


def test_every_cell_is_re_encrypted_and_a_second_time_nothing_is(rows: Rows) -> None:
    tokens = fill(rows)
    new_key(rows.world)
    result, said = rotated(rows.world)
    assert (result.code, said["done"], said["rows_resealed"]) == (0, True, 3)
    assert {location: rows.stored(location) for location in tokens} == tokens
    for row in map(rows.row, tokens):
        for cell in (row.encrypted_refresh, row.encrypted_secret, row.last_access_token):
            assert crypto.key_id_of(cell) == said["key_id"]
    before = [rows.row(location) for location in tokens]
    again, said = rotated(rows.world)
    assert (again.code, said["rows_resealed"]) == (0, 0)
    assert [rows.row(location) for location in tokens] == before
    assert_done(rows)
    assert rows.world.oauth.requests == []
    assert set(rows.world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}


def test_only_the_cells_are_written(airtable_world: World) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows, 1)
    new_key(airtable_world)
    assert rotated(airtable_world)[0].code == 0
    assert airtable_world.airtable is not None
    [record] = airtable_world.table.find(locationId="loc 0")
    written = {change.column for change in airtable_world.table.changes(record, by=airtable_world.airtable.token)}
    assert written == {"encrypted_refresh", "encrypted_secret", "last_access_token"}


def test_it_says_what_to_do_next_and_what_it_does_not_fix(world: World) -> None:
    fill(SqliteRows(world))
    new_key(world)
    said = world.program.run("rotate-key").err
    for words in ("now remove ENCRYPTION_KEY_FALLBACKS", "verify", "table history", "Revoke", "log in again"):
        assert words in said
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert "now remove" not in world.program.run("rotate-key").err


def test_older_forms_are_sealed_too_and_an_empty_secret_becomes_an_empty_cell(rows: Rows) -> None:
    rows.add("acme", "a", LATER, encrypted_refresh=older_form(rows.world, "token"))
    rows.edit("a", encrypted_secret=older_form(rows.world, ""))
    assert rotated(rows.world)[1]["rows_resealed"] == 1
    assert (rows.stored("a"), rows.row("a").encrypted_secret) == ("token", "")
    assert_done(rows)


def test_a_row_without_a_refresh_token_keeps_its_secret(rows: Rows) -> None:
    rows.add("acme", "a", LATER, encrypted_refresh="")
    new_key(rows.world)
    assert rotated(rows.world)[0].code == 0
    assert_done(rows)


# A host that a row names


def unbound(rows: Rows, location: str) -> str:
    """A row with a cell of an older form that names its host itself; returns the host."""
    host = rows.world.oauth.url.partition("://")[2]
    rows.add(
        "acme-instance", location, LATER, encrypted_refresh=older_form(rows.world, f"token of {location}"),
        provider_params=json.dumps({"instance": host}),
    )  # fmt: skip
    return host


def test_an_older_form_beside_a_host_that_the_row_names_needs_that_host_allowed_for_that_row(rows: Rows) -> None:
    """Otherwise a pasted cell would be sealed for whatever host stands beside it, and sent there by the next run."""
    host = unbound(rows, "a")
    before = rows.row("a")
    for flags in ([], ["--allow-host", "a=another.example"], ["--allow-host", f"b={host}"]):
        result, said = rotated(rows.world, *flags)
        assert (result.code, list(left(said))) == (1, ["a"])
        assert rows.row("a") == before
    assert left(said)["a"].endswith("is of an older form, and the row itself names the token host")
    assert f"rotate-key --allow-host a={host}. Otherwise: " in said["left"][0]["action"]
    assert rotated(rows.world, "--allow-host", f"a={host}")[0].code == 0
    assert rows.stored("a") == "token of a"
    assert_done(rows)


def test_consent_to_one_row_is_none_to_a_cell_that_was_pasted_into_another(rows: Rows) -> None:
    host = unbound(rows, "a")
    unbound(rows, "pasted")
    rows.edit("pasted", encrypted_refresh=rows.row("a").encrypted_refresh)
    before = rows.row("pasted")
    result, said = rotated(rows.world, "--allow-host", f"a={host}")
    assert (result.code, list(left(said)), said["rows_resealed"]) == (1, ["pasted"], 1)
    assert rows.row("pasted") == before


def test_a_host_without_its_row_is_no_consent(rows: Rows) -> None:
    host = unbound(rows, "a")
    before = rows.row("a")
    for text in (host, f"={host}", "a="):
        result = rows.world.program.run("rotate-key", "--allow-host", text)
        assert (result.code, "must be LOCATION=HOST" in result.err) == (2, True)
    assert rows.row("a") == before


def test_a_location_id_with_signs_is_shown_as_the_shell_wants_it_and_taken_so(rows: Rows) -> None:
    location = "a=b; c"
    host = unbound(rows, location)
    [one] = rotated(rows.world)[1]["left"]
    pair = f"{location}={host}"
    assert f"--allow-host '{pair}'" in one["action"]
    assert rotated(rows.world, "--allow-host", pair)[0].code == 0


def test_at_a_terminal_each_row_is_shown_with_its_host_and_asked_for(world: World) -> None:
    rows = SqliteRows(world)
    for location in ("a", "b"):
        unbound(rows, location)
    before = rows.row("b")
    with world.program.at_terminal("rotate-key") as terminal:
        for location, answer in (("a", "y"), ("b", "n")):
            terminal.expect(f"{location} (acme-instance), encrypted for no host: ")
            terminal.answer(f"will be sent to {world.oauth.url}. Is that right? [y/N]", answer)
        assert terminal.end() == 1
    assert (rows.stored("a"), rows.row("b")) == ("token of a", before)


# Not done


@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret", "last_access_token"])
def test_a_cell_that_does_not_open_is_named_and_the_others_are_sealed(rows: Rows, column: str) -> None:
    fill(rows)
    rows.edit("loc 1", **{column: rows.world.seal("another", column, "text")})
    new_key(rows.world)
    result, said = rotated(rows.world)
    assert (result.code, said["done"]) == (1, False)
    assert list(left(said)) == ["loc 1"]
    assert left(said)["loc 1"].startswith(column)
    assert "Keep ENCRYPTION_KEY_FALLBACKS" in result.err
    rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert [one["location_id"] for one in verified(rows.world)[1]["findings"]] == ["loc 1"]
    assert column in rows.world.program.run("rotate-key").out


def test_a_key_that_opens_nothing_changes_nothing(rows: Rows) -> None:
    fill(rows)
    before = rows.row("loc 0")
    new_key(rows.world, keep=False)
    result = rows.world.program.run("rotate-key")
    assert (result.code, "decrypts no value" in result.err) == (2, True)
    assert rows.row("loc 0") == before


def test_a_row_that_the_store_refuses_is_named_with_its_reason(airtable_world: World, airtable: AirtableServer) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    new_key(airtable_world)
    [record] = airtable_world.table.find(locationId="loc 1")
    airtable.inject(
        airtable_faults.unprocessable(message="no such luck"), kind="update", times=None,
        when=lambda request: record.encode() in request.body,
    )  # fmt: skip
    result, said = rotated(airtable_world)
    assert (result.code, list(left(said))) == (1, ["loc 1"])
    assert said["rows_resealed"] == 2
    assert "changed" not in left(said)["loc 1"]
    airtable.faults.clear()
    assert rotated(airtable_world)[0].code == 0
    assert_done(rows)


def test_a_store_that_fails_half_way_is_reported_and_the_next_rotation_goes_on(
    airtable_world: World, airtable: AirtableServer
) -> None:
    rows = AirtableRows(airtable_world)
    tokens = fill(rows, 25)
    new_key(airtable_world)
    airtable.inject(airtable_faults.status(503), kind="update", nth=2, times=None)
    assert airtable_world.program.run("rotate-key").code == 3
    airtable.faults.clear()
    assert airtable_world.program.run("verify").code == 0
    assert rotated(airtable_world)[1]["rows_resealed"] == 15
    assert {location: rows.stored(location) for location in tokens} == tokens
    assert_done(rows)


# Company


def test_a_cell_that_changed_meanwhile_is_read_again(airtable_world: World, airtable: AirtableServer) -> None:
    rows = AirtableRows(airtable_world)
    fill(rows)
    old = airtable_world.program.keyring
    new_key(airtable_world)

    def onboarded_elsewhere(_request: Any, act: Any) -> Any:
        cell = old.seal("newer token", Context("encrypted_refresh", "loc 1", airtable_world.oauth.url))
        rows.edit("loc 1", encrypted_refresh=cell)
        return act()

    # The third listing is the comparison before the write.
    airtable.inject(onboarded_elsewhere, kind="list", nth=3)
    result, said = rotated(airtable_world)
    assert (result.code, said["rows_resealed"]) == (0, 3)
    assert rows.stored("loc 1") == "newer token"
    assert_done(rows)


@pytest.mark.parametrize("rows", DATABASES, indirect=True)
def test_a_row_that_is_being_refreshed_is_left_until_that_is_through(rows: Rows) -> None:
    """Its answer must find the cell that it was made from, or it would be superseded."""
    world = rows.world
    fill(rows)
    new_key(world)
    rows.edit("loc 1", claim_owner="host/1/run")  # of a process: its refresh token may be on its way
    before = rows.row("loc 1")
    began = world.clock.monotonic()
    result, said = rotated(world)
    assert (result.code, said["rows_resealed"], list(left(said))) == (1, 2, ["loc 1"])
    assert 60 < world.clock.monotonic() - began < 300
    assert rows.row("loc 1") == before
    rows.edit("loc 1", claim_owner=None)
    assert rotated(world)[1]["rows_resealed"] == 1
    assert_done(rows)


def test_another_run_is_waited_for_and_then_reported(airtable_world: World) -> None:
    fill(AirtableRows(airtable_world))
    new_key(airtable_world)
    with run_lock(store_folder(airtable_world), airtable_world.clock):
        assert airtable_world.program.run("rotate-key").code == 75
    assert airtable_world.clock.slept >= 120
    assert verified(airtable_world)[1]["stale"]


def test_a_bar_is_drawn_on_a_terminal(world: World) -> None:
    fill(SqliteRows(world))
    new_key(world)
    with world.program.at_terminal("rotate-key") as terminal:
        terminal.expect("re-encrypting")
        assert terminal.end() == 0
    assert "3/3" in terminal.transcript


# The journal


def test_what_waits_in_the_journal_is_stored_first(airtable_world: World, airtable: AirtableServer) -> None:
    rows = AirtableRows(airtable_world)
    rows.add("acme", "a", LATER)
    airtable.inject(airtable_faults.status(503), kind="update", nth=2, times=None)
    assert airtable_world.program.run("--all").code == 3
    airtable.faults.clear()
    new_key(airtable_world)
    result, said = rotated(airtable_world)
    assert (result.code, said["journal_keys_needed"]) == (0, [])
    assert rows.is_current("a")
    assert entries(airtable_world) == []
    assert_done(rows)


def test_what_stays_in_the_journal_is_re_encrypted(rows: Rows) -> None:
    """Somebody onboarded while an answer was on its way: it is kept, and must not need the old key for ever."""
    world = rows.world
    rows.add("acme", "a")
    cell = world.seal("a", "encrypted_refresh", "entered elsewhere")
    world.oauth.fail(meanwhile(lambda: rows.edit("a", encrypted_refresh=cell, access_token_expiry=LATER)))
    assert world.program.run("--json").outcomes() == {"a": "changed"}
    new_key(world)
    result, said = rotated(world)
    assert (result.code, said["journal_resealed"], said["journal_keys_needed"]) == (0, 1, [])
    [entry] = entries(world, "superseded")
    assert crypto.key_id_of(entry.answer) == said["key_id"]
    assert_done(rows)


def test_a_journal_entry_of_an_unknown_key_keeps_it_from_being_done(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "a")
    cell = world.seal("a", "encrypted_refresh", "entered elsewhere")
    world.oauth.fail(meanwhile(lambda: rows.edit("a", encrypted_refresh=cell, access_token_expiry=LATER)))
    assert world.program.run().code == 0
    lost_key = world.program.keyring.key_id
    new_key(world, keep=False)
    for column, text in (("encrypted_refresh", "token"), ("encrypted_secret", "acme secret")):
        rows.edit("a", **{column: world.seal("a", column, text)})
    rows.edit("a", last_access_token="")
    result, said = rotated(world)
    assert (result.code, said["done"], said["left"], said["journal_keys_needed"]) == (1, False, [], [lost_key])
    assert f"only key {lost_key} decrypts" in result.err


@pytest.mark.parametrize("keep", [True, False])
def test_a_lost_answer_is_remembered_after_it(world: World, keep: bool) -> None:
    """Otherwise a token would be sent again that the provider may answer by revoking the grant."""
    rows = SqliteRows(world)
    rows.add("acme-family", "a", LATER)
    world.oauth.fail(faults.acted_then_dropped())
    assert world.program.run("--all", "--json").outcomes() == {"a": "unknown"}
    new_key(world)
    assert rotated(world)[0].code == 0
    if not keep:
        world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    world.clock.advance(600)
    sent = len(world.oauth.requests)
    assert world.program.run("--all", "--json").json()["waiting"][0]["location_id"] == "a"
    assert len(world.oauth.requests) == sent


def test_spent_tokens_are_known_as_long_as_the_older_key_is_configured(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "a", LATER)
    spent = rows.row("a").encrypted_refresh
    assert world.program.run("--all").code == 0
    new_key(world)
    assert rotated(world)[0].code == 0
    rows.edit("a", encrypted_refresh=spent)
    sent = len(world.oauth.requests)
    assert world.program.run("--all", "--json").outcomes() == {"a": "operator"}
    assert len(world.oauth.requests) == sent
