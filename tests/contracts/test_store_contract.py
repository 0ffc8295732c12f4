"""What every store promises, on every store there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.places import AirtablePlace, DatabasePlace, Place, PostgresPlace
from tests.world.airtable import AirtableServer, columns, faults
from tests.world.clock import START, FakeClock
from token_refresh.base.columns import DETAIL_NAMES, OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from token_refresh.diagnosis.row_state import TRAITS, WAITING, State, state_of
from token_refresh.stores.base import (
    Change,
    DueQuery,
    PageQuery,
    Row,
    RowGroup,
    StoreRefusedError,
    Value,
    Written,
)

ODD_IDS = [
    "loc-1",
    "it's",
    'double " quote',
    "back\\slash",
    "trailing\\",
    "{brace}",
    "}",
    "אבג \u202eRTL",
    "two\nlines",
    "' OR '1'='1",
    "1; DROP TABLE credentials",
    "per%cent_",
    "loc-10",
    "LOC-1",
]


@pytest.fixture
def clock() -> FakeClock:
    """Nobody waits."""
    return FakeClock()


@pytest.fixture(params=["airtable", "database", "postgres"])
def place(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Place]:
    """Each store in turn. Airtable's `status` is text here, so that a person may write anything into it."""
    made: Place
    if request.param == "database":
        made = DatabasePlace(tmp_path / "db" / "tokens.sqlite3", clock)
        yield made
        made.store.close()
        made.shell.close()
        return
    if request.param == "postgres":
        made = PostgresPlace(request.getfixturevalue("postgres"), clock)
        yield made
        made.close()
        return
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        table = server.credentials_table(instead=[columns.text("status")])
        made = AirtablePlace(server, table, clock, tmp_path)
        yield made
        made.store.close()


@pytest.fixture
def airtable_place(clock: FakeClock, tmp_path: Path) -> Iterator[AirtablePlace]:
    """Airtable alone, for what only its change log shows."""
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        made = AirtablePlace(server, server.credentials_table(), clock, tmp_path)
        yield made
        made.store.close()


def cells(location_id: str = "loc-1", **more: Any) -> dict[str, Any]:
    """A row of the usual kind."""
    usual = {"locationId": location_id, "client_id": "app", "encrypted_refresh": f"cell of {location_id}"}
    return usual | more


def renewal(key: str, seen: str, number: int = 1, **more: Value) -> Change:
    """What a refresh writes."""
    values: dict[str, Value] = {
        "encrypted_refresh": f"new cell {number}",
        "last_access_token": f"token {number}",
        "access_token_expiry": START + timedelta(hours=1),
        "last_refreshed": START,
    }
    return Change(key, seen, values | more)


def written(place: Place, *changes: Change) -> list[Written]:
    """The fates of some changes."""
    return [result.written for result in place.store.write(changes)]


# Pages


def page(place: Place, limit: int, **more: Any) -> list[str]:
    """The locations on a page."""
    query = PageQuery(limit, more.pop("admits", lambda _: True), START, **more)
    return [row.location_id for row in place.store.page(query)]


def test_pages_are_in_an_order_of_their_own_and_go_on_where_the_last_one_ended(place: Place) -> None:
    for number in range(5):
        place.add(cells(f"loc-{number}"))
    rows = place.store.page(PageQuery(10, lambda _: True, START))
    order = [row.location_id for row in rows]
    assert sorted(order) == [f"loc-{number}" for number in range(5)]
    assert page(place, 2) == order[:2]
    assert page(place, 2, after=rows[1].key) == order[2:4]
    place.remove(rows[1].key)
    assert page(place, 9, after=rows[1].key) == order[2:]
    assert page(place, 9, after=rows[4].key) == []


def test_a_page_has_as_many_rows_as_are_admitted_however_few_they_are(place: Place) -> None:
    for number in range(5):
        place.add(cells(f"loc-{number}"))
    found = page(place, 2, admits=lambda row: row.location_id in ("loc-1", "loc-3", "loc-4"))
    assert len(found) == 2
    assert page(place, 1, admits=lambda row: row.location_id == "loc-4") == ["loc-4"]


def test_what_a_store_leaves_out_by_itself_it_would_not_be_asked_for(place: Place) -> None:
    """Whatever the query says besides, no row is missing that it admits."""
    over = START - timedelta(hours=1)
    place.add(cells("over", access_token_expiry=over, provider="acme"))
    place.add(cells("failing", last_error="HTTP 500", provider=" acme "))
    place.add(cells("refused"))
    place.add(cells("dead", status="reauthorize"))
    off = place.add(cells("off", status="disabled"))
    place.add(cells("waits", encrypted_refresh=""))
    place.add(cells("alone", encrypted_refresh="", last_access_token="token"))
    keys = {row.location_id: row.key for row in place.store.rows()}
    for state, traits in TRAITS.items():

        def is_in(row: Row, state: str = state) -> bool:
            found = replace(row, last_error="client refused") if row.location_id == "refused" else row
            return (state_of(RowGroup.of(found, START)) or WAITING) == state

        expected = sorted(row.location_id for row in place.store.rows() if is_in(row))
        assert sorted(page(place, 9, admits=is_in, traits=traits, failing=[keys["refused"], "x"])) == expected, state
    assert sorted(page(place, 9, is_of=lambda cell: cell == "acme", admits=lambda row: row.provider == "acme")) == [
        *("failing", "over")
    ]
    assert page(place, 9, text="OF", admits=lambda row: row.key == off) == ["off"]


# Counting


def test_rows_are_counted_in_groups_that_are_alike(place: Place) -> None:
    over, soon = START - timedelta(hours=1), START + timedelta(hours=1)
    sealed = f"sealed:v1:{'a' * 16}:{'x' * 60}"
    for number in range(2):
        place.add(cells(f"valid-{number}", provider="acme", access_token_expiry=soon + number * timedelta(hours=1)))
    place.add(cells("over", access_token_expiry=over, refresh_token_expiry=soon, failure_count=2))
    place.add(cells("dead", access_token_expiry=over, status="reauthorize", last_error="invalid_grant"))
    place.add(cells("sealed", encrypted_refresh=sealed, encrypted_secret=sealed))
    place.add(cells("waits", encrypted_refresh=""))
    place.add(cells("lone", encrypted_refresh="", last_access_token="token"))
    head = sealed[:26]
    expected = [
        ("", "", True, False, False, head, head, 1, None, None),
        ("", "", True, True, True, "", "", 1, over, soon),
        ("", "reauthorize", True, True, True, "", "", 1, over, None),
        ("acme", "", True, False, False, "", "", 2, soon, None),
        ("", "", False, False, False, "", "", 1, None, None),
        ("", "", True, False, False, "", "", 1, None, None),
    ]
    whole = place.store.tally(START)
    found = [tuple(group._replace(status=group.status.replace("active", ""))) for group in whole]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    by_state = place.store.tally(START, by_state=True)
    assert sum(group.rows for group in by_state) == 7
    for state in (*State, None):
        counts = [sum(one.rows for one in groups if state_of(one) == state) for groups in (by_state, whole)]
        assert counts[0] == counts[1], state


def test_rows_that_are_alike_are_one_group_with_its_first_ends(place: Place) -> None:
    for number in (3, 1, 2):
        end = START + timedelta(hours=number)
        place.add(cells(f"loc-{number}", encrypted_refresh="cell", access_token_expiry=end, refresh_token_expiry=end))
    [group] = place.store.tally(START)
    first = START + timedelta(hours=1)
    assert (group.rows, group.next_expiry, group.refresh_token_end) == (3, first, first)


def test_a_row_that_somebody_made_inactive_counts_as_disabled(place: Place) -> None:
    if isinstance(place, AirtablePlace):
        pytest.skip("its status is the only word for that")
    key = place.add(cells())
    place.edit(key, is_active=False)
    assert [group.status for group in place.store.tally(START)] == ["disabled"]


def test_a_database_names_the_rows_that_need_a_person(place: Place) -> None:
    over, soon = START - timedelta(hours=1), START + timedelta(hours=1)
    place.add(cells("valid", access_token_expiry=soon))
    place.add(cells("over", access_token_expiry=over))
    place.add(cells("failing", access_token_expiry=soon, failure_count=1))
    place.add(cells("both", access_token_expiry=over, last_error="HTTP 500"))
    place.add(cells("dead", access_token_expiry=soon, status="reauthorize"))
    place.add(cells("off", access_token_expiry=over, status="disabled"))
    alarming = place.store.alarming(START)
    if isinstance(place, AirtablePlace):
        assert alarming is None
        return
    assert alarming is not None
    assert sorted(row.location_id for row in alarming) == ["both", "dead", "failing", "over"]


# Listing


NEVER = datetime(2031, 1, 1, tzinfo=UTC)
MOMENTS = st.sampled_from([-90_000, -3601, -3600, -1, 0, 1, 3599, 3600, 3601, 86_400, 2_000_000]).map(
    lambda seconds: START + timedelta(seconds=seconds)
)
UNREADABLE = st.sampled_from(
    [
        "2026-01-01 00:00:00",
        "2031-01-01T00:00:00",
        "soon",
        "",
        " ",
        "9999",
        "2031-02-30T00:00:00.000Z",
        "2031-13-01T00:00:00.000Z",
        "2031-01-01T24:30:00.000Z",
        "2025-06-01T12:00:00+02:00",
        "2031-06-01T12:00:00+02:00",
        "2031-06-01",
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "locationId": st.sampled_from([*ODD_IDS, " loc-1 ", "\tloc-1\n"]),
        "encrypted_refresh": st.sampled_from(["", " ", "cell", " cell \n"]),
        "provider": st.sampled_from(["", " ", "google", " google\n", "Google", "slow", "nobody's", "gohighlevel"]),
        "status": st.sampled_from(["", "active", "reauthorize", "disabled", " disabled ", "Disabled", "paused", "0"]),
        "access_token_expiry": st.none() | MOMENTS | UNREADABLE,
    }
)
QUERIES = st.builds(
    DueQuery,
    cutoffs=st.dictionaries(st.sampled_from(["google", "slow", "gohighlevel", "o'hara"]), MOMENTS, max_size=4),
    other_cutoff=MOMENTS,
    default_provider=st.sampled_from(["gohighlevel", "google", "unlisted"]),
    everything=st.booleans(),
    locations=st.lists(st.sampled_from([*ODD_IDS, "absent"]), max_size=3).map(tuple),
    providers=st.lists(st.sampled_from(["google", "gohighlevel", "nobody's", "unlisted"]), max_size=2).map(tuple),
)


def readable(expiry: Any, instead: str | None = None) -> dict[str, Any]:
    """The expiry where a column of times takes it; PostgreSQL's takes infinities, which no `Row` can hold."""
    return {"access_token_expiry": instead if isinstance(expiry, str) else expiry}


@settings(max_examples=settings().max_examples * 3 // 5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(ROWS, max_size=8), query=QUERIES)
def test_due_is_exactly_what_the_query_admits(place: Place, table: list[dict[str, Any]], query: DueQuery) -> None:
    """A filter that runs elsewhere must let through all that is due, whatever people wrote into the table."""
    place.clear()
    for number, row in enumerate(table):
        if isinstance(place, AirtablePlace):
            place.add(row | readable(row["access_token_expiry"]))
        elif isinstance(place, PostgresPlace):
            place.add(
                row
                | readable(row["access_token_expiry"], "infinity")
                | {"provider": row["provider"] + " " * 10 * number}
            )
        else:
            place.add(row | {"provider": row["provider"] + " " * 10 * number})  # unique in the database
    admitted = {row.key: row for row in place.store.rows() if query.admits(row)}
    due = place.store.due(query)
    assert {row.key: row for row in due} == admitted
    assert len(due) == len(admitted)
    everyone = place.store.read(place.keys())
    for found in due:
        assert found.encrypted_refresh
        assert found.status not in ("reauthorize", "disabled")
        assert everyone[found.key] == found


@pytest.mark.parametrize(
    ("provider", "hours", "is_due"),
    [
        ("slow", 47, True),
        (" slow\n", 47, True),
        ("slow", 49, False),
        ("", 47, True),
        (" ", 47, True),
        ("nobody's", 0.5, True),
        ("nobody's", 47, False),
        ("brief", 0.5, False),
        ("brief ", 0.1, True),
    ],
)
def test_each_provider_has_its_own_cutoff(place: Place, provider: str, hours: float, is_due: bool) -> None:
    """A blank provider is the default one; space around the name does not make it another."""
    place.add(cells(provider=provider, access_token_expiry=START + timedelta(hours=hours)))
    cutoffs = {"slow": START + timedelta(hours=48), "brief": START + timedelta(hours=0.2)}
    assert bool(place.store.due(DueQuery(cutoffs, START + timedelta(hours=1), "slow"))) is is_due
    if provider.strip():
        # Whoever the default is, a row that names its provider keeps its own cut-off.
        assert bool(place.store.due(DueQuery(cutoffs, START + timedelta(hours=1), "brief"))) is is_due


def test_an_access_token_alone_is_listed_where_somebody_asks_for_those_that_end(place: Place) -> None:
    soon, later = START + timedelta(hours=1), START + timedelta(days=2)
    alone = {"encrypted_refresh": "", "last_access_token": "access token"}
    ending = place.add(cells("ending", **alone, access_token_expiry=soon))
    place.add(cells("later", **alone, access_token_expiry=later))
    place.add(cells("endless", **alone))
    place.add(cells("disabled", **alone, access_token_expiry=soon, status="disabled"))
    place.add(cells("waits for its credential", encrypted_refresh="", access_token_expiry=soon))
    due = place.add(cells("due", access_token_expiry=START))
    place.add(cells("not due", last_access_token="access token", access_token_expiry=soon))
    query = DueQuery({}, START + timedelta(minutes=1), "google")
    assert {row.key for row in place.store.due(query)} == {due}
    assert {row.key for row in place.store.due(replace(query, lone=START + timedelta(days=1)))} == {due, ending}


def test_rows_are_complete_but_for_the_access_token(place: Place) -> None:
    expiry, refreshed = START + timedelta(hours=2, milliseconds=123), START - timedelta(days=1)
    full = cells(
        encrypted_secret="secret cell",
        last_access_token="access",
        access_token_expiry=expiry,
        provider="google",
        provider_params='{"tenant": "x"}',
        status="paused",
        last_error="was\nrefused",
        last_refreshed=refreshed,
        refreshed_by="host-1",
        failure_count=3,
        refresh_token_expiry=NEVER,
    )
    key = place.add(full)
    expected = Row(
        key=key,
        location_id="loc-1",
        client_id="app",
        encrypted_secret="secret cell",
        encrypted_refresh="cell of loc-1",
        access_token_expiry=expiry,
        provider="google",
        provider_params='{"tenant": "x"}',
        status="paused",
        last_error="was\nrefused",
        last_refreshed=refreshed,
        refreshed_by="host-1",
        failure_count=3,
        refresh_token_expiry=NEVER,
    )
    assert list(place.store.rows()) == [expected]
    assert place.store.read([key]) == {key: expected}
    assert place.store.find("loc-1") == [replace(expected, last_access_token="access")]
    assert all(moment.utcoffset() == timedelta(0) for moment in (expiry, refreshed))
    [row] = place.store.find("loc-1")
    assert row.access_token_expiry is not None
    assert row.access_token_expiry.tzinfo is UTC


@pytest.mark.parametrize("location_id", ODD_IDS)
def test_find_takes_exactly_its_location(place: Place, location_id: str) -> None:
    for other in ODD_IDS:
        place.add(cells(other))
    assert [row.location_id for row in place.store.find(location_id)] == [location_id]
    assert [row.location_id for row in place.store.find(f"  {location_id}\t")] == [location_id]
    assert place.store.find("absent") == []


def test_find_overlooks_outer_space_in_the_table(place: Place) -> None:
    key = place.add(cells(" loc-1\n"))
    assert [(row.key, row.location_id) for row in place.store.find("loc-1")] == [(key, "loc-1")]


def test_read_leaves_out_rows_that_are_gone(place: Place) -> None:
    here, gone = place.add(cells("a")), place.add(cells("b"))
    place.remove(gone)
    found = place.store.read([gone, here, "recNobodyHasThis0", "999", "9" * 30, "", "'"])
    assert list(found) == [here]
    assert place.store.read([]) == {}


def test_an_absurd_failure_count_spoils_no_listing(place: Place) -> None:
    key = place.add(cells())
    if isinstance(place, DatabasePlace):
        place.edit(key, failure_count=float("inf"))
    else:
        place.edit(key, failure_count=2**31 - 1 if isinstance(place, PostgresPlace) else 10**300)
    [row] = place.store.rows()
    assert row.key == key


# Writing


def test_a_change_is_stored_whole_and_nothing_else_changes(place: Place) -> None:
    key = place.add(cells(encrypted_secret="secret cell", status="paused", last_error="old", failure_count=2))
    other = place.add(cells("loc-2"))
    before = place.cells(other)
    change = renewal(key, "cell of loc-1", last_error="", failure_count=0, refreshed_by="host-1")
    assert written(place, change) == [Written.STORED]
    [row] = place.store.find("loc-1")
    assert (row.encrypted_refresh, row.last_access_token) == ("new cell 1", "token 1")
    assert (row.access_token_expiry, row.last_refreshed) == (START + timedelta(hours=1), START)
    assert (row.last_error, row.failure_count, row.refreshed_by) == ("", 0, "host-1")
    assert (row.encrypted_secret, row.status, row.client_id) == ("secret cell", "paused", "app")
    assert place.cells(other) == before


def test_the_same_change_again_is_stored_again(place: Place) -> None:
    """The first may have been applied without our hearing of it: theirs and ours are told apart by the bytes."""
    key = place.add(cells())
    change = renewal(key, "cell of loc-1")
    assert [written(place, change) for _ in range(3)] == [[Written.STORED]] * 3
    [row] = place.store.find("loc-1")
    assert row.encrypted_refresh == "new cell 1"


def test_another_cell_stays(place: Place) -> None:
    key = place.add(cells())
    place.edit(key, encrypted_refresh="somebody else's", last_access_token="theirs")
    before = place.cells(key)
    assert written(place, renewal(key, "cell of loc-1")) == [Written.CHANGED]
    assert place.cells(key) == before


def test_an_emptied_cell_stays_empty(place: Place) -> None:
    key = place.add(cells())
    place.edit(key, encrypted_refresh=None if isinstance(place, AirtablePlace) else "")
    assert written(place, renewal(key, "cell of loc-1")) == [Written.CHANGED]


def test_a_deleted_row_is_gone(place: Place) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(3)]
    place.remove(keys[1])
    changes = [renewal(key, f"cell of loc-{number}", number) for number, key in enumerate(keys)]
    assert written(place, *changes) == [Written.STORED, Written.GONE, Written.STORED]
    assert written(place, renewal("recNobodyHasThis0", "x"), renewal("7" * 25, "x")) == [Written.GONE] * 2


def test_a_change_without_a_new_refresh_token_keeps_the_cell(place: Place) -> None:
    key = place.add(cells())
    change = Change(key, "cell of loc-1", {"last_access_token": "token", "access_token_expiry": NEVER})
    assert [written(place, change) for _ in range(2)] == [[Written.STORED]] * 2
    [row] = place.store.find("loc-1")
    assert (row.encrypted_refresh, row.last_access_token) == ("cell of loc-1", "token")
    place.edit(key, encrypted_refresh="somebody else's")
    assert written(place, change) == [Written.CHANGED]


def test_a_prepared_row_takes_its_first_credential_once(place: Place) -> None:
    key = place.add({"locationId": "loc-1", "client_id": "app"})
    change = renewal(key, "")
    assert written(place, change) == [Written.STORED]
    assert written(place, change) == [Written.STORED]
    assert written(place, renewal(key, "", 2)) == [Written.CHANGED]


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\u00a0", " \u2003 "])
def test_white_space_around_a_cell_does_not_make_it_another_one(place: Place, space: str) -> None:
    """A cell pasted by hand brings a line end: the row would be refreshed, and never be stored."""
    key = place.add(cells(encrypted_refresh=f"{space}cell{space}"))
    [row] = place.store.find("loc-1")
    assert row.encrypted_refresh == "cell"
    assert written(place, renewal(key, row.encrypted_refresh)) == [Written.STORED]


def test_none_empties_a_cell_of_any_kind(place: Place) -> None:
    key = place.add(cells(last_error="old", access_token_expiry=START, failure_count=3, provider="google"))
    emptied: dict[str, Value] = dict.fromkeys(("last_error", "access_token_expiry", "failure_count", "provider"))
    assert written(place, Change(key, "cell of loc-1", emptied)) == [Written.STORED]
    [row] = place.store.find("loc-1")
    assert (row.last_error, row.access_token_expiry, row.failure_count, row.provider) == ("", None, 0, "")


def test_two_changes_of_one_row_are_taken_in_order(place: Place) -> None:
    key = place.add(cells())
    changes = [renewal(key, "cell of loc-1", 1), renewal(key, "cell of loc-1", 2), renewal(key, "new cell 1", 3)]
    assert written(place, *changes) == [Written.STORED, Written.CHANGED, Written.STORED]
    [row] = place.store.find("loc-1")
    assert row.encrypted_refresh == "new cell 3"


def test_changes_of_different_columns_of_one_row_are_taken_in_order(place: Place) -> None:
    key = place.add(cells())
    first = {"encrypted_refresh": "new cell", "last_error": ""}
    said: list[tuple[str, dict[str, Value]]] = [
        ("cell of loc-1", {**first}),
        ("new cell", {"last_error": "second"}),
        ("new cell", {**first, "last_error": "third"}),
    ]
    assert written(place, *(Change(key, seen, values) for seen, values in said)) == [Written.STORED] * 3
    [row] = place.store.find("loc-1")
    assert row.last_error == "third"


def test_250_changes_at_once_each_find_their_row(place: Place) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(250)]
    for number in (0, 99, 100, 249):
        place.edit(keys[number], encrypted_refresh="somebody else's")
    for number in (10, 240):
        place.remove(keys[number])
    changes = [renewal(key, f"cell of loc-{number}", number) for number, key in enumerate(keys)]
    fates = written(place, *changes)
    assert [number for number, fate in enumerate(fates) if fate is Written.CHANGED] == [0, 99, 100, 249]
    assert [number for number, fate in enumerate(fates) if fate is Written.GONE] == [10, 240]
    assert fates.count(Written.STORED) == 244
    for number, (key, fate) in enumerate(zip(keys, fates, strict=True)):
        if fate is Written.STORED:
            assert place.cells(key)["encrypted_refresh"] == f"new cell {number}"


def test_nothing_to_write_is_nothing_written(place: Place) -> None:
    assert place.store.write([]) == []


def test_proving_writes_exactly_the_value_read(place: Place) -> None:
    for expiry in (START + timedelta(milliseconds=7), None):
        place.clear()
        key = place.add(cells(access_token_expiry=expiry))
        [row] = place.store.find("loc-1")
        before = place.cells(key)
        place.store.prove_writable(row)
        assert place.cells(key) == before


def test_a_hand_written_expiry_is_read_as_utc(place: Place) -> None:
    place.add(cells(access_token_expiry="2026-05-01T02:00:00+02:00"))
    [row] = place.store.rows()
    assert row.access_token_expiry == datetime(2026, 5, 1, tzinfo=UTC)


# Creating


def test_a_created_row_is_found_with_all_its_cells(place: Place) -> None:
    values: dict[str, Value] = {
        **cells(" odd 'id' "),
        "encrypted_secret": "",
        "access_token_expiry": NEVER,
        "provider": "google",
        "provider_params": "",
        "status": "active",
        "last_error": "",
        "last_refreshed": None,
        "failure_count": 0,
    }
    key = place.store.create(values)
    [row] = place.store.find("odd 'id'")
    assert (row.key, row.provider, row.access_token_expiry, row.status) == (key, "google", NEVER, "active")
    assert row.last_refreshed is None
    assert place.keys() == [key]


def test_a_value_without_a_column_is_refused_by_name(place: Place) -> None:
    with pytest.raises(StoreRefusedError, match="granted_by") as refusal:
        place.store.create(cells(granted_by="x"))
    assert refusal.value.action
    assert place.keys() == []


def test_columns_are_those_of_the_table(place: Place) -> None:
    details = () if place.store.kind == "airtable" else DETAIL_NAMES
    assert place.store.columns == {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *details}


def test_an_access_token_that_is_all_a_row_has_comes_with_every_listing_and_is_never_due(place: Place) -> None:
    alone = place.add(cells("a", last_access_token="cell", encrypted_refresh=""))
    other = place.add(cells(last_access_token="access"))
    listed = {row.key: row.last_access_token for row in place.store.rows()}
    assert (listed[alone], listed[other]) == ("cell", "")
    assert [row.key for row in place.store.due(DueQuery({}, NEVER, "gohighlevel"))] == [other]


def test_a_row_is_deleted_and_its_neighbours_are_not(place: Place) -> None:
    first, second = place.add(cells("a")), place.add(cells("b"))
    place.store.delete(first)
    place.store.delete(first)  # safe to repeat
    assert place.keys() == [second]


def test_the_use_of_a_token_changes_nothing_else(place: Place) -> None:
    key = place.add(cells(last_access_token="access"))
    before = place.cells(key)
    place.store.note_use([key], START)
    after = place.cells(key)
    after.pop("last_used_at", None)
    before.pop("last_used_at", None)
    assert after == before
    [row] = place.store.find("loc-1")
    assert row.last_used_at == (None if place.store.kind == "airtable" else START)


def test_calls_are_counted(place: Place) -> None:
    before = place.store.calls
    list(place.store.rows())
    assert place.store.calls > before


# Sealed


# What only Airtable's change log shows, and what only Airtable can do to us


def test_only_named_columns_are_touched(airtable_place: AirtablePlace) -> None:
    """A colleague's cell that is sent back, even unchanged, undoes what they typed meanwhile."""
    place = airtable_place
    key, other = place.add(cells(last_error="old", provider="google")), place.add(cells("loc-2"))
    [row] = place.store.find("loc-1")
    place.store.prove_writable(row)
    assert place.touched(key) == {"access_token_expiry"}
    change = renewal(key, "cell of loc-1")
    assert written(place, change) == [Written.STORED]
    assert place.touched(key) == set(change.values)
    assert written(place, Change(key, "new cell 1", {"last_error": "x"})) == [Written.STORED]
    assert place.touched(key) == {*change.values, "last_error"}
    assert place.touched(other) == set()


def test_a_change_of_absent_optional_columns_is_stored_without_a_write(clock: FakeClock, tmp_path: Path) -> None:
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        place = AirtablePlace(server, server.six_column_table(), clock, tmp_path)
        key = place.add(cells())
        assert place.store.columns == set(REQUIRED_COLUMNS)
        assert written(place, Change(key, "cell of loc-1", {"last_error": "x", "failure_count": 1})) == [Written.STORED]
        assert place.touched(key) == set()
        assert written(place, renewal(key, "cell of loc-1", last_error="x")) == [Written.STORED]
        assert place.touched(key) == {"encrypted_refresh", "last_access_token", "access_token_expiry"}
        [row] = place.store.due(DueQuery({}, NEVER, "gohighlevel"))
        assert (row.provider, row.status) == ("", "")
        with pytest.raises(StoreRefusedError, match="provider"):
            place.store.create(cells("loc-2", provider="google"))
        assert place.keys() == [key]


LOST: dict[str, Callable[[], Any]] = {
    "acted, no answer": faults.unacknowledged,
    "acted, answer cut": faults.cut,
    "acted, then 500 in its place": lambda: lambda _request, act: (act(), faults.status(500)(_request, act))[1],
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_create_whose_answer_is_lost_makes_one_row(airtable_place: AirtablePlace, fault: Callable[[], Any]) -> None:
    place = airtable_place
    place.add(cells("loc-1", encrypted_refresh="a colleague's"))
    place.server.inject(fault(), kind="create")
    # Somebody else adds a row of the same place at the same moment.
    place.server.on_request = once(lambda: place.add(cells("loc-1", encrypted_refresh="another's")), on="POST")
    key = place.store.create(cells("loc-1"))
    assert [row.key for row in place.store.find("loc-1") if row.encrypted_refresh == "cell of loc-1"] == [key]
    assert len(place.keys()) == 3
    assert place.server.calls["create"] == 1


def once(act: Callable[[], Any], *, on: str, nth: int = 1) -> Callable[[Any], None]:
    """Something that happens just before the nth request of a method is acted on."""
    count = itertools.count(1)

    def look(request: Any) -> None:
        if request.method == on and next(count) == nth:
            act()

    return look


# Cells beside the refresh cell that a change was made from


def sealed_row(place: Place) -> tuple[str, dict[str, Any]]:
    """A row of three cells."""
    full = cells(encrypted_secret="secret 1", last_access_token="access 1")
    return place.add(full), full


def resealing(key: str, **values: Value) -> Change:
    """What a rotation writes: only while all three cells are as they were."""
    return Change(
        key, "cell of loc-1", values, beside={"encrypted_secret": "secret 1", "last_access_token": "access 1"}
    )


@pytest.mark.parametrize("column", ["encrypted_refresh", "encrypted_secret", "last_access_token"])
def test_a_change_is_not_written_where_any_cell_it_was_made_from_has_changed(place: Place, column: str) -> None:
    key, _ = sealed_row(place)
    place.edit(key, **{column: "somebody else's"})
    assert written(place, resealing(key, encrypted_secret="secret 2")) == [Written.CHANGED]
    assert place.cells(key)["encrypted_secret"] == ("somebody else's" if column == "encrypted_secret" else "secret 1")


def test_a_change_of_a_cell_beside_is_written_once_and_safe_to_repeat(place: Place) -> None:
    key, _ = sealed_row(place)
    change = resealing(key, encrypted_secret="secret 2", last_access_token="access 2")
    assert written(place, change) == [Written.STORED]
    assert written(place, change) == [Written.STORED]
    assert (place.cells(key)["encrypted_secret"], place.cells(key)["last_access_token"]) == ("secret 2", "access 2")
    place.edit(key, last_access_token="access 3")
    assert written(place, change) == [Written.CHANGED]


def test_the_access_token_comes_only_where_the_row_is_asked_for_complete(place: Place) -> None:
    key, _ = sealed_row(place)
    [row], [complete] = place.store.rows(), place.store.rows(complete=True)
    assert (row.last_access_token, complete.last_access_token) == ("", "access 1")
    assert place.store.read([key])[key] == row
    assert place.store.read([key], complete=True)[key] == complete


def test_rows_of_many_pages_come_once_each(place: Place) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(1203)]
    assert sorted(row.key for row in place.store.rows()) == sorted(keys)
