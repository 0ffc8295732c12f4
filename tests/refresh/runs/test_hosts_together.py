"""Hosts on one table: what one of them learns of a provider holds for the others, and each finishes its own."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests import exits
from tests.callers import revocable
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import (
    DATABASES,
    DatabaseRows,
    SqliteRows,
    entries,
    kept_token,
    meanwhile,
    table_of,
)
from tests.refresh.runs.test_faults_inside import run as run_once
from tests.world.oauth import faults
from tests.world.program import Program
from token_refresh.base.events import RunFinished
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Pause, StoreUnavailableError
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> DatabaseRows:
    """A table in each database; requests go out one by one, so that their number is certain."""
    made = table_of(request.param, request)
    assert isinstance(made, DatabaseRows)
    made.world.program.settings["CONCURRENCY"] = "1"
    if isinstance(made, SqliteRows):
        made.world.program.settings["DATABASE_URL"] = made.address()
    return made


@pytest.fixture
def other(rows: DatabaseRows) -> Program:
    """A second host on the same table."""
    program = rows.world.program
    return replace(program, settings=program.settings | {"STATE_DIR": str(program.home / "state" / "other")})


def add(rows: DatabaseRows, count: int, provider: str = "acme") -> None:
    for number in range(count):
        rows.add(provider, f"{provider}{number}")


def sent(rows: DatabaseRows) -> int:
    return len(rows.world.oauth.requests)


def client_key(rows: DatabaseRows) -> str:
    """What the processes on a table call the client of Acme's rows."""
    return rows.world.oauth.url.removeprefix("http://") + " app-acme"


def share(rows: DatabaseRows, seconds: float, **more: Any) -> None:
    """As another process does."""
    store = DatabaseStore(rows.address(), rows.world.clock)
    store.share_pauses([Pause(client_key(rows), rows.world.clock.now() + timedelta(seconds=seconds), **more)])
    store.close()


def test_a_client_that_one_host_was_asked_to_pause_is_left_alone_by_the_other(
    rows: DatabaseRows, other: Program
) -> None:
    add(rows, 4)
    add(rows, 1, "acme-grace")
    rows.world.oauth.fail(faults.too_many_requests(300), provider="acme", times=2)
    first = rows.world.program.run("--json")
    assert (sent(rows), first.outcomes()["acme-grace0"]) == (3, "refreshed")
    second = other.run("--json")
    assert "acme asks for a pause, until " in second.err
    assert (second.code, second.json()["results"], sent(rows)) == (exits.FAILED, [], 3)
    assert len(second.json()["waiting"]) == 4
    rows.world.clock.advance(301)
    assert set(other.run("--json").outcomes().values()) == {"refreshed"}


def test_a_short_pause_is_waited_for(rows: DatabaseRows) -> None:
    add(rows, 2)
    share(rows, 20)
    assert set(rows.world.program.run("--json").outcomes().values()) == {"refreshed"}
    assert 20 <= rows.world.clock.slept < 22


def test_a_pause_is_heard_of_while_a_run_works(rows: DatabaseRows) -> None:
    add(rows, 10)

    def publish_pause() -> None:
        share(rows, 300)
        rows.world.clock.advance(1.5)

    heard = threading.Event()
    rows.world.oauth.fail(meanwhile(publish_pause))
    rows.world.oauth.fail(meanwhile(lambda: heard.wait(30)), times=math.inf)

    def change(context: RunContext) -> RunContext:
        ask = context.store.store.share_pauses

        def overheard(news: Any) -> list[Pause]:
            found = ask(news)
            if found:
                heard.set()
            return found

        vars(context.store.store)["share_pauses"] = overheard
        return context

    report = run_once(rows, change)
    assert {row.reason for row in report.waiting} == {"acme asks for a pause"}
    assert sent(rows) <= 3
    assert len(report.results) == sent(rows)


def test_a_provider_that_does_not_answer_one_host_is_tried_once_by_the_other(
    rows: DatabaseRows, other: Program
) -> None:
    add(rows, 15, "acme-never")
    rows.world.oauth.fail(faults.status(503), times=float("inf"))
    rows.world.program.run("--json")
    before, slept = sent(rows), rows.world.clock.slept
    assert before == 10
    second = other.run("--json")
    assert sent(rows) == before + 1
    assert f"{client_key(rows).split()[0]} does not answer" in second.err
    assert rows.world.clock.slept - slept <= 60


def test_a_host_leaves_what_another_has_begun(rows: DatabaseRows, other: Program) -> None:
    add(rows, 1)
    rows.edit("acme0", claim_owner="gone/1/run", claimed_at=rows.world.clock.now() - timedelta(days=9))
    left = other.run("--json")
    assert (left.json()["results"], sent(rows)) == ([], 0)
    assert (left.code, left.json()["waiting"][0]["reason"]) == (
        exits.FAILED,
        "gone claimed it and has not finished with it",
    )
    assert "--takeover" in left.err
    assert other.run("--json", "--takeover").outcomes() == {"acme0": "refreshed"}


def test_an_old_claim_on_a_row_whose_token_is_never_spent_holds_nobody_up(rows: DatabaseRows, other: Program) -> None:
    add(rows, 1, "acme-never")
    rows.edit("acme-never0", claim_owner="gone/1/run", claimed_at=rows.world.clock.now() - timedelta(minutes=11))
    assert other.run("--json").outcomes() == {"acme-never0": "refreshed"}


def test_a_process_whose_row_was_taken_over_keeps_no_token_that_never_changes(
    rows: DatabaseRows, other: Program
) -> None:
    add(rows, 1, "acme-never")

    def stand_still() -> None:
        rows.world.clock.advance(700)
        for _ in range(100):  # it may renew its claim before it stands
            rows.edit("acme-never0", claimed_at=rows.world.clock.now() - timedelta(minutes=11))
            if other.run("--json").outcomes() == {"acme-never0": "refreshed"}:
                break

    rows.world.oauth.fail(meanwhile(stand_still))
    late = rows.world.program.run("--json")
    assert late.outcomes() == {"acme-never0": "changed"}
    assert rows.world.journalled() == []


def test_another_password_leads_to_the_same_journal(postgres_world: World) -> None:
    program = postgres_world.program
    program.run("--json")
    program.settings["DATABASE_URL"] = program.settings["DATABASE_URL"].replace("postgres:@", "postgres:new?secret@")
    program.run("--json")
    assert len({path.parent for path in Path(program.settings["STATE_DIR"]).glob("*/ballast")}) == 1


def elsewhere(address: str) -> str:
    """The same table under another address: by another way to write the file, or with the port."""
    return address.replace("sqlite:///", "sqlite:////") if address.startswith("sqlite") else f"{address}&port=5432"


def test_processes_that_know_one_table_by_two_addresses_leave_each_other_s_rows(rows: DatabaseRows) -> None:
    """It is one table, so there is one journal, and each finds the other's process."""
    add(rows, 3)
    program = rows.world.program
    second = replace(program, settings=program.settings | {"DATABASE_URL": elsewhere(program.settings["DATABASE_URL"])})
    seen: list[Any] = []
    rows.world.oauth.fail(meanwhile(lambda: seen.append(second.run("--json"))))
    assert set(program.run("--json").outcomes().values()) == {"refreshed"}
    [other] = seen
    assert (other.code, other.json()["results"]) == (0, [])
    assert {row["reason"] for row in other.json()["waiting"]} == {"another process is refreshing it"}
    assert len(list(Path(program.settings["STATE_DIR"]).glob("*/ballast"))) == 1
    assert rows.world.oauth.sent_twice() == []


class Sharing:
    """A store's view of the pauses of others, one for each time it is asked."""

    def __init__(self, rows: DatabaseRows, *heard: Any) -> None:
        self._rows = rows
        self._heard = list(heard)

    def __call__(self, _news: Any) -> list[Pause]:
        told = self._heard.pop(0) if self._heard else []
        if isinstance(told, Exception):
            raise told
        return [
            Pause(client_key(self._rows), self._rows.world.clock.now() + timedelta(seconds=seconds), False)
            for seconds in told
        ]


def run_sharing(rows: DatabaseRows, *heard: Any) -> RunFinished:
    """A run whose store says this of the others' pauses."""

    def change(context: RunContext) -> RunContext:
        vars(context.store.store)["share_pauses"] = Sharing(rows, *heard)
        return context

    return run_once(rows, change)


def test_a_store_that_cannot_say_who_pauses_stops_nothing(rows: DatabaseRows) -> None:
    add(rows, 2)
    report = run_sharing(rows, StoreUnavailableError("the database does not answer", "Wait."))
    assert [result.outcome for result in report.results] == ["refreshed"] * 2


def test_a_row_that_waits_for_another_attempt_is_given_up_when_another_host_hears_of_a_long_pause(
    rows: DatabaseRows,
) -> None:
    add(rows, 1)
    rows.world.oauth.fail(faults.too_many_requests(20))
    report = run_sharing(rows, [], [600])
    assert [result.outcome for result in report.results] == ["transient"]
    assert sent(rows) == 1


# A claim ends with what it was for


def killed(rows: DatabaseRows, point: Point) -> None:
    """A process of this host, in the middle of a refresh."""
    rows.world.program.run("recover")  # so that state folder and tables are there
    rows.add("acme", "loc", rows.world.clock.now())
    struck(rows.world, point, Fate.KILL)
    assert is_claimed(rows)


def is_claimed(rows: DatabaseRows) -> bool:
    store = DatabaseStore(rows.address(), rows.world.clock)
    with closing(store), store._engine.connect() as connection:
        return connection.execute(select(CREDENTIALS.c.claim_owner)).scalar_one() is not None


def entered(rows: DatabaseRows) -> str:
    """A file with another grant of the location."""
    return rows.world.program.csv(rows.world.csv_line("acme", "loc"))


ENDS: dict[str, tuple[Point, Callable[[DatabaseRows], object]]] = {
    "recover": (Point.KEPT, lambda rows: rows.world.program.run("recover", "--replay")),
    "get": (Point.KEPT, lambda rows: rows.world.program.run("get", "loc")),
    "a run": (Point.KEPT, lambda rows: rows.world.program.run()),
    "onboarding": (Point.SENT, lambda rows: rows.world.program.onboard("--from-csv", entered(rows), "--replace")),
    "revoke": (Point.KEPT, lambda rows: rows.world.program.run("revoke", "loc", "--yes")),
    "recover without a word": (Point.INTENT, lambda rows: rows.world.program.run("recover")),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_ends_a_refresh_that_was_killed_ends_its_claim(rows: DatabaseRows, end: str) -> None:
    revocable(rows.world)
    point, act = ENDS[end]
    killed(rows, point)
    act(rows)
    assert not is_claimed(rows)


def test_an_onboarding_elsewhere_ends_the_claim_of_a_host_that_is_gone(rows: DatabaseRows, other: Program) -> None:
    killed(rows, Point.SENT)
    assert other.onboard("--from-csv", entered(rows), "--replace").code == 0
    assert not is_claimed(rows)
    rows.world.clock.advance(3600)
    assert other.run("--json").outcomes() == {"loc": "refreshed"}
    assert rows.world.program.run("--json").outcomes() == {}  # it was not gone, and finds that it is over
    assert rows.is_current("loc")
    assert rows.world.oauth.sent_twice() == []


def test_who_refreshes_a_row_that_is_onboarded_elsewhere_meanwhile_keeps_its_answer_and_theirs_stays(
    rows: DatabaseRows, other: Program
) -> None:
    rows.world.program.run("recover")
    rows.add("acme", "loc", rows.world.clock.now())
    old = rows.stored("loc")
    file = entered(rows)
    rows.world.oauth.fail(meanwhile(lambda: other.onboard("--from-csv", file, "--replace")))
    assert rows.world.program.run("--json").outcomes() == {"loc": "changed"}
    assert rows.is_current("loc")
    [entry] = entries(rows.world)
    assert (entry.step, kept_token(rows.world, entry)) == ("superseded", rows.world.oauth.tokens[old].successor)


@pytest.mark.long
def test_a_takeover_is_advised_only_where_the_claim_is_too_old_for_a_refresh_and_then_it_helps(
    rows: DatabaseRows, other: Program
) -> None:
    killed(rows, Point.SENT)
    at_work = other.run()
    assert (at_work.code, "another process is refreshing it, on " in at_work.err) == (exits.DONE, True)
    asked = other.run("get", "loc")
    assert "another process is refreshing it, on " in asked.err
    assert "--takeover" not in at_work.err + asked.err
    rows.world.clock.advance(121)
    late = other.run()
    assert (late.code, "token_manager.py refresh --takeover" in late.err) == (exits.FAILED, True)
    asked = other.run("get", "loc")
    assert "claimed it and has not finished with it" in asked.err
    [command] = re.findall(r"run here once: \S+ \S*token_manager.py (refresh [^.;\n]*)", asked.err)
    assert other.run(*command.split(), "--json").outcomes() == {"loc": "refreshed"}
    assert other.run("get", "loc").code == 0
