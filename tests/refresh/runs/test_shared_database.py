"""Rows of a database that others have their hands on as well: a person, a rule, a transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests import exits
from tests.refresh.runs.faults_world import DATABASES, Rows, entries, meanwhile, table_of
from tests.world.clock import START
from tests.world.program import Result
from token_refresh.stores.database import CREDENTIALS

HOUR = timedelta(hours=1)
REFUSED = {
    "postgres": "ALTER TABLE credentials ADD CONSTRAINT no_blank CHECK (location_id !~ ' ') NOT VALID",
    "sqlite": "CREATE TRIGGER no_blank BEFORE UPDATE ON credentials WHEN new.location_id LIKE '% %'"
    " BEGIN SELECT RAISE(ABORT, 'no blank'); END",
}


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> Rows:
    return table_of(request.param, request)


def run(rows: Rows, *argv: str) -> Result:
    """A run that may leave rows that are due."""
    rows.world.program.undone = lambda _: []
    return rows.world.program.run("--json", *argv)


@pytest.mark.parametrize("provider", ["acme", "acme-family"])
def test_the_answer_to_a_row_whose_claim_a_person_cleared_meanwhile_is_stored(rows: Rows, provider: str) -> None:
    rows.add(provider, "loc", START - HOUR)
    rows.world.oauth.fail(meanwhile(lambda: rows.edit("loc", claim_owner=None, claimed_at=None)))
    assert run(rows).code == exits.DONE
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_a_row_that_a_rule_of_the_table_lets_nobody_write_is_named_and_stops_no_other(
    rows: Rows, request: pytest.FixtureRequest
) -> None:
    for number in range(3):
        rows.add("acme", f"good{number}", START - HOUR)
    rows.add("acme", "bad one", START - 2 * HOUR)
    with rows._store() as store, store._engine.begin() as connection:
        connection.exec_driver_sql(REFUSED["postgres" if "postgres" in request.node.name else "sqlite"])
    result = run(rows)
    assert result.code == exits.FAILED
    assert result.outcomes() == {"bad one": "operator"} | {f"good{number}": "refreshed" for number in range(3)}
    assert "constraint or trigger" in result.said


def test_a_row_whose_number_is_below_zero_is_refreshed_like_any(rows: Rows) -> None:
    rows.add("acme-family", "loc", START - HOUR)
    with rows._store() as store, store._engine.begin() as connection:
        connection.execute(CREDENTIALS.update().values(id=-5))
    for _ in range(2):
        assert run(rows).outcomes() == {"loc": "refreshed"}
        assert rows.is_current("loc")
        rows.world.clock.advance(4000)
