"""Which verdict leads to which outcome."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from providers.base import Rotation, Verdict
from token_refresh.base.errors import Kind
from token_refresh.base.events import FAILURES, Outcome, RowFinished, RunFinished
from token_refresh.refresh.result import action_of, outcome_of


@pytest.mark.parametrize("rotates", ["always", "sometimes", "never"])
def test_each_verdict_has_its_outcome(rotates: Rotation) -> None:
    assert {verdict: outcome_of(verdict, rotates) for verdict in Verdict} == {
        Verdict.GRANTED: Outcome.REFRESHED,
        Verdict.DEAD_GRANT: Outcome.REAUTHORIZE,
        Verdict.CLIENT_REFUSED: Outcome.OPERATOR,
        Verdict.REQUEST_REFUSED: Outcome.OPERATOR,
        Verdict.NOT_ACTED: Outcome.TRANSIENT,
        Verdict.UNREAD: Outcome.OPERATOR,
        Verdict.UNCLEAR: Outcome.TRANSIENT if rotates == "never" else Outcome.UNKNOWN,
    }


def test_every_failure_says_what_to_do_and_a_success_nothing() -> None:
    for outcome in FAILURES:
        action = action_of(outcome, Verdict.UNCLEAR)
        assert action is not None
        assert action.endswith(".")
    assert action_of(Outcome.REFRESHED, Verdict.GRANTED) is None
    assert action_of(Outcome.CHANGED, Verdict.GRANTED) is None
    client = action_of(Outcome.OPERATOR, Verdict.CLIENT_REFUSED)
    assert client != action_of(Outcome.OPERATOR, Verdict.REQUEST_REFUSED)


def test_a_report_counts_ends_and_knows_failures() -> None:
    results = [RowFinished("a", "acme", Outcome.REFRESHED), RowFinished("b", "acme", Outcome.CHANGED)]
    report = RunFinished("run", datetime(2026, 3, 1, tzinfo=UTC), results=results)
    assert report.counts() == {"refreshed": 1, "changed": 1}
    assert report.kinds() == set()
    report.results.append(RowFinished("c", "acme", Outcome.UNKNOWN))
    assert report.kinds() == {Kind.RETRY_LATER}
    assert RunFinished("run", report.started_at, dry_run=True, due=3).counts() == {"due": 3}
