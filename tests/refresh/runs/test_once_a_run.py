"""A row is tried at most once a run, whatever makes it due, and every run ends. Counted at the provider."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.refresh.runs.faults_world import DATABASES, DatabaseRows, table_of
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.world.clock import START
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.oauth.faults import Act, Call, Fault
from token_refresh.base.events import RunFinished
from token_refresh.refresh import listing
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.stores.database import CREDENTIALS

pytestmark = pytest.mark.by_turns("rows")

AS_USUAL = Fault("none", lambda _, act: act())
SHORT_LIVED = faults.amended(lambda content: json.dumps(content | {"expires_in": 60}).encode())
A_ROUND = 3
RUNNING: list[Refresher] = []  # a run may begin in the middle of another
CLAIMED = sa.select(CREDENTIALS.c.location_id).where(CREDENTIALS.c.claim_owner.is_not(None))


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> DatabaseRows:
    """A table of claimed rows, empty."""
    table = table_of(request.param, request)
    assert isinstance(table, DatabaseRows)
    return table


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows need several rounds."""
    monkeypatch.setattr(listing, "CLAIMED_ROWS", A_ROUND)


def fill(rows: DatabaseRows, count: int, provider: str = "acme", **cells: Any) -> list[str]:
    """So many rows, the first the most urgent; returns their locations."""
    names = [f"{provider}-{number:03}" for number in range(count)]
    with rows._store() as store:
        for number, name in enumerate(names):
            expiry = {"access_token_expiry": START + timedelta(seconds=number)}
            store.create(rows.world.cells(provider, name) | expiry | cells)
    return names


def run(rows: DatabaseRows, scope: Scope, fault: Fault = AS_USUAL) -> RunFinished:
    """A run on a provider with this fault; it is stopped where it sends far more requests than there are rows."""
    with run_context_of(rows) as context:
        refresher = Refresher(context)
        limit = 2 * sum(1 for _ in context.store.store.rows()) + 40
        RUNNING.append(refresher)

        def apply(call: Call, act: Act) -> Response:
            if len(rows.world.oauth.requests) > limit:
                for one in RUNNING:
                    one.stop("it does not end")
            return fault.apply(call, act)

        rows.world.oauth.fail(Fault(fault.name, apply), times=math.inf)
        try:
            return refresher.run(scope)
        finally:
            RUNNING.remove(refresher)


def asked(rows: DatabaseRows) -> dict[str, int]:
    """How often a token of each location was sent, by the fake's own book."""
    counts = Counter[str]()
    for token in rows.world.oauth.tokens.values():
        counts[str(rows.world.oauth.family(token.value).location_id)] += token.times_sent
    return dict(+counts)


@pytest.mark.long
@pytest.mark.parametrize("scope", [Scope(everything=True), Scope()], ids=["all", "due"])
def test_more_rows_than_are_claimed_at_a_time_are_each_refreshed_once(rows: DatabaseRows, scope: Scope) -> None:
    names = fill(rows, listing.CLAIMED_ROWS + 20)
    report = run(rows, scope)
    assert asked(rows) == dict.fromkeys(names, 1)
    assert report.stopped is None
    assert Counter(result.location_id for result in report.results) == dict.fromkeys(names, 1)
    assert {result.outcome for result in report.results} == {"refreshed"}


@pytest.mark.usefixtures("small_rounds")
@pytest.mark.parametrize("scope", [Scope(everything=True), Scope()], ids=["all", "due"])
@pytest.mark.parametrize(
    ("fault", "requests"),
    [(SHORT_LIVED, 1), (faults.refused("invalid_request"), 1), (faults.too_many_requests(3600), None)],
    ids=["short lives", "refused", "throttled"],
)
def test_a_row_that_is_still_due_after_its_refresh_is_for_the_next_run(
    rows: DatabaseRows, fault: Fault, requests: int | None, scope: Scope
) -> None:
    names = fill(rows, 4 * A_ROUND)
    report = run(rows, scope, fault)
    assert report.stopped is None
    counts = asked(rows)
    assert max(counts.values()) == 1
    assert requests is None or counts == dict.fromkeys(names, requests)
    tried = [result.location_id for result in report.results]
    assert len(tried) == len(set(tried))


BY_HAND: dict[str, dict[str, Any]] = {
    "expiry emptied": {"access_token_expiry": None},
    "expiry long ago": {"access_token_expiry": START - timedelta(days=900)},
    "reauthorized": {"status": "active"},
}


@pytest.mark.by_turns("rows", "edit")
@pytest.mark.usefixtures("small_rounds")
@pytest.mark.parametrize("edit", BY_HAND)
def test_a_row_that_somebody_makes_due_meanwhile_is_for_the_next_run(rows: DatabaseRows, edit: str) -> None:
    """Or active again: the grant of the first one is found dead."""
    names = fill(rows, 3 * A_ROUND)
    rows.world.oauth.revoke(names[0])

    def apply(_: Call, act: Act) -> Response:
        for name in names[:A_ROUND]:
            rows.edit(name, **BY_HAND[edit])
        return act()

    report = run(rows, Scope(), Fault("somebody edits rows", apply))
    assert report.stopped is None
    assert asked(rows) == dict.fromkeys(names, 1)


@pytest.mark.usefixtures("small_rounds")
def test_rows_that_are_due_for_ever_keep_no_other_from_its_turn(rows: DatabaseRows) -> None:
    """More than a round of them, and more urgent than the others whenever somebody looks."""
    broken = fill(rows, 2 * A_ROUND, "google", provider_params="no JSON")
    names = fill(rows, A_ROUND, access_token_expiry=START + timedelta(minutes=9))
    report = run(rows, Scope())
    ends = dict.fromkeys(broken, "operator") | dict.fromkeys(names, "refreshed")
    assert {result.location_id: result.outcome for result in report.results} == ends
    assert len(report.results) == len(ends)


@pytest.mark.usefixtures("small_rounds")
def test_a_run_of_one_provider_or_location_tries_each_of_its_rows_once_and_claims_no_other(rows: DatabaseRows) -> None:
    names = fill(rows, 2 * A_ROUND)
    others = fill(rows, 2 * A_ROUND, "google")
    held: set[str] = set()

    def apply(_: Call, act: Act) -> Response:
        with rows._store() as store:
            found = store._transact(lambda connection: connection.execute(CLAIMED).scalars().all())
        held.update(found)
        return act()

    run(rows, Scope(everything=True, providers=("acme",)), Fault("look", apply))
    assert asked(rows) == dict.fromkeys(names, 1)
    assert held == set(names)
    run(rows, Scope(everything=True, locations=tuple(others[:5])), Fault("look", apply))
    assert asked(rows) == dict.fromkeys([*names, *others[:5]], 1)
    assert held == {*names, *others[:5]}


@pytest.mark.usefixtures("small_rounds")
def test_two_runs_of_everything_at_once_try_each_row_once_each_at_most_and_both_end(rows: DatabaseRows) -> None:
    """What the one has refreshed meanwhile is due again for the other, and the other way round."""
    names = fill(rows, 4 * A_ROUND)
    is_first = threading.Lock()
    reports: list[RunFinished] = []

    def apply(_: Call, act: Act) -> Response:
        if is_first.acquire(blocking=False):
            reports.append(run(rows, Scope(everything=True)))
        return act()

    reports.append(run(rows, Scope(everything=True), Fault("another run", apply)))
    assert [report.stopped for report in reports] == [None, None]
    assert set(asked(rows)) == set(names)
    for report in reports:
        tried = [result.location_id for result in report.results]
        assert len(tried) == len(set(tried))
