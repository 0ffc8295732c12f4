"""The embedded database on a bad disk, in bad company, and edited by hand."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.engine.interfaces import CacheStats
from sqlalchemy.exc import OperationalError

from tests.stores.places import DatabasePlace, claimed
from tests.stores.test_airtable import everything_in
from tests.stores.versions import make_sqlite
from tests.world.clock import START, FakeClock
from tests.world.disk import fill, small_disk
from tests.world.unprivileged import unprivileged
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    STATUS_DISABLED,
    Change,
    Claimant,
    DueQuery,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    Written,
)
from token_refresh.stores.database import DatabaseStore, sqlite
from token_refresh.stores.database.store import ROWS_A_PAGE

ROOT = Path(__file__).resolve().parents[2]
EVERYONE = DueQuery({"google": START + timedelta(days=9)}, START + timedelta(hours=1), "gohighlevel")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database is to be."""
    return tmp_path / "new" / "tokens.sqlite3"


@pytest.fixture
def place(file: Path) -> Iterator[DatabasePlace]:
    """An embedded database and its back door."""
    made = DatabasePlace(file, FakeClock())
    yield made
    made.store.close()
    made.shell.close()


_OPEN: list[DatabaseStore] = []


@pytest.fixture(autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


def opened(file: Path, query: str = "?timeout=0.05") -> DatabaseStore:
    """A store on this file, until the test is over."""
    _OPEN.append(DatabaseStore(f"sqlite:///{file}{query}", FakeClock()))
    return _OPEN[-1]


def cells(location_id: str = "loc-1", **more: Any) -> dict[str, Any]:
    """A row of the usual kind."""
    return {"locationId": location_id, "encrypted_refresh": "secretcell"} | more


def renewal(key: str, **more: Value) -> Change:
    """What a refresh writes."""
    return Change(key, "secretcell", {"encrypted_refresh": "secretcell2", "last_access_token": "secrettoken"} | more)


def assert_plain(error: BaseException | None, kind: type[StoreError]) -> None:
    """An error in words, with a mend, and nothing of statements, values, passwords or the library's own."""
    assert type(error) is kind
    assert isinstance(error, StoreError)
    assert error.action
    shown = "\n".join([*everything_in(error), *traceback.format_exception(error)[-1:]])
    for word in ("secret", "SELECT", "UPDATE", "INSERT", "sqlalche.me", "Traceback", "[SQL"):
        assert word not in shown, shown


# The file


def test_the_file_is_made_on_first_use_for_its_owner_alone(file: Path) -> None:
    old = os.umask(0)
    try:
        opened(file).create(cells())
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for part in file.parent.iterdir():  # the write-ahead log holds cells too
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part.name


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    opened(file).close()
    file.chmod(mode)
    with pytest.raises(StoreRefusedError, match="other users can read") as raised:
        opened(file)
    assert raised.value.action == f"Run: chmod 600 {file}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["", "-wal", "-shm", "-journal"])
def test_a_file_of_another_user_is_refused_also_beside_the_database(file: Path, name: str) -> None:
    """What is written into it, its owner reads: encrypted values, and access tokens where these are not encrypted."""
    opened(file).close()
    theirs = file.with_name(f"{file.name}{name}")
    theirs.touch(0o600)
    os.chown(theirs, 65534, 65534)
    with pytest.raises(StoreRefusedError, match=f"the database's file {theirs} belongs to ") as raised:
        opened(file)
    assert raised.value.action == f"Run the program as that user, or: chown $(id -un) {theirs}"


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_everybody_writes_in_holds_no_database(file: Path, mode: int) -> None:
    file.parent.mkdir()
    file.parent.chmod(mode)
    with pytest.raises(StoreRefusedError, match="every user can put files beside the database") as raised:
        opened(file)
    assert (f"chmod o-w {file.parent}" in raised.value.action) == (mode == 0o777)
    assert "a folder of its own" in raised.value.action
    assert list(file.parent.iterdir()) == []  # what is refused is not made


def test_a_link_to_a_database_is_judged_by_what_it_leads_to(file: Path, tmp_path: Path) -> None:
    opened(file).close()
    (tmp_path / "link").symlink_to(file)
    opened(tmp_path / "link").close()
    file.parent.chmod(0o1777)
    with pytest.raises(StoreRefusedError, match="every user can put files beside the database"):
        opened(tmp_path / "link")


@pytest.mark.parametrize("what", ["file", "file beside it"])
def test_a_database_on_a_full_disk_is_named_at_once_with_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """SQLite itself says "disk I/O error" where the memory that connections share cannot grow."""
    with ExitStack() as end:
        disk = small_disk(tmp_path / "disk", "400k", end)
        file = disk / "own" / "tokens.sqlite3"
        if what == "file beside it":
            opened(file, "").setup()
            _OPEN.pop().close()
        fill(disk)
        monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.0)
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits for room"))
        with pytest.raises(StoreUnavailableError, match=f"; the disk of {file} may be full") as raised:
            opened(file, "").setup()
        assert raised.value.action == "Free disk space there."


def test_an_error_of_a_disk_with_room_is_not_called_a_full_one(file: Path) -> None:
    opened(file).close()
    for code, is_full in ((sqlite3.SQLITE_IOERR_SHMSIZE, False), (sqlite3.SQLITE_FULL, True)):
        reason = sqlite3.OperationalError("refused")
        reason.sqlite_errorcode = code
        said = sqlite.SqliteBackend(make_url(f"sqlite:///{file}"), 1).refusal(OperationalError("", {}, reason))
        assert ("may be full" in str(said)) == is_full


def test_a_newer_database_is_refused_in_words(place: DatabasePlace, file: Path) -> None:
    place.shell.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreRefusedError, match="newer version of this program") as raised:
        opened(file)
    assert raised.value.action == "Update the program on this machine."


def test_a_database_of_the_first_version_keeps_its_rows_and_learns_to_claim_them(file: Path) -> None:
    file.parent.mkdir()
    one = {"location_id": "loc-1", "encrypted_refresh": "secretcell", "workspace_name": "Acme"}
    one["access_token_expiry"] = "2026-03-01T12:00:00.000Z"
    make_sqlite(file, 1, one, {"location_id": "loc-2", "encrypted_refresh": "secretcell 2"})
    claimant = Claimant("here", 1, "run")
    stores = [opened(file), opened(file)]  # a second start finds it done
    rows = claimed(stores[0], EVERYONE, claimant)
    assert {row.location_id: row.encrypted_refresh for row in rows} == {"loc-1": "secretcell", "loc-2": "secretcell 2"}
    held = stores[1].claimed_by_others(EVERYONE, Claimant("here", 2, "other"))
    assert [row.owner for row in held] == [claimant.owner] * 2
    assert stores[0].write([renewal(rows[0].key)])[0].written is Written.STORED
    opened(file.with_name("new.sqlite3"))
    with closing(sqlite3.connect(file)) as new, closing(sqlite3.connect(file.with_name("new.sqlite3"))) as fresh:
        made = "SELECT name FROM pragma_table_info('credentials') ORDER BY name"
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
        assert new.execute(made).fetchall() == fresh.execute(made).fetchall()
        assert new.execute(indexes).fetchall() == fresh.execute(indexes).fetchall()
        assert new.execute("SELECT workspace_name FROM credentials").fetchall() == [("Acme",), (None,)]


def test_the_database_of_another_program_is_left_alone(file: Path) -> None:
    file.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(file)) as shell, shell:
        shell.execute("CREATE TABLE credentials (location_id TEXT, refresh_token TEXT)")
    file.chmod(0o600)
    with pytest.raises(StoreRefusedError, match="another program") as raised:
        opened(file)
    assert_plain(raised.value, StoreRefusedError)
    with closing(sqlite3.connect(file)) as shell:
        assert shell.execute("PRAGMA user_version").fetchone() == (0,)


@pytest.mark.parametrize("name", [".", "", ":memory:/x"])
def test_a_place_that_can_hold_no_file_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ":memory:").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreRefusedError) as raised:
        DatabaseStore(f"sqlite:///{name}", FakeClock())
    assert raised.value.action


@pytest.mark.parametrize(
    "url", ["", "tokens.sqlite3", "postgresql://u:secretpassword@host/db", "postgresql+asyncpg://x", "mysql://x"]
)
def test_another_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(StoreRefusedError) as raised:
        DatabaseStore(url, FakeClock())
    assert_plain(raised.value, StoreRefusedError)


def test_what_is_committed_survives_a_power_cut(place: DatabasePlace) -> None:
    """NORMAL, which many choose with WAL, may lose the last commits: here each of them is a refresh token."""
    assert isinstance(place.store, DatabaseStore)
    place.store.create(cells())
    settings = place.store._transact(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")
        ]
    )
    assert settings == ["wal", 3]  # 3: EXTRA


def test_another_program_s_write_is_waited_for(file: Path) -> None:
    """A backup, or a run side by side, holds the database for moments: that is no outage."""
    store = opened(file, query="")
    [waits] = store._transact(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout").one())
    assert waits == 30_000


def test_programs_that_start_at_once_all_find_the_table(tmp_path: Path) -> None:
    for attempt in range(3):
        file = tmp_path / f"db{attempt}" / "tokens.sqlite3"
        gate = threading.Barrier(4)

        def start(number: int, file: Path = file, gate: threading.Barrier = gate) -> str:
            gate.wait()
            return opened(file, "?timeout=20").create(cells(f"loc-{number}"))

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(start, range(4)))) == 4


def test_a_second_start_writes_nothing(place: DatabasePlace, file: Path) -> None:
    place.shell.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file.read_bytes()
    opened(file).close()
    assert file.read_bytes() == before


def test_rows_of_more_locations_than_one_query_takes_are_found_each_once(place: DatabasePlace) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(ROWS_A_PAGE + 2)]
    names = [f"loc-{number}" for number in range(ROWS_A_PAGE + 1)]
    found = place.store.find(*names, " loc-1 ", "nobody")
    assert sorted(int(row.key) for row in found) == sorted(map(int, keys[:-1]))


# A disk that fails


def test_a_locked_database_is_reported_and_the_same_change_succeeds_later(place: DatabasePlace) -> None:
    key = place.add(cells())
    [row] = place.store.find("loc-1")
    place.shell.execute("BEGIN EXCLUSIVE")
    [result] = place.store.write([renewal(key)])
    assert result.written is Written.UNDONE
    assert_plain(result.error, StoreUnavailableError)
    assert "locked" in str(result.error)
    for act in (lambda: place.store.prove_writable(row), lambda: place.store.create(cells("loc-2"))):
        with pytest.raises(StoreUnavailableError) as raised:
            act()
        assert_plain(raised.value, StoreUnavailableError)
    place.shell.execute("COMMIT")
    assert [one.written for one in place.store.write([renewal(key)])] == [Written.STORED]


def test_a_corrupt_file_is_reported_in_words(file: Path) -> None:
    file.parent.mkdir(mode=0o700)
    file.write_bytes(b"secret, and no database at all" * 200)
    file.chmod(0o600)
    with pytest.raises(StoreUnavailableError, match="not a database") as raised:
        opened(file)
    assert_plain(raised.value, StoreUnavailableError)


def test_a_file_that_is_damaged_in_the_middle_is_reported_in_words(file: Path) -> None:
    store = opened(file)
    for number in range(200):
        store.create(cells(f"loc-{number}", last_error="x" * 2000))
    store.close()
    content = file.read_bytes()
    file.write_bytes(content[:8192] + b"secret" * ((len(content) - 8192) // 6))
    with pytest.raises(StoreUnavailableError) as raised:
        list(opened(file).rows())
    assert_plain(raised.value, StoreUnavailableError)


def test_a_database_that_turned_read_only_is_reported_in_words(place: DatabasePlace) -> None:
    key = place.add(cells())
    assert isinstance(place.store, DatabaseStore)
    place.store._transact(lambda connection: connection.exec_driver_sql("PRAGMA query_only = ON"))
    [result] = place.store.write([renewal(key)])
    assert result.written is Written.UNDONE
    assert_plain(result.error, StoreUnavailableError)
    assert "readonly" in str(result.error)


def test_a_file_without_write_permission_is_reported_in_words(file: Path) -> None:
    def reopened(home: Path) -> None:
        own = home / "tokens.sqlite3"
        opened(own).close()
        own.chmod(0o400)
        with pytest.raises(StoreRefusedError, match="cannot be opened") as raised:
            opened(own)
        assert_plain(raised.value, StoreRefusedError)

    opened(file)  # which imports what the child then has
    unprivileged(reopened)


def test_a_full_disk_leaves_everything_as_it_was(place: DatabasePlace) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(3)]
    assert isinstance(place.store, DatabaseStore)
    place.store._transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1").scalar_one())
    large = "secret" * 10_000
    results = place.store.write([renewal(keys[0]), renewal(keys[1], last_access_token=large), renewal(keys[2])])
    assert [result.written for result in results] == [Written.UNDONE] * 3
    assert_plain(results[0].error, StoreUnavailableError)
    assert "full" in str(results[0].error)
    assert {place.cells(key)["encrypted_refresh"] for key in keys} == {"secretcell"}


@pytest.mark.long
def test_a_file_size_limit_ends_in_words_not_in_a_traceback(file: Path) -> None:
    script = (
        "import resource\nfrom token_refresh.stores.database import DatabaseStore\n"
        "from token_refresh.stores.base import *\n"
        "from token_refresh.base.clock import SystemClock\n"
        f"store = DatabaseStore('sqlite:///{file}', SystemClock())\n"
        "key = store.create({'locationId': 'a', 'encrypted_refresh': 'cell'})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))\n"
        "[result] = store.write([Change(key, 'cell', {'last_access_token': 'secret' * 100_000})])\n"
        "print(result.written.name, result.error)\n"
        "print(store.find('a')[0].encrypted_refresh)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    fate, cell = done.stdout.splitlines()
    assert fate.startswith("UNDONE the database cannot be used")
    assert "secret" not in fate
    assert cell == "cell"


# Values


def test_a_taken_identity_is_refused_and_its_company_stored(place: DatabasePlace) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(3)]
    place.add(cells("loc-1", provider="google"))
    changes = [renewal(keys[0]), renewal(keys[1], provider="google"), renewal(keys[2])]
    results = place.store.write(changes)
    assert [result.written for result in results] == [Written.STORED, Written.REFUSED, Written.STORED]
    assert_plain(results[1].error, StoreRefusedError)
    with pytest.raises(StoreRefusedError, match="already has a row") as raised:
        place.store.create(cells("loc-1", provider="google"))
    assert_plain(raised.value, StoreRefusedError)


def test_a_row_that_a_trigger_of_the_file_forbids_is_refused_alone_and_not_called_a_second_one(
    place: DatabasePlace,
) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(2)]
    place.shell.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON credentials WHEN NEW.location_id = 'loc-0' "
        "BEGIN SELECT RAISE(ABORT, 'not this secret one'); END"
    )
    results = place.store.write([renewal(key) for key in keys])
    assert [result.written for result in results] == [Written.REFUSED, Written.STORED]
    assert_plain(results[0].error, StoreRefusedError)
    assert "constraint or trigger" in str(results[0].error)


@pytest.mark.parametrize("value", ["half a pair \ud800 secret", 2**70])
def test_a_value_no_database_takes_is_refused_alone(place: DatabasePlace, value: Value) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(2)]
    column = "last_error" if isinstance(value, str) else "failure_count"
    results = place.store.write([renewal(keys[0], **{column: value}), renewal(keys[1])])
    assert [result.written for result in results] == [Written.REFUSED, Written.STORED]
    assert_plain(results[0].error, StoreRefusedError)
    with pytest.raises(StoreRefusedError) as raised:
        place.store.find("\udcff secret")
    assert_plain(raised.value, StoreRefusedError)


@pytest.mark.parametrize(
    "evil", ["'; DROP TABLE credentials; --", "x' OR '1'='1", '"; DELETE FROM credentials; --', "%", "_", "loc-?"]
)
def test_an_id_that_is_a_statement_is_only_an_id(place: DatabasePlace, evil: str) -> None:
    victim = place.add(cells("victim", provider=evil))
    assert place.store.find(evil) == []
    assert place.store.read([evil]) == {}
    query = DueQuery({evil: START}, START, evil, everything=True, locations=(evil,), providers=(evil,))
    assert place.store.due(query) == []
    key = place.store.create({"locationId": evil, "provider": evil, "encrypted_refresh": evil})
    assert [row.key for row in place.store.find(evil)] == [key]
    assert [one.written for one in place.store.write([Change(key, evil, {"last_error": evil})])] == [Written.STORED]
    assert place.keys() == [victim, key]


@pytest.mark.parametrize(
    "written", ["2026-01-01 00:00:00", "2099-01-01 00:00:00", "next week", "", "2099-02-30T00:00:00.000Z", 5, b"\xff"]
)
def test_an_expiry_that_cannot_be_read_counts_as_due(place: DatabasePlace, written: Any) -> None:
    """Whoever edits by hand must not switch a row off for ever."""
    key = place.add(cells())
    place.edit(key, access_token_expiry=written)
    [row] = place.store.due(EVERYONE)
    assert (row.key, row.access_token_expiry) == (key, None)


def test_an_expiry_in_another_zone_is_understood(place: DatabasePlace) -> None:
    due, later = place.add(cells("a")), place.add(cells("b"))
    place.edit(due, access_token_expiry="2026-03-01T14:30:00+02:00")
    place.edit(later, access_token_expiry="2026-03-01T14:30:00Z")
    assert [row.key for row in place.store.due(EVERYONE)] == [due]


def test_a_row_that_is_switched_off_is_not_due(place: DatabasePlace) -> None:
    key = place.add(cells())
    place.edit(key, is_active=0)
    assert place.store.due(EVERYONE) == []
    assert [row.key for row in place.store.rows()] == [key]


def test_bytes_that_are_no_text_spoil_one_row_only(place: DatabasePlace) -> None:
    """The driver would refuse the whole listing, and quote the cell as it does."""
    place.add(cells("good"))
    place.shell.execute(
        "INSERT INTO credentials (location_id, encrypted_refresh) VALUES ('bad', CAST(x'736563726574ff' AS TEXT))"
    )
    assert {row.location_id for row in place.store.due(EVERYONE)} == {"good", "bad"}
    assert len(list(place.store.rows())) == 2


def test_times_of_the_row_are_kept(place: DatabasePlace) -> None:
    key = place.store.create(cells())
    created = place.cells(key)
    assert created["created_at"] == created["updated_at"] == "2026-03-01T12:00:00.000Z"
    place.store.write([renewal(key)])
    assert place.cells(key)["created_at"] == created["created_at"]


def test_calls_are_transactions(place: DatabasePlace) -> None:
    keys = [place.add(cells(f"loc-{number}")) for number in range(50)]
    before = place.store.calls
    place.store.write([renewal(key) for key in keys])
    assert place.store.calls - before == 1


# Rows that a process has claimed


def test_the_statement_of_a_claim_is_made_once_in_a_run(place: DatabasePlace) -> None:
    """It is asked for each five hundred rows, and making it costs as much as refreshing a dozen."""
    made: list[str] = []

    def note(_c: Any, _u: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:
        if context.cache_hit is not CacheStats.CACHE_HIT:
            made.append(statement)

    event.listen(vars(place.store)["_engine"], "after_cursor_execute", note)
    for number in range(3):
        place.add(cells(f"loc-{number}"))
        claimed(place.store, EVERYONE, Claimant("host", 1, "run", non_rotating=frozenset({"google"})), 500)
    assert len([statement for statement in made if "UPDATE credentials" in statement]) == 1


@pytest.mark.parametrize(
    ("owner", "free_for", "fate"),
    [
        (None, "", Written.STORED),
        ("host/1/run", "", Written.BUSY),
        ("host/1/run", None, Written.STORED),
        ("host/1/run", "host/1/", Written.STORED),
        ("host/12/run", "host/1/", Written.BUSY),
        ("hostx1/run", "host_1/", Written.BUSY),
        (None, "host/1/", Written.STORED),
    ],
)
def test_a_change_for_a_free_row_leaves_one_that_is_claimed(
    place: DatabasePlace, owner: str | None, free_for: str | None, fate: Written
) -> None:
    key = place.add({"locationId": "loc", "encrypted_refresh": "old"})
    if owner is not None:
        place.edit(key, claim_owner=owner)
    change = Change(key, "old", {"encrypted_refresh": "new"}, free_for=free_for)
    [result] = place.store.write([change])
    assert result.written is fate
    assert place.cells(key)["encrypted_refresh"] == ("new" if fate is Written.STORED else "old")
    [again] = place.store.write([change])
    assert again.written is fate


def test_what_is_disabled_is_not_active_and_the_other_way_round(place: DatabasePlace) -> None:
    """Whichever of the two columns somebody edits."""
    key = place.store.create(cells())
    place.store.write([Change(key, "secretcell", {"status": STATUS_DISABLED})])
    assert (place.cells(key).get("is_active"), place.store.find("loc-1")[0].status) == (None, STATUS_DISABLED)
    place.store.write([Change(key, "secretcell", {"status": STATUS_ACTIVE})])
    assert place.cells(key)["is_active"] == 1
    place.edit(key, is_active=0)
    [row] = place.store.rows()
    assert (row.status, place.store.due(EVERYONE)) == (STATUS_DISABLED, [])
