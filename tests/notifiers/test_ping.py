"""PING_URL: what a monitor learns of a run, and what it cannot do to one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.commands.test_cli import state_folder
from tests.conftest import World
from tests.world.http import HTTPServer, Response
from tests.world.oauth import faults
from token_manager import TokenManager
from token_refresh.journal.lock import run_lock


@pytest.fixture
def monitor() -> Iterator[HTTPServer]:
    """A monitor that accepts everything."""
    with HTTPServer(lambda _: Response(200, b"OK")) as server:
        yield server


@pytest.fixture
def pinged(world: World, monitor: HTTPServer) -> World:
    """A program that pings it."""
    world.program.settings["PING_URL"] = f"{monitor.url}/ping/5f3c?rid=1"
    return world


def targets(monitor: HTTPServer) -> list[str]:
    return [f"{request.method} {request.target}" for request in monitor.requests]


def test_a_run_that_did_all_says_so_and_with_counts_alone(pinged: World, monitor: HTTPServer) -> None:
    assert (
        pinged.program.onboard("--no-check", "--from-csv", pinged.program.csv(pinged.csv_line("acme", "loc-1"))).code
        == 0
    )
    assert pinged.program.run().code == 0
    assert targets(monitor) == ["POST /ping/5f3c/start?rid=1", "POST /ping/5f3c?rid=1"]
    assert monitor.requests[1].body == b"due: 1\nrefreshed: 1\nnot tried: 0\nexit code: 0"


def test_a_failure_is_shown_by_its_exit_code(pinged: World, monitor: HTTPServer) -> None:
    pinged.program.onboard("--no-check", "--from-csv", pinged.program.csv(pinged.csv_line("acme", "loc-1")))
    pinged.oauth.fail(faults.status(503), times=10)
    assert pinged.program.run().code == 1
    assert targets(monitor)[-1] == "POST /ping/5f3c/1?rid=1"
    assert b"loc-1" not in b"".join(request.body for request in monitor.requests)


def test_a_run_that_could_not_begin_shows_its_exit_code(pinged: World, monitor: HTTPServer) -> None:
    assert pinged.program.run().code == 0
    monitor.requests.clear()
    (pinged.program.home / "state/tokens.sqlite3").chmod(0o644)
    assert pinged.program.run().code == 2
    assert targets(monitor) == ["POST /ping/5f3c/2?rid=1"]


@pytest.mark.parametrize("flags", [["--all"], ["--provider", "acme"], ["--location", "loc-1"], ["--dry-run"]])
def test_a_run_by_hand_pings_nobody(pinged: World, monitor: HTTPServer, flags: list[str]) -> None:
    pinged.program.onboard("--no-check", "--from-csv", pinged.program.csv(pinged.csv_line("acme", "loc-1")))
    assert pinged.program.run(*flags).code == 0
    assert targets(monitor) == []


def test_a_run_that_finds_another_one_active_pings_nobody(airtable_world: World, monitor: HTTPServer) -> None:
    program = airtable_world.program
    program.settings["PING_URL"] = monitor.url
    assert program.run().code == 0
    before = len(monitor.requests)
    with run_lock(state_folder(airtable_world), airtable_world.clock):
        assert program.run().code == 75
    assert len(monitor.requests) == before


def test_without_a_query_or_path_the_suffix_is_the_path(pinged: World, monitor: HTTPServer) -> None:
    pinged.program.settings["PING_URL"] = monitor.url
    assert pinged.program.run().code == 0
    assert targets(monitor) == ["POST /start", "POST /"]


def test_a_monitor_that_refuses_is_one_warning(pinged: World) -> None:
    with HTTPServer(lambda _: Response(404)) as gone:
        pinged.program.settings["PING_URL"] = f"{gone.url}/secret-of-the-monitor"
        result = pinged.program.run()
    assert result.code == 0
    assert result.err.count("PING_URL: it answered HTTP 404") == 1
    assert "secret-of-the-monitor" not in result.said


def test_rounds_ping_each_time_and_the_library_too(pinged: World, monitor: HTTPServer) -> None:
    with TokenManager.from_settings(pinged.program.settings, pinged.clock) as manager:
        manager.refresh_due()
        assert targets(monitor) == []
        manager.start(10)
        while len(monitor.requests) < 4:
            time.sleep(0.01)
    assert targets(monitor)[:2] == ["POST /ping/5f3c/start?rid=1", "POST /ping/5f3c?rid=1"]
