"""The main job, end to end: a table of all kinds of rows, one run, and every row where it belongs."""

from __future__ import annotations

from tests.conftest import World


def test_every_due_row_is_refreshed_and_the_next_run_finds_nothing(airtable_world: World) -> None:
    world = airtable_world
    for number in range(25):
        world.table.add(world.cells("gohighlevel" if number % 2 else "google", f"loc{number}"))
    first = world.program.run("--json")
    assert first.code == 0, first.err
    assert set(first.outcomes().values()) == {"refreshed"}
    for record in world.table.records():
        cells = record["fields"]
        stored = world.open_refresh(cells["locationId"], cells["encrypted_refresh"])
        assert stored == world.oauth.current(stored)
        assert world.oauth.is_live(cells["last_access_token"])
    second = world.program.run("--json")
    assert (second.code, second.json()["results"]) == (0, [])
    assert world.oauth.replayed() == []
    assert world.airtable.answers[429] == 0
