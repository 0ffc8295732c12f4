"""Answers that show a refresh token and grant none: the row keeps its own, unspent, for the next run."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import TABLES, Rows, SqliteRows, entries, journal, table_of
from tests.refresh.runs.test_faults import only, run
from tests.world.oauth import faults
from tests.world.oauth.faults import Fault

pytestmark = pytest.mark.by_turns("rows")

PAIR = {"access_token": "sample-access", "refresh_token": "sample-refresh"}
UNCLEAR = {"acme": "unknown", "acme-never": "transient"}  # a row's outcome where an answer is no evidence
BY_PROVIDER = pytest.mark.parametrize("provider", UNCLEAR)
BY_FAULT = partial(pytest.mark.parametrize, "fault", ids=lambda fault: fault.name)


def shows(content: dict[str, str], code: int, name: str) -> Fault:
    return faults.raw(json.dumps(content).encode(), code, name=f"{name}, {code}")


NO_EVIDENCE = [
    faults.documents_token(200),
    shows({"refresh_token": "sample-refresh"}, 503, "a refresh token alone"),
]
REFUSALS = [
    faults.echoes_token(400, "***"),
    faults.echoes_token(401, "********"),
    faults.echoes_token(200),
    faults.documents_token(404),
    shows(PAIR, 404, "a pair"),
    shows(PAIR, 302, "a pair"),
    shows(PAIR | {"error": "invalid_request"}, 200, "an error beside a pair"),
]


@pytest.fixture
def table(world: World) -> Rows:
    """Rows of the embedded database: the store has no say in what counts."""
    return SqliteRows(world)


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store."""
    return table_of(request.param, request)


def is_spent(rows: Rows, token: str) -> bool:
    with journal(rows.world) as opened:
        return opened.spent_at(opened._keyring.fingerprints(token)) is not None


def assert_next_run_refreshes(rows: Rows) -> None:
    rows.world.clock.advance(3600)
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (0, "refreshed"), result.err
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def meet(rows: Rows, provider: str, fault: Fault) -> str:
    """A row meets such answers for a run, which leaves it its token, unspent; returns the outcome."""
    rows.add(provider, "loc")
    token = rows.stored("loc")
    shown = rows.world.oauth.fail(fault, times=math.inf)
    outcome: str = only(run(rows))["outcome"]
    shown.stop()
    assert rows.stored("loc") == token
    assert not is_spent(rows, token)
    return outcome


@BY_PROVIDER
def test_after_an_outage_whose_page_documents_a_token_the_row_is_refreshed_with_its_own(
    rows: Rows, provider: str
) -> None:
    assert meet(rows, provider, faults.documents_token(503)) == UNCLEAR[provider]
    assert_next_run_refreshes(rows)


@BY_PROVIDER
def test_after_a_refusal_that_echoes_a_token_the_row_is_refreshed_with_its_own(rows: Rows, provider: str) -> None:
    assert meet(rows, provider, faults.echoes_token(400)) == "operator"
    assert entries(rows.world) == []
    assert_next_run_refreshes(rows)


@BY_PROVIDER
@BY_FAULT(NO_EVIDENCE)
def test_a_token_in_an_answer_that_grants_nothing_replaces_none(table: Rows, provider: str, fault: Fault) -> None:
    assert meet(table, provider, fault) == UNCLEAR[provider]
    assert_next_run_refreshes(table)


@BY_PROVIDER
@BY_FAULT(REFUSALS)
def test_a_token_in_a_refusal_replaces_none(table: Rows, provider: str, fault: Fault) -> None:
    assert meet(table, provider, fault) == "operator"
    assert_next_run_refreshes(table)


@pytest.mark.parametrize("body", [b'{"refresh_token": "sample-refresh"}', b'{"refresh_token": "sample-refresh", "acc'])
def test_where_refresh_tokens_never_change_one_without_an_access_token_replaces_none(table: Rows, body: bytes) -> None:
    assert meet(table, "acme-never", faults.raw(body, 200)) == "transient"


@BY_PROVIDER
@pytest.mark.parametrize("value", ["short", "*" * 12, "refr\u00e4sh-2", "refresh-2\n"])
def test_a_value_that_can_be_no_token_leaves_the_rows_own_beside_a_new_access_token(
    table: Rows, provider: str, value: str
) -> None:
    content = {"access_token": "access-of-a-sloppy-provider", "refresh_token": value}
    assert meet(table, provider, shows(content, 200, "no token")) == "refreshed"
