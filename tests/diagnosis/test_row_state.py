"""The state of a row: what wins over what, and what people are shown beside it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto import Keyring
from providers import Catalog
from tests.world.clock import START, FakeClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.diagnosis.row_state import RememberedFailures, RowStatus, State, row_statuses, state_of
from token_refresh.journal.entries import Journal
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.result import failure_of
from token_refresh.stores.base import Row, RowGroup

HOURLY = DuePolicy(interval=3600, buffer=300)
FRESH = Row("1", "loc", "app", encrypted_refresh="cell", access_token_expiry=START + timedelta(hours=20))
ONLY: dict[str, Any] = {"encrypted_refresh": "", "last_access_token": "cell"}  # nothing can refresh it
OVER: dict[str, Any] = {"access_token_expiry": START}
LOGIN = f"A person must log in again: {ONBOARD_CLIENT} --authorize --provider {{}} --location {{}}"
ELSEWHERE = f"A person must log in again: connect the account again, then run `{ONBOARD_CLIENT}`."
WRONG_TYPE = ActionableError("status is a number", "Make it text.", Kind.ROW)


def status_of(**changes: Any) -> RowStatus:
    [one] = row_statuses([replace(FRESH, **changes)], Catalog(), "gohighlevel", HOURLY, START)
    return one


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, State.VALID),
        ({"access_token_expiry": None}, State.VALID),
        ({"failure_count": 1}, State.FAILING),
        ({"last_error": "HTTP 500"}, State.FAILING),
        ({"error": WRONG_TYPE}, State.FAILING),
        ({"error": WRONG_TYPE, "encrypted_refresh": ""}, State.FAILING),
        ({"failure_count": 1, **OVER}, State.EXPIRED),
        ({"encrypted_refresh": "", **OVER}, None),
        ({"encrypted_refresh": "", "status": "disabled"}, State.DISABLED),
        ({"status": "reauthorize", **OVER}, State.LOGIN_NEEDED),
        ({"status": "disabled", "failure_count": 1, **OVER}, State.DISABLED),
        ({"status": "Paused"}, State.VALID),
        ({**ONLY, "access_token_expiry": None}, State.VALID),
        ({**ONLY, **OVER}, State.EXPIRED),
    ],
)
def test_the_first_state_that_applies_is_the_rows(changes: dict[str, Any], state: State | None) -> None:
    row = replace(FRESH, **changes)
    assert state_of(RowGroup.of(row, START)) is state
    assert status_of(**changes).state is state


@pytest.mark.parametrize(
    ("changes", "note", "needs_person"),
    [
        ({}, "", False),
        ({"access_token_expiry": START + timedelta(minutes=1)}, "due", False),
        ({"access_token_expiry": None}, "due", False),
        ({"provider": "nobody"}, "due", False),
        ({"access_token_expiry": START}, "", True),  # the state says more
        ({"failure_count": 1}, "", True),
        ({**ONLY, "access_token_expiry": START + timedelta(days=8)}, "", False),
        ({**ONLY, "access_token_expiry": START + timedelta(days=6)}, "ending", True),
        ({"encrypted_refresh": ""}, "", False),
    ],
)
def test_a_valid_token_that_is_due_or_ends_for_good_has_a_note(
    changes: dict[str, Any], note: str, needs_person: bool
) -> None:
    status = status_of(**changes)
    assert (status.note, status.needs_person) == (note, needs_person)


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, ""),
        ({"encrypted_refresh": ""}, f"Enter its credential: {ONBOARD_CLIENT}"),
        ({"error": WRONG_TYPE}, "Make it text."),
        (
            {"error": WRONG_TYPE, "status": "disabled"},
            f"To use it again: {TOKEN_MANAGER} enable --provider gohighlevel loc",
        ),
        ({"encrypted_refresh": "", "status": "disabled"}, f"Enter its credential: {ONBOARD_CLIENT}"),
        ({"failure_count": 1}, "Fix what the last error says; the next run tries again."),
        (OVER, f"Run: {TOKEN_MANAGER}; and look whether cron does."),
        ({**ONLY, **OVER}, LOGIN.format("gohighlevel", "loc")),
        ({"status": "reauthorize", "provider": "Google"}, LOGIN.format("google", "loc")),
        ({"status": "reauthorize", "location_id": "a b;c"}, LOGIN.format("gohighlevel", "'a b;c'")),
        ({"status": "reauthorize", "location_id": "-d"}, LOGIN.format("gohighlevel", "-d").replace(" -d", "=-d")),
        ({"status": "reauthorize", "provider": "bigcommerce"}, ELSEWHERE),  # nothing here can open its login
        ({"status": "reauthorize", "provider": "nobody"}, ELSEWHERE),
    ],
)
def test_each_state_says_what_is_to_be_done(changes: dict[str, Any], action: str) -> None:
    assert status_of(**changes).action == action


@pytest.mark.parametrize(("hours", "error"), [(None, "refused"), (-1, "refused"), (0, ""), (1, "")])
def test_a_failure_that_marked_no_row_is_shown_until_the_row_is_refreshed(
    tmp_path: Path, hours: int | None, error: str
) -> None:
    keyring = Keyring(bytes(32))
    with closing(Journal(tmp_path, keyring, FakeClock())) as journal:
        failure = failure_of(replace(FRESH, last_error="refused", failure_count=2), keyring, START)
        journal.failures.record([failure], [])
    row = replace(FRESH, last_refreshed=None if hours is None else START + timedelta(hours=hours))
    shown = RememberedFailures(tmp_path, keyring, frozenset({"last_error", "failure_count", "status"})).added_to(row)
    assert (shown.last_error, shown.failure_count) == (error, 2 if error else 0)


def test_those_that_need_a_person_come_first_and_within_a_state_whose_token_ends_first() -> None:
    later, soon = FRESH, replace(FRESH, location_id="soon", access_token_expiry=START + timedelta(hours=2))
    rows = [
        replace(FRESH, location_id="off", status="disabled"),
        later,
        soon,
        replace(FRESH, location_id="empty", encrypted_refresh=""),
        replace(FRESH, location_id="ending", **ONLY),
        replace(FRESH, location_id="failing", failure_count=1),
        replace(FRESH, location_id="dead", status="reauthorize"),
        replace(FRESH, location_id="over", **OVER),
    ]
    statuses = row_statuses(rows, Catalog(), "gohighlevel", HOURLY, START)
    found = [one.row.location_id for one in statuses]
    assert found == ["over", "dead", "failing", "ending", "empty", "soon", "loc", "off"]


def test_rows_come_by_location_and_provider_in_any_spelling_and_count_as_the_default_s_where_they_name_none() -> None:
    off = replace(FRESH, status="disabled")
    rows = [replace(off, location_id="b"), replace(off, provider="zeta"), replace(off, provider=" Google ")]
    statuses = row_statuses(rows, Catalog(), "gohighlevel", HOURLY, START)
    found = [(one.row.location_id, one.provider) for one in statuses]
    assert found == [("b", "gohighlevel"), ("loc", "google"), ("loc", "zeta")]
