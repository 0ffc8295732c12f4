"""`rebind`: an honest change of host or location id keeps its credential; nobody else's wish moves one."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from crypto import Context
from tests import exits
from tests.commands.test_verify import LATER, new_key, older_form, rows, store_folder
from tests.conftest import World
from tests.refresh.runs.faults_world import DATABASES, AirtableRows, Rows, SqliteRows, entries
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.world.airtable import AirtableServer
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.errors import ActionableError
from token_refresh.clients.rows import find_one
from token_refresh.journal.lock import run_lock
from token_refresh.keys.rebind import FormerPlace, plan_rebinding, rebind
from token_refresh.stores.base import Row

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture
FORMER = "https://former.example"


def moved(rows: Rows, provider: str = "acme", location: str = "a", **more: Any) -> str:
    """A row whose cells were sealed for another host; returns the refresh token."""
    world = rows.world
    rows.add(provider, location, LATER, **more)
    return reseal(world, rows, location, location, FORMER)


def reseal(world: World, rows: Rows, location: str, was_location: str, was_origin: str) -> str:
    row = rows.row(location)
    cells = {"encrypted_refresh": row.encrypted_refresh, "encrypted_secret": row.encrypted_secret}
    texts = {
        column: world.program.keyring.open(cell, Context(column, location, world.oauth.url))
        for column, cell in cells.items()
    } | {"last_access_token": "access"}
    rows.edit(
        location,
        **{
            column: world.program.keyring.seal(text, Context(column, was_location, was_origin))
            for column, text in texts.items()
        },
    )
    return texts["encrypted_refresh"]


def own_host(world: World) -> dict[str, str]:
    """The row names the host itself."""
    return {"provider_params": json.dumps({"instance": world.oauth.url.partition("://")[2]})}


def rebound(rows: Rows, *argv: str) -> Result:
    return rows.world.program.run("rebind", "a", "--was-origin", FORMER, *argv)


def test_cells_of_the_former_host_are_sealed_for_the_present_one(rows: Rows) -> None:
    token = moved(rows)
    world = rows.world
    assert world.program.run("verify").code == 1
    result = rebound(rows, "--yes", "--json")
    assert result.code == 0, result.err
    assert result.json() == {
        "location_id": "a",
        "provider": "acme",
        "was": {"location_id": "a", "origin": FORMER},
        "is": {"location_id": "a", "origin": world.oauth.url},
        "columns": ["encrypted_refresh", "encrypted_secret", "last_access_token"],
    }
    assert rows.stored("a") == token
    assert world.program.run("verify").code == 0
    assert world.oauth.requests == []
    assert world.program.run("--all", "--json").outcomes() == {"a": "refreshed"}


def test_cells_of_the_former_location_id_are_sealed_for_the_present_one(rows: Rows) -> None:
    rows.add("acme", "a", LATER)
    token = reseal(rows.world, rows, "a", "before", rows.world.oauth.url)
    result = rows.world.program.run("rebind", "a", "--was-location", " before ", "--yes")
    assert (result.code, rows.stored("a")) == (0, token)


def test_host_and_location_id_may_both_be_others(rows: Rows) -> None:
    rows.add("acme", "a", LATER)
    token = reseal(rows.world, rows, "a", "before", FORMER)
    assert rebound(rows, "--yes").code == 1
    assert rebound(rows, "--yes", "--was-location", "before").code == 0
    assert rows.stored("a") == token


def test_a_second_time_changes_nothing(rows: Rows) -> None:
    moved(rows)
    assert rebound(rows, "--yes").code == 0
    before = rows.row("a")
    for result in (rebound(rows), rows.world.program.run("rebind", "a", "--was-location", "a")):
        assert (result.code, "all values can be decrypted already" in result.err) == (0, True)
    assert rows.row("a") == before


def test_a_cell_that_opens_already_is_left(rows: Rows) -> None:
    moved(rows)
    secret = rows.world.seal("a", "encrypted_secret", "acme secret")
    rows.edit("a", encrypted_secret=secret)
    assert rebound(rows, "--yes").code == 0
    assert rows.row("a").encrypted_secret == secret


def test_where_only_the_secret_is_of_the_former_host_the_refresh_token_stays_in_its_cell(rows: Rows) -> None:
    token = moved(rows)
    world = rows.world
    cell = world.seal("a", "encrypted_refresh", token)
    rows.edit("a", encrypted_refresh=cell, last_access_token="")
    result = rebound(rows, "--yes", "--json")
    assert (result.code, result.json()["columns"]) == (0, ["encrypted_secret"])
    assert rows.row("a").encrypted_refresh == cell
    assert world.program.run("verify").code == 0


def test_cells_under_an_older_key_are_sealed_under_the_new_one(rows: Rows) -> None:
    moved(rows)
    new_key(rows.world)
    assert rebound(rows, "--yes").code == 0
    rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert rows.world.program.run("verify").code == 0


@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret", "last_access_token"])
def test_a_cell_that_opens_neither_here_nor_there_leaves_the_row_as_it_was(rows: Rows, column: str) -> None:
    moved(rows)
    rows.edit("a", **{column: rows.world.seal("another", column, "text")})
    before = rows.row("a")
    result = rebound(rows, "--yes")
    assert (result.code, column in result.err) == (1, True)
    assert rows.row("a") == before


def test_an_older_form_has_no_former_place(rows: Rows) -> None:
    moved(rows, "acme-instance", **own_host(rows.world))
    rows.edit("a", encrypted_refresh=older_form(rows.world, "token"))
    before = rows.row("a")
    host = rows.world.oauth.url.partition("://")[2]
    assert rebound(rows, "--yes", "--allow-host", host).code == 1
    assert rows.row("a") == before


# The yes


def test_without_a_terminal_it_takes_a_flag(rows: Rows) -> None:
    moved(rows)
    before = rows.row("a")
    result = rebound(rows)
    assert (result.code, "--yes" in result.err) == (2, True)
    assert rows.row("a") == before


def test_a_host_that_the_row_names_itself_is_shown_and_has_to_be_allowed_by_name(rows: Rows) -> None:
    moved(rows, "acme-instance", **own_host(rows.world))
    before = rows.row("a")
    host = rows.world.oauth.url.partition("://")[2]
    for flags in (["--yes"], ["--yes", "--allow-host", "other.example"]):
        result = rebound(rows, *flags)
        assert (result.code, f"--allow-host {host}" in result.err) == (2, True)
        assert rows.row("a") == before
    assert rebound(rows, "--yes", "--allow-host", host).code == 0


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 1)])
@pytest.mark.by_turns("flags")
@pytest.mark.parametrize("flags", [[], ["--yes"]])
def test_at_a_terminal_the_new_host_is_asked_about(world: World, answer: str, code: int, flags: list[str]) -> None:
    """`--yes` does not answer for a host that the row names itself."""
    rows = SqliteRows(world)
    moved(rows, "acme-instance", **own_host(world))
    before = rows.row("a")
    with world.program.at_terminal("rebind", "a", "--was-origin", FORMER, *flags) as terminal:
        terminal.expect(f"will be sent to {world.oauth.url}. Is that right?")
        terminal.type(answer + "\r")
        assert terminal.end() == code
    assert (rows.row("a") == before) is bool(code)
    assert FORMER in terminal.transcript


@pytest.mark.parametrize(
    "argv", [[], ["--was-origin", "ftp://x"], ["--was-origin", "former.example"], ["--was-origin", ""]]
)
def test_what_was_before_has_to_be_said_rightly(world: World, argv: list[str]) -> None:
    moved(SqliteRows(world))
    assert world.program.run("rebind", "a", "--yes", *argv).code == 2


def test_the_row_has_to_be_there_and_alone(rows: Rows) -> None:
    moved(rows)
    rows.add("google", "a", LATER)
    assert rebound(rows, "--yes").code == 2
    assert rebound(rows, "--yes", "--provider", "acme").code == 0
    assert rows.world.program.run("rebind", "nobody", "--was-origin", FORMER, "--yes").code == 1


# Company


@pytest.mark.parametrize("rows", DATABASES, indirect=True)
def test_a_row_that_is_being_refreshed_is_left(rows: Rows) -> None:
    moved(rows)
    rows.edit("a", claim_owner="host/1/run")
    before = rows.row("a")
    assert rebound(rows, "--yes").code == 75
    assert rows.row("a") == before


def test_another_run_is_waited_for_and_then_reported(airtable_world: World) -> None:
    moved(AirtableRows(airtable_world))
    with run_lock(store_folder(airtable_world), airtable_world.clock):
        assert rebound(AirtableRows(airtable_world), "--yes").code == 75
    assert airtable_world.clock.slept >= 120


def test_a_row_that_is_changed_while_the_question_stands_is_left(world: World) -> None:
    rows = SqliteRows(world)
    moved(rows)
    with world.program.at_terminal("rebind", "a", "--was-origin", FORMER) as terminal:
        terminal.expect("Is that right?")
        rows.edit("a", provider="google")
        terminal.type("y\r")
        assert terminal.end() == 1
    assert world.program.run("verify").code == 1


def test_a_store_that_does_not_take_it_is_reported(airtable_world: World, airtable: AirtableServer) -> None:
    rows = AirtableRows(airtable_world)
    moved(rows)
    airtable.inject(airtable_faults.status(503), kind="update", times=None)
    assert rebound(rows, "--yes").code == 3
    airtable.faults.clear()
    assert rebound(rows, "--yes").code == 0


def renamed(world: World, provider: str) -> str:
    """The settings name the provider's host in another way from now on; returns the origin before."""
    url = world.oauth.token_url(provider)
    world.program.settings[f"{provider.upper().replace('-', '_')}_TOKEN_URL"] = url.replace("127.0.0.1", "localhost")
    return world.oauth.url


def test_tokens_that_wait_in_the_journal_reach_the_row_after_it(
    airtable_world: World, airtable: AirtableServer
) -> None:
    """The host changed while an answer could not be stored: the answer still belongs to the row."""
    rows = AirtableRows(airtable_world)
    rows.add("acme", "a", LATER)
    airtable.inject(airtable_faults.status(503), kind="update", nth=2, times=None)
    assert airtable_world.program.run("--all").code == 3
    airtable.faults.clear()
    was = renamed(airtable_world, "acme")
    assert airtable_world.program.run("rebind", "a", "--was-origin", was, "--yes").code == 0
    sent = len(airtable_world.oauth.requests)
    assert airtable_world.program.run().code == 0
    assert len(airtable_world.oauth.requests) == sent
    assert entries(airtable_world) == []
    cell = rows.row("a").encrypted_refresh
    origin = was.replace("127.0.0.1", "localhost")
    token = airtable_world.program.keyring.open(cell, Context("encrypted_refresh", "a", origin))
    assert token == airtable_world.oauth.current("a")


def test_a_lost_answer_is_remembered_after_it(world: World) -> None:
    """Otherwise a token would be sent again that the provider may answer by revoking the grant."""
    rows = SqliteRows(world)
    rows.add("acme-family", "a", LATER)
    world.oauth.fail(faults.acted_then_dropped())
    assert world.program.run("--all", "--json").outcomes() == {"a": "unknown"}
    was = renamed(world, "acme-family")
    assert world.program.run("rebind", "a", "--was-origin", was, "--yes").code == 0
    world.clock.advance(600)
    sent = len(world.oauth.requests)
    assert world.program.run("--all").code == exits.FAILED  # it waits for the end of the access token
    assert len(world.oauth.requests) == sent
    assert [entry.step for entry in entries(world)] == ["lost"]


def test_where_the_key_of_before_is_given_up_without_a_rotation_nothing_is_sent_and_a_lost_answer_is_remembered(
    world: World,
) -> None:
    rows = SqliteRows(world)
    rows.add("acme-family", "a", LATER)
    world.oauth.fail(faults.acted_then_dropped())
    assert world.program.run("--all", "--json").outcomes() == {"a": "unknown"}
    before = new_key(world, keep=False)
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = before
    was = renamed(world, "acme-family")
    assert world.program.run("rebind", "a", "--was-origin", was, "--yes").code == 0
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    world.clock.advance(600)
    sent = len(world.oauth.requests)
    refused = world.program.run("--all")
    assert (refused.code, "rotate-key" in refused.err) == (exits.USAGE, True)
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = before
    assert world.program.run("rotate-key").code == exits.DONE
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert world.program.run("--all").code == exits.FAILED  # it waits for the end of the access token
    assert len(world.oauth.requests) == sent
    assert [entry.step for entry in entries(world)] == ["lost"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_row_that_is_changed_once_it_was_agreed_to_is_left(world: World, when: str) -> None:
    """Before the row is read for the last time, or between that and the write."""
    rows = SqliteRows(world)
    moved(rows)
    theirs = world.seal("a", "encrypted_refresh", "theirs")

    def looked_up() -> tuple[Row, str]:
        if when == "before":
            rows.edit("a", encrypted_refresh=theirs)
        found = find_one(context.store.store, context.job_factory, "a", "acme")
        rows.edit("a", encrypted_refresh=theirs)
        return found

    with run_context_of(rows) as context:
        former = FormerPlace(None, FORMER)
        find_row = partial(find_one, context.store.store, context.job_factory, "a", "acme")
        agreed = plan_rebinding(find_row, context.store, context.job_factory, former)
        with pytest.raises(ActionableError, match="somebody changed the row meanwhile; nothing was written"):
            rebind(context, looked_up, former, agreed)
    assert rows.row("a").encrypted_refresh == theirs
