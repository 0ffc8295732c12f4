"""history.sqlite3: each run once, 400 days and 20 MB at the most, and a damaged file costs one warning."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.notifiers.summaries import finished, summary_of
from tests.world.clock import START
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Outcome
from token_refresh.notifiers import history as module
from token_refresh.notifiers.history import FILE, STORE_CALLS, History


class Warned(list[str]):
    def __call__(self, what: str, _action: str) -> None:
        self.append(what)


def select(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / FILE)) as database:
        return database.execute(query).fetchall()


def test_a_run_is_a_line_and_counts_for_its_providers_day(tmp_path: Path) -> None:
    history = History(tmp_path, Warned())
    first = finished(("a", Outcome.REFRESHED), ("b", Outcome.TRANSIENT), run_id="one")
    later = finished(("a", Outcome.REFRESHED), run_id="two", at=START + timedelta(hours=1))
    other = finished(("c", Outcome.REAUTHORIZE), run_id="three", at=START + timedelta(days=1), provider="google")
    for run in (first, later, other):
        history.record(summary_of(run, store_calls=2, exit_code=1 if run is not later else 0))
    assert select(tmp_path, "SELECT run_id, exit_code, due, refreshed, failed, store_calls FROM runs") == [
        ("one", 1, 2, 1, 1, 2),
        ("two", 0, 1, 1, 0, 2),
        ("three", 1, 1, 0, 1, 2),
    ]
    assert select(tmp_path, "SELECT day, provider, refreshed, transient, reauthorize FROM days") == [
        (f"{START:%Y-%m-%d}", "acme", 2, 1, 0),
        (f"{START + timedelta(days=1):%Y-%m-%d}", "google", 0, 0, 1),
    ]
    assert history.counts() == {
        ("acme", "refreshed"): 2,
        ("acme", "transient"): 1,
        ("google", "reauthorize"): 1,
        ("", STORE_CALLS): 6,
    }
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_run_that_is_recorded_twice_counts_once(tmp_path: Path) -> None:
    summary = summary_of(finished(("a", Outcome.REFRESHED)))
    for _ in range(2):
        History(tmp_path, Warned()).record(summary)
    assert History(tmp_path, Warned()).counts()["acme", "refreshed"] == 1
    assert len(select(tmp_path, "SELECT * FROM runs")) == 1


def test_a_run_that_never_began_says_why(tmp_path: Path) -> None:
    error = ActionableError("the database cannot be reached", "Start it.")
    History(tmp_path, Warned()).record(summary_of(finished(run_id="", error=error), exit_code=3))
    assert select(tmp_path, "SELECT error, exit_code FROM runs") == [("the database cannot be reached", 3)]


def test_the_last_success_is_the_last_run_that_could_do_its_work(tmp_path: Path) -> None:
    history = History(tmp_path, Warned())
    assert history.last_success() is None
    for hours, code in enumerate((0, 1, 3, 2, 4)):
        at = START + timedelta(hours=hours)
        history.record(summary_of(finished(run_id=str(hours), at=at), exit_code=code))
    assert history.last_success() == START + timedelta(hours=1)


def test_what_is_older_than_400_days_goes_and_the_counts_stay(tmp_path: Path) -> None:
    history = History(tmp_path, Warned())
    for days in (0, 1, 401):
        at = START + timedelta(days=days)
        history.record(summary_of(finished(("a", Outcome.REFRESHED), run_id=str(days), at=at)))
    assert select(tmp_path, "SELECT run_id FROM runs") == [("1",), ("401",)]
    assert len(select(tmp_path, "SELECT day FROM days")) == 2
    assert history.counts()["acme", "refreshed"] == 3


def test_a_file_that_grows_too_large_loses_its_oldest_runs_and_stays_in_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 64 * 1024
    monkeypatch.setattr(module, "MOST_BYTES", most)
    history = History(tmp_path, Warned())
    history.record(summary_of(finished(run_id="first")))
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        before = f"{START - timedelta(days=100):%Y-%m-%d}"
        line = "INSERT INTO runs VALUES (?, 'old', '', 0, 0, 0, 0, 0, 0, 0, ?)"
        database.executemany(line, [(f"{before}T{number:04}", "x" * 200) for number in range(600)])
    grown = (tmp_path / FILE).stat().st_size
    history.record(summary_of(finished(run_id="last", at=START + timedelta(hours=1))))
    kept = [run_id for (run_id,) in select(tmp_path, "SELECT run_id FROM runs ORDER BY ended_at")]
    assert kept[-2:] == ["first", "last"]
    assert kept.count("old") == 100
    for number in range(10):
        history.record(summary_of(finished(run_id=str(number), at=START + timedelta(hours=2))))
    assert (tmp_path / FILE).stat().st_size == grown  # what was freed is used again


@pytest.mark.parametrize("content", [b"no database at all, but longer than its header would be" * 9, b""])
def test_a_damaged_file_is_moved_with_one_warning_and_a_new_one_begins(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / f"{FILE}.1").write_text("an earlier one")
    warned = Warned()
    history = History(tmp_path, warned)
    for hours in range(2):
        history.record(summary_of(finished(run_id=str(hours), at=START + timedelta(hours=hours))))
    assert len(select(tmp_path, "SELECT * FROM runs")) == 2
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
        History(folder, warned).record(summary_of(finished()))
    assert (warned, [path.name for path in folder.iterdir()]) == ([], [FILE])
