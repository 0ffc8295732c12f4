"""The order of writes, syncs and sends, as the kernel sees them: intent, request, answer, store; and how many syncs."""

from __future__ import annotations

import enum
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows

# Only a tracer sees in which order calls reach the system. The order that the program asks for is held without it, by
# the faults at each step (test_matrix.py).
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the order of syncs; install it"),
]

CALLS = "fsync,fdatasync,write,pwrite64,sendto,sendmsg"
MANY = 20

# The program with a journal that leaves it to the system when its pages reach the disk.
CARELESS = """
import os, sqlite3, sys
sys.path.insert(0, sys.argv[1])
from token_refresh.base.clock import SystemClock
from token_refresh.commands import prepare
from token_refresh.wiring import open_run_context
from token_refresh.terminal.console import Console
from token_refresh.refresh.run_context import Scope
from token_refresh.refresh.run import Refresher

class Careless(sqlite3.Connection):
    def execute(self, statement, *values):
        return super().execute("PRAGMA synchronous=OFF" if "synchronous" in statement else statement, *values)

installation = prepare(os.environ, SystemClock(), Console())

def connect(*args, **more):
    return sqlite3.connect(*args, factory=Careless, **more)

with installation.lock(), open_run_context(installation, connect) as context:
    report = Refresher(context).run(Scope())
sys.exit([result.outcome for result in report.results] != ["refreshed"])
"""


class Event(enum.Enum):
    """What a run does that has a place in the order."""

    NOTE = "writes to the journal"
    SYNC = "has the journal on the disk"
    ASK = "sends a request to the provider"
    STORE = "writes to the store"
    STORE_SYNC = "has the store on the disk"


class Disorder(AssertionError):  # noqa: N818 - what the test looks for
    """Something left before it was on the disk."""


def traced(world: World, *command: str) -> list[Event]:
    """The events of a real run."""
    trace = world.program.home / "trace"
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "32", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, *command],
        cwd=world.program.home,
        env=world.program.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(events(trace.read_text().splitlines()))


def run(world: World) -> list[Event]:
    """The events of the program itself."""
    return traced(world, str(world.program.installed() / "token_manager.py"))


def events(lines: Sequence[str]) -> Iterator[Event]:
    """A sync counts when it has returned, anything else when it begins."""
    open_syncs: dict[str, Event] = {}
    for line in lines:
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.startswith("<..."):
            ended = open_syncs.pop(process, None)
            if ended is not None:
                yield ended
            continue
        event = event_of(call)
        if event in (Event.SYNC, Event.STORE_SYNC) and call.endswith("<unfinished ...>"):
            open_syncs[process] = event
        elif event is not None:
            yield event


def event_of(call: str) -> Event | None:
    name, _, rest = call.partition("(")
    is_sync = name in ("fsync", "fdatasync")
    if re.search(r"/journal-\d+\.sqlite3(-wal)?>", rest):
        return Event.SYNC if is_sync else Event.NOTE
    if "/tokens.sqlite3" in rest:
        return Event.STORE_SYNC if is_sync else Event.STORE
    if '"POST /acme/token' in rest:
        return Event.ASK
    return Event.STORE if '"PATCH /v0/' in rest else None


def check_order(seen: Sequence[Event]) -> None:
    """Nothing leaves for the provider, and then for the store, while its note is not on the disk.

    Raises:
        Disorder: something does.
    """
    is_noted = is_on_disk = is_asked = False
    for event in seen:
        if event is Event.NOTE:
            is_noted, is_on_disk = True, False
        elif event is Event.SYNC:
            is_on_disk = True
        elif event is Event.ASK:
            if not (is_noted and is_on_disk):
                raise Disorder("the request leaves before its intent is on the disk")
            is_asked, is_noted = True, False
        elif event is Event.STORE and is_asked:
            if not (is_noted and is_on_disk):
                raise Disorder("the tokens leave for the store before the answer is on the disk")
            is_asked = False  # what follows is no news to the journal


@pytest.fixture(params=["airtable", "sqlite"])
def rows(request: pytest.FixtureRequest) -> Rows:
    """A store for real processes: they live by the real clock, the fakes do not."""
    if request.param == "sqlite":
        rows: Rows = SqliteRows(request.getfixturevalue("world"))
    else:
        rows = AirtableRows(request.getfixturevalue("airtable_world"))
        assert rows.world.airtable is not None
        rows.world.airtable.requests_per_second = None
        rows.world.program.settings["AIRTABLE_REQUESTS_PER_SECOND"] = "50"
    rows.world.program.settings["CONCURRENCY"] = "1"
    return rows


def test_intent_and_answer_are_on_the_disk_before_the_next_step(rows: Rows) -> None:
    rows.add("acme", "loc")
    seen = run(rows.world)
    assert rows.is_current("loc")
    assert Event.ASK in seen
    assert Event.STORE in seen[seen.index(Event.ASK) :]
    check_order(seen)


def test_without_syncs_the_same_look_finds_the_disorder(rows: Rows) -> None:
    rows.add("acme", "loc")
    script = rows.world.program.home / "careless.py"
    script.write_text(CARELESS)
    seen = traced(rows.world, str(script), str(rows.world.program.installed()))
    assert rows.is_current("loc")
    with pytest.raises(Disorder, match="intent"):
        check_order(seen)
    asked = seen.index(Event.ASK)
    with pytest.raises(Disorder, match="answer"):
        check_order([Event.NOTE, Event.SYNC, *seen[asked:]])


def test_a_refresh_costs_two_syncs_at_the_most(rows: Rows) -> None:
    """The store's own are counted apart: one write for all."""
    rows.add("acme", "loc")
    run(rows.world)  # makes the files
    counts: list[dict[Event, int]] = []
    for number in (1, MANY):
        for index in range(number):
            rows.add("acme", f"{number}-{index}")
        seen = run(rows.world)
        assert seen.count(Event.ASK) == number
        counts.append({event: seen.count(event) for event in Event})
    one, many = counts
    assert many[Event.SYNC] - one[Event.SYNC] <= 2 * (MANY - 1)
    assert many[Event.STORE_SYNC] - one[Event.STORE_SYNC] <= 2
