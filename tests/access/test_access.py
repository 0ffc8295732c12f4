"""Keys, links and logins are kept by their hashes, on each database, and end when they should."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.world.clock import START, FakeClock
from tests.world.postgres import PostgresServer
from token_refresh.access.api_keys import USE_NOTED, ApiKeys
from token_refresh.access.links import Links, parse_lifetime
from token_refresh.access.pending_logins import PendingLogin, PendingLogins
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.stores.database import Backend, DatabaseStore, open_backend, transact
from token_refresh.stores.database.schema import API_KEYS, LINKS, PENDING_LOGINS

TABLES = (API_KEYS, LINKS, PENDING_LOGINS)
WEEK = timedelta(days=7)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A database that nobody has used yet; of PostgreSQL with the tables, which take a second to make."""
    if request.param == "sqlite":
        with closing(open_backend(f"sqlite:///{tmp_path / 'service.sqlite3'}", 4)) as made:
            yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.database()
    with closing(open_backend(address, 4)) as made:
        yield made
    server.drop(address)


@pytest.fixture
def keys(database: Backend, clock: FakeClock) -> ApiKeys:
    return ApiKeys(database, clock)


@pytest.fixture
def links(database: Backend, clock: FakeClock) -> Links:
    return Links(database, clock)


@pytest.fixture
def logins(database: Backend, clock: FakeClock) -> PendingLogins:
    return PendingLogins(database, clock)


def kept(database: Backend) -> str:
    """All that the tables hold."""
    return transact(database, lambda connection: str([connection.execute(table.select()).all() for table in TABLES]))


def link_for(links: Links, row_id: str = "1", lifetime: timedelta = WEEK) -> str:
    return links.create(row_id, "loc1", "google", lifetime, "ci")[0]


def login(state: str = "state", ends_in: float = 600, link_id: int | None = None) -> PendingLogin:
    return PendingLogin(state, "browser", link_id, "sealed", START + timedelta(seconds=ends_in))


# Keys


def test_a_key_is_found_by_its_text_and_by_its_id(keys: ApiKeys) -> None:
    text = keys.create(" ci ", ["read", "tokens:loc 1", "read"])
    found = keys.find(text)
    assert found is not None
    assert (found.name, found.scopes, found.created_at, found.last_used_at) == (
        "ci",
        ("read", "tokens:loc 1"),
        START,
        None,
    )
    assert keys.still(found.id) is not None
    assert text.startswith(f"trk_{found.id}_")
    assert [key.id for key in keys.all()] == [found.id]


def test_no_table_holds_a_key_a_link_s_token_or_their_parts(database: Backend, keys: ApiKeys, links: Links) -> None:
    key, token = keys.create("ci", ["admin"]), link_for(links)
    assert key.rpartition("_")[2] not in kept(database)
    assert token not in kept(database)
    assert len(key.rpartition("_")[2]) == 64  # hex digits of 256 bits
    assert len(token) == 43  # the same in base64url


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text[:4] + ("0" if text[4] != "0" else "1") + text[5:],
        lambda text: text.upper(),
        lambda text: f"{text} ",
        lambda text: text.removeprefix("trk_"),
        lambda text: text.rpartition("_")[0],
        lambda text: text.replace(text[-5:], "\N{ARABIC-INDIC DIGIT ONE}" * 5),
        lambda text: "",
    ],
)
def test_a_text_that_is_not_quite_a_key_is_none(keys: ApiKeys, change: object) -> None:
    text = keys.create("ci", ["admin"])
    assert keys.find(change(text)) is None  # type: ignore[operator]


def test_a_revoked_key_is_none_at_once_and_its_name_is_free(keys: ApiKeys) -> None:
    text = keys.create("ci", ["read"])
    found = keys.find(text)
    assert found is not None
    keys.revoke("ci")
    assert keys.find(text) is None
    assert keys.still(found.id) is None
    with pytest.raises(ActionableError, match="no key named ci") as raised:
        keys.revoke("ci")
    assert raised.value.kind is Kind.NOT_FOUND
    assert keys.create("ci", ["read"]) != text


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J", "x" * 101])
def test_a_name_that_cannot_be_shown_is_refused(keys: ApiKeys, name: str) -> None:
    with pytest.raises(ActionableError, match="name of a key") as raised:
        keys.create(name, ["read"])
    assert raised.value.kind is Kind.USAGE


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", ""], ["tokens:"], ["tokens: "], ["clients:loc1"], ["Read"]])
def test_a_scope_that_does_not_exist_is_refused(keys: ApiKeys, scopes: list[str]) -> None:
    with pytest.raises(ActionableError) as raised:
        keys.create("ci", scopes)
    assert raised.value.kind is Kind.USAGE
    assert "tokens:LOCATION" in raised.value.action
    assert keys.all() == []


def test_of_two_keys_of_one_name_the_first_stays(keys: ApiKeys) -> None:
    text = keys.create("ci", ["read"])
    with pytest.raises(ActionableError, match="a key named ci already") as raised:
        keys.create("ci", ["admin"])
    assert raised.value.kind is Kind.USAGE
    assert keys.find(text) is not None


@pytest.mark.parametrize(
    ("scopes", "asked", "location", "is_allowed"),
    [
        (["admin"], "tokens", None, True),
        (["admin"], "clients", None, True),
        (["tokens"], "tokens", "loc1", True),
        (["tokens"], "read", None, False),
        (["clients"], "read", None, False),
        (["read"], "clients", None, False),
        (["read"], "admin", None, False),
        (["tokens:loc1"], "tokens", "loc1", True),
        (["tokens:loc1"], "tokens", "loc", False),
        (["tokens:loc1"], "tokens", "loc1x", False),
        (["tokens:loc1"], "tokens", None, False),
        (["tokens:a:b"], "tokens", "a:b", True),
        (["tokens:a:b"], "tokens", "a", False),
        (["tokens:loc1"], "clients", "loc1", False),
    ],
)
def test_no_scope_but_admin_implies_another(
    keys: ApiKeys, scopes: list[str], asked: str, location: str | None, is_allowed: bool
) -> None:
    key = keys.find(keys.create("ci", scopes))
    assert key is not None
    assert key.allows(asked, location) is is_allowed


def test_a_key_of_one_location_may_be_for_the_row_that_a_body_names(keys: ApiKeys) -> None:
    key = keys.find(keys.create("ci", ["tokens:loc1"]))
    assert key is not None
    assert key.allows_some("tokens")
    assert not key.allows_some("read")


def test_use_is_noted_every_five_minutes_and_not_more_often(keys: ApiKeys, clock: FakeClock) -> None:
    text = keys.create("ci", ["read"])
    noted = []
    for _ in range(4):
        keys.find(text)
        noted.append(keys.all()[0].last_used_at)
        clock.advance(USE_NOTED.total_seconds() / 2 + 1)
    assert noted[0] == noted[1] == START
    assert noted[2] == noted[3] == START + USE_NOTED + timedelta(seconds=2)


def test_a_wrong_secret_notes_no_use(keys: ApiKeys) -> None:
    text = keys.create("ci", ["read"])
    keys.find(text[:-64] + "0" * 64)
    assert keys.all()[0].last_used_at is None


def test_a_key_still_opens_where_the_database_takes_no_writes(tmp_path: Path, clock: FakeClock) -> None:
    file = tmp_path / "service.sqlite3"
    with closing(open_backend(f"sqlite:///{file}")) as database:
        text = ApiKeys(database, clock).create("ci", ["read"])
        lock = "CREATE TRIGGER locked BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'read only'); END"
        transact(database, lambda connection: connection.exec_driver_sql(lock))
        assert ApiKeys(database, clock).find(text) is not None


# Links


def test_a_link_is_for_its_row_until_its_end(links: Links, clock: FakeClock) -> None:
    token, end = links.create("7", "loc1", "google", timedelta(seconds=90), "ci")
    assert end == START + timedelta(seconds=90)
    clock.advance(89)
    link = links.find(token)
    assert link is not None
    assert (link.row_id, link.location_id, link.provider, link.created_by) == ("7", "loc1", "google", "ci")
    assert link.expires_at == end
    clock.advance(1)
    assert links.find(token) is None
    assert not links.still(link.id)


def test_a_link_stays_when_it_is_looked_at_and_ends_when_it_has_served(links: Links) -> None:
    token, other = link_for(links), link_for(links)
    link = links.find(token)
    assert link is not None
    assert links.find(token) == link
    assert links.still(link.id)
    links.end(link.id)
    links.end(link.id)
    assert links.find(token) is None
    assert not links.still(link.id)
    assert links.find(other) is not None


def test_links_end_with_their_row(links: Links) -> None:
    first, second, other = link_for(links), link_for(links), link_for(links, "11")
    links.end_of_row("1")
    assert [links.find(token) is None for token in (first, second, other)] == [True, True, False]


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "%" * 43, "é" * 43])
def test_a_text_that_is_no_link_is_none(links: Links, token: str) -> None:
    link_for(links)
    assert links.find(token) is None


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-5), timedelta(days=30, seconds=1)])
def test_a_life_out_of_bounds_is_refused(links: Links, lifetime: timedelta) -> None:
    with pytest.raises(ActionableError, match="1 second to 30 days") as raised:
        link_for(links, lifetime=lifetime)
    assert raised.value.kind is Kind.USAGE


def test_links_that_are_over_do_not_pile_up(database: Backend, links: Links, clock: FakeClock) -> None:
    for _ in range(3):
        link_for(links, lifetime=timedelta(seconds=5))
        clock.advance(10)
    assert len(transact(database, lambda connection: connection.execute(LINKS.select()).all())) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("12h", 43_200), (" 7d ", 604_800), ("99999999d", 99_999_999 * 86_400)],
)
def test_a_lifetime_is_read(text: str, seconds: int) -> None:
    assert parse_lifetime(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "7 d", "1.5h", "7D", "\N{ARABIC-INDIC DIGIT SEVEN}d", "999999999d"]
)
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ActionableError, match="lifetime") as raised:
        parse_lifetime(text)
    assert raised.value.kind is Kind.USAGE


# Logins that have begun


def test_a_login_waits_for_its_callback_until_its_end(logins: PendingLogins, clock: FakeClock) -> None:
    logins.add(login(link_id=3))
    clock.advance(599)
    assert logins.find("state") == login(link_id=3)
    assert logins.find("another") is None
    clock.advance(1)
    assert logins.find("state") is None


def test_of_two_callbacks_at_once_one_may_go_on(logins: PendingLogins) -> None:
    logins.add(login())
    gate = threading.Barrier(4)

    def end(_: int) -> bool:
        gate.wait()
        return logins.end("state")

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(end, range(4))) == [False, False, False, True]


def test_logins_that_nobody_ended_do_not_pile_up(database: Backend, logins: PendingLogins, clock: FakeClock) -> None:
    for number in range(3):
        logins.add(login(str(number), ends_in=clock.now().timestamp() - START.timestamp() + 5))
        clock.advance(10)
    assert len(transact(database, lambda connection: connection.execute(PENDING_LOGINS.select()).all())) == 1


# The database


def test_the_first_use_makes_the_tables_that_the_store_knows(tmp_path: Path, clock: FakeClock) -> None:
    address = f"sqlite:///{tmp_path / 'tokens.sqlite3'}"
    with closing(open_backend(address)) as database:
        ApiKeys(database, clock).create("ci", ["read"])
        identity = database.identity
    with closing(DatabaseStore(address, clock)) as store:
        assert store.identity == f"database {identity}"
        assert store.setup() == []
    assert (tmp_path / "tokens.sqlite3").stat().st_mode & 0o077 == 0


def test_a_server_that_is_away_is_an_error_at_once(clock: FakeClock) -> None:
    address = "postgresql+psycopg://postgres@/tokens?host=/nonexistent"
    with closing(open_backend(address)) as database, pytest.raises(StoreUnavailableError):
        ApiKeys(database, clock).still("0" * 16)
    assert clock.slept == 0


def test_an_error_quotes_no_value(database: Backend, links: Links) -> None:
    with pytest.raises(Exception) as raised:
        links.create("1", "a\0secret-location", "google\ud800", WEEK, "ci")
    assert "secret-location" not in json.dumps([str(raised.value), str(raised.value.__context__)])
