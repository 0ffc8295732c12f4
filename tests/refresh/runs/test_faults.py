"""What goes wrong at the provider or in the store during a run, and what the next run makes of it."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest

import crypto
from crypto import Context
from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import (
    TABLES,
    AirtableRows,
    Rows,
    SqliteRows,
    entries,
    kept_token,
    meanwhile,
    table_of,
)
from tests.world.airtable import errors
from tests.world.airtable import faults as airtable_faults
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.events import NoticeCode
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.by_turns("rows")

RARE_RUNS = {"REFRESH_INTERVAL": "300", "TOKEN_EXPIRY_BUFFER": "60"}  # the last minute begins 360 s before expiry
DROPPED = faults.acted_then_dropped()


@pytest.fixture(params=TABLES)
def rows(request: pytest.FixtureRequest) -> Rows:
    """Rows of each kind of store."""
    return table_of(request.param, request)


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    return AirtableRows(airtable_world)


def sent(world: World) -> int:
    """How many token requests arrived."""
    return len(world.oauth.requests)


def run(rows: Rows, *flags: str) -> Result:
    return rows.world.program.run("--json", *flags)


def only(result: Result) -> dict[str, Any]:
    [row] = result.json()["results"]
    return dict(row)


@pytest.fixture(autouse=True)
def _well_behaved(world: World) -> Iterator[None]:
    """Whatever goes wrong, no request breaks a rule of OAuth."""
    yield
    assert world.oauth.violations == []


# An answer is lost


def test_within_the_grace_of_the_old_token_the_answer_is_asked_for_again_at_once(rows: Rows) -> None:
    rows.add("acme-grace", "loc")
    rows.world.oauth.fail(DROPPED)
    assert (run(rows).code, rows.is_current("loc")) == (0, True)
    assert sent(rows.world) == 2
    assert entries(rows.world) == []


def test_where_replay_kills_the_family_the_token_is_not_sent_again_before_the_last_minute(rows: Rows) -> None:
    world = rows.world
    world.program.settings |= RARE_RUNS | {"LOG_FORMAT": "json"}
    rows.add("acme-family", "loc", START + timedelta(seconds=1000))
    world.oauth.fail(DROPPED)
    first = run(rows)
    assert (first.code, only(first)["outcome"]) == (1, "unknown")
    for _ in range(2):
        world.clock.advance(200)
        later = run(rows)
        assert (later.code, later.json()["results"]) == (exits.FAILED, [])
        [waiting] = later.json()["waiting"]
        assert waiting["reason"].startswith("the last answer was lost; the provider is asked again")
        assert waiting["until"] == iso(START + timedelta(seconds=1000 - 360))
    assert sent(world) == 1
    assert world.oauth.replayed() == []
    assert world.oauth.current("loc")  # the family lives, although nobody has its token
    world.clock.advance(300)
    last = run(rows)
    assert only(last)["outcome"] == "reauthorize"
    assert "the answer was lost on 2026-03-01 12:00 UTC" in only(last)["error"]


def test_where_replay_kills_the_family_it_is_sent_again_at_once_in_the_last_minute(rows: Rows) -> None:
    rows.world.program.settings |= RARE_RUNS
    rows.add("acme-family", "loc", START + timedelta(seconds=300))
    rows.world.oauth.fail(faults.reset())
    assert (run(rows).code, rows.is_current("loc")) == (0, True)
    assert rows.world.oauth.replayed() == []


def test_a_strict_provider_is_asked_once_more_and_then_the_loss_is_reported_with_its_date(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(DROPPED)
    result = only(run(rows))
    assert result["outcome"] == "reauthorize"
    assert "the answer was lost on 2026-03-01 12:00 UTC" in result["error"]
    assert "log in again" in result["action"]
    assert sent(rows.world) == 2
    assert rows.row("loc").status == "reauthorize"


def test_two_lost_answers_leave_one_more_request_to_the_next_run(rows: Rows) -> None:
    world = rows.world
    world.program.settings["LOG_FORMAT"] = "json"
    rows.add("acme", "loc")
    world.oauth.fail(DROPPED)
    world.oauth.fail(faults.reset())
    assert only(run(rows))["outcome"] == "unknown"
    world.clock.advance(89)
    early = run(rows)
    assert early.json()["results"] == []
    assert "may still be on its way" in early.err
    [waiting] = early.json()["waiting"]
    assert (waiting["location_id"], waiting["provider"]) == ("loc", "acme")
    assert waiting["reason"] == "a request of an earlier run may still be on its way"
    until = parse_time(waiting["until"])
    assert until is not None
    assert timedelta(seconds=90) <= until - START < timedelta(seconds=91)
    assert sent(world) == 2
    world.clock.advance(2)
    result = only(run(rows))
    assert result["outcome"] == "reauthorize"
    assert "the answer was lost on 2026-03-01 12:00 UTC" in result["error"]
    assert sent(world) == 3


def test_a_lost_answer_stays_remembered_when_the_resend_is_turned_away(rows: Rows) -> None:
    """The resend did nothing, but the request before it may have: that is not the same as nothing happened."""
    world = rows.world
    rows.add("acme", "loc")
    world.oauth.fail(DROPPED)
    throttled = world.oauth.fail(faults.too_many_requests(1000), times=math.inf)
    result = only(run(rows))
    assert result["outcome"] == "unknown"
    [entry] = entries(world)
    assert entry.step == "lost"
    throttled.stop()
    world.clock.advance(3600)
    assert "the answer was lost on 2026-03-01 12:00 UTC" in only(run(rows))["error"]


def test_a_lost_answer_is_still_reported_when_the_row_is_made_active_again_by_hand(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc")
    world.oauth.fail(DROPPED)
    run(rows)
    rows.edit("loc", status="active")
    world.clock.advance(3600)
    assert "the answer was lost on 2026-03-01 12:00 UTC" in only(run(rows))["error"]
    fresh = world.cells("acme", "loc")
    rows.edit("loc", status="active", encrypted_refresh=fresh["encrypted_refresh"])
    world.clock.advance(3600)
    assert only(run(rows))["outcome"] == "refreshed"
    assert entries(world) == []


def test_a_lost_answer_costs_nothing_where_refresh_tokens_never_change(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(DROPPED, times=2)
    assert run(rows).code == 0
    assert rows.is_current("loc")


def test_a_server_error_where_tokens_never_change_is_transient_and_forgotten(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(faults.status(503), times=math.inf)
    assert only(run(rows))["outcome"] == "transient"
    assert sent(rows.world) == 3
    assert entries(rows.world) == []


# Odd answers


@pytest.mark.parametrize("token", ["x-" * 32_768, "  kept as it is  ", '"\\/<>&%2F{}', "eight-ch"])
def test_any_refresh_token_is_stored_as_it_came(rows: Rows, token: str) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.amended(lambda content: json.dumps(content | {"refresh_token": token}).encode()))
    result = run(rows)
    assert result.code == 0, result.err
    assert rows.stored("loc") == token


def test_a_success_that_breaks_off_is_asked_for_again_at_once_where_tokens_never_change(rows: Rows) -> None:
    rows.add("acme-never", "loc")
    rows.world.oauth.fail(faults.cut())
    assert (run(rows).code, sent(rows.world), rows.is_current("loc")) == (0, 2, True)


HALF_AN_HOUR, AN_HOUR = timedelta(minutes=30), timedelta(hours=1)


@pytest.mark.parametrize(
    ("says", "last", "expected"),
    [
        ({"expires_in": "1799.5"}, AN_HOUR, timedelta(seconds=1799.5)),
        ({"expires_in": int((START + HALF_AN_HOUR).timestamp())}, AN_HOUR, HALF_AN_HOUR),
        ({"expires_in": None, "expires_at": (START + HALF_AN_HOUR).isoformat()}, AN_HOUR, HALF_AN_HOUR),
        ({"expires_in": None}, HALF_AN_HOUR, HALF_AN_HOUR),  # the last one that was said
        ({"expires_in": None}, 9 * AN_HOUR, AN_HOUR),  # the catalogue's is shorter
        ({"expires_in": None}, None, AN_HOUR),
        ({"expires_in": 10**8}, HALF_AN_HOUR, HALF_AN_HOUR),  # three years
    ],
)
def test_an_access_token_ends_when_the_answer_says_in_whatever_form_else_when_the_last_one_would(
    rows: Rows, says: dict[str, Any], last: timedelta | None, expected: timedelta
) -> None:
    refreshed = None if last is None else START - last
    rows.add("acme", "loc", START, last_refreshed=refreshed)
    rows.world.oauth.fail(faults.amended(lambda content: json.dumps(content | says).encode()))
    result = run(rows)
    assert result.code == 0
    expiry = rows.row("loc").access_token_expiry
    assert expiry is not None
    assert timedelta(0) <= expiry - START - expected < timedelta(seconds=10)
    is_named = "cannot be right about the end of its token (expires_in means 2029-" in result.err
    assert is_named == (says["expires_in"] == 10**8)


@pytest.mark.parametrize(("days", "is_named"), [(29, True), (31, False), (-1, False)])
def test_a_login_that_no_refresh_renews_is_named_a_month_before_its_end_once_a_day(
    rows: Rows, days: int, is_named: bool
) -> None:
    end = START + timedelta(days=days)
    rows.add("acme-never", "loc", START + AN_HOUR, last_refreshed=START, refresh_token_expiry=end)
    rows.world.program.settings["LOG_FORMAT"] = "json"
    first, second = run(rows), run(rows)
    assert (first.code, second.code, sent(rows.world)) == (0, 0, 0)
    assert (NoticeCode.LOGIN_ENDS in first.codes()) == is_named
    assert NoticeCode.LOGIN_ENDS not in second.codes()


@pytest.mark.parametrize(("hours", "says"), [(7 * 24 - 1, "ends"), (7 * 24 + 1, ""), (-23, "ended"), (-25, "")])
def test_an_access_token_that_nothing_refreshes_is_named_a_week_before_its_end_once_a_day(
    rows: Rows, hours: int, says: str
) -> None:
    end = START + timedelta(hours=hours)
    token = rows.world.seal("loc", "last_access_token", "an access token alone")
    cells = {"locationId": "loc", "provider": "acme", "client_id": "app", "last_access_token": token}
    rows.put(cells | {"access_token_expiry": iso(end) if isinstance(rows, AirtableRows) else end})
    rows.put({"locationId": "waits for its credential", "provider": "acme", "client_id": "app"})
    rows.world.program.settings["LOG_FORMAT"] = "json"
    first, second = run(rows), run(rows)
    assert (first.code, second.code, sent(rows.world)) == (0, 0, 0)
    named = [line for line in first.lines() if line.get("code") == NoticeCode.LOGIN_ENDS]
    assert [line["location_id"] for line in named] == ["loc"] * bool(says)
    said = f"its access token {says} on {end:%Y-%m-%d %H:%M} UTC, and there is no refresh token"
    assert (said in first.err) == bool(says)
    assert NoticeCode.LOGIN_ENDS not in second.codes()


def test_a_refresh_token_that_ends_before_two_more_runs_is_renewed_although_the_access_token_lives(rows: Rows) -> None:
    rows.world.program.settings["REFRESH_INTERVAL"] = "600"
    soon, ago = START + timedelta(seconds=1000), START - timedelta(days=30)
    rows.add("acme", "loc", START + timedelta(hours=9), last_refreshed=ago, refresh_token_expiry=soon)
    assert run(rows).code == 0
    assert (sent(rows.world), rows.row("loc").refresh_token_expiry) == (1, None)
    assert run(rows).code == 0
    assert sent(rows.world) == 1


@pytest.mark.parametrize(("provider", "is_cleared"), [("acme", True), ("acme-never", False)])
def test_the_end_of_a_refresh_token_is_kept_as_long_as_the_token(rows: Rows, provider: str, is_cleared: bool) -> None:
    """Who looks after the clients sees in the table whose login is about to run out."""
    end = {"refresh_token_expires_in": 90 * 86_400}
    rows.add(provider, "loc")
    rows.world.oauth.fail(faults.amended(lambda content: json.dumps(content | end).encode()))
    assert run(rows).code == 0
    kept = rows.row("loc").refresh_token_expiry
    assert kept is not None
    assert timedelta(0) <= kept - START - timedelta(days=90) < timedelta(seconds=10)
    assert run(rows, "--all").code == 0
    assert rows.row("loc").refresh_token_expiry == (None if is_cleared else kept)


# The store fails in the middle


def outage(table: AirtableRows, fault: Any, **conditions: Any) -> Any:
    """From the proof of writability on, writes meet this fault."""
    assert table.world.airtable is not None
    return table.world.airtable.inject(fault, kind="update", nth=2, **({"times": None} | conditions))


def ten(rows: Rows, *providers: str) -> list[str]:
    names = [f"loc{number}" for number in range(10)]
    for name, provider in zip(names, cycle(providers or ("acme", "gohighlevel")), strict=False):
        rows.add(provider, name)
    return names


def stored_by_the_next_run(table: AirtableRows, names: list[str]) -> None:
    """Nothing is asked of a provider; each row is reported as refreshed, and holds what is valid."""
    before = sent(table.world)
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    result = run(table)
    assert result.code == 0, result.err
    assert result.outcomes() == dict.fromkeys(names, "refreshed")
    assert sent(table.world) == before
    assert all(map(table.is_current, names))
    assert table.world.oauth.sent_twice() == []
    assert entries(table.world) == []


def test_a_store_that_does_not_answer_is_named_before_it_is_waited_for(table: AirtableRows) -> None:
    assert table.world.airtable is not None
    table.world.airtable.inject(airtable_faults.status(503), kind="list", times=None)
    table.world.program.settings["LOG_FORMAT"] = "json"
    result = run(table)
    assert result.code == exits.STORE
    assert "It is waited for, two minutes at most." in [line.get("action") for line in result.lines()]


def test_a_run_that_is_asked_to_end_waits_out_no_outage_of_the_store(table: AirtableRows) -> None:
    """SIGTERM while a provider answers: what it answered is kept, and the program that stops us need not kill us."""
    table.add("acme", "loc")
    table.world.oauth.fail(meanwhile(lambda: os.kill(os.getpid(), signal.SIGTERM)))
    outage(table, airtable_faults.status(503))
    result = run(table)
    assert result.code == exits.STORE
    assert table.world.clock.slept < 10
    [entry] = entries(table.world, "answered")
    assert kept_token(table.world, entry) == table.world.oauth.current("loc")


@pytest.mark.by_turns("fault")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (airtable_faults.status(503), exits.STORE),
        (airtable_faults.reset(), exits.STORE),
        (airtable_faults.html(), exits.STORE),
        (airtable_faults.rate_limited(), exits.STORE),
        (airtable_faults.quota_spent(), exits.STORE),
        (airtable_faults.quota_spent(plural=True), exits.STORE),
        (airtable_faults.refuse(errors.unauthorized()), exits.USAGE),
        (airtable_faults.refuse(errors.model_not_found()), exits.USAGE),
    ],
    ids=["503", "reset", "html", "429", "quota", "quota plural", "401", "403"],
)
def test_a_store_that_fails_for_good_leaves_the_tokens_to_the_next_run(
    table: AirtableRows, fault: Any, code: int
) -> None:
    names = ten(table)
    outage(table, fault)
    result = run(table)
    assert result.code == code, result.err
    assert result.outcomes() == dict.fromkeys(names, "transient")
    assert {kept_token(table.world, entry) for entry in entries(table.world, "answered")} == {
        table.world.oauth.current(name) for name in names
    }
    stored_by_the_next_run(table, names)


def test_a_store_that_is_back_after_a_minute_is_waited_for(table: AirtableRows) -> None:
    names = ten(table)
    back_at = table.world.clock.monotonic() + 60
    outage(table, airtable_faults.status(503), when=lambda _: table.world.clock.monotonic() < back_at)
    assert run(table).code == 0
    assert all(map(table.is_current, names))
    assert entries(table.world) == []


def test_nothing_new_is_refreshed_while_the_store_is_away(table: AirtableRows) -> None:
    names = ten(table)
    table.world.program.settings |= {"CONCURRENCY": "1"}
    for name in names:
        table.world.oauth.fail(meanwhile(lambda: table.world.clock.advance(3)), token=name)
    outage(table, airtable_faults.status(503))
    result = run(table)
    assert result.code == exits.STORE
    assert sent(table.world) < len(names)
    assert "rows were not tried" in result.err
    assert len(entries(table.world, "answered")) == sent(table.world)


def test_a_write_that_was_applied_but_not_acknowledged_is_recognised(table: AirtableRows) -> None:
    names = ten(table)
    outage(table, airtable_faults.unacknowledged(), times=1)
    assert run(table).code == 0
    assert all(map(table.is_current, names))


def test_a_batch_that_is_refused_once_is_written_row_by_row(table: AirtableRows) -> None:
    names = ten(table)
    outage(table, airtable_faults.unprocessable(), times=1)
    assert run(table).code == 0
    assert all(map(table.is_current, names))


def test_a_row_that_the_store_refuses_keeps_nine_others_fresh_and_its_tokens_in_the_journal(
    table: AirtableRows,
) -> None:
    names = ten(table)
    [record] = table.world.table.find(locationId="loc3")
    assert table.world.airtable is not None
    table.world.airtable.inject(
        airtable_faults.unprocessable(),
        kind="update",
        times=None,
        when=lambda request: record.encode() in request.body and b"encrypted_refresh" in request.body,
    )
    result = run(table)
    assert result.code == 1
    assert result.outcomes() == dict.fromkeys(names, "refreshed") | {"loc3": "operator"}
    [entry] = entries(table.world)
    assert kept_token(table.world, entry) == table.world.oauth.current("loc3")
    stored_by_the_next_run(table, ["loc3"])


@pytest.mark.parametrize("kind", ["acme", "acme-family"])
def test_a_row_whose_journalled_tokens_are_refused_again_is_not_asked_for_with_the_old_one(
    table: AirtableRows, kind: str
) -> None:
    """The token in the row is spent: sent again, it would end the tokens that wait in the journal."""
    table.add(kind, "loc")
    assert table.world.airtable is not None
    table.world.airtable.inject(
        airtable_faults.unprocessable(),
        kind="update",
        times=None,
        when=lambda request: b"encrypted_refresh" in request.body,
    )
    run(table)
    again = run(table)
    assert again.code == 1
    assert "the new tokens are in the journal" in again.err
    assert len(table.world.oauth.requests) == 1
    stored_by_the_next_run(table, ["loc"])


def test_an_outage_while_the_journal_is_replayed_keeps_everything_for_the_run_after(table: AirtableRows) -> None:
    names = ten(table, "gohighlevel")
    outage(table, airtable_faults.status(503))
    run(table)
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    table.world.airtable.inject(airtable_faults.status(503), kind="update", times=None)
    assert run(table).code == exits.STORE
    stored_by_the_next_run(table, names)


def test_a_dead_grant_whose_write_back_was_cut_off_is_not_reported_as_a_lost_answer(table: AirtableRows) -> None:
    table.add("acme", "loc")
    table.world.oauth.revoke("loc")
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    result = only(run(table))
    assert result["outcome"] == "reauthorize"
    assert "lost" not in result["error"]


@pytest.mark.parametrize(("status", "code"), [(503, exits.STORE), (403, exits.USAGE)])
def test_nothing_is_sent_to_any_provider_when_the_store_takes_no_writes(
    table: AirtableRows, status: int, code: int
) -> None:
    ten(table)
    fault = airtable_faults.status(503) if status == 503 else airtable_faults.refuse(errors.model_not_found())
    assert table.world.airtable is not None
    table.world.airtable.inject(fault, kind="update", times=None)
    assert run(table).code == code
    assert sent(table.world) == 0


# Somebody else is at work


def test_a_row_that_is_onboarded_again_during_its_refresh_keeps_the_new_credential(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc")
    ours = rows.stored("loc")
    theirs = world.cells("acme", "loc")["encrypted_refresh"]
    world.oauth.fail(meanwhile(lambda: rows.edit("loc", encrypted_refresh=theirs)))
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (0, "changed")
    assert rows.row("loc").encrypted_refresh == theirs
    [aside] = entries(world)
    assert aside.step == "superseded"
    assert kept_token(world, aside) == world.oauth.current(ours)
    assert (run(rows).code, rows.is_current("loc")) == (0, True)


def test_of_a_row_that_is_deleted_during_its_refresh_the_tokens_stay_in_the_journal(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.add("acme", "other")
    rows.world.oauth.fail(meanwhile(lambda: rows.remove("loc")), token="loc")
    result = run(rows)
    assert result.code == 0, result.err
    assert result.outcomes() == {"loc": "changed", "other": "refreshed"}
    [aside] = entries(rows.world)
    assert kept_token(rows.world, aside) == rows.world.oauth.current("loc")


def test_a_row_that_is_disabled_during_its_refresh_gets_its_tokens_and_stays_disabled(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(meanwhile(lambda: rows.edit("loc", status="disabled")))
    assert run(rows).code == 0
    assert rows.row("loc").status == "disabled"
    assert rows.is_current("loc")


def test_a_row_that_was_restored_from_an_old_backup_is_not_sent(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc")
    old = rows.row("loc").encrypted_refresh
    assert run(rows).code == 0
    rows.edit("loc", encrypted_refresh=old, access_token_expiry=None)
    before = sent(world)
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "operator")
    assert "restored from a backup" in only(result)["error"]
    assert sent(world) == before
    assert world.oauth.replayed() == []


def test_a_duplicated_row_is_not_sent_and_both_are_named(table: AirtableRows) -> None:
    names = ten(table)
    [record] = table.world.table.find(locationId="loc3")
    copy = table.world.table.duplicate(record)
    result = run(table)
    assert result.code == 1
    twins = [one for one in result.json()["results"] if one["location_id"] == "loc3"]
    assert [one["outcome"] for one in twins] == ["operator", "operator"]
    assert all(record in one["error"] and copy in one["error"] for one in twins)
    assert all(table.is_current(name) for name in names if name != "loc3")
    assert sent(table.world) == 9


def test_a_second_host_stops_the_run_until_it_is_taken_over(table: AirtableRows) -> None:
    rows = table
    another = {"refreshed_by": "elsewhere-1234", "last_refreshed": START - timedelta(minutes=50)}
    rows.add("acme", "mine")
    rows.add("acme", "theirs")
    rows.edit("theirs", **another)
    stopped = run(rows)
    assert stopped.code == exits.USAGE
    assert "elsewhere-1234" in stopped.err
    assert "--takeover" in stopped.err
    assert sent(rows.world) == 0
    assert run(rows, "--takeover").code == 0
    assert rows.is_current("theirs")
    assert run(rows, "--all").code == 0


@pytest.mark.parametrize(("minutes", "code"), [(119, exits.USAGE), (121, exits.DONE)])
def test_a_host_that_has_refreshed_nothing_for_two_intervals_is_gone(
    table: AirtableRows, minutes: int, code: int
) -> None:
    table.add("acme", "loc")
    table.edit("loc", refreshed_by="elsewhere-1234", last_refreshed=START - timedelta(minutes=minutes))
    assert run(table).code == code
    assert sent(table.world) == (code == exits.DONE)


# Keys and cells


def test_a_key_that_opens_no_row_stops_the_run_before_anything_is_sent(rows: Rows) -> None:
    ten(rows)
    cells = {f"loc{number}": rows.row(f"loc{number}") for number in range(10)}
    rows.world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    result = run(rows)
    assert result.code == exits.USAGE
    assert "ENCRYPTION_KEY decrypts no value of the 10 rows" in result.err
    assert sent(rows.world) == 0
    assert {name: rows.row(name) for name in cells} == cells


def test_a_key_that_opens_neither_rows_nor_journal_marks_no_row(table: AirtableRows) -> None:
    names = ten(table)
    outage(table, airtable_faults.status(503))
    run(table)
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()
    table.add("acme", "another")
    right = table.world.program.settings["ENCRYPTION_KEY"]
    table.world.program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    assert run(table).code == exits.USAGE
    assert all(table.row(name).last_error == "" for name in [*names, "another"])
    table.world.program.settings["ENCRYPTION_KEY"] = right
    assert set(run(table).outcomes().values()) == {"refreshed"}
    assert all(map(table.is_current, [*names, "another"]))
    assert table.world.oauth.sent_twice() == []


def test_one_row_of_an_unknown_key_leaves_the_others_fresh(rows: Rows) -> None:
    """A colleague's row, or one that came back from an old backup."""
    names = ten(rows)
    foreign = crypto.Keyring(b"k" * 32)
    context = Context("encrypted_refresh", "loc3", rows.world.oauth.url)
    rows.edit("loc3", encrypted_refresh=foreign.seal("refresh token", context))
    result = run(rows)
    assert result.code == exits.FAILED
    assert result.outcomes() == dict.fromkeys(names, "refreshed") | {"loc3": "operator"}
    assert foreign.key_id in result.err


def test_one_tampered_row_leaves_the_others_fresh(rows: Rows) -> None:
    names = ten(rows)
    rows.edit("loc3", encrypted_refresh=rows.row("loc4").encrypted_refresh)
    result = run(rows)
    assert result.code == 1
    assert result.outcomes() == dict.fromkeys(names, "refreshed") | {"loc3": "operator"}
    assert all(rows.is_current(name) for name in names if name != "loc3")


# The provider fails


def test_a_host_that_is_down_is_left_alone_soon_and_others_go_on(rows: Rows) -> None:
    rows.world.move("acme")
    for number in range(30):
        rows.add("acme", f"down{number}", START)
        rows.add("google", f"up{number}", START)
    rows.world.program.settings |= {"CONCURRENCY": "2"}
    rows.world.oauth.fail(faults.status(503), times=math.inf, provider="acme")
    result = run(rows)
    outcomes = result.outcomes()
    assert result.code == 1
    assert {outcomes[f"up{number}"] for number in range(30)} == {"refreshed"}
    tried = [name for name in outcomes if name.startswith("down")]
    assert len(tried) <= 11
    assert {outcomes[name] for name in tried} == {"unknown"}
    host = rows.world.oauth.url.replace("http://127.0.0.1", "localhost")
    left = {row["location_id"]: row["reason"] for row in result.json()["waiting"]}
    assert set(left.values()) == {f"{host} does not answer"}
    assert {*left, *tried} == {f"down{number}" for number in range(30)}
    assert f"{len(left)} due rows were not tried" in result.err
    assert all(rows.is_current(name) for name in outcomes)


def test_a_provider_that_asks_for_time_gets_it(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.too_many_requests(20))
    token = rows.stored("loc")
    assert run(rows).code == 0
    first, second = rows.world.oauth.tokens[token].sent_at
    assert 20 <= second - first <= 25


def test_a_provider_that_asks_for_more_time_than_a_run_has_is_asked_by_a_later_run(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.too_many_requests(600))
    result = run(rows)
    assert (result.code, only(result)["outcome"]) == (1, "transient")
    assert rows.world.clock.slept < 60
    rows.world.clock.advance(600)
    assert (run(rows).code, rows.is_current("loc")) == (0, True)


def test_a_wrong_secret_in_the_middle_of_a_run_flags_no_row(rows: Rows) -> None:
    for number in range(12):
        rows.add("gohighlevel", f"loc{number:02}", START + timedelta(seconds=number))
    rows.world.program.settings |= {"CONCURRENCY": "1"}
    rows.world.oauth.fail(faults.wrong_secret(), times=math.inf, when=lambda _: sent(rows.world) > 5)
    result = run(rows)
    assert result.code == 1
    heard = ["loc05", "loc11"]  # the refused row, and as its witness the one with the latest expiry
    fresh = [f"loc{number:02}" for number in range(5)]
    assert result.outcomes() == dict.fromkeys(fresh, "refreshed") | dict.fromkeys(heard, "operator")
    assert sent(rows.world) == 7
    left = [rows.row(f"loc{number:02}") for number in range(5, 12)]
    assert {(row.status, row.last_error, row.failure_count) for row in left} <= {("active", "", 0), ("", "", 0)}


def test_one_uninstalled_location_is_flagged_and_no_other(rows: Rows) -> None:
    for number in range(6):
        rows.add("gohighlevel", f"loc{number}", START + timedelta(seconds=number))
    rows.world.program.settings |= {"CONCURRENCY": "2"}
    rows.world.oauth.uninstall("loc0")
    result = run(rows)
    assert result.outcomes() == dict.fromkeys((f"loc{number}" for number in range(1, 6)), "refreshed") | {
        "loc0": "reauthorize"
    }
    assert rows.world.oauth.sent_twice() == []


# The end comes early


def test_after_the_time_allowed_nothing_starts_and_what_was_begun_is_stored(rows: Rows) -> None:
    world = rows.world
    world.program.settings |= {"CONCURRENCY": "1"}
    for number in range(10):
        rows.add("acme", f"loc{number}", START + timedelta(seconds=number))
    world.oauth.fail(meanwhile(lambda: world.clock.advance(10)), times=math.inf)
    result = run(rows, "--max-seconds", "25")
    assert result.code == exits.STOPPED
    assert result.outcomes() == {f"loc{number}": "refreshed" for number in range(3)}
    assert sent(world) == 3
    assert "7 due rows were not tried" in result.err
    assert all(rows.is_current(f"loc{number}") for number in range(10))


def test_a_row_that_waits_for_another_attempt_when_the_time_is_over_ends_as_it_stands(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.world.oauth.fail(faults.too_many_requests(30))
    result = run(rows, "--max-seconds", "5")
    assert only(result)["outcome"] == "transient"
    assert sent(rows.world) == 1
    rows.world.clock.advance(30)
    assert (run(rows).code, rows.is_current("loc")) == (0, True)


def test_an_allowance_that_was_enough_is_no_early_end(rows: Rows) -> None:
    rows.add("acme", "loc")
    assert run(rows, "--max-seconds", "5").code == 0


def test_a_provider_whose_tokens_do_not_live_from_one_run_to_the_next_is_named(rows: Rows) -> None:
    rows.add("acme", "loc")
    told = "acme: tokens live 3600 s, not longer than REFRESH_INTERVAL. Run cron more often and lower it"
    assert told in run(rows).err
    rows.world.program.settings["REFRESH_INTERVAL"] = "1800"
    assert told not in run(rows, "--all").err


def test_a_location_that_somebody_asks_for_and_that_cannot_be_refreshed_is_named(rows: Rows) -> None:
    rows.add("acme", "loc")
    rows.add("acme", "off", status="disabled")
    result = run(rows, "--all", "--location", "loc", "--location", "off")
    assert result.outcomes() == {"loc": "refreshed"}
    assert "off: it is disabled. To use it again: " in result.err
    assert "loc: " not in result.err


@pytest.mark.parametrize("flags", [[], ["--all"], ["--dry-run"]])
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"status": "disabled"}, "it is disabled. To use it again: "),
        ({"status": "reauthorize"}, "its refresh token does not work any more. Connect the account again, then run: "),
        ({"encrypted_refresh": ""}, "it has no credential. Onboard it: "),
    ],
)
def test_a_location_that_is_asked_for_and_rests_says_why(
    world: World, flags: list[str], cells: dict[str, str], said: str
) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "off", START + timedelta(days=1))
    rows.edit("off", **cells)
    result = run(rows, *flags, "--location", "off")
    assert result.outcomes() == {}
    assert f"off: {said}" in result.err


def test_a_location_that_is_asked_for_and_not_due_is_no_warning(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc", START + timedelta(days=1))
    result = run(rows, "--location", "loc")
    assert (result.code, "warning" in result.err, "nothing due" in result.err) == (0, False, True)


# Exit codes and JSON


def test_a_mistake_in_the_settings_is_reported_before_another_run_that_is_active(table: AirtableRows) -> None:
    rows, world = table, table.world
    assert run(rows).code == 0
    [folder] = {path.parent for path in world.program.home.glob("state/*/run.lock")}
    with run_lock(folder, world.clock):
        busy = run(rows)
        assert busy.code == exits.BUSY
        assert "another run is active: process" in busy.err
        world.program.settings["CONCURRENCY"] = "none"
        assert run(rows).code == exits.USAGE


def test_an_unreachable_store_counts_more_than_an_early_end_and_that_more_than_a_failed_row(
    table: AirtableRows,
) -> None:
    world = table.world
    world.program.settings |= {"CONCURRENCY": "1"}
    for number in range(4):
        table.add("acme", f"loc{number}", START + timedelta(seconds=number))
    world.oauth.revoke("loc0")
    world.oauth.fail(meanwhile(lambda: world.clock.advance(10)), times=math.inf)
    early = run(table, "--max-seconds", "15")
    assert early.outcomes() == {"loc0": "reauthorize", "loc1": "refreshed"}
    assert early.code == exits.STOPPED
    outage(table, airtable_faults.status(503))
    assert run(table, "--max-seconds", "5").code == exits.STORE


def test_the_report_is_exactly_what_the_documents_promise(rows: Rows) -> None:
    rows.add("acme", "good")
    rows.add("acme", "dead", START + timedelta(minutes=1))
    rows.world.oauth.revoke("dead")
    report = run(rows).json()
    assert list(report) == [
        "run_id", "started_at", "finished_at", "dry_run", "store", "store_calls", "counts", "results", "waiting",
    ]  # fmt: skip
    assert report["dry_run"] is False
    assert report["store"] == ("airtable" if isinstance(rows, AirtableRows) else "database")
    assert report["started_at"] == "2026-03-01T12:00:00.000Z"
    assert report["finished_at"].endswith("Z")
    assert report["store_calls"] > 0
    assert report["counts"] == {"refreshed": 1, "reauthorize": 1}
    by_name = {one["location_id"]: one for one in report["results"]}
    good, dead = by_name["good"], by_name["dead"]
    expiry = rows.row("good").access_token_expiry
    assert expiry is not None
    assert good == {
        "location_id": "good", "provider": "acme", "outcome": "refreshed", "error": None, "action": None,
        "expires_at": iso(expiry),
    }  # fmt: skip
    assert list(dead) == list(good)
    assert (dead["outcome"], dead["expires_at"]) == ("reauthorize", "2026-03-01T12:01:00.000Z")
    assert "invalid_grant" in dead["error"]
    assert dead["action"]


def test_a_dry_run_says_what_would_be_done_and_calls_and_writes_nothing(rows: Rows) -> None:
    ten(rows)
    before = {name: rows.row(name) for name in (f"loc{number}" for number in range(10))}
    report = run(rows, "--dry-run").json()
    assert report["dry_run"] is True
    assert report["counts"] == {"due": 10}
    assert {one["outcome"] for one in report["results"]} == {None}
    assert {one["location_id"] for one in report["results"]} == set(before)
    assert sent(rows.world) == 0
    assert {name: rows.row(name) for name in before} == before
    assert entries(rows.world) == []


def test_a_failed_row_is_exit_one_and_a_row_that_is_skipped_afterwards_is_none(rows: Rows) -> None:
    rows.add("acme", "dead")
    rows.world.oauth.revoke("dead")
    assert run(rows).code == exits.FAILED
    assert (run(rows).code, sent(rows.world)) == (0, 1)
