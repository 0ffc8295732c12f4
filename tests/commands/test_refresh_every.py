"""`refresh --every S`: for those without cron; each round is a run of its own, and the end is orderly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.commands.test_cli import assert_reported, change_row, onboarded, state_folder
from tests.conftest import World
from tests.world.clock import FakeClock
from tests.world.oauth import faults
from tests.world.program import Program, Result
from token_refresh.journal.lock import run_lock

pytestmark = pytest.mark.long


PATIENCE_SECONDS = 30


class Ended(FakeClock):
    """A clock on which SIGTERM comes after so many waits; before, something may happen at each."""

    def __init__(self, world_clock: FakeClock, seconds: float, act: Callable[[float], object] | None = None) -> None:
        self._world = world_clock
        self._first = world_clock.monotonic()
        self._seconds = seconds
        self._act = act

    def now(self) -> datetime:
        return self._world.now()

    def monotonic(self) -> float:
        return self._world.monotonic()

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)
        passed = self.monotonic() - self._first
        if self._act is not None:
            self._act(passed)
        if passed >= self._seconds:
            signal.raise_signal(signal.SIGTERM)


def run_for(world: World, seconds: float, *argv: str, act: Callable[[float], object] | None = None) -> Result:
    """`refresh --every 600` until SIGTERM comes after so many seconds."""
    before = world.program.clock
    world.program.clock = Ended(world.clock, seconds, act)
    try:
        return world.program.run("refresh", "--every", "600", *argv)
    finally:
        world.program.clock = before


def test_each_round_refreshes_what_is_due_by_then(world: World) -> None:
    onboarded(world, "loc1")
    asked = len(world.oauth.requests)
    result = run_for(world, 3 * 3600)
    assert result.code == 0
    assert result.err.count("loc1 acme: refreshed") == len(world.oauth.requests) - asked
    assert len(world.oauth.requests) - asked == 4  # the first round with less than two rounds and the buffer left
    assert world.oauth.is_live(world.program.run("get", "loc1").out.strip())
    assert world.journalled() == []


def test_rounds_begin_at_multiples_from_the_first(world: World) -> None:
    lines = run_for(world, 2 * 600 + 30, "--json").out.splitlines()
    starts = [datetime.fromisoformat(json.loads(line)["started_at"]) for line in lines]
    assert [(start - starts[0]).total_seconds() for start in starts] == pytest.approx([0, 600, 1200], abs=0.01)


def test_a_failed_round_is_reported_and_the_next_one_comes(world: World) -> None:
    onboarded(world, "loc1")
    path = world.program.home / "state/tokens.sqlite3"

    def break_once(passed: float) -> None:
        path.chmod(0o644 if 60 < passed <= 1000 else 0o600)

    change_row(world, "loc1", access_token_expiry=None)
    result = run_for(world, 1230, act=break_once)
    assert result.code == 0
    assert result.err.count("other users can read the database") == 1
    assert [words in result.err for words in ("1 refreshed", "nothing due")] == [True, True]


def test_between_two_rounds_lock_and_journal_are_free(airtable_world: World) -> None:
    """Cron and a program may run beside it; a round that meets them is told, and the next one comes."""
    world = airtable_world
    folder = state_folder(world)
    lock, taken = run_lock(folder, world.clock), list[bool]()

    def beside(passed: float) -> None:
        if passed > 60 and not taken:
            lock.__enter__()
            taken.append(True)
        elif passed > 700 and len(taken) == 1:
            taken.append(False)
            lock.__exit__(None, None, None)

    result = run_for(world, 1230, act=beside)
    assert result.code == 0
    assert result.err.count("another run is active: process") == 1
    assert result.err.count("nothing due") == 2


def test_an_interval_that_is_too_short_is_refused(world: World) -> None:
    for words in ("9.9", "soon", "-60"):
        result = world.program.run("refresh", "--every", words)
        assert result.code == 2
        assert "argument --every: must be" in result.err


def test_wrong_settings_end_it_before_the_first_round(tmp_path: Any) -> None:
    result = Program(tmp_path, {"CONCURRENCY": "many"}).run("refresh", "--every", "10")
    assert_reported(result, 2, "CONCURRENCY")


@pytest.fixture
def held(world: World) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A provider whose answers wait: that one has arrived, and that they may go."""
    arrived, go = threading.Event(), threading.Event()

    def hold(call: faults.Call, act: faults.Act) -> Any:
        answer = act()
        arrived.set()
        go.wait(PATIENCE_SECONDS)
        return answer

    world.oauth.fail(faults.Fault("hold", hold), times=2)
    yield arrived, go
    go.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("locations", "code"), [(("a",), 0), (("a", "b"), 4)])
def test_a_signal_in_a_round_finishes_what_is_open_and_says_whether_the_round_was_cut(
    world: World,
    held: tuple[threading.Event, threading.Event],
    number: signal.Signals,
    locations: tuple[str, ...],
    code: int,
) -> None:
    arrived, go = held
    for location in locations:
        line = world.csv_line("acme", location)
        assert world.program.onboard("--no-check", "--from-csv", world.program.csv(line)).code == 0
    world.program.settings["CONCURRENCY"] = "1"
    process = subprocess.Popen(
        [sys.executable, str(world.program.installed() / "token_manager.py"), "refresh", "--every", "3600"],
        env=world.program.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert arrived.wait(PATIENCE_SECONDS)
        process.send_signal(number)
        go.set()
        _, words = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, words
    assert f"{number.name} was received: no further round begins" in words
    assert world.oauth.replayed() == []
    assert (len(world.oauth.requests), world.journalled()) == (1, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_between_two_rounds_ends_it_at_once_with_zero_and_a_sentence(world: World, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, str(world.program.installed() / "token_manager.py"), "refresh", "--every", "3600"],
        env=world.program.environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )
    try:
        assert process.stderr is not None
        assert any("nothing due" in line for line in process.stderr)
        process.send_signal(number)
        _, words = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert f"{signal.Signals(number).name} was received: no further round begins" in words
    finally:
        process.kill()
        process.wait()
