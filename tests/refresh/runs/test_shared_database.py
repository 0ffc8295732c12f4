"""Rows of a database that others have their hands on as well: a person, a rule, a transaction."""

from __future__ import annotations

import itertools
import math
import signal
from datetime import datetime, timedelta

import psycopg
import pytest

import crypto
from crypto import Context
from tests import exits
from tests.refresh.runs.faults_world import DATABASES, DatabaseRows, entries, meanwhile, table_of
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.postgres import plain
from tests.world.program import Program, Result
from token_refresh.base.events import NoticeCode
from token_refresh.refresh import listing
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

HOUR = timedelta(hours=1)
SEALED_CELLS = ("encrypted_secret", "encrypted_refresh")
REFUSED = {
    "postgres": "ALTER TABLE credentials ADD CONSTRAINT no_blank CHECK (location_id !~ ' ') NOT VALID",
    "sqlite": "CREATE TRIGGER no_blank BEFORE UPDATE ON credentials WHEN new.location_id LIKE '% %'"
    " BEGIN SELECT RAISE(ABORT, 'no blank'); END",
}

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> DatabaseRows:
    made = table_of(request.param, request)
    assert isinstance(made, DatabaseRows)
    return made


def run(rows: DatabaseRows, *argv: str) -> Result:
    """A run that may leave rows that are due."""
    rows.world.program.undone = lambda _: []
    return rows.world.program.run("--json", *argv)


@pytest.mark.parametrize("provider", ["acme", "acme-family"])
def test_the_answer_to_a_row_whose_claim_a_person_cleared_meanwhile_is_stored(
    rows: DatabaseRows, provider: str
) -> None:
    rows.add(provider, "loc", START - HOUR)
    rows.world.oauth.fail(meanwhile(lambda: rows.edit("loc", claim_owner=None, claimed_at=None)))
    assert run(rows).code == exits.DONE
    assert rows.is_current("loc")
    assert entries(rows.world) == []


def test_a_row_that_a_rule_of_the_table_lets_nobody_write_is_named_and_stops_no_other(
    rows: DatabaseRows, request: pytest.FixtureRequest
) -> None:
    for number in range(3):
        rows.add("acme", f"good{number}", START - HOUR)
    rows.add("acme", "bad one", START - 2 * HOUR)
    with rows._store() as store, store._engine.begin() as connection:
        connection.exec_driver_sql(REFUSED["postgres" if "postgres" in request.node.name else "sqlite"])
    result = run(rows)
    assert result.code == exits.FAILED
    assert result.outcomes() == {"bad one": "operator"} | {f"good{number}": "refreshed" for number in range(3)}
    assert "constraint or trigger" in result.said


def test_a_row_whose_number_is_below_zero_is_refreshed_like_any(rows: DatabaseRows) -> None:
    rows.add("acme-family", "loc", START - HOUR)
    with rows._store() as store, store._engine.begin() as connection:
        connection.execute(CREDENTIALS.update().values(id=-5))
    for _ in range(2):
        assert run(rows).outcomes() == {"loc": "refreshed"}
        assert rows.is_current("loc")
        rows.world.clock.advance(4000)


def foreign(rows: DatabaseRows, location: str, expiry: datetime) -> None:
    """A row that no configured key opens."""
    other, world = crypto.Keyring(crypto.parse_key(crypto.generate_key())), rows.world
    sealed = {name: other.seal("x" * 20, Context(name, location, world.oauth.url)) for name in SEALED_CELLS}
    rows.put(world.cells("acme", location) | sealed | {"access_token_expiry": expiry})


@pytest.mark.parametrize("first", ["good", "bad"])
def test_rows_that_no_key_opens_stop_no_other_in_whichever_round_they_are(
    rows: DatabaseRows, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 3)
    for number in range(3):
        rows.add("acme", f"good{number}", START - (3 if first == "good" else 1) * HOUR)
        foreign(rows, f"bad{number}", START - 2 * HOUR)
    result = run(rows)
    assert result.code == exits.FAILED
    assert result.outcomes() == {f"good{number}": "refreshed" for number in range(3)} | {
        f"bad{number}": "operator" for number in range(3)
    }


def test_where_no_row_of_any_round_opens_it_is_the_key(rows: DatabaseRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 3)
    for number in range(7):
        foreign(rows, f"bad{number}", START - HOUR)
    result = run(rows)
    assert result.code == exits.USAGE
    assert "decrypts no value of the 7 rows" in result.said
    monkeypatch.setattr(listing, "MOST_SHUT", 5)
    assert "decrypts no value of the 6 rows" in run(rows).said


@pytest.mark.parametrize("is_signal", [False, True])
def test_a_run_that_is_stopped_between_two_rounds_says_how_many_rows_it_has_not_come_to(
    rows: DatabaseRows, monkeypatch: pytest.MonkeyPatch, is_signal: bool
) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 3)
    world = rows.world
    for number in range(8):
        rows.add("acme", f"loc{number}", START - HOUR)
    world.program.settings |= {"CONCURRENCY": "1", "LOG_FORMAT": "json"}
    asked = itertools.count(1)

    def end() -> None:
        if next(asked) == 3 and is_signal:
            signal.raise_signal(signal.SIGTERM)
        elif not is_signal:
            world.clock.advance(180)

    world.oauth.fail(meanwhile(end), times=math.inf)
    result = run(rows, "--max-seconds", "500")
    assert (result.code, len(result.outcomes())) == (exits.STOPPED, 3)
    assert NoticeCode.ROWS_LEFT in result.codes()
    assert "5 more due rows were not looked at" in result.said
    run(rows)
    assert all(rows.row(f"loc{number}").last_access_token for number in range(8))


def test_a_row_in_a_transaction_that_somebody_left_open_is_named_by_each_run(request: pytest.FixtureRequest) -> None:
    rows = table_of("postgres", request)
    for number in range(3):
        rows.add("acme", f"loc{number}", START - HOUR)
    assert isinstance(rows, DatabaseRows)
    with psycopg.connect(plain(rows.world.program.settings["DATABASE_URL"].replace("+psycopg", ""))) as shell:
        shell.execute("UPDATE credentials SET last_error = '' WHERE location_id = 'loc1'")
        result = run(rows)
        assert (result.code, sorted(result.outcomes())) == (exits.FAILED, ["loc0", "loc2"])
        assert [(row["location_id"], row["reason"]) for row in result.json()["waiting"]] == [
            ("loc1", "a transaction in the database that is still open holds the row")
        ]
        assert run(rows, "--all", "--location", "loc1").code == exits.FAILED
        shell.rollback()
    assert run(rows).outcomes() == {"loc1": "refreshed"}


def test_a_row_that_only_its_provider_makes_due_is_not_kept_from_others(rows: DatabaseRows) -> None:
    """By its own life it is fresh: another run, or a `get`, may have it while this one goes on."""
    world = rows.world
    world.program.settings["REFRESH_INTERVAL"] = "900"
    life = {"last_refreshed": START - timedelta(minutes=5), "last_access_token": "x"}
    rows.add("gohighlevel", "short", START + timedelta(minutes=55), **life)
    rows.add("gohighlevel", "due", START - HOUR)
    seen: list[Result] = []
    world.oauth.fail(meanwhile(lambda: seen.append(world.program.run("--json"))))
    assert run(rows).outcomes() == {"due": "refreshed"}
    assert [row["location_id"] for row in seen[0].json()["waiting"]] == ["due"]


def test_a_refusal_in_one_round_is_judged_by_the_rows_of_a_later_one(
    rows: DatabaseRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CLAIMED_ROWS", 3)
    rows.world.program.settings["CONCURRENCY"] = "1"
    rows.add("acme", "refused", START - 9 * HOUR)
    for number in range(2):
        rows.add("acme-grace", f"between{number}", START - 8 * HOUR)
    for number in range(5):
        rows.add("acme", f"later{number}", START - HOUR)
    rows.world.oauth.fail(faults.wrong_secret())  # to the first request alone
    outcomes = run(rows).outcomes()
    assert outcomes.pop("refused") == "operator"
    assert set(outcomes.values()) == {"refreshed"}
    assert len(outcomes) == 7


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Program:
    """The program on another machine, on the same table of PostgreSQL."""
    program = table_of("postgres", request).world.program
    home = program.home / "b"
    home.mkdir(mode=0o700)
    folders = {"STATE_DIR": str(home / "state"), "STATE_DIR_SPARE": str(home / "spare")}
    made = Program(home, {**program.settings, **folders}, program.clock)
    made.undone = lambda _: []
    return made


@pytest.fixture
def many(request: pytest.FixtureRequest, other: Program) -> DatabaseRows:
    """Forty rows whose grants a second use revokes, and a run that asks for one at a time."""
    rows = table_of("postgres", request)
    assert isinstance(rows, DatabaseRows)
    for number in range(40):
        rows.add("acme-family", f"loc{number:02}", START - HOUR + timedelta(seconds=number))
    rows.world.program.settings["CONCURRENCY"] = "1"
    return rows


@pytest.mark.long
def test_nobody_is_advised_to_take_over_what_a_run_still_works_on(many: DatabaseRows, other: Program) -> None:
    """However long it takes: the last rows of a round are sent minutes after they were claimed."""
    asked, seen = itertools.count(1), list[Result]()

    def answer_late() -> None:
        many.world.clock.advance(5)
        if next(asked) == 35:
            seen.append(other.run("--json"))

    many.world.oauth.fail(meanwhile(answer_late), times=math.inf)
    assert set(run(many).outcomes().values()) == {"refreshed"}
    assert {row["reason"].partition(",")[0] for row in seen[0].json()["waiting"]} == {
        "another process is refreshing it"
    }
    assert "takeover" not in seen[0].said


def test_a_run_whose_rows_were_taken_over_while_its_machine_slept_sends_none_of_them(
    many: DatabaseRows, other: Program
) -> None:
    asked, seen = itertools.count(1), list[Result]()

    def fall_asleep() -> None:
        many.world.clock.advance(5)
        if next(asked) == 10:
            seen.append(other.run("refresh", "--takeover", "--json"))
            many.world.clock.advance(600)

    many.world.oauth.fail(meanwhile(fall_asleep), times=math.inf)
    result = run(many)
    assert seen[0].outcomes().items() >= {f"loc{number}": "refreshed" for number in range(10, 40)}.items()
    assert len(many.world.oauth.sent_twice()) <= 2  # what was on its way, and an answer that was not yet stored
    assert result.code == exits.FAILED
    assert {row["location_id"] for row in result.json()["waiting"]} == {f"loc{number}" for number in range(10, 40)}


def test_a_run_whose_machine_slept_goes_on_where_nobody_took_its_rows(many: DatabaseRows) -> None:
    """The clock that measures times stands still meanwhile."""
    asked = itertools.count(1)
    many.world.oauth.fail(meanwhile(lambda: many.world.clock.set_back(-600 * (next(asked) == 10))), times=math.inf)
    result = run(many)
    assert (result.code, len(result.outcomes()), result.json()["waiting"]) == (exits.DONE, 40, [])


def test_a_run_that_cannot_see_whether_its_rows_are_still_its_own_sends_none_and_ends(
    many: DatabaseRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine slept, and the database does not answer that question."""
    asked = itertools.count(1)

    def refuse(_: DatabaseStore) -> None:
        raise StoreUnavailableError("the database does not answer", "Look at it.")

    def fall_asleep() -> None:
        if next(asked) == 10:
            monkeypatch.setattr(DatabaseStore, "keep_claims", refuse)
            many.world.clock.set_back(-600)

    many.world.oauth.fail(meanwhile(fall_asleep), times=math.inf)
    result = run(many)
    assert len(many.world.oauth.requests) == 10
    assert result.code == exits.STORE
    assert len(result.json()["waiting"]) == 30
