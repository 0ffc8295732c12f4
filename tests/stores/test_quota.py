"""The month's calls against what the Airtable plan allows."""

from __future__ import annotations

import pytest

from token_refresh.base.checks import BAD, DOUBTFUL, GOOD
from token_refresh.stores.airtable.quota import check_quota
from token_refresh.stores.base import Usage


@pytest.mark.parametrize(
    ("plan", "calls", "forecast", "state"),
    [
        ("free", 200, 900, GOOD),
        ("free", 200, 1_200, DOUBTFUL),
        ("free", 1_000, 4_000, BAD),
        ("team", 5_000, 90_000, GOOD),
        ("team", 5_000, 190_000, DOUBTFUL),
        ("business", 500_000, 900_000, GOOD),
        ("", 1, 1, GOOD),
    ],
)
def test_calls_are_held_against_the_plan(plan: str, calls: int, forecast: int, state: str) -> None:
    check = check_quota(plan, Usage(calls, forecast, seconds_left=0), interval=3600)
    assert check.state == state
    assert bool(check.action) == (state != GOOD or not plan)


@pytest.mark.parametrize(
    ("interval", "expected", "state"), [(900, 2_895, DOUBTFUL), (3600, 735, GOOD), (86_400, 45, GOOD)]
)
def test_each_run_that_is_still_to_come_counts_although_few_calls_were_made_so_far(
    interval: int, expected: int, state: str
) -> None:
    check = check_quota("free", Usage(15, 15, seconds_left=30 * 86_400), interval)
    assert f"15 Airtable calls this month from this machine, {expected} by its end" in str(check.message)
    assert check.state == state
