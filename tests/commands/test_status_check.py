"""`status --check`: one line for a monitor, from what the last run left; no call to the store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import Rows, table_of
from tests.world.airtable import faults as airtable_faults
from tests.world.oauth import faults

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=["sqlite", "postgres", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    return table_of(request.param, request)


def check(world: World) -> tuple[int, str]:
    result = world.program.run("status", "--check")
    assert result.out.count("\n") == 1
    return result.code, result.out.partition(":")[0]


def test_a_monitor_learns_who_needs_somebody_whose_token_expired_and_that_no_run_came(rows: Rows) -> None:
    world = rows.world
    assert check(world) == (3, "UNKNOWN")
    rows.add("acme", "well")
    rows.add("acme", "dead", world.clock.now() + timedelta(minutes=10))
    world.oauth.revoke("dead")
    assert world.program.run().code == 1
    assert check(world) == (1, "WARNING")
    world.clock.advance(600)
    assert check(world) == (2, "CRITICAL")
    rows.edit("dead", encrypted_refresh=world.cells("acme", "dead")["encrypted_refresh"], status="active")
    assert world.program.run().code == 0
    assert check(world) == (0, "OK")
    world.clock.advance(7201)
    assert check(world) == (2, "CRITICAL")


def test_it_says_the_same_as_an_object(world: World) -> None:
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    world.program.run()
    shown = world.program.run("status", "--check", "--json")
    assert (shown.code, shown.json()) == (
        0, {"state": "ok", "message": "the last run ended 0 min ago, nobody has to do anything", "action": None}
    )  # fmt: skip


def test_a_set_up_that_is_wrong_is_exit_3_on_standard_output(world: World) -> None:
    world.program.settings["ENCRYPTION_KEY"] = ""
    result = world.program.run("status", "--check")
    assert result.code == 3
    assert result.out.startswith("UNKNOWN: ENCRYPTION_KEY is not set")


def test_airtable_is_not_asked(airtable_world: World) -> None:
    world = airtable_world
    assert world.airtable is not None
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")))
    assert world.program.run().code == 0
    world.airtable.inject(airtable_faults.status(503), times=None)
    before = len(world.airtable.requests)
    assert check(world) == (0, "OK")
    assert len(world.airtable.requests) == before


def test_a_database_that_is_gone_is_not_asked(world: World) -> None:
    rows = table_of_world(world)
    rows.add("acme", "loc")
    assert world.program.run().code == 0
    (Path(world.program.settings["STATE_DIR"]) / "tokens.sqlite3").unlink()
    assert check(world) == (0, "OK")
    assert not (Path(world.program.settings["STATE_DIR"]) / "tokens.sqlite3").exists()


def table_of_world(world: World) -> Rows:
    from tests.refresh.runs.faults_world import SqliteRows

    return SqliteRows(world)


def test_a_refused_client_whose_rows_are_not_marked_needs_attention(world: World) -> None:
    rows = table_of_world(world)
    rows.add("acme", "loc", world.clock.now() + timedelta(minutes=10))
    world.oauth.fail(faults.wrong_secret(), times=9)
    assert world.program.run().code == 1
    assert rows.row("loc").last_error == ""
    assert check(world) == (1, "WARNING")
    assert "loc (needs_fixing)" in world.program.run("status", "--check").out
    world.oauth.behave()
    assert world.program.run().code == 0
    assert check(world) == (0, "OK")
