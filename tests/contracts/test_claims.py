"""What a store promises to runs that share it: each row is somebody's, or nobody's, and no row is two runs'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.contracts.test_store_contract import cells, renewal
from tests.stores.places import AirtablePlace, DatabasePlace, PostgresPlace
from tests.world.airtable import AirtableServer
from tests.world.clock import START, FakeClock
from token_refresh.stores.base import Change, Claimant, DueQuery, Row, Store, Value, WriteResult, Written
from token_refresh.stores.database import DatabaseStore

HERE, SECOND = Claimant("here", 1, "run1"), Claimant("here", 2, "run2")
ELSEWHERE = Claimant("elsewhere", 1, "run3")
DUE = DueQuery({}, START + timedelta(days=1), "acme")
MANY = 100
ALL = ["loc-0", "loc-1", "loc-2"]

Colleague = Callable[[], Store]
ClaimedPlace = DatabasePlace | PostgresPlace


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[ClaimedPlace]:
    """A store of claimed rows, with three of them, due in this order."""
    made: ClaimedPlace
    if request.param == "postgres":
        made = PostgresPlace(request.getfixturevalue("postgres"), clock)
    else:
        made = DatabasePlace(tmp_path / "tokens.sqlite3", clock)
    for number in range(3):
        made.add(cells(f"loc-{number}", access_token_expiry=START + timedelta(minutes=number)))
    yield made
    made.close()


@pytest.fixture
def colleague(place: ClaimedPlace, clock: FakeClock) -> Iterator[Colleague]:
    """The same store in another process."""
    opened: list[DatabaseStore] = []

    def open_another() -> Store:
        opened.append(DatabaseStore(place.address, clock))
        return opened[-1]

    yield open_another
    for store in opened:
        store.close()


def claim(store: Store, claimant: Claimant, limit: int = MANY) -> list[Row]:
    """The rows of a claimant's first round."""
    return next(store.claim_due(DUE, claimant, limit), [])


def claimed(store: Store, claimant: Claimant, limit: int = MANY) -> list[str]:
    """Their locations."""
    return sorted(row.location_id for row in claim(store, claimant, limit))


def fate(store: Store, change: Change) -> Written:
    [result] = store.write([change])
    assert isinstance(result, WriteResult)
    return result.written


def test_what_is_claimed_is_what_is_due(place: ClaimedPlace) -> None:
    place.add(cells("later", access_token_expiry=START + timedelta(days=2)))
    place.add(cells("off", status="disabled"))
    due = place.store.due(DUE)
    rows = [row for rows in place.store.claim_due(DUE, HERE, MANY) for row in rows]
    assert sorted(rows, key=lambda row: row.key) == sorted(due, key=lambda row: row.key)


def test_rounds_give_each_row_once_the_soonest_first(place: ClaimedPlace) -> None:
    place.add(cells("never"))
    rounds = place.store.claim_due(DUE, HERE, 2)
    assert [{row.location_id for row in rows} for rows in rounds] == [{"never", "loc-0"}, {"loc-1", "loc-2"}]
    assert list(place.store.claim_due(DUE, HERE, 2)) == []


@pytest.mark.by_turns("everything")
@pytest.mark.parametrize("expiry", [START, None, START - timedelta(days=9)])
@pytest.mark.parametrize("everything", [False, True])
def test_a_row_that_is_due_again_is_in_no_later_round(
    place: ClaimedPlace, colleague: Colleague, everything: bool, expiry: datetime | None
) -> None:
    """Whatever its write, or a person, has made of it since; the next call has it."""
    query = replace(DUE, everything=everything)
    seen: list[str] = []
    for rows in place.store.claim_due(query, HERE, 1):
        seen += [row.location_id for row in rows]
        [change] = [Change(row.key, row.encrypted_refresh, {"access_token_expiry": expiry}) for row in rows]
        assert fate(place.store, change) is Written.STORED
        assert len(seen) <= len(ALL)
    assert seen == ALL
    assert claimed(colleague(), SECOND) == ALL


def test_a_round_is_claimed_when_it_is_asked_for_and_holds_what_is_still_due_and_free(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    """So others find work, too, and a row that is disabled, deleted or refreshed by then is left alone."""
    for number in range(3, 6):
        place.add(cells(f"loc-{number}", access_token_expiry=START + timedelta(minutes=number)))
    keys = dict(zip((f"loc-{number}" for number in range(6)), place.keys(), strict=True))
    rounds = place.store.claim_due(DUE, HERE, 2)
    assert [row.location_id for row in next(rounds)] == ["loc-0", "loc-1"]
    other = colleague()
    assert claimed(other, SECOND, 1) == ["loc-2"]
    place.edit(keys["loc-3"], status="disabled")
    place.edit(keys["loc-4"], access_token_expiry=START + timedelta(days=2))
    place.add(cells("loc-6", access_token_expiry=START))
    assert [[row.location_id for row in rows] for rows in rounds] == [["loc-5"]]
    assert [name for name, key in keys.items() if place.cells(key).get("claim_owner") == HERE.owner] == [
        "loc-0", "loc-1", "loc-5"
    ]  # fmt: skip
    assert claimed(other, SECOND) == ["loc-6"]


def test_rows_that_others_took_meanwhile_are_passed_in_few_steps_and_none_that_is_free_with_them(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    for number in range(3, 63):
        place.add(cells(f"loc-{number}", access_token_expiry=START + timedelta(minutes=number)))
    rounds = place.store.claim_due(DUE, HERE, 2)
    assert {row.location_id for row in next(rounds)} == {"loc-0", "loc-1"}
    assert len(claimed(colleague(), SECOND, 52)) == 52
    before = place.store.calls
    rest = [{row.location_id for row in rows} for rows in rounds]
    assert rest == [{f"loc-{number}", f"loc-{number + 1}"} for number in range(54, 62, 2)] + [{"loc-62"}]
    assert place.store.calls - before <= 9


def test_an_edit_that_makes_a_row_the_most_urgent_keeps_no_other_from_its_turn(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    """What others took meanwhile has let more rows be looked through at a time."""
    for number in range(3, 20):
        place.add(cells(f"loc-{number}", access_token_expiry=START + timedelta(minutes=number)))
    rounds = place.store.claim_due(DUE, HERE, 2)
    seen = [row.location_id for row in next(rounds)]
    taken = claimed(colleague(), SECOND, 6)
    place.edit(place.keys()[-1], access_token_expiry=None)
    seen += [row.location_id for rows in rounds for row in rows]
    assert sorted(seen + taken) == sorted(f"loc-{number}" for number in range(20))


def test_the_new_token_of_a_row_whose_claim_a_person_cleared_meanwhile_is_stored(place: ClaimedPlace) -> None:
    """Only where its cell is still the one that was read."""
    first, second, third = claim(place.store, HERE)
    for row in (first, second, third):
        place.edit(row.key, claim_owner=None, claimed_at=None)
    assert fate(place.store, renewal(first.key, first.encrypted_refresh)) is Written.STORED
    assert place.cells(first.key)["encrypted_refresh"] == "new cell 1"
    failed = Change(second.key, second.encrypted_refresh, {"last_error": "refused"}, keeps_claim=True)
    assert fate(place.store, failed) is Written.STORED
    assert place.cells(second.key)["last_error"] == "refused"
    place.edit(third.key, encrypted_refresh="somebody else's")
    assert fate(place.store, renewal(third.key, third.encrypted_refresh)) is Written.CHANGED


def test_a_row_with_any_number_that_a_person_gave_it_is_claimed_and_written(place: ClaimedPlace) -> None:
    numbers = [-(2**63) + 1, -5, -1, 0, 2**63 - 1]
    for number in numbers:
        place.add(cells(f"loc {number}", id=number))
    rows = [row for row in claim(place.store, HERE) if row.location_id.startswith("loc ")]
    assert sorted(int(row.key) for row in rows) == numbers
    for row in rows:
        assert fate(place.store, renewal(row.key, row.encrypted_refresh)) is Written.STORED
    assert place.store.read(["", "x", "-", "--5", "9" * 30]) == {}


def of_others(store: Store, claimant: Claimant, query: DueQuery = DUE) -> dict[str, str]:
    """Who has each row."""
    return {row.location_id: row.owner for row in store.claimed_by_others(query, claimant)}


def test_a_row_that_one_process_has_is_given_to_no_other_and_counted(place: ClaimedPlace, colleague: Colleague) -> None:
    assert claimed(place.store, HERE, 2) == ["loc-0", "loc-1"]
    other = colleague()
    assert claimed(other, SECOND) == ["loc-2"]
    assert of_others(other, SECOND) == {"loc-0": HERE.owner, "loc-1": HERE.owner}
    assert of_others(place.store, HERE) == {"loc-2": SECOND.owner}
    assert of_others(other, SECOND, replace(DUE, locations=("loc-0",))) == {"loc-0": HERE.owner}


def test_a_write_ends_the_claim(place: ClaimedPlace, colleague: Colleague) -> None:
    rows = claim(place.store, HERE)
    soon: dict[str, Value] = {"access_token_expiry": START, "last_error": "x"}
    assert fate(place.store, Change(rows[0].key, rows[0].encrypted_refresh, soon)) is Written.STORED
    assert claimed(colleague(), SECOND) == [rows[0].location_id]


def test_a_write_that_is_not_the_end_keeps_the_claim(place: ClaimedPlace, colleague: Colleague) -> None:
    rows = claim(place.store, HERE)
    change = Change(rows[0].key, rows[0].encrypted_refresh, {"last_error": "lost"}, keeps_claim=True)
    assert [fate(place.store, change) for _ in range(2)] == [Written.STORED] * 2
    assert claimed(colleague(), SECOND) == []


def test_a_write_whose_confirmation_was_lost_is_recognised(place: ClaimedPlace) -> None:
    """Also one that brings no new cell: nobody has claimed the row since."""
    rows = claim(place.store, HERE)
    note = Change(rows[0].key, rows[0].encrypted_refresh, {"last_error": "x"})
    tokens = renewal(rows[1].key, rows[1].encrypted_refresh)
    for change in (note, tokens):
        assert [fate(place.store, change) for _ in range(2)] == [Written.STORED] * 2


def test_releasing_gives_up_all_rows_but_those_to_keep(place: ClaimedPlace, colleague: Colleague) -> None:
    rows = claim(place.store, HERE)
    [kept] = [row.key for row in rows if row.location_id == "loc-1"]
    place.store.release(HERE, {kept, "another store's key"})
    assert claimed(colleague(), SECOND) == ["loc-0", "loc-2"]


def test_releasing_gives_up_what_dead_processes_of_the_slot_had(place: ClaimedPlace, colleague: Colleague) -> None:
    rows = claim(place.store, HERE)
    [kept] = [row.key for row in rows if row.location_id == "loc-1"]
    heir, store = replace(HERE, run="next"), colleague()
    store.inherit(heir, [HERE.owner])
    store.release(heir, {kept})
    assert claimed(colleague(), SECOND) == ["loc-0", "loc-2"]


def test_another_credential_ends_a_claim_and_who_had_it_finds_the_other(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    """And does not take it for its own write, whose confirmation was lost."""
    rows = claim(place.store, HERE)
    other = replace(renewal(rows[0].key, rows[0].encrypted_refresh, 7), ends_claim=True)
    assert [fate(colleague(), other) for _ in range(2)] == [Written.STORED] * 2
    assert claimed(colleague(), SECOND) == [rows[0].location_id]
    colleague().release(SECOND, ())
    assert fate(place.store, renewal(rows[0].key, rows[0].encrypted_refresh, 8)) is Written.CHANGED


def test_when_each_row_was_claimed_is_known(place: ClaimedPlace, colleague: Colleague, clock: FakeClock) -> None:
    before = clock.now()
    claim(place.store, HERE, 1)
    clock.advance(100)
    claim(colleague(), ELSEWHERE)
    place.edit(place.keys()[2], claimed_at=None)  # by version 0.1.0
    found = {row.location_id: row.claimed_at for row in place.store.claimed_by_others(DUE, SECOND)}
    assert found == {"loc-0": before, "loc-1": clock.now(), "loc-2": None}


def test_releasing_leaves_the_claims_of_others(place: ClaimedPlace, colleague: Colleague) -> None:
    other = colleague()
    claimed(other, SECOND, 1)
    claimed(place.store, HERE)
    place.store.release(HERE, ())
    assert list(of_others(place.store, HERE).values()) == [SECOND.owner]
    place.store.release(HERE, ())  # nothing is left to give up


def test_the_next_process_of_a_slot_has_what_the_dead_one_had(place: ClaimedPlace, colleague: Colleague) -> None:
    claimed(place.store, HERE)
    assert claimed(colleague(), SECOND) == []
    heir = replace(HERE, run="next")
    assert claimed(colleague(), heir) == []  # it may be a twin's: who is dead is for the caller to know
    place.store.inherit(heir, [HERE.owner])
    assert claimed(colleague(), heir) == ALL


def test_a_slot_whose_number_begins_like_another_s_is_another_one(place: ClaimedPlace, colleague: Colleague) -> None:
    claimed(place.store, replace(HERE, slot=11))
    assert claimed(colleague(), HERE) == []


@pytest.mark.parametrize("host", ["per%cent", "under_score", "back\\slash"])
def test_a_host_name_is_no_pattern(place: ClaimedPlace, colleague: Colleague, host: str) -> None:
    claimed(place.store, Claimant("perXcent" if "%" in host else "underXscore", 1, "run"))
    assert claimed(colleague(), Claimant(host, 1, "other")) == []


def test_the_claims_of_a_dead_slot_are_its_heir_s(place: ClaimedPlace, colleague: Colleague) -> None:
    claimed(place.store, SECOND)
    other = colleague()
    assert other.claim_owners() == [SECOND.owner]
    other.inherit(HERE, [SECOND.owner])
    assert claimed(colleague(), replace(SECOND, run="next")) == []
    assert claimed(other, HERE) == ALL


def test_inheriting_takes_no_other_slot_s_claims(place: ClaimedPlace, colleague: Colleague) -> None:
    claimed(place.store, SECOND)
    other = colleague()
    other.inherit(HERE, [replace(SECOND, slot=3).owner])
    other.inherit(replace(HERE, installation="elsewhere"), [SECOND.owner])
    assert claimed(other, HERE) == []


def test_only_a_takeover_takes_what_another_host_has_and_never_what_this_host_has(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    claimed(place.store, ELSEWHERE, 2)
    other = colleague()
    assert claimed(other, SECOND, 1) == ["loc-2"]
    here = colleague()
    assert claimed(here, HERE) == []
    assert claimed(here, replace(HERE, takes_over=True)) == ["loc-0", "loc-1"]


def test_a_row_that_was_taken_over_meanwhile_rejects_the_write_of_the_one_before(
    place: ClaimedPlace, colleague: Colleague
) -> None:
    """The cell is still the same: without a word of the claim the newer holder's refresh would be overwritten."""
    rows = claim(place.store, ELSEWHERE)
    [row] = [row for row in rows if row.location_id == "loc-1"]
    before = place.cells(row.key)["encrypted_refresh"]
    newer = colleague()
    assert claimed(newer, replace(HERE, takes_over=True)) == ALL
    late = renewal(row.key, row.encrypted_refresh, 1)
    assert fate(place.store, late) is Written.UNCLAIMED
    assert place.cells(row.key)["encrypted_refresh"] == before
    assert fate(newer, renewal(row.key, row.encrypted_refresh, 2)) is Written.STORED
    assert fate(place.store, late) is Written.CHANGED
    assert place.cells(row.key)["encrypted_refresh"] == "new cell 2"


def test_a_claim_that_was_given_up_and_taken_again_is_another_claim(place: ClaimedPlace, colleague: Colleague) -> None:
    """The same name twice: only the generation tells them apart."""
    old = colleague()
    rows = claim(old, HERE)
    place.store.release(HERE, ())
    assert claimed(place.store, HERE) == ALL
    assert fate(old, renewal(rows[0].key, rows[0].encrypted_refresh)) is Written.UNCLAIMED


def test_a_deleted_row_is_gone_whoever_had_it(place: ClaimedPlace) -> None:
    rows = claim(place.store, HERE)
    place.remove(rows[0].key)
    assert fate(place.store, renewal(rows[0].key, rows[0].encrypted_refresh)) is Written.GONE


def test_somebody_who_claims_nothing_may_write_all_the_same(place: ClaimedPlace, colleague: Colleague) -> None:
    """Onboarding replaces a credential while a run has the row; the run's tokens are set aside then."""
    rows = claim(place.store, HERE)
    assert fate(colleague(), renewal(rows[0].key, rows[0].encrypted_refresh, 7)) is Written.STORED
    assert fate(place.store, renewal(rows[0].key, rows[0].encrypted_refresh, 8)) is Written.CHANGED


def test_a_store_without_claims_gives_all_that_is_due_to_the_one_run_that_the_lock_lets_in(
    clock: FakeClock, tmp_path: Path
) -> None:
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        place = AirtablePlace(server, server.credentials_table(), clock, tmp_path)
        for number in range(3):
            place.add(cells(f"loc-{number}"))
        assert not place.store.claims
        assert [sorted(row.location_id for row in rows) for rows in place.store.claim_due(DUE, HERE, 1)] == [ALL]
        calls = place.store.calls
        place.store.inherit(HERE, place.store.claim_owners())
        place.store.release(HERE, ())
        assert place.store.claimed_by_others(DUE, HERE) == []
        assert place.store.calls == calls
        place.store.close()
