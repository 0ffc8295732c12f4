"""Whoever can edit the table points a row at a host of their own: that host hears nothing. Counted there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crypto import Context
from tests.commands.test_verify import LATER, new_key, older_form, rows
from tests.refresh.runs.faults_world import Rows
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer

pytestmark = pytest.mark.by_turns("rows")

__all__ = ["rows"]  # a fixture


@pytest.fixture
def evil(clock: FakeClock) -> Iterator[OAuthServer]:
    """A server that would take whatever it is sent."""
    with OAuthServer(clock=clock.timestamp) as server:
        yield server


def pointed_at(server: OAuthServer) -> dict[str, Any]:
    return {"provider": "acme-instance", "provider_params": json.dumps({"instance": server.url.partition("://")[2]})}


VERBS = (["refresh", "--all"], ["rotate-key"], ["get", "a"], ["refresh", "--all"], ["verify"], ["doctor"])


@pytest.mark.by_turns("rows", "was")
@pytest.mark.parametrize("form", ["sealed", "older key", "older form", "older secret alone"])
@pytest.mark.parametrize("was", ["acme", "acme-instance"])
def test_a_host_that_the_table_names_hears_nothing_from_any_verb(
    rows: Rows, evil: OAuthServer, form: str, was: str
) -> None:
    world = rows.world
    rows.add(was, "a", LATER)
    if was == "acme-instance":
        rows.edit("a", **pointed_at(world.oauth))
    if form == "older form":
        rows.edit("a", encrypted_refresh=older_form(world, "token"), encrypted_secret=older_form(world, "secret"))
    elif form == "older secret alone":
        rows.edit("a", encrypted_refresh="", encrypted_secret=older_form(world, "secret"))
    elif form == "older key":
        new_key(world)
    host = evil.url.partition("://")[2]
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = f"127.0.0.1, {host}"  # nothing else stands in the way
    rows.edit("a", **pointed_at(evil))
    for verb in VERBS:
        world.program.run(*verb)
    assert evil.requests == []
    assert [request for request in world.oauth.requests if request.method == "POST"] == []


def test_rows_of_a_host_that_the_provider_gave_up_go_on_and_are_sealed_for_the_new_one(rows: Rows) -> None:
    """Only where the catalogue, or the settings' own one, says that it was the provider's."""
    world, old = rows.world, "https://old.example"
    rows.add("acme", "a")
    rows.add("acme-basic", "b")
    for name in "ab":
        moved = {
            column: world.program.keyring.seal(
                world.program.keyring.open(getattr(rows.row(name), column), Context(column, name, world.oauth.url)),
                Context(column, name, old),
            )
            for column in ("encrypted_secret", "encrypted_refresh")
        }
        rows.edit(name, **moved)
    path = world.program.home / "providers.toml"
    path.write_text(path.read_text().replace("[acme]\n", f'[acme]\nformer_origins = ["{old}"]\n'))
    assert world.program.run("--json").outcomes() == {"a": "refreshed", "b": "operator"}
    assert rows.is_current("a")  # which opens for the new host alone


def test_an_export_that_was_edited_sends_nothing_after_its_import(rows: Rows, evil: OAuthServer) -> None:
    world = rows.world
    rows.add("acme", "a", LATER, encrypted_refresh=older_form(world, "token"))
    rows.add("acme", "b", LATER)
    path = world.program.home / "export"
    assert world.program.run("export", "--output", str(path)).code == 0
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row.update(pointed_at(evil))
    path.write_text(json.dumps(content))
    for location in "ab":
        rows.remove(location)
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = evil.url.partition("://")[2]
    assert world.program.run("import", str(path), "--yes").code == 1
    for verb in VERBS:
        world.program.run(*verb)
    assert evil.requests == []
