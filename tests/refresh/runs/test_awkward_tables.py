"""Every line of the table in docs/airtable.md, as a person meets it: the situation, the sentence, the exit code."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.world.airtable import AirtableServer, Column, columns, faults
from token_refresh.base.clock import iso

PAGE = Path(__file__).resolve().parents[3] / "docs/airtable.md"
Situation = Callable[[World, AirtableServer], object]


def _documented() -> dict[str, tuple[str, int]]:
    lines = PAGE.read_text().partition("what you read")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\|.*\d \|$", line)]
    return {what: (said, int(code)) for what, said, code in cells}


def _instead(column: Column) -> Situation:
    def act(world: World, server: AirtableServer) -> None:
        server.credentials_table("Other", instead=[column])
        world.program.settings["AIRTABLE_TABLE_NAME"] = "Other"

    return act


def _setting(name: str, value: str) -> Situation:
    return lambda world, _: world.program.settings.update({name: value})


def _read_only(world: World, server: AirtableServer) -> None:
    server.add_token("pat-reader", scopes=("data.records:read", "schema.bases:read"))
    world.program.settings["AIRTABLE_API_KEY"] = "pat-reader"


def _unseen(world: World, server: AirtableServer, column: Column, cells: dict[str, Any]) -> None:
    """The token does not see the schema: only the cells show what a column is."""
    server.add_token("pat-data", scopes=("data.records:read", "data.records:write"))
    world.program.settings["AIRTABLE_API_KEY"] = "pat-data"
    world.table = server.credentials_table("Other", instead=[column])
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Other"
    shown = {name: cell for name, cell in cells.items() if column.computed and name == column.name}
    record = world.table.add({name: cell for name, cell in cells.items() if name not in shown})
    for name, cell in shown.items():
        world.table.compute(record, name, cell)


def _days(world: World, server: AirtableServer) -> None:
    cells = world.cells("google", "loc2") | {"access_token_expiry": "2025-01-01"}
    _unseen(world, server, columns.day("access_token_expiry"), cells)


def _list(world: World, server: AirtableServer) -> None:
    _unseen(world, server, columns.shown("client_id"), world.cells("google", "loc2") | {"client_id": ["app-google"]})


def _no_option(world: World, server: AirtableServer) -> None:
    _instead(columns.single_select("status", "active", "disabled"))(world, server)
    server.table("Other").add(world.cells("google", "loc2"))


def _other_host(world: World, _: AirtableServer) -> None:
    recently = iso(world.clock.now() - timedelta(minutes=10))
    world.table.add(world.cells("google", "theirs") | {"last_refreshed": recently, "refreshed_by": "other-host-1"})


SITUATIONS: dict[str, Situation] = {
    "a required column is missing": lambda world, server: world.table.remove_column("encrypted_refresh"),
    "an encrypted column is rich text": _instead(columns.rich_text("encrypted_refresh")),
    "the expiry is a text column": _instead(columns.text("access_token_expiry")),
    "the client id is looked up in another table": _instead(columns.shown("client_id")),
    "the expiry is a date without a time": _instead(columns.day("access_token_expiry")),
    "the same, and the token does not see the schema": _days,
    "a cell holds a list, and the token does not see the schema": _list,
    "`status` lacks an option": _no_option,
    "a column is computed": _instead(columns.formula("last_error", "1")),
    "the table's name is wrong": _setting("AIRTABLE_TABLE_NAME", "Wrong"),
    "the base is wrong": _setting("AIRTABLE_BASE_ID", "appNobodyHasThis"),
    "the token is wrong": _setting("AIRTABLE_API_KEY", "pat-nobody"),
    "the token may not write": _read_only,
    "the month's calls are spent": lambda world, server: server.inject(faults.quota_spent(), times=None, kind="list"),
    "Airtable answers nonsense": lambda world, server: server.inject(faults.without_records(), times=None, kind="list"),
    "Airtable is down": lambda world, server: server.inject(faults.status(503), times=None),
    "two rows are the same client": lambda world, server: world.table.duplicate(world.table.find(locationId="loc")[0]),
    "a row has an unknown status": lambda world, server: world.table.edit(
        world.table.find(locationId="loc")[0], {"status": "paused by Bob"}
    ),
    "another machine refreshes the table": _other_host,
}


def test_every_documented_situation_is_tried() -> None:
    assert set(_documented()) == set(SITUATIONS)


@pytest.mark.parametrize("what", SITUATIONS)
def test_the_person_reads_what_is_documented(world: World, airtable: AirtableServer, what: str) -> None:
    """And no refresh token is spent but by rows that are not concerned."""
    status = columns.text("status")  # so that a person can write anything into it
    world.airtable, world.table = airtable, airtable.credentials_table(instead=[status])
    world.program.settings |= {
        "AIRTABLE_API_KEY": airtable.token,
        "AIRTABLE_BASE_ID": airtable.base_id,
        "AIRTABLE_ENDPOINT_URL": airtable.url,
    }
    world.table.add(world.cells("google", "loc"))
    SITUATIONS[what](world, airtable)
    said, code = _documented()[what]
    run = world.program.run()
    assert said in run.err
    assert run.code == code
    assert "Traceback" not in run.err
    assert len(world.oauth.requests) == (1 if code == 0 else 0)


def test_a_refused_batch_costs_nobody_else_their_tokens(airtable_world: World) -> None:
    """Airtable refuses ten for one; nine are stored, and the tenth waits in the journal and says so."""
    world = airtable_world
    records = [world.table.add(world.cells("gohighlevel", f"loc{number}")) for number in range(10)]
    assert world.airtable is not None

    def concerns_the_fourth(request: object) -> bool:
        body = getattr(request, "body", b"")
        return records[3].encode() in body and b"last_access_token" in body  # not the proof of writability

    fault = faults.unprocessable("INVALID_VALUE_FOR_COLUMN", "a value is refused")
    world.airtable.inject(fault, times=None, kind="update", when=concerns_the_fourth)
    run = world.program.run("--json")
    outcomes = run.outcomes()
    assert outcomes.pop("loc3") == "operator"
    assert set(outcomes.values()) == {"refreshed"}
    world.airtable.faults.clear()
    later = world.program.run("--json")
    assert later.outcomes() == {"loc3": "refreshed"}
    assert world.oauth.replayed() == []
