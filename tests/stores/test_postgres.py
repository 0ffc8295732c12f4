"""PostgreSQL: started at once, restarted, cut off, misconfigured, and out of reach."""

from __future__ import annotations

import base64
import itertools
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.stores.places import PostgresPlace, claimed
from tests.stores.test_airtable import everything_in
from tests.stores.test_database import EVERYONE, assert_plain, cells, renewal
from tests.world.clock import START, FakeClock
from tests.world.postgres import PostgresServer, Shell, name_of
from tests.world.raw import RawServer
from token_refresh.stores.base import Claimant, DueQuery, StoreError, StoreRefusedError, StoreUnavailableError, Written
from token_refresh.stores.database import DatabaseStore, postgres
from token_refresh.stores.database import store as store_module
from token_refresh.stores.database.backend import ShutOutError

ME = Claimant("host", 1, "run")


@pytest.fixture
def place(postgres: PostgresServer) -> Iterator[PostgresPlace]:
    """A database with the program's tables, and its back door."""
    made = PostgresPlace(postgres, FakeClock())
    yield made
    made.close()


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    """A database with nothing in it."""
    address = postgres.database("template0")
    yield address
    postgres.drop(address)


def opened(address: str) -> DatabaseStore:
    return DatabaseStore(address, FakeClock())


# Starting


def test_programs_that_start_at_once_all_find_the_tables(empty: str) -> None:
    gate = threading.Barrier(4)

    def start(number: int) -> str:
        gate.wait()
        with closing(opened(empty)) as store:
            return store.create(cells(f"loc-{number}"))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 4


def test_a_newer_database_is_refused_in_words(place: PostgresPlace) -> None:
    place.shell.execute(f"UPDATE {postgres.VERSION_TABLE} SET version_num = '9999'".encode())
    with pytest.raises(StoreRefusedError, match="newer version of this program") as raised:
        opened(place.address)
    assert raised.value.action == "Update the program on this machine."


def test_the_database_of_another_program_is_left_alone(postgres: PostgresServer, empty: str) -> None:
    with closing(postgres.connect(empty)) as shell:
        shell.execute("CREATE TABLE credentials (location_id TEXT, refresh_token TEXT)")
        with pytest.raises(StoreRefusedError, match="another program") as raised:
            opened(empty)
        assert_plain(raised.value, StoreRefusedError)
        tables = shell.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert [row["tablename"] for row in tables] == ["credentials"]


def test_that_a_user_may_not_make_tables_is_reported(postgres: PostgresServer, empty: str) -> None:
    with closing(postgres.connect(empty)) as shell:
        shell.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    with pytest.raises(ShutOutError, match="permission denied for schema public") as raised:
        opened(empty.replace("postgres:@", "guest@"))
    assert_plain(raised.value, ShutOutError)


def test_a_right_that_a_user_lacks_is_given_by_the_statement_that_the_error_shows(
    postgres: PostgresServer, empty: str
) -> None:
    """PostgreSQL 15 and later let nobody but the owner make tables in `public`."""
    address = empty.replace("postgres:@", "odd-guest@")
    with closing(postgres.connect(empty)) as shell:
        shell.execute('DROP ROLE IF EXISTS "odd-guest"; CREATE ROLE "odd-guest" LOGIN')
        with pytest.raises(ShutOutError) as raised:
            opened(address)
        run(shell, raised.value)
        with closing(opened(address)) as store:
            store.create(cells("loc"))
        shell.execute('ALTER TABLE credentials OWNER TO postgres; REVOKE ALL ON credentials FROM "odd-guest"')
        with closing(opened(address)) as store:
            with pytest.raises(ShutOutError, match="permission denied for table credentials") as raised:
                list(store.rows())
            run(shell, raised.value)
            assert len(list(store.rows())) == 1
        shell.execute('DROP OWNED BY "odd-guest"; DROP ROLE "odd-guest"')


def run(shell: Shell, error: ShutOutError) -> None:
    """Do what an error says."""
    before, _, statement = error.action.partition("GRANT")
    assert before == "As a superuser or the owner of the database run: "
    shell.execute(f"GRANT{statement}".encode())


def test_a_missing_package_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "PACKAGES", ("psycopg", "nobody_has_this"))
    with pytest.raises(StoreRefusedError, match="not installed: nobody_has_this") as raised:
        opened("postgresql+psycopg://host/db")
    assert re.fullmatch(
        r"Run: \S+ -m pip install --require-hashes -r \S*requirements/postgres\.txt", raised.value.action
    )


def test_two_versions_that_start_at_once_end_with_the_newer_one_and_in_words(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer program migrates between the older one's look and its turn."""
    usual = postgres.PostgresBackend.migrate

    def overtaken(backend: postgres.PostgresBackend, connection: sa.Connection) -> None:
        with backend.engine.begin() as other:
            usual(backend, other)
            other.exec_driver_sql(f"UPDATE {postgres.VERSION_TABLE} SET version_num = '9999'")
        usual(backend, connection)

    monkeypatch.setattr(postgres.PostgresBackend, "migrate", overtaken)
    with pytest.raises(StoreRefusedError, match="newer version of this program"):
        opened(empty)


# Addresses


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("postgresql+psycopg://secretuser:secretpassword@127.0.0.1:1/db", StoreUnavailableError),
        ("postgresql+psycopg://u@127.0.0.1:1/db?password=secretpassword", StoreUnavailableError),
        ("postgresql+psycopg://u:secretpassword@127.0.0.1:1/db?sslmode=secretpassword", ShutOutError),
        ("postgresql+psycopg://u:secretpassword@127.0.0.1:1/db?secretpassword=1", StoreRefusedError),
        ("postgresql+psycopg://u:secretpassword@/db?host=/nowhere/secretpassword", StoreUnavailableError),
    ],
)
def test_an_address_that_leads_nowhere_is_reported_without_its_password(address: str, kind: type[StoreError]) -> None:
    clock = FakeClock()
    with pytest.raises(kind) as raised:
        DatabaseStore(address, clock)
    assert "secretpassword" not in "\n".join(everything_in(raised.value))
    assert raised.value.action
    assert clock.slept == (30 if kind is StoreUnavailableError else 0)  # a server that restarts is waited for


def test_a_misspelt_option_of_an_address_is_to_be_corrected() -> None:
    with pytest.raises(ShutOutError, match="invalid connection option") as raised:
        DatabaseStore("postgresql+psycopg://u:secretpassword@127.0.0.1:1/db?sslmod=verify-full", FakeClock())
    assert raised.value.action == "Correct or remove that option in DATABASE_URL."


def fatal(words: str) -> bytes:
    """An ErrorResponse, as a server or a pooler in front of it ends a connection."""
    body = f"SFATAL\0VFATAL\0C08P01\0M{words}\0\0".encode()
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("no such database: tokens", ShutOutError),
        ("no such user: u", ShutOutError),
        ("SASL authentication failed", ShutOutError),
        ('Peer authentication failed for user "u"', ShutOutError),
        ('Ident authentication failed for user "u"', ShutOutError),
        ('certificate authentication failed for user "u"', ShutOutError),
        ('no pg_hba.conf entry for host "::1", user "u", database "db", SSL off', ShutOutError),
        ('unrecognized configuration parameter "nonsense"', ShutOutError),
        ('LDAP authentication failed for user "u"', ShutOutError),
        ('PAM authentication failed for user "u"', ShutOutError),
        ("Tenant or user not found", ShutOutError),
        ("unsupported startup parameter: options", ShutOutError),
        ("what no list of ours has", ShutOutError),
        ("query_wait_timeout", StoreUnavailableError),
        ("no more connections allowed (max_client_conn)", StoreUnavailableError),
        ("terminating connection due to administrator command", StoreUnavailableError),
        ("the database system is starting up", StoreUnavailableError),
        ("the database system is not yet accepting connections", StoreUnavailableError),
        ("sorry, too many clients already", StoreUnavailableError),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", StoreUnavailableError),
        ("server login failed: FATAL the database system is shutting down", StoreUnavailableError),
    ],
)
def test_only_what_waiting_does_not_fix_is_reported_at_once(words: str, kind: type[StoreError]) -> None:
    clock = FakeClock()

    def console(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"N")
        client.recv(1000)
        client.sendall(fatal(words))

    with RawServer(console) as server, pytest.raises(kind, match=re.escape(words)) as raised:
        DatabaseStore(f"postgresql+psycopg://u@127.0.0.1:{server.port}/tokens?gssencmode=disable", clock)
    assert_plain(raised.value, kind)
    assert clock.slept == (30 if kind is StoreUnavailableError else 0)


def test_a_database_that_is_not_utf_8_is_named_before_anything_is_made_in_it(postgres: PostgresServer) -> None:
    postgres.admin("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    address = postgres._address("latin")
    with pytest.raises(ShutOutError, match="has the encoding LATIN1") as raised:
        opened(address)
    assert "ENCODING 'UTF8'" in raised.value.action
    postgres.drop(address)


def test_a_sequence_that_a_restore_left_behind_is_named_with_what_puts_it_right(place: PostgresPlace) -> None:
    for number in range(3):
        place.add(cells(f"loc-{number}"))
    place.shell.execute("SELECT setval(pg_get_serial_sequence('credentials', 'id'), 1)")
    assert isinstance(place.store, DatabaseStore)
    with pytest.raises(ShutOutError, match="its sequence was left behind") as raised:
        place.store.create({"locationId": "new", "provider": "google"})
    place.shell.execute(raised.value.action.partition("Run in the database: ")[2].encode())
    place.store.create({"locationId": "new", "provider": "google"})


def test_a_server_that_is_cut_off_while_tls_begins_is_an_outage() -> None:
    def console(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"S")
        client.recv(65_536)

    with RawServer(console) as server, pytest.raises(StoreUnavailableError, match="unexpected eof"):
        opened(f"postgresql+psycopg://u@127.0.0.1:{server.port}/tokens?gssencmode=disable&sslmode=require")


# A server that goes away


def test_nobody_waits_for_ever_for_somebody_who_stopped_half_way(place: PostgresPlace) -> None:
    """Neither we for a lock that another holds, nor others for a process of ours that hangs in a transaction."""
    assert isinstance(place.store, DatabaseStore)
    limits = ("lock_timeout", "idle_in_transaction_session_timeout")
    shown = place.store._transact(
        lambda connection: [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in limits]
    )
    assert shown == ["30s", "1min"]


def test_limits_hold_in_each_session_that_a_pooler_hands_out_and_none_is_left_in_it(place: PostgresPlace) -> None:
    assert isinstance(place.store, DatabaseStore)
    with closing(place.store._engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
        raw.rollback()
        cursor.execute("RESET ALL")  # as good as another one
    show = "SHOW lock_timeout"
    assert place.store._transact(lambda connection: connection.exec_driver_sql(show).scalar_one()) == "30s"
    with closing(place.store._engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
        raw.rollback()
        cursor.execute(show)
        assert cursor.fetchone() == ("0",)


def test_no_statement_is_prepared_for_a_pooler_may_hand_the_next_one_to_another_session(place: PostgresPlace) -> None:
    assert isinstance(place.store, DatabaseStore)
    for _ in range(9):
        assert list(place.store.rows()) == []
    count = "SELECT count(*) FROM pg_prepared_statements"
    assert place.store._transact(lambda connection: connection.exec_driver_sql(count).scalar_one()) == 0


def test_a_connection_that_was_cut_is_replaced_by_another(postgres: PostgresServer, place: PostgresPlace) -> None:
    key = place.add(cells())
    assert [row.key for row in place.store.rows()] == [key]
    postgres.cut(place.address)
    assert [row.key for row in place.store.rows()] == [key]


def test_an_answer_is_stored_at_once_after_a_restart_that_nobody_noticed(place: PostgresPlace) -> None:
    """A write is not repeated by itself, so the connection is looked at before."""
    key = place.add(cells())
    assert place.store.find("loc-1")
    place.server.cut(place.address)
    assert [result.written for result in place.store.write([renewal(key)])] == [Written.STORED]


@contextmanager
def beside_who_holds(place: PostgresPlace, key: str) -> Iterator[DatabaseStore]:
    """The store, while a person's open transaction holds a row; whoever waits for it gives up after five seconds."""
    with closing(place.server.connect(place.address)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM credentials WHERE id = %s FOR UPDATE", [int(key)])
        place.shell.execute(f"ALTER DATABASE {name_of(place.address)} SET statement_timeout = '5s'".encode())
        with closing(opened(place.address)) as store:
            yield store


def test_a_row_that_somebody_holds_is_passed_over(place: PostgresPlace) -> None:
    """A person's open transaction must not hold up everybody's rows."""
    held, free = place.add(cells("held")), place.add(cells("free"))
    with beside_who_holds(place, held) as store:
        rows = claimed(store, EVERYONE, ME)
    assert [row.key for row in rows] == [free]


def test_noting_a_use_waits_for_nobody_s_open_transaction(place: PostgresPlace) -> None:
    held, free = place.add(cells("held")), place.add(cells("free"))
    with beside_who_holds(place, held) as store:
        store.note_use([held, free], START)
        noted = {row.location_id: row.last_used_at for row in store.rows()}
    assert noted == {"held": None, "free": START}


def test_a_write_that_was_cut_off_is_left_undone_and_succeeds_later(place: PostgresPlace) -> None:
    key = place.add(cells())
    with closing(place.server.connect(place.address)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM credentials FOR UPDATE")
        writing = pool.submit(place.store.write, [renewal(key)])
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not place.shell.execute(waiting).fetchall():
            pass
        place.server.cut(place.address)
        [result] = writing.result()
    assert result.written is Written.UNDONE
    assert_plain(result.error, StoreUnavailableError)
    assert [one.written for one in place.store.write([renewal(key)])] == [Written.STORED]


def losing_commit(store: DatabaseStore, after: int = 0) -> None:
    """The next commit, or that after so many, is done, and nobody hears of it."""
    commits = itertools.count()

    def lose(connection: Any) -> None:
        if next(commits) == after:
            connection.connection.dbapi_connection.commit()
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))

    sa.event.listen(store._engine, "commit", lose)


@pytest.mark.parametrize("is_claimed", [False, True])
def test_a_commit_whose_answer_was_lost_is_recognised(place: PostgresPlace, is_claimed: bool) -> None:
    key = place.add(cells())
    assert isinstance(place.store, DatabaseStore)
    if is_claimed:
        assert claimed(place.store, EVERYONE, ME)
    losing_commit(place.store)
    [first] = place.store.write([renewal(key)])
    assert first.written is Written.UNDONE
    [second] = place.store.write([renewal(key)])
    assert second.written is Written.STORED
    assert place.cells(key)["encrypted_refresh"] == "secretcell2"


def test_claims_whose_answer_was_lost_are_asked_for_once_more_and_given_up_at_the_end(place: PostgresPlace) -> None:
    keys = {place.add(cells(f"loc-{number}")) for number in range(4)}
    assert isinstance(place.store, DatabaseStore)
    losing_commit(place.store, after=1)  # of the first claim; before it the table was looked at
    assert {row.key for row in claimed(place.store, EVERYONE, ME, 3)} == keys
    place.store.release(ME, ())
    assert {row.key for row in claimed(place.store, EVERYONE, ME)} == keys


def test_a_new_row_is_not_made_twice(place: PostgresPlace) -> None:
    assert isinstance(place.store, DatabaseStore)
    losing_commit(place.store)
    with pytest.raises(StoreUnavailableError):
        place.store.create(cells())
    assert len(place.keys()) == 1


# Values


@pytest.mark.parametrize("value", ["nul \x00 secret", "half a pair \ud800 secret", 2**70])
def test_a_value_no_database_takes_is_refused_alone(place: PostgresPlace, value: Any) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(2)]
    column = "last_error" if isinstance(value, str) else "failure_count"
    results = place.store.write([renewal(keys[0], **{column: value}), renewal(keys[1])])
    assert [result.written for result in results] == [Written.REFUSED, Written.STORED]
    assert_plain(results[0].error, StoreRefusedError)


def test_an_id_that_no_index_takes_is_refused_and_not_shown(place: PostgresPlace) -> None:
    """PostgreSQL packs it before it measures, so only noise is too long."""
    location = base64.b64encode(random.Random(1).randbytes(6000)).decode()
    with closing(opened(place.address)) as store:
        with pytest.raises(StoreRefusedError, match=r"^a value cannot be stored in a database$"):
            store.create(cells(location))
        assert store.create(cells("loc1"))


@pytest.mark.parametrize("expiry", ["infinity", "-infinity", "20000-01-01", "4000-01-01 BC", None])
def test_an_expiry_that_no_row_can_hold_counts_as_due(place: PostgresPlace, expiry: str | None) -> None:
    key = place.add(cells())
    place.edit(key, access_token_expiry=expiry, last_refreshed="infinity")
    [row] = place.store.due(EVERYONE)
    assert (row.key, row.access_token_expiry, row.last_refreshed) == (key, None, None)


def test_a_session_in_another_zone_and_style_reads_the_same_times(place: PostgresPlace) -> None:
    key = place.add(cells(access_token_expiry=START))
    place.shell.execute(f"ALTER DATABASE {name_of(place.address)} SET timezone = 'Asia/Kolkata'".encode())
    with closing(opened(place.address)) as store:
        assert store.read([key])[key].access_token_expiry == START


# What somebody has set for the whole database


def set_for_all(place: PostgresPlace, setting: str) -> None:
    place.shell.execute(f"ALTER DATABASE {name_of(place.address)} SET {setting}".encode())


@pytest.mark.parametrize("setting", ["datestyle = 'German, DMY'", "client_encoding = 'LATIN1'"])
def test_texts_and_times_are_read_as_they_are_whatever_sessions_begin_with(place: PostgresPlace, setting: str) -> None:
    key = place.add(cells("l\u00f6c\u20ac", access_token_expiry=START))
    set_for_all(place, setting)
    with closing(opened(place.address)) as store:
        [row] = claimed(store, EVERYONE, ME)
        assert (row.key, row.location_id, row.access_token_expiry) == (key, "l\u00f6c\u20ac", START)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_claim_that_meets_another_goes_on_whatever_isolation_is_usual(place: PostgresPlace, level: str) -> None:
    """A row that another process changed since the statement began is looked at anew; nobody is sent away."""
    key = place.add(cells())
    set_for_all(place, f"default_transaction_isolation = '{level}'")
    with closing(opened(place.address)) as store:

        def claimed(connection: sa.Connection) -> Any:
            connection.exec_driver_sql("SELECT 1")  # from here on a stricter transaction would see nothing newer
            place.edit(key, last_error="changed meanwhile")
            return connection.exec_driver_sql("SELECT last_error FROM credentials FOR UPDATE SKIP LOCKED").scalar_one()

        assert store._transact(claimed) == "changed meanwhile"


@pytest.mark.parametrize(("usual", "level"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
def test_what_is_stored_is_on_the_server_s_disk_whatever_is_usual(place: PostgresPlace, usual: str, level: str) -> None:
    """Where it is not, a crash of the server takes tokens with it that the journal has forgotten."""
    set_for_all(place, f"synchronous_commit = '{usual}'")
    show = "SHOW synchronous_commit"
    with closing(opened(place.address)) as store:
        assert store._transact(lambda connection: connection.exec_driver_sql(show).scalar_one()) == level


def test_a_database_that_rejects_writes_is_reported_as_such(place: PostgresPlace) -> None:
    """As a standby says it."""
    place.add(cells())
    set_for_all(place, "default_transaction_read_only = on")
    with (
        closing(opened(place.address)) as store,
        pytest.raises(StoreUnavailableError, match="rejects writes") as raised,
    ):
        claimed(store, EVERYONE, ME)
    assert raised.value.action.startswith("Name the primary server")


RULES = {
    "trigger": "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.location_id = 'loc-0' THEN RAISE EXCEPTION 'not %', NEW.encrypted_refresh; END IF; RETURN NEW; END $$; "
    "CREATE TRIGGER no BEFORE UPDATE ON credentials FOR EACH ROW EXECUTE FUNCTION no()",
    "check": "ALTER TABLE credentials ADD CHECK (location_id <> 'loc-0' OR encrypted_refresh <> 'secretcell2')",
}  # that somebody made


@pytest.mark.parametrize("rule", RULES)
def test_a_row_that_a_rule_of_the_table_forbids_is_refused_alone(place: PostgresPlace, rule: str) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(3)]
    place.shell.execute(RULES[rule].encode())
    results = place.store.write([renewal(key) for key in keys])
    assert [result.written for result in results] == [Written.REFUSED, Written.STORED, Written.STORED]
    assert_plain(results[0].error, StoreRefusedError)
    assert "constraint or trigger" in str(results[0].error)


def test_a_server_that_hangs_is_left_in_time_once_somebody_wants_the_end(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that somebody holds keeps the server silent, too, for half a minute."""
    monkeypatch.setattr(store_module, "STOP_SECONDS", 0.5)
    key = place.add(cells("loc-1"))
    with place.shell.transaction(), ThreadPoolExecutor(1) as pool:
        place.shell.execute("LOCK TABLE credentials")
        started = time.monotonic()
        waiting = pool.submit(place.store.read, [key])
        place.store.hurry()
        with pytest.raises(StoreUnavailableError):
            waiting.result()
        assert time.monotonic() - started < 10
    with pytest.raises(StoreUnavailableError, match="left alone"):
        place.store.read([key])


# Costs


def plan(place: PostgresPlace, act: Callable[[DatabaseStore], Any]) -> str:
    """How the server carries out what `act` asks it."""
    said: list[str] = []
    assert isinstance(place.store, DatabaseStore)

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            with connection.connection.dbapi_connection.cursor() as other:
                said.extend(line for (line,) in other.execute("EXPLAIN " + statement, parameters))

    sa.event.listen(place.store._engine, "before_cursor_execute", explain)
    act(place.store)
    sa.event.remove(place.store._engine, "before_cursor_execute", explain)
    return "\n".join(said)


USUAL = DueQuery({"google": START}, START, "gohighlevel", latest=START + timedelta(days=600), ahead=START)
ACTS: dict[str, Callable[[DatabaseStore], Any]] = {
    "due": lambda store: store.due(USUAL),
    "claim_due": lambda store: claimed(store, USUAL, ME, 2000),
    "claimed_by_others": lambda store: store.claimed_by_others(USUAL, ME),
    "release": lambda store: store.release(ME, ()),
    "alarming": lambda store: store.alarming(START),
    "find": lambda store: store.find("typed by hand"),
}


@pytest.mark.by_turns("act")
@pytest.mark.parametrize("act", ACTS)
def test_an_idle_run_or_a_look_for_one_location_reads_no_other_row(place: PostgresPlace, act: str) -> None:
    """So it costs the same at a thousand rows and at a million."""
    place.shell.execute(
        "INSERT INTO credentials (location_id, encrypted_refresh, access_token_expiry)"
        " SELECT 'loc' || n, 'cell', timestamptz '2026-03-01 13:00Z' + n * interval '1 s'"
        " FROM generate_series(1, 20000) AS n"
    )
    place.shell.execute("ANALYZE credentials")
    said = plan(place, ACTS[act])
    assert "ix_credentials_" in said
    assert "Seq Scan" not in said, said
