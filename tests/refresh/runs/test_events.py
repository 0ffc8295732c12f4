"""A run from its first event to its last, on a real store and real providers."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.world.clock import START
from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.base.errors import Kind
from token_refresh.base.events import (
    Event,
    Notice,
    NoticeCode,
    Outcome,
    RowFinished,
    RowsListed,
    RunFinished,
    RunStarted,
)
from token_refresh.diagnosis.notices import first_notices
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.stores.base import StoreError, StoreUnavailableError


@pytest.fixture
def rows(world: World) -> SqliteRows:
    return SqliteRows(world)


def events_of(rows: SqliteRows, scope: Scope) -> list[Event]:
    heard: list[Event] = []
    with run_context_of(rows) as context:
        returned = Refresher(context, heard.append).run(scope)
    assert heard[-1] is returned
    return heard


def test_a_run_begins_finishes_each_row_once_and_ends(rows: SqliteRows) -> None:
    for name in ("one", "two", "dead"):
        rows.add("acme", name)
    rows.add("acme", "bad", provider_params="{")
    rows.world.oauth.revoke("dead")
    heard = events_of(rows, Scope())
    started, ended = heard[0], heard[-1]
    assert isinstance(started, RunStarted)
    assert isinstance(ended, RunFinished)
    assert sum(isinstance(event, RunStarted | RunFinished) for event in heard) == 2
    assert (started.run_id, started.started_at, started.dry_run) == (ended.run_id, START, False)
    finished = [event for event in heard if isinstance(event, RowFinished)]
    assert {event.location_id: event.outcome for event in finished} == {
        "one": Outcome.REFRESHED,
        "two": Outcome.REFRESHED,
        "dead": Outcome.REAUTHORIZE,
        "bad": Outcome.OPERATOR,
    }
    assert len(finished) == 4
    assert finished == ended.results
    assert [event for event in heard if isinstance(event, Notice)] == ended.notices
    assert ended.counts() == {"refreshed": 2, "reauthorize": 1, "operator": 1}
    [listed] = [place for place, event in enumerate(heard) if isinstance(event, RowsListed)]
    assert heard[listed] == RowsListed(4, 3)
    assert all(not isinstance(event, RowFinished) for event in heard[:listed])


def test_two_runs_have_two_names(rows: SqliteRows) -> None:
    names = [event.run_id for _ in range(2) for event in events_of(rows, Scope()) if isinstance(event, RunStarted)]
    assert len(set(names)) == 2


def test_runs_that_come_too_rarely_are_a_notice_of_the_run_that_finds_it(rows: SqliteRows) -> None:
    rows.add("acme", "off", status="disabled")
    assert [event for event in events_of(rows, Scope()) if isinstance(event, Notice)] == []
    assert rows.world.program.run().code == 0
    rows.world.clock.advance(3 * 3600)
    heard = events_of(rows, Scope())
    [notice] = heard[-1].notices if isinstance(heard[-1], RunFinished) else []
    assert (notice, notice.code) == (heard[1], NoticeCode.RARE_RUNS)
    assert rows.world.program.run().code == 0
    assert [event for event in events_of(rows, Scope()) if isinstance(event, Notice)] == []


@pytest.mark.parametrize(("state", "count"), [(GOOD, 0), (DOUBTFUL, 1), (BAD, 1)])
def test_calls_that_will_not_last_the_month_are_a_notice_before_any_row(
    rows: SqliteRows, state: str, count: int
) -> None:
    rows.add("acme", "loc")
    heard: list[Event] = []
    with run_context_of(rows) as context:
        quota = Check("quota", state, "990 calls", "Run less often.")
        context = context._replace(first_notices=partial(first_notices, quota=quota, last=None))
        Refresher(context, heard.append).run(Scope())
    notice = Notice(NoticeCode.QUOTA_SHORT, None, "990 calls", "Run less often.")
    assert heard.count(notice) == count
    assert (heard[1] == notice) == bool(count)


def test_an_error_that_ends_a_run_is_in_its_last_event_too(rows: SqliteRows) -> None:
    rows.add("acme", "loc")
    heard: list[Event] = []
    away = StoreUnavailableError("the store does not answer", "Wait.")

    def refuse(*_: object) -> None:
        raise away

    with run_context_of(rows) as context:
        vars(context.store.store)["claim_due"] = refuse
        with pytest.raises(StoreError):
            Refresher(context, heard.append).run(Scope())
    ended = heard[-1]
    assert isinstance(ended, RunFinished)
    assert (ended.error, ended.results, ended.kinds()) == (away, [], {away.kind})


def test_an_error_that_ends_a_run_is_said_once(rows: SqliteRows) -> None:
    rows.add("acme", "loc")
    rows.world.program.settings["ENCRYPTION_KEY"] = "A" * 42 + "E="
    result = rows.world.program.run()
    assert result.code == exits.USAGE
    assert result.err.count("ENCRYPTION_KEY decrypts no value of the 1 rows") == 1
    assert "nothing due" not in result.err


def test_a_dry_run_finishes_the_rows_that_would_be_refreshed_and_names_those_that_could_not(rows: SqliteRows) -> None:
    rows.add("acme", "loc")
    rows.add("acme", "bad", provider_params="{")
    heard = events_of(rows, Scope(dry_run=True))
    assert [event for event in heard if isinstance(event, RowFinished)] == [RowFinished("loc", "acme", None)]
    [unusable] = [event for event in heard if isinstance(event, Notice) and event.code is NoticeCode.ROW_UNUSABLE]
    assert (unusable.location_id, unusable.provider) == ("bad", "acme")
    ended = heard[-1]
    assert isinstance(ended, RunFinished)
    assert ended.counts() == {"due": 1}


def test_a_provider_that_accepts_no_early_refresh_leaves_its_row_waiting(rows: SqliteRows) -> None:
    own = Path(rows.world.program.settings["PROVIDERS_FILE"])
    own.write_text(own.read_text().replace("[acme]\n", "[acme]\nearliest = 30\n"))
    rows.add("acme", "loc", START + timedelta(seconds=100))
    ended = events_of(rows, Scope(everything=True))[-1]
    assert isinstance(ended, RunFinished)
    assert ended.results == []
    [waiting] = ended.waiting
    assert waiting.reason == "acme accepts a refresh only 30 s before the access token ends"
    assert waiting.until == START + timedelta(seconds=70)
    assert ended.kinds() == {Kind.RETRY_LATER}
