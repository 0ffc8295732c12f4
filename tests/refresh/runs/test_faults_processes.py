"""Real processes that are asked to stop, or killed, in the middle of a run; the next run loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import TABLES, AirtableRows, Rows, SqliteRows, entries, kept_token, table_of
from tests.world.clock import FakeClock
from tests.world.http import Hangup
from tests.world.oauth.faults import Act, Call, Fault
from tests.world.program import Result
from token_refresh.stores.airtable.gate import LAST_SECONDS

pytestmark = pytest.mark.long


PATIENCE_SECONDS = 30


class Gate:
    """Requests that have arrived wait here until the test lets them go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self._arrived = threading.Semaphore(0)

    def wait_for(self, count: int) -> None:
        """Until so many requests are waiting."""
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE_SECONDS)

    def stop_here(self) -> None:
        self._arrived.release()
        self.open.wait(PATIENCE_SECONDS)

    def after_acting(self) -> Fault:
        """The provider acts at once; its answer waits."""

        def apply(call: Call, act: Act) -> Any:
            answer = act()
            self.stop_here()
            return answer

        return Fault("gate", apply)

    def before_airtable(self, *, act_first: bool = False) -> Callable[..., Any]:
        """The write waits, then its connection ends; `act_first` says whether it was done."""

        def wait(_request: Any, act: Callable[[], Any]) -> Any:
            if act_first:
                act()
            self.stop_here()
            raise Hangup

        return wait


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    """A table at a service without a limit: the processes live by the real clock, the fakes do not."""
    assert airtable_world.airtable is not None
    airtable_world.airtable.requests_per_second = None
    airtable_world.program.settings["AIRTABLE_REQUESTS_PER_SECOND"] = "50"
    return AirtableRows(airtable_world)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test starts is gone after it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def begin(
    processes: list[subprocess.Popen[str]], world: World, *argv: str, script: str = "token_manager.py"
) -> subprocess.Popen[str]:
    """The installed program, running."""
    process = subprocess.Popen(
        [sys.executable, str(world.program.installed() / script), *argv],
        cwd=world.program.home,
        env=world.program.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    return process


def end(process: subprocess.Popen[str], seconds: float = PATIENCE_SECONDS) -> Result:
    out, err = process.communicate(timeout=seconds)
    return Result(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(PATIENCE_SECONDS)


def run_later(world: World, seconds: float = 5) -> Result:
    """The next run, so many seconds after the real time."""
    world.program.clock = FakeClock(datetime.now(UTC) + timedelta(seconds=seconds))
    return world.program.run("--json")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", TABLES)
def test_a_run_that_is_asked_to_stop_finishes_what_it_began(
    request: pytest.FixtureRequest,
    gate: Gate,
    processes: list[subprocess.Popen[str]],
    number: signal.Signals,
    kind: str,
) -> None:
    rows: Rows = request.getfixturevalue("table") if kind == "airtable" else table_of(kind, request)
    world = rows.world
    world.program.settings["CONCURRENCY"] = "3"
    for index in range(8):
        rows.add("acme", f"loc{index}")
    world.oauth.fail(gate.after_acting(), times=3)
    process = begin(processes, world, "--json")
    gate.wait_for(3)
    os.kill(process.pid, number)
    gate.open.set()
    result = end(process)
    assert result.code == exits.STOPPED, result.err
    assert list(result.outcomes().values()) == ["refreshed"] * 3
    assert f"): {number.name} was received" in result.err
    assert len(world.oauth.requests) == 3
    assert all(rows.is_current(f"loc{index}") for index in range(8))
    assert entries(world) == []


def test_a_run_that_is_asked_to_stop_waits_little_for_an_airtable_that_hangs(
    table: AirtableRows, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    """It would wait a minute for the headers; what the provider answered is stored by the next run."""
    world = table.world
    table.add("acme", "loc0")
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(), kind="update", nth=2)
    process = begin(processes, world, "--json")
    gate.wait_for(1)
    os.kill(process.pid, signal.SIGTERM)
    result = end(process, LAST_SECONDS + 5)
    gate.open.set()
    assert result.code == exits.STORE, result.err
    assert [entry.step for entry in entries(world)] == ["answered"]
    assert run_later(world).code == exits.DONE
    assert table.is_current("loc0")


def test_what_a_kill_between_answer_and_write_back_left_is_stored_by_the_next_run(
    table: AirtableRows, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    world = table.world
    names = [f"loc{index}" for index in range(5)]
    for name in names:
        table.add("gohighlevel", name)
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(), kind="update", nth=2)
    process = begin(processes, world)
    gate.wait_for(1)
    kill(process)
    assert {kept_token(world, entry) for entry in entries(world, "answered")} == set(map(world.oauth.current, names))
    gate.open.set()
    result = run_later(world)
    assert (result.code, result.outcomes()) == (0, dict.fromkeys(names, "refreshed"))
    assert all(map(table.is_current, names))
    assert world.oauth.sent_twice() == []
    assert entries(world) == []


def test_a_kill_after_an_unacknowledged_write_is_recognised_as_stored(
    table: AirtableRows, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    world = table.world
    table.add("gohighlevel", "loc")
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(act_first=True), kind="update", nth=2)
    process = begin(processes, world)
    gate.wait_for(1)
    kill(process)
    gate.open.set()
    result = run_later(world)
    assert (result.code, result.json()["results"]) == (0, [])
    assert table.is_current("loc")
    assert entries(world) == []


def test_what_a_kill_while_the_embedded_database_is_busy_left_is_stored_by_the_next_run(
    world: World, processes: list[subprocess.Popen[str]]
) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    database = Path(world.program.settings["STATE_DIR"]) / "tokens.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as other:
        world.oauth.fail(Fault("busy", lambda call, act: (other.execute("BEGIN IMMEDIATE"), act())[1]))
        process = begin(processes, world)
        _wait_until_answered(world, process)
        kill(process)
        other.execute("ROLLBACK")
    [entry] = entries(world)
    assert kept_token(world, entry) == world.oauth.current("loc")
    assert run_later(world).outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")
    assert world.oauth.sent_twice() == []


def _wait_until_answered(world: World, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        for path in world.program.home.glob("state/*/journal-1.sqlite3"):
            with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS)) as journal:
                tables = journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
                if tables and journal.execute("SELECT 1 FROM entries WHERE step = 'answered'").fetchone():
                    return
    raise AssertionError(f"the run ended: {process.communicate()}")


def test_a_request_of_a_killed_run_is_not_repeated_before_its_time_is_over(
    world: World, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    rows.add("acme-grace", "grace")
    world.oauth.fail(gate.after_acting(), times=2)
    process = begin(processes, world)
    gate.wait_for(2)
    kill(process)
    gate.open.set()
    early = run_later(world, 60)
    assert early.json()["results"] == []
    assert "may still be on its way" in early.err
    assert len(world.oauth.requests) == 2
    later = run_later(world, 120)
    assert later.outcomes() == {"loc": "reauthorize", "grace": "refreshed"}
    assert "the answer was lost on" in later.out
    assert rows.is_current("grace")


# Onboarding


@pytest.fixture
def onboarding(table: AirtableRows, processes: list[subprocess.Popen[str]]) -> Callable[[str], subprocess.Popen[str]]:
    """Begins to onboard `loc` at a provider."""

    def start(provider: str) -> subprocess.Popen[str]:
        world = table.world
        file = world.program.csv(world.csv_line(provider, "loc"))
        return begin(processes, world, "--from-csv", file, script="onboard_client.py")

    return start


def test_an_onboarding_killed_before_its_answer_is_proved_by_a_later_run(
    table: AirtableRows, gate: Gate, onboarding: Callable[[str], subprocess.Popen[str]]
) -> None:
    world = table.world
    world.oauth.fail(gate.after_acting())
    process = onboarding("acme-grace")
    gate.wait_for(1)
    kill(process)
    gate.open.set()
    early = run_later(world, 30)
    assert "may still be on its way" in early.err
    assert len(world.oauth.requests) == 1
    later = run_later(world, 120)
    assert later.code == 0, later.err
    assert table.is_current("loc")
    assert entries(world) == []


def test_an_onboarding_killed_before_its_row_was_made_is_saved_by_the_next_run(
    table: AirtableRows, gate: Gate, onboarding: Callable[[str], subprocess.Popen[str]]
) -> None:
    world = table.world
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(), kind="create")
    process = onboarding("gohighlevel")
    gate.wait_for(1)
    kill(process)
    gate.open.set()
    assert len(world.table) == 0
    assert run_later(world).code == 0
    assert table.is_current("loc")
    assert len(world.oauth.requests) == 1
    assert entries(world) == []


def test_an_onboarding_killed_after_its_row_was_made_is_not_done_twice(
    table: AirtableRows, gate: Gate, onboarding: Callable[[str], subprocess.Popen[str]]
) -> None:
    world = table.world
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(act_first=True), kind="create")
    process = onboarding("gohighlevel")
    gate.wait_for(1)
    kill(process)
    gate.open.set()
    result = run_later(world)
    assert (result.code, result.json()["results"]) == (0, [])
    assert len(world.table) == 1
    assert table.is_current("loc")
    assert len(world.oauth.requests) == 1
    assert entries(world) == []


def test_an_onboarding_is_not_proved_again_when_its_row_was_filled_meanwhile(
    table: AirtableRows, gate: Gate, onboarding: Callable[[str], subprocess.Popen[str]]
) -> None:
    world = table.world
    assert world.airtable is not None
    world.airtable.inject(gate.before_airtable(), kind="create")
    process = onboarding("gohighlevel")
    gate.wait_for(1)
    kill(process)
    gate.open.set()
    ours = world.oauth.current("loc")
    table.add("gohighlevel", "loc")
    result = run_later(world)
    assert result.outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")
    [aside] = entries(world)
    assert (aside.step, kept_token(world, aside)) == ("superseded", ours)
