"""The state of a row: what wins over what."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from providers import Catalog
from providers.base import Provider
from tests.world.clock import START
from token_refresh.diagnosis.row_state import RowState, row_state, row_statuses
from token_refresh.refresh.due import DuePolicy
from token_refresh.stores.base import Row

HOURLY = DuePolicy(interval=3600, buffer=300)
ACME = Provider("acme", "Acme", "https://acme.example/token", lifetime=86_400)
FRESH = Row("1", "loc", "app", encrypted_refresh="cell", access_token_expiry=START + timedelta(hours=20))
ONLY = {"encrypted_refresh": "", "last_access_token": "cell"}  # nothing can refresh it
OVER = {"access_token_expiry": START}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, RowState.FRESH),
        ({"access_token_expiry": START + timedelta(minutes=1)}, RowState.DUE),
        ({"access_token_expiry": None}, RowState.DUE),
        ({"failure_count": 1}, RowState.FAILING),
        ({"last_error": "HTTP 500"}, RowState.FAILING),
        ({"failure_count": 1, **OVER}, RowState.EXPIRED),
        ({"encrypted_refresh": "", **OVER}, RowState.WAITING),
        ({"encrypted_refresh": "", "status": "disabled"}, RowState.DISABLED),
        ({"status": "reauthorize", **OVER}, RowState.REAUTHORIZE),
        ({**ONLY, "access_token_expiry": None}, RowState.FRESH),
        ({**ONLY, "access_token_expiry": START + timedelta(days=8)}, RowState.FRESH),
        ({**ONLY, "access_token_expiry": START + timedelta(days=6)}, RowState.ENDING),
        ({**ONLY, **OVER}, RowState.EXPIRED),
    ],
)
def test_the_state_that_needs_a_person_most_wins(changes: dict[str, Any], state: RowState) -> None:
    assert row_state(replace(FRESH, **changes), ACME, HOURLY, START) is state


def test_a_row_of_an_unknown_provider_is_due() -> None:
    assert row_state(FRESH, None, HOURLY, START) is RowState.DUE


def test_rows_come_by_location_and_provider_in_any_spelling_and_count_as_the_default_s_where_they_name_none() -> None:
    off = replace(FRESH, status="disabled")
    rows = [replace(off, location_id="b"), replace(off, provider="zeta"), replace(off, provider=" Google ")]
    statuses = row_statuses(rows, Catalog(), "gohighlevel", HOURLY, START)
    found = [(one.row.location_id, one.provider) for one in statuses]
    assert found == [("b", "gohighlevel"), ("loc", "google"), ("loc", "zeta")]
