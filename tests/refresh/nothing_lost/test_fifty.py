"""Fifty real processes at once: one works, and the others end at once, having asked nobody."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows
from tests.world.oauth.faults import Act, Call, Fault

pytestmark = pytest.mark.long


FIFTY = 50
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class End:
    """How a process ended."""

    pid: int
    code: int
    said: str


class Crowd:
    """Real processes of one installation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._program = str(world.program.installed() / "token_manager.py")
        self._said: dict[int, Path] = {}

    def start(self) -> int:
        """One more; returns its id."""
        file = self._world.program.home / f"said-{len(self._said)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [(os.POSIX_SPAWN_OPEN, number, str(file), flags, 0o600) for number in (1, 2)]
        pid = os.posix_spawn(sys.executable, [sys.executable, self._program], self._environment(), file_actions=actions)
        self._said[pid] = file
        return pid

    def end(self) -> End:
        """Wait for whichever of them ends next."""
        pid, status = os.wait()
        file = self._said.pop(pid)
        return End(pid, os.waitstatus_to_exitcode(status), file.read_text())

    def _environment(self) -> dict[str, str]:
        environment = self._world.program.environment()
        del environment["PYTHONDONTWRITEBYTECODE"]  # a user's installation has its modules compiled
        return environment


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    """Two rows; the processes live by the real clock, the fakes do not."""
    assert airtable_world.airtable is not None
    airtable_world.airtable.requests_per_second = None
    airtable_world.program.settings["AIRTABLE_REQUESTS_PER_SECOND"] = "50"
    rows = AirtableRows(airtable_world)
    rows.add("acme", "loc")
    return rows


@pytest.fixture
def gate(table: AirtableRows) -> Iterator[threading.Event]:
    """The provider acts at once and answers when this is set."""
    event = threading.Event()

    def apply(call: Call, act: Act) -> Any:
        answer = act()
        event.wait(PATIENCE_SECONDS)
        return answer

    table.world.oauth.fail(Fault("gate", apply), times=2)
    yield event
    event.set()


def test_of_fifty_processes_at_once_one_works_and_the_others_ask_nobody(
    table: AirtableRows, gate: threading.Event
) -> None:
    world = table.world
    assert world.airtable is not None
    crowd = Crowd(world)
    gate.set()
    crowd.start()  # alone: what one run costs in calls
    assert crowd.end().code == 0
    alone = len(world.airtable.requests)
    table.add("acme", "another")
    gate.clear()
    calls = len(world.airtable.requests)
    begun = {crowd.start() for _ in range(FIFTY)}
    ends = [crowd.end() for _ in range(FIFTY - 1)]  # while the one still waits for the provider
    [worker] = begun - {end.pid for end in ends}
    assert {end.code for end in ends} == {exits.BUSY}
    for end in ends:
        assert f"another run is active: process {worker}, since " in end.said or "only just started" in end.said
    assert any(f"process {worker}, " in end.said for end in ends)
    gate.set()
    last = crowd.end()
    assert (last.pid, last.code) == (worker, 0), last.said
    assert table.is_current("another")
    assert len(world.oauth.requests) == 2
    assert len(world.airtable.requests) - calls <= alone
