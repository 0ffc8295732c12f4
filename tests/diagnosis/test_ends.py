"""What ends on a day that no refresh moves is said in time: in `status`, and once a day by a run."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from token_refresh.base.clock import iso
from token_refresh.base.events import NoticeCode

NEAR, FAR = timedelta(days=20), timedelta(days=40)


@pytest.fixture
def table(world: World) -> SqliteRows:
    world.program.settings["LOG_FORMAT"] = "json"
    return SqliteRows(world)


def add(table: SqliteRows, provider: str, **cells: Any) -> None:
    table.world.serve(provider)
    with table._store() as store:
        store.create({**table.world.consented(provider, "loc"), **cells})


@pytest.mark.parametrize(
    ("provider", "column", "is_named"),
    [
        ("google", "refresh_token_expiry", True),  # its refresh token stays
        ("linkedin", "refresh_token_expiry", True),  # a year from the login, whatever is refreshed
        ("gohighlevel", "refresh_token_expiry", False),  # each refresh moves it
    ],
)
def test_an_end_that_no_refresh_moves_is_said_thirty_days_ahead(
    table: SqliteRows, provider: str, column: str, is_named: bool
) -> None:
    world = table.world
    end = world.clock.now() + NEAR
    add(table, provider, **{column: end})
    [row] = world.program.run("status", "--json").json()["rows"]
    assert (row["refresh_expires_at"], row["note"] == "ending") == (iso(end), is_named)
    assert (f"On {end:%Y-%m-%d} its refresh token ends" in (row["action"] or "")) == is_named
    assert (NoticeCode.LOGIN_ENDS in world.program.run().codes()) == is_named
    assert NoticeCode.LOGIN_ENDS not in world.program.run().codes()  # once a day


@pytest.mark.parametrize(("ahead", "is_named"), [(NEAR, True), (FAR, False)])
def test_the_last_day_of_an_apps_secret_is_said_thirty_days_ahead(
    table: SqliteRows, ahead: timedelta, is_named: bool
) -> None:
    day = f"{table.world.clock.now() + ahead:%Y-%m-%d}"
    add(table, "google", provider_params=json.dumps({"secret_ends": day}))
    [row] = table.world.program.run("status", "--json").json()["rows"]
    assert (row["note"] == "ending") == is_named
    assert (f"On {day} the client secret of its app ends" in (row["action"] or "")) == is_named
