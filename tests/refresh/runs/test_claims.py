"""Several runs on one database: in rounds, side by side, dead, on another host. No row twice, no token sent twice."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import exits
from tests.conftest import World
from tests.refresh.runs.faults_world import SqliteRows, entries, journal, kept_token, meanwhile
from tests.refresh.runs.test_faults_inside import outcomes, run, run_context_of
from tests.refresh.runs.test_faults_processes import Gate, begin, end, kill, run_later
from tests.stores.places import claimed
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.oauth.faults import Call, Fault
from token_refresh.base.events import Event, NoticeCode, RowsListed
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.refresh import listing
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Claimant, DueQuery, StoreUnavailableError
from token_refresh.stores.database import DatabaseStore

pytestmark = pytest.mark.long


EVERYONE = DueQuery({}, START + timedelta(days=3650), "acme", everything=True, idle=())
ELSEWHERE = Claimant("elsewhere", 1, "run")


@pytest.fixture
def rows(world: World) -> SqliteRows:
    return SqliteRows(world)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test starts is gone after it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def database(world: World) -> DatabaseStore:
    file = Path(world.program.settings["STATE_DIR"]) / "tokens.sqlite3"
    return DatabaseStore(f"sqlite:///{file}", world.clock)


def claim(world: World, claimant: Claimant, *locations: str) -> None:
    with closing(database(world)) as store:
        taken = claimed(store, replace(EVERYONE, locations=locations), claimant)
        assert len(taken) == len(locations)


def owners(world: World) -> Mapping[str, str]:
    """Whose each claimed row is."""
    return {name: row["claim_owner"] for name, row in world.rows().items() if row["claim_owner"]}


# One run


def test_a_run_works_round_by_round_and_leaves_no_claim(rows: SqliteRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 3)
    names = [f"loc{number}" for number in range(8)]
    for number, name in enumerate(names):
        rows.add("acme", name, START + timedelta(seconds=number))
    held: list[int] = []
    rows.world.oauth.fail(meanwhile(lambda: held.append(len(owners(rows.world)))), times=math.inf)
    totals: list[int] = []

    def counting(event: Event) -> None:
        if isinstance(event, RowsListed):
            totals.append(event.total)

    report = run(rows, lambda context: context, counting)
    assert outcomes(report) == dict.fromkeys(names, "refreshed")
    assert [notice.code for notice in report.notices] == [NoticeCode.SHORT_LIFETIME]  # once, not in each round
    assert report.due == 8
    assert list(dict.fromkeys(totals)) == [3, 6, 8]
    assert max(held) <= 3
    assert owners(rows.world) == {}
    assert rows.world.oauth.sent_twice() == []


def test_a_location_that_is_asked_for_and_that_another_process_is_refreshing_is_said_to_be(rows: SqliteRows) -> None:
    rows.add("acme", "loc")
    claim(rows.world, ELSEWHERE, "loc")
    result = rows.world.program.run("--json", "--all", "--location", "loc")
    [waiting] = result.json()["waiting"]
    assert (result.code, result.json()["results"]) == (exits.DONE, [])
    assert waiting["reason"] == "another process is refreshing it, on elsewhere"
    assert "no such row" not in result.err


def test_a_run_claims_five_hundred_rows_at_most_before_it_has_worked_them_off(rows: SqliteRows) -> None:
    """Whoever else works on the table finds some, and a host that dies holds up no more."""
    limits: list[int] = []

    def change(context: RunContext) -> RunContext:
        claim_due = context.store.store.claim_due

        def counted(query: DueQuery, claimant: Claimant, limit: int) -> Any:
            limits.append(limit)
            return claim_due(query, claimant, limit)

        vars(context.store.store)["claim_due"] = counted
        return context

    rows.add("acme", "loc")
    assert outcomes(run(rows, change)) == {"loc": "refreshed"}
    assert limits == [500]


def test_no_round_begins_when_the_time_is_over(rows: SqliteRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 2)
    rows.world.program.settings["CONCURRENCY"] = "1"
    for number in range(6):
        rows.add("acme", f"loc{number}", START + timedelta(seconds=number))
    rows.world.oauth.fail(meanwhile(lambda: rows.world.clock.advance(10)), times=math.inf)
    result = rows.world.program.run("--json", "--max-seconds", "25")
    assert set(result.outcomes()) == {"loc0", "loc1", "loc2"}
    assert owners(rows.world) == {}
    assert rows.world.program.run("--json").outcomes() == {f"loc{number}": "refreshed" for number in (3, 4, 5)}


def test_a_row_whose_end_is_not_known_stays_claimed_because_its_story_is_in_our_journal(rows: SqliteRows) -> None:
    """Another slot of this host would send a token that may be spent, and could not say why it is refused."""
    rows.add("acme", "loc")
    rows.add("acme", "good")
    rows.world.oauth.fail(faults.acted_then_dropped(), token="loc", times=2)
    assert rows.world.program.run("--json").outcomes() == {"loc": "unknown", "good": "refreshed"}
    assert set(owners(rows.world)) == {"loc"}
    with journal(rows.world):  # slot 1 is taken: the next process is another one
        rows.world.clock.advance(1000)
        second = rows.world.program.run("--json")
    assert second.outcomes() == {"good": "refreshed"}
    assert rows.world.program.run("--json").outcomes() == {"loc": "reauthorize"}


def test_a_store_that_cannot_be_reached_at_the_end_keeps_the_claims_for_the_next_run(
    rows: SqliteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add("acme", "loc", provider_params="{")

    def away(*_: Any) -> None:
        raise StoreUnavailableError("the disk is away", "Wait.")

    with monkeypatch.context() as broken:
        broken.setattr(DatabaseStore, "release", away)
        rows.add("google", "wait", client_id="")
        run(rows)
    rows.edit("loc", provider_params="")
    assert rows.world.program.run("--json").outcomes()["loc"] == "refreshed"
    assert owners(rows.world) == {}


# Side by side


def test_two_runs_at_once_both_work_and_share_the_rows(
    rows: SqliteRows, gate: Gate, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes. Each takes what the other has not; no token is sent twice, and every row is fresh."""
    world = rows.world
    world.program.settings |= {"CONCURRENCY": "2"}
    module = world.program.install() / "token_refresh/refresh/listing.py"
    text, found = re.subn(r"^CLAIMED_ROWS = \d+", "CLAIMED_ROWS = 3", module.read_text(), flags=re.MULTILINE)
    assert found == 1
    module.write_text(text)
    names = [f"loc{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        rows.add("acme", name, START + timedelta(seconds=number))
    world.oauth.fail(gate.after_acting(), times=4)
    runs = [begin(processes, world, "--json") for _ in range(2)]
    gate.wait_for(4)  # two requests of each run are out: neither keeps the other from working
    gate.open.set()
    results = [end(process) for process in runs]
    assert [result.code for result in results] == [exits.DONE, exits.DONE], [result.err for result in results]
    shares = [set(result.outcomes()) for result in results]
    assert all(len(share) >= 3 for share in shares)
    assert shares[0] & shares[1] == set()
    assert shares[0] | shares[1] == set(names)
    assert len(world.oauth.requests) == len(names)
    assert world.oauth.sent_twice() == []
    assert all(map(rows.is_current, names))
    assert owners(world) == {}
    assert entries(world) == []


def test_what_a_killed_run_had_claimed_is_the_next_run_s(
    rows: SqliteRows, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    """Beside a third that lives: its slot is not free, so the dead one's is taken over by a slot of another number."""
    world = rows.world
    for number in range(4):
        rows.add("acme-grace", f"loc{number}")
    world.oauth.fail(gate.after_acting(), times=2)
    world.program.settings["CONCURRENCY"] = "2"
    with _first_slot_taken(world):
        process = begin(processes, world)
        gate.wait_for(2)
        kill(process)
        gate.open.set()
        assert len(owners(world)) == 4
    result = run_later(world, 120)
    assert result.outcomes() == {f"loc{number}": "refreshed" for number in range(4)}
    assert owners(world) == {}
    assert all(rows.is_current(f"loc{number}") for number in range(4))


def _first_slot_taken(world: World) -> Any:
    world.program.run("status")
    [folder] = [path for path in (world.program.home / "state").iterdir() if path.is_dir()]
    from token_refresh.journal.entries import Journal

    return closing(Journal(folder, world.program.keyring, world.clock))


def test_a_row_that_another_process_has_is_not_waited_for_and_not_reported(rows: SqliteRows) -> None:
    """It is of this host: it ends, or is found dead."""
    rows.add("acme", "theirs")
    rows.add("acme", "ours")
    host = _host_of(rows.world)
    claim(rows.world, Claimant(host, 7, "run"), "theirs")
    result = rows.world.program.run("--json")
    assert result.outcomes() == {"ours": "refreshed"}
    assert "claimed" not in result.err


def _host_of(world: World) -> str:
    with run_context_of(SqliteRows(world)) as context:
        return context.claimant.installation


@pytest.mark.parametrize("times", [1, 2])
def test_a_shared_provider_s_failure_is_one_run_s_and_not_the_other_s(
    rows: SqliteRows, times: int, gate: Gate, processes: list[subprocess.Popen[str]]
) -> None:
    """A request that fails in one process is told by that process alone, and its row is settled by it."""
    world = rows.world
    for number in range(4):
        rows.add("acme-grace", f"loc{number}")
    failing: Callable[[Call, Any], Any] = faults.reset().apply
    world.oauth.fail(Fault("reset", failing), times=times)
    runs = [begin(processes, world, "--json") for _ in range(2)]
    results = [end(process) for process in runs]
    assert [result.code for result in results] == [exits.DONE] * 2, [result.err for result in results]
    assert all(rows.is_current(f"loc{number}") for number in range(4))
    assert entries(world) == []


# Another host


def test_rows_of_another_host_are_left_alone_and_named_until_it_is_taken_over(rows: SqliteRows) -> None:
    world = rows.world
    for name in ("one", "two", "ours"):
        rows.add("acme", name)
    claim(world, ELSEWHERE, "one")
    claim(world, replace(ELSEWHERE, slot=2), "two")
    world.clock.advance(121)  # longer than a refresh takes
    world.program.settings["LOG_FORMAT"] = "json"
    result = world.program.run("--json")
    assert (result.code, result.outcomes()) == (exits.FAILED, {"ours": "refreshed"})
    [waiting] = [line for line in result.lines() if line.get("code") == "waiting"]
    assert waiting["message"] == (
        "2 due rows were not tried (one acme, two acme): elsewhere claimed it and has not finished with it"
    )
    assert waiting["action"].endswith(f"run here once: {TOKEN_MANAGER} refresh --takeover")
    taken = world.program.run("--json", "--takeover")
    assert taken.outcomes() == {"one": "refreshed", "two": "refreshed"}
    assert owners(world) == {}


@pytest.mark.parametrize(("hours", "code"), [(0, exits.DONE), (1, exits.FAILED)])
def test_a_claim_in_the_future_is_no_reason_to_wait_for_ever(rows: SqliteRows, hours: int, code: int) -> None:
    """The clock of the machine that made it was wrong."""
    rows.add("acme", "loc")
    claim(rows.world, ELSEWHERE, "loc")
    rows.world.clock.set_back(hours * 3600)
    result = rows.world.program.run()
    assert (result.code, "refresh --takeover" in result.err) == (code, code == exits.FAILED)


def test_tokens_of_a_row_that_was_taken_over_during_its_refresh_wait_in_the_journal(rows: SqliteRows) -> None:
    """The other host has not written yet: ours must not overwrite what it is about to, and are not lost either."""
    rows.add("acme", "loc")
    other = replace(ELSEWHERE, takes_over=True)
    rows.world.oauth.fail(meanwhile(lambda: claim(rows.world, other, "loc")))
    report = run(rows)
    [result] = report.results
    assert (result.outcome, result.error) == (
        "changed",
        "another process took the row over meanwhile; the new tokens wait in the journal",
    )
    [entry] = entries(rows.world)
    assert kept_token(rows.world, entry) == rows.world.oauth.current("loc")
    with closing(database(rows.world)) as store:
        store.release(ELSEWHERE, ())
    assert outcomes(run(rows)) == {"loc": "refreshed"}
    assert rows.is_current("loc")
    assert rows.world.oauth.sent_twice() == []
