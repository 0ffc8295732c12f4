"""Rows that processes claim one by one, and the pauses they share, in both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.stores.places import DatabasePlace, Place, PostgresPlace, claimed
from tests.world.clock import START, FakeClock
from token_refresh.stores.base import Change, Claimant, DueQuery, Pause, Written
from token_refresh.stores.database import DatabaseStore

ALL_DUE = DueQuery({}, START, "google")
TEN_MINUTES = 600  # docs/postgres.md


@pytest.fixture
def clock() -> FakeClock:
    """Nobody waits."""
    return FakeClock()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Place]:
    """Each database in turn."""
    if request.param == "postgres":
        made = PostgresPlace(request.getfixturevalue("postgres"), clock)
        yield made
        made.close()
        return
    embedded = DatabasePlace(tmp_path / "db" / "tokens.sqlite3", clock)
    yield embedded
    embedded.store.close()
    embedded.shell.close()


@pytest.fixture
def others(place: Place, clock: FakeClock) -> Iterator[Callable[[], DatabaseStore]]:
    """Makes stores of other processes on the same table."""
    with ExitStack() as stack:

        def make() -> DatabaseStore:
            assert isinstance(place, DatabasePlace | PostgresPlace)
            address = place.address if isinstance(place, PostgresPlace) else f"sqlite:///{place.file}?timeout=30"
            return stack.enter_context(closing(DatabaseStore(address, clock)))

        yield make


def add(place: Place, number: int, provider: str = "acme") -> str:
    """A row that is due, the more urgent the greater its number; the first has no expiry."""
    expiry = START - timedelta(seconds=number) if number else None
    cells = {"locationId": f"loc-{number}", "provider": provider, "encrypted_refresh": f"cell {number}"}
    return place.add(cells | {"access_token_expiry": expiry})


def process(host: str, slot: int = 1, **more: Any) -> Claimant:
    return Claimant(host, slot, f"run{slot}", **more)


def test_the_soonest_are_claimed_first(place: Place) -> None:
    for number in (3, 0, 5, 1, 4, 2):
        add(place, number)
    rounds = place.store.claim_due(ALL_DUE, process("a"), 2)
    assert [{row.location_id for row in rows} for rows in rounds] == [
        {"loc-0", "loc-5"},
        {"loc-4", "loc-3"},
        {"loc-2", "loc-1"},
    ]


def test_only_rows_of_the_provider_that_is_asked_for_are_claimed_and_counted(
    place: Place, others: Callable[[], DatabaseStore]
) -> None:
    """The others are left to whoever wants them."""
    for number, provider in enumerate(("acme", " acme\t", "google", "")):
        add(place, number, provider)
    acme = replace(ALL_DUE, providers=("acme",))
    assert {row.location_id for row in claimed(place.store, acme, process("a"))} == {"loc-0", "loc-1"}
    other = others()
    assert other.claimed_by_others(replace(ALL_DUE, providers=("google",)), process("b")) == []
    held = other.claimed_by_others(acme, process("b"))
    assert {(row.location_id, row.provider, row.owner) for row in held} == {
        ("loc-0", "acme", process("a").owner), ("loc-1", "acme", process("a").owner)
    }  # fmt: skip
    assert {row.location_id for row in claimed(other, replace(ALL_DUE, providers=("google",)), process("b"))} == {
        "loc-2", "loc-3"
    }  # fmt: skip


def test_processes_that_claim_at_once_get_each_row_once(place: Place, others: Callable[[], DatabaseStore]) -> None:
    keys = {add(place, number) for number in range(300)}
    stores = [others() for _ in range(6)]

    def work(number: int) -> list[str]:
        mine: list[str] = []
        for rows in stores[number].claim_due(ALL_DUE, process("a", number), 7):
            assert 0 < len(rows) <= 7
            mine += [row.key for row in rows]
        return mine

    with ThreadPoolExecutor(6) as pool:
        shares = list(pool.map(work, range(6)))
    everything = [key for mine in shares for key in mine]
    assert (len(everything), set(everything)) == (300, keys)
    assert Counter(row.owner for row in place.store.claimed_by_others(ALL_DUE, process("b"))) == {
        process("a", number).owner: len(mine) for number, mine in enumerate(shares) if mine
    }


def test_a_row_that_another_process_took_over_is_not_written(place: Place, others: Callable[[], DatabaseStore]) -> None:
    key = add(place, 1)
    other = others()
    assert claimed(place.store, ALL_DUE, process("dead"))
    assert claimed(other, ALL_DUE, process("b")) == []
    assert claimed(other, ALL_DUE, process("b", takes_over=True))
    change = Change(key, "cell 1", {"encrypted_refresh": "mine"})
    assert [result.written for result in place.store.write([change])] == [Written.UNCLAIMED]
    assert [result.written for result in other.write([change])] == [Written.STORED]


@pytest.mark.parametrize(
    ("provider", "seconds", "is_taken"),
    [
        ("static", TEN_MINUTES + 1, True),
        ("static", TEN_MINUTES - 1, False),
        ("rotating", 10 * TEN_MINUTES, False),
        ("", TEN_MINUTES + 1, True),
        ("static", -TEN_MINUTES - 1, True),  # whoever claimed it had a clock that was ahead
        ("rotating", -TEN_MINUTES - 1, False),
    ],
)
def test_an_old_claim_is_taken_only_where_no_token_is_spent(
    place: Place, clock: FakeClock, others: Callable[[], DatabaseStore], provider: str, seconds: float, is_taken: bool
) -> None:
    add(place, 1, provider)
    non_rotating = frozenset({"static"})
    assert claimed(place.store, ALL_DUE, process("dead", non_rotating=non_rotating))
    clock.advance(seconds)
    clock.set_back(max(-seconds, 0))
    query = DueQuery({}, START, "static")
    assert claimed(place.store, query, process("dead", non_rotating=non_rotating)) == []  # its own, and it knows
    assert bool(claimed(others(), query, process("b", non_rotating=non_rotating))) is is_taken


def test_a_pause_is_known_to_all_until_it_is_over(
    place: Place, clock: FakeClock, others: Callable[[], DatabaseStore]
) -> None:
    other = others()
    long, short = (Pause("acme", START + timedelta(seconds=seconds)) for seconds in (50, 20))
    broken = Pause("google", START + timedelta(seconds=60), is_broken=True)
    assert place.store.share_pauses([long, broken]) == [long, broken]
    assert set(other.share_pauses([short])) == {long, broken}  # a pause is only ever made longer
    clock.advance(50)
    assert other.share_pauses([]) == [broken]
    again = Pause("acme", START + timedelta(seconds=70))
    assert set(other.share_pauses([again])) == {again, broken}
    clock.advance(20)
    assert place.store.share_pauses([]) == []


def test_a_pause_that_a_wrong_clock_made_endless_holds_nobody_up(
    place: Place, others: Callable[[], DatabaseStore]
) -> None:
    other, ahead = others(), timedelta(days=365)
    place.store.share_pauses([Pause("acme", START + ahead)])  # as its host sees it, in a minute
    assert other.share_pauses([]) == []
    told = Pause("acme", START + timedelta(hours=1))
    assert other.share_pauses([told]) == [told]


def test_a_row_that_is_due_in_two_ways_takes_no_other_row_s_place(tmp_path: Path, clock: FakeClock) -> None:
    """An expiry that a person typed is unknown; as a text it may also be earlier than now."""
    place = DatabasePlace(tmp_path / "db" / "tokens.sqlite3", clock)
    typed, soon = add(place, 1), add(place, 2)
    place.edit(typed, access_token_expiry="2020-01-01")
    assert {row.key for row in claimed(place.store, ALL_DUE, process("a"))} == {typed, soon}
    place.store.close()
    place.shell.close()


def test_an_idle_look_at_an_embedded_table_or_one_for_a_location_reads_no_other_row(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The rule that an unreadable expiry is due has an index of its own."""
    place = DatabasePlace(tmp_path / "db" / "tokens.sqlite3", clock)
    said: list[str] = []
    query = DueQuery({"acme": START}, START, "google", latest=START + timedelta(days=600), ahead=START)
    conditions: list[Callable[[DatabaseStore], Any]] = [
        lambda store: store.due(query),
        lambda store: claimed(store, query, process("a"), 2000),
        lambda store: store.claimed_by_others(query, process("a")),
        lambda store: store.alarming(START),
        lambda store: store.find("typed by hand"),
    ]

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "SELECT" in statement:
            database = connection.connection.dbapi_connection
            said.extend(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    assert isinstance(place.store, DatabaseStore)
    sa.event.listen(place.store._engine, "before_cursor_execute", explain)
    for act in conditions:
        said.clear()
        act(place.store)
        assert not [line for line in said if line.startswith("SCAN credentials") and "ix_" not in line], said
    said.clear()
    claimed(place.store, query, process("a"), 2000)
    used = [line.partition(" INDEX ")[2] for line in said if line.startswith("SEARCH") and " INDEX " in line]
    assert used == [
        "ix_credentials_unreadable (<expr>=?)",
        "ix_credentials_due (access_token_expiry<?)",
        "ix_credentials_due (access_token_expiry>?)",
        "ix_credentials_last_refreshed (last_refreshed>?)",
    ], said
    place.store.close()
    place.shell.close()
