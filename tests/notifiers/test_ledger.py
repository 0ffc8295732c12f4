"""What was accepted is kept in the database for all machines that work on it: only one of them sends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.notifiers.news_world import Desk, fact, said
from tests.world.clock import FakeClock
from tests.world.postgres import PostgresServer
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.base import Store
from token_refresh.stores.database import DatabaseStore


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    """A database, which two machines share."""
    address = f"sqlite:///{tmp_path / 'tokens.sqlite3'}"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        address = server.database()
    with closing(DatabaseStore(address, clock)) as made:
        yield made


def test_a_note_is_held_by_one_at_a_time(store: Store, clock: FakeClock) -> None:
    assert store.take_note("news", 30) == ""
    assert store.take_note("news", 30) is None
    assert store.take_note("other", 30) == ""
    store.put_note("news", "what was accepted")
    assert store.take_note("news", 30) == "what was accepted"


def test_a_note_of_a_process_that_died_is_free_after_a_while(store: Store, clock: FakeClock) -> None:
    store.take_note("news", 30)
    clock.advance(29)
    assert store.take_note("news", 30) is None
    clock.advance(1)
    assert store.take_note("news", 30) == ""


def test_a_note_that_a_wrong_clock_took_far_ahead_is_free(store: Store, clock: FakeClock) -> None:
    clock.advance(86_400)
    store.take_note("news", 30)
    clock.set_back(86_400)
    assert store.take_note("news", 30) == ""


def test_of_two_machines_one_sends_what_is_of_the_table(store: Store, clock: FakeClock, tmp_path: Path) -> None:
    one, two = Desk(tmp_path / "one", clock, store), Desk(tmp_path / "two", clock, store)
    assert said(one.run(fact("loc"))) == [("login_needed", "loc", False)]
    assert two.run(fact("loc")) == []
    assert said(two.run()) == [("recovered", "loc", False)]
    assert one.run() == []


def test_what_is_of_one_machine_is_not_over_because_another_has_none_of_it(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    one, two = Desk(tmp_path / "one", clock, store), Desk(tmp_path / "two", clock, store)
    wrong = ActionableError("its disk is full", "Free it.", Kind.CONFIGURATION)
    assert said(one.run(journal_error=wrong)) == [("needs_fixing", "", False)]
    assert two.run() == []
    assert said(one.run()) == [("recovered", "", False)]


def test_while_another_machine_is_at_it_this_one_sends_its_own_alone(
    store: Store, clock: FakeClock, tmp_path: Path
) -> None:
    desk = Desk(tmp_path / "state", clock, store, seconds=1.2)
    store.take_note("news", 30)
    wrong = ActionableError("its disk is full", "Free it.", Kind.CONFIGURATION)
    assert said(desk.run(fact("loc"), journal_error=wrong, after=0)) == [("needs_fixing", "", False)]
    store.put_note("news", "")
    assert ("login_needed", "loc", False) in said(desk.run(fact("loc"), journal_error=wrong))


def test_a_note_that_is_broken_counts_as_none(store: Store, clock: FakeClock, tmp_path: Path) -> None:
    store.take_note("news", 30)
    store.put_note("news", "[")
    assert said(Desk(tmp_path / "state", clock, store).run(fact("loc"))) == [("login_needed", "loc", False)]
