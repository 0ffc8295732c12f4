"""`disable`, `enable` and `delete`: asked for, done once the journal holds nothing of the client, and reported."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from tests import exits
from tests.callers import manager_of
from tests.commands.test_cli import assert_reported, change_row, onboarded, state_folder
from tests.commands.test_verify import LATER, rows
from tests.conftest import World
from tests.library.test_manager import claim, host_of
from tests.refresh.runs.faults_world import AirtableRows, Rows, entries
from tests.world.airtable import AirtableServer
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture


def locations(world: World) -> list[str]:
    return [row["location_id"] for row in world.program.run("status", "--json").json()["rows"]]


def test_a_client_that_is_disabled_rests_until_it_is_enabled(rows: Rows) -> None:
    world = rows.world
    onboarded(world, "loc1")
    token, cell = rows.access("loc1"), rows.stored("loc1")
    result = world.program.run("disable", " loc1 ", "--yes")
    assert (result.code, result.out) == (0, "")
    assert "loc1 acme: disabled; to use it again: enable" in result.err
    assert not manager_of(world).get("loc1").is_active
    world.clock.advance(3500)
    assert world.program.run("--all", "--json").outcomes() == {}
    assert_reported(world.program.run("get", "loc1"), 1, "its status is disabled")
    assert (rows.access("loc1"), rows.stored("loc1")) == (token, cell)
    assert world.program.run("disable", "loc1", "--yes").code == 0  # safe to repeat
    assert world.program.run("enable", "loc1", "--yes").code == 0
    assert world.program.run("--json").outcomes() == {"loc1": "refreshed"}
    assert world.program.run("get", "loc1").code == 0


@pytest.mark.parametrize("location", ["bad one", "$(touch /tmp/x)", "-dash", "it's"])
@pytest.mark.parametrize("command", ["status", "get"])
def test_the_advice_to_enable_a_client_works_as_it_stands_whatever_its_id_is(
    world: World, location: str, command: str
) -> None:
    onboarded(world, location)
    change_row(world, location, status="disabled")
    world.clock.advance(3700)
    whose = ["--min-valid", "60", "--", location] if command == "get" else []
    result = world.program.run(command, *whose)
    advice = result.out + result.err
    [words] = re.findall(r"To use it again: \S+ \S+ (enable .*)", advice)
    verb, *row = shlex.split(words)
    assert world.program.run(verb, "--yes", *row).code == 0
    assert world.program.run("--json").outcomes() == {location: "refreshed"}


def test_the_advice_for_one_of_two_providers_of_a_location_names_it(rows: Rows) -> None:
    rows.add("acme", "loc1", LATER, status="disabled")
    rows.add("google", "loc1", LATER)
    [line] = [line for line in rows.world.program.run("status").out.splitlines() if "To use it again" in line]
    words = shlex.split(line.partition("token_manager.py ")[2])
    assert rows.world.program.run(*words, "--yes").code == 0
    assert {row["state"] for row in rows.world.program.run("status", "--json").json()["rows"]} == {"valid"}


def test_a_client_that_is_deleted_leaves_nothing(rows: Rows) -> None:
    world = rows.world
    onboarded(world, "loc1", "loc2")
    result = world.program.run("delete", "loc1", "--yes")
    assert (result.code, result.out) == (0, "")
    assert "loc1 acme: deleted; to end its grant, disconnect the app at the provider" in result.err
    assert locations(world) == ["loc2"]
    assert world.oauth.current("loc1")  # which lives on
    assert_reported(world.program.run("delete", "loc1", "--yes"), 1, "there is no row of 'loc1'")
    assert world.program.run("--all", "--json").outcomes() == {"loc2": "refreshed"}


@pytest.mark.parametrize("verb", ["disable", "delete"])
def test_what_the_journal_holds_of_the_client_comes_first(world: World, verb: str) -> None:
    """An answer that waits is stored, so no later run brings back what was ended."""
    onboarded(world, "loc1")
    world.clock.advance(3600)
    world.oauth.fail(faults.raw(b'{"response": {"data": {"access_token": "12345678"}}}'))
    world.program.run()
    assert [entry.step for entry in entries(world)] == ["unread"]
    assert world.program.run(verb, "loc1", "--yes").code == 0
    world.clock.advance(3600)
    assert world.program.run("--all", "--json").outcomes() == {}
    assert locations(world) == ([] if verb == "delete" else ["loc1"])
    if verb == "delete":
        assert entries(world) == []


@pytest.mark.parametrize("verb", ["disable", "enable", "delete"])
def test_a_client_that_is_being_refreshed_is_waited_for_and_left(world: World, verb: str) -> None:
    onboarded(world, "loc1")
    claim(world, f"{host_of(world)}/77/run")
    before = world.rows()
    assert_reported(world.program.run(verb, "loc1", "--yes"), 1, "another process is refreshing it")
    assert world.rows() == before


@pytest.mark.parametrize(("verb", "word"), [("disable", "disabled"), ("enable", "enabled"), ("delete", "deleted")])
def test_the_answer_as_json(world: World, verb: str, word: str) -> None:
    onboarded(world, "loc1")
    result = world.program.run(verb, "loc1", "--provider", "acme", "--yes", "--json")
    assert json.loads(result.out) == {"location_id": "loc1", "provider": "acme", word: True}


@pytest.mark.parametrize("verb", ["disable", "enable", "delete"])
def test_without_a_yes_nothing_is_done(world: World, verb: str) -> None:
    onboarded(world, "loc1")
    before = world.rows()
    assert_reported(world.program.run(verb, "loc1"), 2, "this is no terminal, so nobody can be asked", "with --yes")
    assert world.rows() == before


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_a_person_is_asked(world: World, answer: str, code: int) -> None:
    onboarded(world, "loc1")
    with world.program.at_terminal("delete", "loc1") as terminal:
        terminal.expect("Delete loc1 at acme and its row")
        terminal.type(f"{answer}\r")
        assert terminal.end() == code
    assert (world.rows() == {}) == (code == 0)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"status": "reauthorize"}, "its refresh token does not work any more"),
        ({"status": "disabled", "encrypted_refresh": "", "last_access_token": ""}, "it has no credential"),
    ],
)
def test_what_only_a_login_helps_is_not_enabled(rows: Rows, cells: dict[str, Any], said: str) -> None:
    onboarded(rows.world, "loc1")
    rows.edit("loc1", **cells)
    assert_reported(rows.world.program.run("enable", "loc1", "--yes"), 1, said, "onboard_client.py")


def test_a_table_without_a_status_disables_nobody(airtable_world: World) -> None:
    onboarded(airtable_world, "loc1")
    airtable_world.table.remove_column("status")
    assert_reported(
        airtable_world.program.run("disable", "loc1", "--yes"), 2, "the table has no column status", "setup"
    )
    assert AirtableRows(airtable_world).is_current("loc1")


def test_a_status_that_the_store_does_not_take_is_reported(airtable_world: World, airtable: AirtableServer) -> None:
    onboarded(airtable_world, "loc1")
    airtable.inject(airtable_faults.status(503), kind="update", times=None)
    assert airtable_world.program.run("disable", "loc1", "--yes").code == exits.STORE
    airtable.faults.clear()
    assert AirtableRows(airtable_world).row("loc1").status == "active"
    assert airtable_world.program.run("disable", "loc1", "--yes").code == exits.DONE


def test_another_run_is_waited_for_and_then_reported(airtable_world: World) -> None:
    onboarded(airtable_world, "loc1")
    with run_lock(state_folder(airtable_world), airtable_world.clock):
        assert airtable_world.program.run("delete", "loc1", "--yes").code == 75
