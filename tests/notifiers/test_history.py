"""Each run once, 400 days and 20 MB at the most, in a file or in PostgreSQL; a damaged file costs one warning."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.notifiers.summaries import finished, summary_of
from tests.refresh.runs.faults_world import table_of
from tests.world.clock import START
from tests.world.postgres import PostgresServer
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Outcome
from token_refresh.commands import prepare
from token_refresh.notifiers import history as module
from token_refresh.notifiers.history import FILE, SCHEMA, STORE_CALLS, Day, History
from token_refresh.notifiers.ledger import transact_in
from token_refresh.stores.database import open_backend, transact_in_words
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_history

pytestmark = pytest.mark.by_turns("history", "kind")


class Warned(list[str]):
    def __call__(self, what: str, _action: str) -> None:
        self.append(what)


def history_in(folder: Path, say: Warned | None = None) -> History:
    return History(transact_in(folder / FILE, SCHEMA, say if say is not None else Warned()))


@pytest.fixture(params=["file", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    if request.param == "file":
        yield history_in(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.database()
    with closing(open_backend(address)) as database:
        yield History(partial(transact_in_words, database))
    server.drop(address)


def select(history: History, query: str) -> list[Any]:
    return [tuple(line) for line in history._transact(lambda execute: execute(query, {}))]


def test_a_run_is_a_line_and_counts_for_its_providers_day(history: History) -> None:
    first = finished(("a", Outcome.REFRESHED), ("b", Outcome.TRANSIENT), run_id="one")
    later = finished(("a", Outcome.REFRESHED), run_id="two", at=START + timedelta(hours=1))
    other = finished(("c", Outcome.REAUTHORIZE), run_id="three", at=START + timedelta(days=1), provider="google")
    for run in (first, later, other):
        history.record(summary_of(run, store_calls=2, exit_code=1 if run is not later else 0))
    assert select(history, "SELECT run_id, exit_code, due, refreshed, failed, store_calls FROM history_runs") == [
        ("one", 1, 2, 1, 1, 2),
        ("two", 0, 1, 1, 0, 2),
        ("three", 1, 1, 0, 1, 2),
    ]
    today, none = START.date(), dict.fromkeys(map(str, Outcome), 0)
    tomorrow = Day(today + timedelta(days=1), "google", none | {"reauthorize": 1})
    assert history.days(date.min) == [Day(today, "acme", none | {"refreshed": 2, "transient": 1}), tomorrow]
    assert history.days(tomorrow.day) == [tomorrow]
    assert history.counts() == {
        ("acme", "refreshed"): 2,
        ("acme", "transient"): 1,
        ("google", "reauthorize"): 1,
        ("", STORE_CALLS): 6,
    }


def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    history_in(tmp_path).record(summary_of(finished()))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["sqlite", "airtable", "postgres"])
def test_a_page_reads_what_the_programs_runs_left(kind: str, request: pytest.FixtureRequest) -> None:
    rows = table_of(kind, request)
    world = rows.world
    for name in ("one", "two"):
        rows.add("acme", name)
    assert world.program.run().code == 0
    with open_history(prepare(world.program.settings, world.clock, Console()), Warned()) as history:
        [day] = history.days(START.date())
        assert history.counts()["acme", "refreshed"] == 2
    assert (day.day, day.provider, day.counts["refreshed"], sum(day.counts.values())) == (START.date(), "acme", 2, 2)
    files = [*Path(world.program.settings["STATE_DIR"]).glob(f"*/{FILE}")]
    assert len(files) == (0 if kind == "postgres" else 1)


def test_a_run_that_is_recorded_twice_counts_once(history: History) -> None:
    summary = summary_of(finished(("a", Outcome.REFRESHED)))
    for _ in range(2):
        history.record(summary)
    assert history.counts()["acme", "refreshed"] == 1
    assert len(select(history, "SELECT * FROM history_runs")) == 1


def test_a_run_that_never_began_says_why(history: History) -> None:
    error = ActionableError("the database cannot be reached", "Start it.")
    history.record(summary_of(finished(run_id="", error=error), exit_code=3))
    assert select(history, "SELECT error, exit_code FROM history_runs") == [("the database cannot be reached", 3)]


def test_what_is_older_than_400_days_goes_and_the_counts_stay(history: History) -> None:
    for days in (0, 1, 401):
        at = START + timedelta(days=days)
        history.record(summary_of(finished(("a", Outcome.REFRESHED), run_id=str(days), at=at)))
    assert select(history, "SELECT run_id FROM history_runs") == [("1",), ("401",)]
    assert len(select(history, "SELECT day FROM history_days")) == 2
    assert history.counts()["acme", "refreshed"] == 3


def test_of_too_many_runs_the_oldest_go(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RUNS", 3)
    for hours in range(5):
        history.record(summary_of(finished(run_id=str(hours), at=START + timedelta(hours=hours))))
    assert select(history, "SELECT run_id FROM history_runs ORDER BY ended_at") == [("2",), ("3",), ("4",)]


def test_a_file_that_grows_too_large_loses_its_oldest_runs_and_stays_in_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RUNS", 100)
    history = history_in(tmp_path)
    history.record(summary_of(finished(run_id="first")))
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        before = f"{START - timedelta(days=100):%Y-%m-%d}"
        line = "INSERT INTO history_runs VALUES (?, 'old', '', 0, 0, 0, 0, 0, 0, 0, ?)"
        database.executemany(line, [(f"{before}T{number:04}", "x" * 200) for number in range(600)])
    grown = (tmp_path / FILE).stat().st_size
    history.record(summary_of(finished(run_id="last", at=START + timedelta(hours=1))))
    kept = [run_id for (run_id,) in select(history, "SELECT run_id FROM history_runs ORDER BY ended_at")]
    assert kept == ["old"] * 98 + ["first", "last"]
    for number in range(10):
        history.record(summary_of(finished(run_id=str(number), at=START + timedelta(hours=2))))
    assert (tmp_path / FILE).stat().st_size == grown  # what was freed is used again


@pytest.mark.parametrize("content", [b"no database at all, but longer than its header would be" * 9, b""])
def test_a_damaged_file_is_moved_with_one_warning_and_a_new_one_begins(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / f"{FILE}.1").write_text("an earlier one")
    warned = Warned()
    history = history_in(tmp_path, warned)
    for hours in range(2):
        history.record(summary_of(finished(run_id=str(hours), at=START + timedelta(hours=hours))))
    assert len(select(history, "SELECT * FROM history_runs")) == 2
    moved = tmp_path / f"{FILE}.2"
    assert (tmp_path / f"{FILE}.1").read_text() == "an earlier one"
    if content:
        assert moved.read_bytes() == content
        assert [str(moved) in line for line in warned] == [True]
    else:  # as a crash leaves a file that was just made: nothing was lost
        assert (warned, moved.exists()) == ([], False)


def test_a_folder_that_rejects_writes_is_an_error_and_nothing_is_moved(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / FILE).mkdir()
    warned = Warned()
    with pytest.raises(ActionableError, match="cannot be written"):
        history_in(folder, warned).record(summary_of(finished()))
    assert (warned, [path.name for path in folder.iterdir()]) == ([], [FILE])
