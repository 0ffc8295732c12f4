"""`api-key`: a key is shown once, its like is kept as a hash, and the security log knows who made it."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import crypto
from tests import exits
from tests.conftest import World
from tests.world.clock import START
from token_refresh.access.api_keys import ApiKeys
from token_refresh.settings import load
from token_refresh.stores.database import open_backend
from token_refresh.wiring import SERVICE_FILE, assemble, service_database


@pytest.fixture(params=["world", "postgres_world", "airtable_world"])
def any_world(request: pytest.FixtureRequest) -> World:
    """The program on each store."""
    made: World = request.getfixturevalue(request.param)
    return made


def keys_of(world: World) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = world.program.run("api-key", "list", "--json").json()["keys"]
    return keys


def log_of(world: World) -> list[dict[str, Any]]:
    """The lines of the security log."""
    [log] = Path(world.program.settings["STATE_DIR"]).glob("*/security.log")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_key_is_made_listed_used_and_revoked(any_world: World) -> None:
    program = any_world.program
    made = program.run("api-key", "create", "ci", "--scope", "read", "--scope", "tokens:loc 1")
    assert made.code == 0
    assert made.out.startswith("trk_")
    assert made.out.count("\n") == 1
    assert made.out.strip() not in made.err
    [key] = keys_of(any_world)
    assert key == {
        "name": "ci",
        "id": made.out[4:20],
        "scopes": ["read", "tokens:loc 1"],
        "created_at": "2026-03-01T12:00:00.000Z",
        "last_used_at": None,
    }
    found = find(any_world, made.out.strip())
    assert found is not None
    assert keys_of(any_world)[0]["last_used_at"] is not None
    listed = program.run("api-key", "list")
    assert ("ci" in listed.out, made.out.strip() in listed.said) == (True, False)
    assert program.run("api-key", "revoke", "ci").code == 0
    assert keys_of(any_world) == []
    assert find(any_world, made.out.strip()) is None
    assert [line["event"] for line in log_of(any_world)] == ["key made", "key revoked"]
    assert made.out.strip() not in json.dumps(log_of(any_world))


def find(world: World, text: str) -> object:
    """What the service would find."""
    installation = assemble(
        load(world.program.settings, crypto.parse_key), world.clock, lambda _: None, lambda _what, _action: None, "test"
    )
    with closing(service_database(installation)) as database:
        return ApiKeys(database, world.clock).find(text)


def test_at_airtable_keys_are_in_a_private_file_of_the_base(airtable_world: World) -> None:
    airtable_world.program.run("api-key", "create", "ci", "--scope", "read")
    [file] = (airtable_world.program.home / "state").glob(f"*/{SERVICE_FILE}")
    assert airtable_world.airtable is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with closing(open_backend(f"sqlite:///{file}")) as database:
        [key] = ApiKeys(database, airtable_world.clock).all()
    assert (key.name, key.created_at) == ("ci", START)
    assert airtable_world.airtable is not None
    assert airtable_world.airtable.requests == []


def test_as_json_the_key_is_in_the_one_object(world: World) -> None:
    made = world.program.run("api-key", "create", "ci", "--scope", "admin", "--json").json()
    assert (made["name"], made["key"][:4], list(made)) == ("ci", "trk_", ["name", "key"])
    assert world.program.run("api-key", "revoke", "ci", "--json").json() == {"name": "ci", "revoked": True}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create", "ci"], exits.USAGE, "a key without a scope allows nothing"),
        (["create", "ci", "--scope", "write"], exits.USAGE, "a scope does not exist"),
        (["create", "taken", "--scope", "read"], exits.USAGE, "there is a key named taken already"),
        (["create", " ", "--scope", "read"], exits.USAGE, "visible characters"),
        (["create"], exits.USAGE, "NAME"),
        (["revoke", "nobody"], exits.FAILED, "there is no key named nobody"),
        (["list", "nobody"], exits.USAGE, "more arguments than expected"),
        (["show"], exits.USAGE, "invalid choice"),
        ([], exits.USAGE, "ACTION"),
    ],
)
def test_what_cannot_be_done_says_why(world: World, words: list[str], code: int, said: str) -> None:
    world.program.run("api-key", "create", "taken", "--scope", "read")
    result = world.program.run("api-key", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


def test_a_failed_attempt_to_make_a_key_is_in_the_log_too(world: World) -> None:
    world.program.run("api-key", "create", "ci", "--scope", "read")
    world.program.run("api-key", "create", "ci", "--scope", "admin")
    assert [(line["event"], line["outcome"]) for line in log_of(world)] == [("key made", "done"), ("key made", "usage")]
