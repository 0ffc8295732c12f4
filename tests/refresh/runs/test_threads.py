"""Threads that the system does not give, or that a program would leave behind: no answer is lost, no run hangs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from providers.base import Answer, RawAnswer, Verdict
from tests import exits
from tests.callers import Meanwhile, log_in, manager_of
from tests.conftest import World, providers_file
from tests.net.loopback import PAIR, request_to, serving
from tests.refresh.runs.faults_world import SqliteRows, entries
from tests.refresh.runs.test_faults_inside import EndedThread, run_context_of
from tests.world.clock import FakeClock
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.unprivileged import unprivileged
from token_refresh.base.events import RowFinished
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.net.transport import HTTPTransport

PATIENCE_SECONDS = 20
MANY = 15


# The limit of processes


def threads_of(user: int) -> int:
    """How many the system counts against the limit of a user."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            count += int(lines["Threads"]) if int(lines["Uid"].split()[0]) == user else 0
    return count


def allow(more: int) -> None:
    """This process may start so many threads more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (threads_of(os.geteuid()) + more, hard))


def own_rows(world: World, home: Path, count: int) -> SqliteRows:
    """Due rows in a database of this user's own."""
    file = home / "providers.toml"
    file.write_text(providers_file(world.oauth))
    settings = world.program.settings | {
        "STATE_DIR": str(home / "state"),
        "STATE_DIR_SPARE": str(home / "spare"),
        "PROVIDERS_FILE": str(file),
    }
    rows = SqliteRows(replace(world, program=replace(world.program, home=home, settings=settings)))
    for number in range(count):
        rows.put(world.cells("acme", f"loc{number}"))
    return rows


def in_child(world: World, act: Callable[[SqliteRows], None]) -> None:
    """Do it as a user whom the limit holds for; root may start what it likes."""
    world.program.run("recover")  # imports what a run needs
    cells = {f"loc{number}": world.cells("acme", f"loc{number}") for number in range(5)}
    world.cells = lambda provider, location, *_, **__: cells[location]  # type: ignore[method-assign]
    unprivileged(lambda home: act(own_rows(world, home, 5)))


def test_a_run_that_can_start_no_thread_ends_at_once_and_sends_nothing(world: World) -> None:
    def act(rows: SqliteRows) -> None:
        allow(0)
        result = rows.world.program.run("--json")
        assert result.code == exits.USAGE, result.said
        [line] = [line for line in result.err.splitlines() if "threads" in line]
        assert "the system starts no more threads, so nothing was refreshed" in line
        assert "ulimit -u" in result.err
        assert "Traceback" not in result.said
        assert threading.active_count() == 1

    in_child(world, act)
    assert world.oauth.requests == []


def let_ended_ones_go() -> None:
    """The system counts what is left of a thread a moment longer than Python does."""
    while threads_of(os.geteuid()) > threading.active_count():
        time.sleep(0.001)


@pytest.mark.parametrize("more", [3, 9])
def test_a_run_that_can_start_only_some_threads_goes_on_with_those(world: World, more: int) -> None:
    def act(rows: SqliteRows) -> None:
        # The room for the watchdog is that of a thread that has just ended; a run tries again after some seconds.
        rows.world.program.clock = Meanwhile(rows.world.clock, let_ended_ones_go)
        allow(more)
        result = rows.world.program.run("--json")
        assert result.code == exits.DONE, result.said
        assert set(result.outcomes().values()) == {"refreshed"}
        assert threading.active_count() == 1

    in_child(world, act)
    assert len(world.oauth.requests) == 5
    assert world.oauth.sent_twice() == []


def in_daemon_thread(act: Callable[[], Any]) -> Any:
    """What it returns, or the error that it ends with, in a thread that the end of a program cuts off."""
    ends: list[Any] = []

    def work() -> None:
        try:
            ends.append(act())
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    [end] = ends
    return end


def test_an_onboarding_in_a_daemon_thread_ends_as_in_any_other(world: World) -> None:
    rows = SqliteRows(world)
    first, second = (NewCredential(*world.csv_line("acme", name)) for name in ("first", "second"))
    with run_context_of(rows) as context:
        ended = context._replace(transport=EndedThread())
        assert in_daemon_thread(lambda: Admission(context).admit(first, Terms())).outcome == "refreshed"
        assert isinstance(in_daemon_thread(lambda: Admission(ended).admit(second, Terms())), SystemExit)
    assert rows.is_current("first")
    assert [(entry.location_id, entry.step) for entry in entries(world)] == [("second", "sent")]


def test_an_onboarding_in_a_daemon_thread_that_can_start_no_other_sends_nothing(world: World) -> None:
    entered = NewCredential(*world.csv_line("acme", "new"))

    def act(rows: SqliteRows) -> None:
        def admit() -> RowFinished:
            allow(0)
            return Admission(context).admit(entered, Terms())

        with run_context_of(rows) as context:
            error = in_daemon_thread(admit)
            assert context.journal.entries() == []
        assert str(error) == "the system starts no more threads, or the program ends; nothing was sent"

    in_child(world, act)
    assert world.oauth.requests == []


def test_a_request_that_nobody_could_end_is_not_sent() -> None:
    def act(_: Path) -> None:
        allow(0)
        answer = transport.post(request_to(server.url))
        assert isinstance(answer, Answer)
        assert answer.verdict is Verdict.NOT_ACTED
        assert answer.error == "the system starts no more threads, so nothing was sent"
        allow(1)
        assert isinstance(transport.post(request_to(server.url)), RawAnswer)

    seen: list[Any] = []

    def answer(request: Any) -> Response:
        seen.append(request)
        return Response(200, PAIR)

    with serving(answer) as server, contextlib.closing(HTTPTransport(FakeClock(), 1)) as transport:
        unprivileged(act)
    assert len(seen) == 1


# The end of a program

REFRESHES = """
import sys, threading
from token_manager import TokenManager
tokens = TokenManager.from_settings()
def work(number):
    tokens.get_valid_access_token(f"loc{number}")
"""
ONBOARDS = """
import json, sys, threading
from pathlib import Path
from token_manager import TokenManager
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
tokens = TokenManager.from_settings()
lines = json.loads(Path("clients.json").read_text())
def work(number):
    with tokens._open(30.0) as context:
        Admission(context).admit(NewCredential(*lines[number]), Terms())
"""
ENDS = f"""
for number in range({MANY}):
    threading.Thread(target=work, args=(number,), daemon=True).start()
sys.stdin.readline()
"""


def end_in_the_middle(world: World, program: str, count: int) -> str:
    """Run a program that ends while each of its daemon threads waits for its provider's answer; what it said."""
    lock, arrived, go = threading.Lock(), threading.Event(), threading.Event()
    left = [count]

    def hold(call: faults.Call, act: faults.Act) -> Any:
        answer = act()
        with lock:
            left[0] -= 1
            if not left[0]:
                arrived.set()
        go.wait(PATIENCE_SECONDS)
        return answer

    world.oauth.fail(faults.Fault("hold", hold), times=count)
    process = subprocess.Popen(
        [sys.executable, "-c", program + ENDS],
        cwd=world.program.home,
        env=world.program.environment({"PYTHONPATH": str(world.program.installed())}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if not arrived.wait(PATIENCE_SECONDS):
            process.kill()
            pytest.fail(f"{left} did not ask: {process.communicate()[0]}")
        assert process.stdin is not None
        process.stdin.write("end\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        go.set()
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        go.set()
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    return said


@pytest.mark.long
def test_refreshes_in_daemon_threads_are_finished_when_the_program_ends(world: World) -> None:
    manager = manager_of(world)
    for number in range(MANY):
        log_in(world, manager, f"loc{number}")  # whose tokens have been out for months by the real clock
    end_in_the_middle(world, REFRESHES, MANY)
    rows = SqliteRows(world)
    assert all(rows.is_current(f"loc{number}") for number in range(MANY))
    assert world.journalled() == []


@pytest.mark.long
def test_onboardings_in_daemon_threads_keep_their_answers_when_the_program_ends(world: World) -> None:
    lines = [world.csv_line("acme", f"loc{number}") for number in range(MANY)]
    (world.program.home / "clients.json").write_text(json.dumps(lines))
    end_in_the_middle(world, ONBOARDS, MANY)
    world.program.run()
    rows = SqliteRows(world)
    assert all(rows.is_current(f"loc{number}") for number in range(MANY))
    assert (world.journalled(), world.oauth.replayed()) == ([], [])
