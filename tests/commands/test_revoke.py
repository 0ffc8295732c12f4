"""`revoke`: asked for, done at the provider, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.callers import revocable
from tests.commands.test_cli import assert_reported, onboarded, state_folder
from tests.commands.test_verify import rows
from tests.conftest import World
from tests.refresh.runs.faults_world import Rows
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture


@pytest.fixture
def client(world: World) -> World:
    """One client at a provider that can revoke."""
    revocable(world)
    onboarded(world, "loc1")
    return world


def test_yes_ends_the_grant_and_empties_the_row(rows: Rows) -> None:
    client = rows.world
    revocable(client)
    onboarded(client, "loc1")
    result = client.program.run("revoke", " loc1 ", "--yes")
    assert (result.code, result.out) == (0, "")
    assert "loc1 acme: asked to revoke; its row is disabled and holds no secret any more" in result.err
    assert "does not promise that this ends the grant" in result.err
    assert all(token.revoked_at is not None or token.spent_at is not None for token in client.oauth.tokens.values())
    assert rows.row("loc1").encrypted_refresh == rows.row("loc1").encrypted_secret == ""
    assert_reported(client.program.run("revoke", "loc1", "--yes"), 1, "it has no credential", "nothing to revoke")
    assert client.program.run().code == 0


def test_the_answer_as_json(client: World) -> None:
    result = client.program.run("revoke", "loc1", "--provider", "acme", "--yes", "--json")
    assert json.loads(result.out) == {"location_id": "loc1", "provider": "acme", "revoked": False}
    own = Path(client.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", "[acme]\nrevoke_ends = true\n"))
    onboarded(client, "loc2")
    promised = client.program.run("revoke", "loc2", "--provider", "acme", "--yes", "--json")
    assert json.loads(promised.out) == {"location_id": "loc2", "provider": "acme", "revoked": True}
    assert "loc2 acme: revoked; its row is disabled" in promised.err


def test_without_a_yes_nothing_is_done(client: World) -> None:
    assert_reported(
        client.program.run("revoke", "loc1"), 2, "this is no terminal, so nobody can be asked", "with --yes"
    )
    assert client.token_of("loc1") == client.oauth.current("loc1")


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_a_person_is_asked(client: World, answer: str, code: int) -> None:
    with client.program.at_terminal("revoke", "loc1") as terminal:
        terminal.expect("End the grant of loc1 at acme? Only a new login brings it back. [y/N] ")
        terminal.type(f"{answer}\r")
        assert terminal.end() == code
    assert (client.rows()["loc1"]["encrypted_refresh"] == "") == (code == 0)


def test_exit_codes_tell_what_kind_of_trouble_it_was(client: World) -> None:
    assert_reported(client.program.run("revoke", "nowhere", "--yes"), 1, "there is no row of 'nowhere'")
    onboarded(client, "loc1", provider="google")
    assert_reported(client.program.run("revoke", "loc1", "--yes"), 2, "'loc1' has several rows", "--provider")
    onboarded(client, "plain", provider="acme-basic")
    assert_reported(client.program.run("revoke", "plain", "--yes"), 1, "no revocation endpoint of acme-basic is known")


def test_a_row_whose_provider_is_not_known_is_reported(client: World) -> None:
    own = Path(client.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]", "[other]").replace('name = "acme"', 'name = "other"'))
    assert_reported(client.program.run("revoke", "loc1", "--yes"), 1, "there is no provider 'acme'")


def test_another_run_is_waited_for_and_then_reported(airtable_world: World) -> None:
    revocable(airtable_world)
    onboarded(airtable_world, "loc1")
    with run_lock(state_folder(airtable_world), airtable_world.clock):
        result = airtable_world.program.run("revoke", "loc1", "--yes")
    assert (result.code, airtable_world.clock.slept >= 120) == (75, True)
    assert "another run is active; waiting for it to end" in result.err
