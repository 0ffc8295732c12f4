"""An onboarding that is killed anywhere: what was entered is proved and stored by the next run, or still unspent."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.nothing_lost.test_matrix import KINDS, LOSING, STORES, oauth
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.refresh.run_context import RunContext

__all__ = ["oauth"]


@dataclass(frozen=True)
class Left:
    """What the kill leaves: the step of the journal's entry, whether the provider acted, whether the row is there."""

    point: Point
    entry: str
    asked: bool
    stored: bool


TABLE = (
    Left(Point.INTENT, "", False, False),
    Left(Point.SENT, "sent", False, False),
    Left(Point.ACTED, "sent", True, False),
    Left(Point.KEPT, "answered", True, False),
    Left(Point.WRITE, "answered", True, False),
    Left(Point.WRITTEN, "answered", True, True),
    Left(Point.CONFIRMED, "answered", True, True),
    Left(Point.CLEARED, "", True, True),
)


@pytest.fixture
def rows(request: pytest.FixtureRequest, store: str) -> Rows:
    """An empty table."""
    if store == "sqlite":
        return SqliteRows(request.getfixturevalue("world"))
    rows = AirtableRows(request.getfixturevalue("airtable_world"))
    assert rows.world.airtable is not None
    rows.world.airtable.requests_per_second = None  # the struck process has a clock of its own
    return rows


def has_row(world: World) -> bool:
    return len(world.table) == 1 if world.table is not None else "loc" in world.rows()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("left", TABLE, ids=lambda one: one.point.name.lower())
def test_an_onboarding_that_is_killed_anywhere_loses_nothing(rows: Rows, store: str, kind: str, left: Left):
    world = rows.world
    location, provider, client_id, secret, token = world.csv_line(kind, "loc")
    entered = NewCredential(location, provider, client_id, secret, token)

    def onboard(context: RunContext) -> tuple[()]:
        Admission(context).admit(entered, Terms())
        return ()

    struck(world, left.point, Fate.KILL, onboard)
    assert [entry["step"] for entry in world.journalled()] == ([left.entry] if left.entry else [])
    assert (len(world.oauth.requests), has_row(world)) == (left.asked, left.stored)

    world.clock.advance(1)
    world.program.run()
    if left.entry == "sent":
        assert len(world.oauth.requests) == left.asked  # it may still be on its way
        world.clock.advance(100)
        told = world.program.run().err
    asked_again = left.entry == "sent"
    assert len(world.oauth.requests) == left.asked + asked_again
    assert world.journalled() == []
    if left.point is Point.INTENT:
        assert not has_row(world)
        assert world.oauth.current("loc") == token  # whoever onboards repeats it
    elif left.point is Point.ACTED and kind in LOSING:
        assert not has_row(world)
        assert "reauthorize, the first answer was lost, and the token is used up" in told
    else:
        assert rows.is_current("loc")


@pytest.mark.by_turns("kind", "store", "fate")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fate", [Fate.FULL, Fate.READ_ONLY, Fate.IO_ERROR])
def test_a_run_that_goes_on_with_an_onboarding_keeps_its_answer_although_the_journals_disk_fails(
    rows: Rows, store: str, kind: str, fate: Fate
):
    world = rows.world
    location, provider, client_id, secret, token = world.csv_line(kind, "loc")

    def onboard(context: RunContext) -> tuple[()]:
        Admission(context).admit(NewCredential(location, provider, client_id, secret, token), Terms())
        return ()

    struck(world, Point.SENT, Fate.KILL, onboard)  # the request never arrived
    world.clock.advance(101)
    end = struck(world, Point.ACTED, fate)
    assert len(world.oauth.requests) == 1
    if not has_row(world) and "recover --cell -" in end.said:  # journal and table share the disk
        file = world.program.home / "answer"
        file.write_text(next(line for line in end.said.splitlines() if "recover --cell -" in line))
        assert world.program.run("recover", "--cell", str(file)).code == 0
    world.clock.advance(1)
    world.program.run()
    assert (rows.is_current("loc"), len(world.oauth.requests)) == (True, 1)
