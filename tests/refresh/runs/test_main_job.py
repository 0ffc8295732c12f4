"""The main job, end to end: a table of all kinds of rows, one run, and every row where it belongs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import World
from tests.world.http import HTTPServer, Request, Response
from tests.world.oidc_provider import oidc_provider
from tests.world.program import Program

PROVIDER_LATENCY_SECONDS = 0.05
HEALTHY_ROWS = 282
LISTED_ROWS = 302
# Schema, listing, proof of writability, re-reading and writing by full batches, with one batch of each to spare.
STORE_CALLS = 1 + -(-LISTED_ROWS // 100) + 1 + (-(-LISTED_ROWS // 100) + 1) + (-(-LISTED_ROWS // 10) + 3)


def _assert_fresh(world: World, record: str) -> None:
    cells = world.table.cells(record)
    stored = world.open_refresh(cells["locationId"], cells["encrypted_refresh"])
    assert stored == world.oauth.current(stored)
    assert world.oauth.is_live(cells["last_access_token"])


def test_every_due_row_is_refreshed_and_the_next_run_finds_nothing(airtable_world: World) -> None:
    world = airtable_world
    for number in range(25):
        world.table.add(world.cells("gohighlevel" if number % 2 else "google", f"loc{number}"))
    first = world.program.run("--json")
    assert first.code == 0, first.err
    assert set(first.outcomes().values()) == {"refreshed"}
    for record in world.table.records():
        _assert_fresh(world, record["id"])
    second = world.program.run("--json")
    assert (second.code, second.json()["results"]) == (0, [])


@pytest.fixture
def elsewhere() -> Iterator[HTTPServer]:
    """A host that somebody who can edit the table would like the secrets to go to."""

    def accept(_: Request) -> Response:
        return Response.of_json(200, {"access_token": "access-gotcha"})

    with HTTPServer(accept) as server:
        yield server


class Sick:
    """Rows that somebody has to look at, one of each kind, and what a run must say of each."""

    def __init__(self, world: World, elsewhere: HTTPServer) -> None:
        self.world = world
        self.outcomes: dict[str, str | None] = {}
        self._tampered()
        self._pointed_elsewhere(elsewhere)
        self._dead()
        self._unknown_or_half_prepared()

    def _add(self, outcome: str | None, issuer: str, location: str, **changed: str) -> str:
        record: str = self.world.table.add(self.world.cells(issuer, location) | changed)
        if outcome is not None:
            self.outcomes[location] = outcome
        return record

    def _tampered(self) -> None:
        record = self._add("operator", "gohighlevel", "tampered")
        cell = self.world.table.cell(record, "encrypted_refresh")
        self.world.table.edit(record, {"encrypted_refresh": cell[:-5] + ("A" if cell[-5] != "A" else "B") + cell[-4:]})
        donor = self.world.cells("gohighlevel", "donor")
        self._add("operator", "gohighlevel", "moved", encrypted_refresh=donor["encrypted_refresh"])
        self._add(
            "operator", "google", "swapped", encrypted_secret=self.world.cells("google", "x")["encrypted_refresh"]
        )
        self._add("operator", "google", "scribbled", encrypted_refresh="not a sealed cell")

    def _pointed_elsewhere(self, elsewhere: HTTPServer) -> None:
        params = json.dumps({"instance": f"127.0.0.1:{elsewhere.port}"})
        self._add("operator", "acme-instance", "pointed elsewhere", provider_params=params)
        self._add("operator", "acme-instance", "two hosts", provider_params='{"instance": "a@127.0.0.1"}')

    def _dead(self) -> None:
        oauth = self.world.oauth
        for provider in ("gohighlevel", "google"):
            self._add("reauthorize", provider, f"dead {provider}")
            oauth.revoke(f"dead {provider}")
        self._add("reauthorize", "gohighlevel", "uninstalled")
        oauth.uninstall("uninstalled")
        self._add("transient", "gohighlevel", "paused")
        oauth.pause("paused")

    def _unknown_or_half_prepared(self) -> None:
        self._add("operator", "google", "unknown provider", provider="gogle")
        self._add("operator", "google", "no client", client_id="")
        self._add("operator", "google", "odd parameters", provider_params="{")
        twin = self._add("operator", "gohighlevel", "twin")
        self.world.table.duplicate(twin)
        self._add(None, "gohighlevel", "half prepared", encrypted_refresh="")
        self._add(None, "google", "disabled", status="disabled")
        self._add(None, "google", "flagged", status="reauthorize")


@pytest.mark.long
def test_three_hundred_rows_with_sick_ones_among_them(airtable_world: World, elsewhere: HTTPServer) -> None:
    """All others fresh, nothing sent elsewhere or twice, no 429, and each sick row told what to do."""
    world = airtable_world
    records = [
        world.table.add(world.cells("gohighlevel" if number % 3 else "google", f"healthy {number}"))
        for number in range(HEALTHY_ROWS)
    ]
    sick = Sick(world, elsewhere)
    world.oauth.slow_down(PROVIDER_LATENCY_SECONDS)
    run = world.program.run("--json")
    world.oauth.slow_down(0)
    assert run.code == 1, run.err
    outcomes = run.outcomes()
    assert {name: outcome for name, outcome in outcomes.items() if not name.startswith("healthy")} == sick.outcomes
    for record in records:
        _assert_fresh(world, record)
    _assert_untouched(world, elsewhere)
    _assert_reported(run.json()["results"])
    assert run.json()["store_calls"] <= STORE_CALLS
    counts = run.json()["counts"]
    assert counts["refreshed"] == HEALTHY_ROWS
    again = world.program.run("--json")
    assert "refreshed" not in again.json()["counts"]


def _assert_untouched(world: World, elsewhere: HTTPServer) -> None:
    assert elsewhere.requests == []
    assert world.airtable is not None
    assert world.airtable.answers[429] == 0
    assert world.oauth.sent_twice() == []
    assert world.oauth.violations == []


def _assert_reported(results: list[dict[str, str | None]]) -> None:
    for result in results:
        is_fine = result["outcome"] == "refreshed"
        assert (result["error"] is None) == is_fine, result
        assert (result["action"] is None) == is_fine, result


@pytest.mark.long
def test_ten_refreshes_in_a_row_through_the_certified_server(world: World) -> None:
    """`oidc-provider` rotates with every refresh and revokes the grant when an old token comes back."""
    program: Program = world.program
    with oidc_provider(refresh_tokens=1) as oidc:
        client = oidc.basic
        own = program.home / "oidc.toml"
        own.write_text(f'[oidc]\nname = "OIDC"\ntoken_url = "{oidc.token_endpoint}"\nauth = "basic"\nlifetime = 60\n')
        program.settings["PROVIDERS_FILE"] = str(own)
        line = ("somebody", "oidc", client.client_id, client.client_secret, client.refresh_tokens[0])
        assert program.onboard("--from-csv", program.csv(line)).code == 0
        tokens = set()
        for _ in range(10):
            run = program.run("--all", "--json")
            assert run.outcomes() == {"somebody": "refreshed"}, run.err
            tokens.add(program.run("get", "somebody", "--min-valid", "0").out)
    assert len(tokens) == 10


def test_a_provider_whose_tokens_die_between_two_runs_is_named(world: World) -> None:
    world.program.settings["REFRESH_INTERVAL"] = "14400"
    line = world.csv_line("google", "loc")
    assert world.program.onboard("--from-csv", world.program.csv(line)).code == 0
    assert "Google: tokens live 3599 s" in world.program.run("--all").err


def test_runs_that_come_too_rarely_are_named_once_each(world: World) -> None:
    assert "REFRESH_INTERVAL" not in world.program.run().err
    world.clock.advance(3600)
    assert "REFRESH_INTERVAL" not in world.program.run().err
    world.clock.advance(3 * 3600)
    assert "Set REFRESH_INTERVAL" in world.program.run().err
    assert "REFRESH_INTERVAL" not in world.program.run("--all").err


def test_a_private_host_that_the_row_names_is_the_operators_to_allow(world: World) -> None:
    """Nothing is sent to it, and the sentence names the setting."""
    line = (*world.csv_line("acme", "loc"), json.dumps({"instance": world.oauth.url.partition("//")[2]}))
    line = (line[0], "acme-instance", *line[2:5], '"' + line[5].replace('"', '""') + '"')
    host = world.oauth.url.partition("//")[2]
    refused = world.program.onboard("--from-csv", world.program.csv(line, params=True), "--allow-host", host)
    assert refused.code == 1
    assert "ALLOWED_PRIVATE_HOSTS" in refused.err
    assert world.oauth.requests == []
    world.program.settings["ALLOWED_PRIVATE_HOSTS"] = host
    allowed = world.program.onboard("--from-csv", world.program.csv(line, params=True), "--allow-host", host)
    assert allowed.code == 0, allowed.err


@pytest.mark.long
def test_calls_that_will_not_last_the_month_are_reported_in_time(airtable_world: World) -> None:
    """The free plan has 1,000 calls; a run a minute needs forty times that."""
    world = airtable_world
    world.program.settings["AIRTABLE_PLAN"] = "free"
    world.clock.advance(2 * 86_400)
    for _ in range(40):
        world.clock.advance(60)
        assert "the plan has 1000" not in world.program.run("refresh", "--dry-run").err
    for _ in range(60):
        last = world.program.run("refresh", "--dry-run")
    assert "the plan has 1000. Run less often" in last.err
