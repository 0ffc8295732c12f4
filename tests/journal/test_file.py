"""The files of the journal: one a process, taken over when it dies, and never lost on the way."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from crypto import Context, Keyring
from providers.base import RawAnswer
from tests.journal.requests import intend, is_spent
from tests.world.clock import START, FakeClock
from tests.world.program import ROOT
from token_refresh.base.columns import REQUIRED_COLUMNS
from token_refresh.base.files import is_store_folder
from token_refresh.base.fork import let_go
from token_refresh.diagnosis.row_state import RememberedFailures
from token_refresh.journal import file as journal_file
from token_refresh.journal.entries import ANSWER_FIELD, Journal, Step
from token_refresh.journal.file import JournalError, JournalFile, all_of, inherit_nothing
from token_refresh.journal.lock import hold
from token_refresh.refresh.result import failure_of
from token_refresh.stores.base import Row

KEYRING = Keyring(bytes(range(32)))
ORIGIN = "https://acme.example"
ROW = Row("rec1", "loc 1", "app", encrypted_refresh="cell")

LIVING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from token_refresh.base.clock import SystemClock
from crypto import Keyring
from token_refresh.journal.entries import Journal
journal = Journal(Path(sys.argv[2]), Keyring(bytes(range(32))), SystemClock())
entry = journal.intend(
    row_key="rec9", location_id="loc 9", provider="acme", origin="https://acme.example", cell="cell",
    token=journal.fingerprint("token 9"),
)
journal.finish([], [entry])
print(journal.slot, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """One that has sent the token of loc 9, has stored its successor, and lives on."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, str(ROOT), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        try:
            yield process
        finally:
            process.kill()


def opened(folder: Path, clock: FakeClock, **more: Any) -> Journal:
    return Journal(folder, KEYRING, clock, **more)


def remembered(folder: Path, row: Row) -> Row:
    """A row of a table without optional columns, with what the journals in the folder know of it."""
    return RememberedFailures(folder, KEYRING, frozenset(REQUIRED_COLUMNS)).added_to(row)


def names(folder: Path) -> list[str]:
    """The journals of a folder, without what SQLite puts beside them."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".sqlite3", ".lock"))


def left_behind(folder: Path, clock: FakeClock) -> None:
    """The file of a process in slot 2 that died with an answer, a spent token and a failure in it."""
    with closing(opened(folder, clock)), closing(opened(folder, clock)) as dead:
        assert dead.slot == 2
        spent = intend(dead, ROW, "spent token", "acme", ORIGIN)
        dead.finish([spent], [spent])
        entry_id = intend(dead, ROW, "token", "acme", ORIGIN)
        dead.keep(entry_id, RawAnswer(200, {}, b"answer", START), Context(ANSWER_FIELD, ROW.location_id, ORIGIN))
        dead.failures.record([failure_of(ROW, KEYRING, clock.now())], [])


def assert_taken_over(journal: Journal) -> None:
    [entry] = journal.entries(Step.ANSWERED)
    assert journal.open_answer(entry).body == b"answer"
    assert is_spent(journal, "spent token")
    assert journal.failures.find(ROW.key, KEYRING.fingerprints(ROW.encrypted_refresh)) is not None


# Slots


def test_each_process_has_a_file_of_its_own_and_its_number_is_free_when_it_ends(
    tmp_path: Path, clock: FakeClock
) -> None:
    with closing(opened(tmp_path, clock)) as first, closing(opened(tmp_path, clock)) as second:
        assert (first.slot, second.slot) == (1, 2)
        intend(second, ROW, "token", "acme", ORIGIN)
        assert first.entries(Step.SENT) == []
    with closing(opened(tmp_path, clock)) as next_one:
        assert next_one.slot == 1
        assert len(next_one.entries(Step.SENT)) == 1


def test_a_start_takes_over_what_a_dead_process_left_and_deletes_its_files(tmp_path: Path, clock: FakeClock) -> None:
    left_behind(tmp_path, clock)
    with closing(opened(tmp_path, clock)) as journal:
        assert_taken_over(journal)
        assert names(tmp_path) == ["journal-1.lock", "journal-1.sqlite3"]


def test_what_a_killed_process_left_is_taken_over_and_what_a_living_one_has_is_not(
    tmp_path: Path, clock: FakeClock
) -> None:
    with closing(opened(tmp_path, clock)), another_process(tmp_path) as process:
        with closing(opened(tmp_path, clock)) as third:
            assert third.slot == 3
            assert third.entries(Step.SENT) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        with closing(opened(tmp_path, clock)) as fourth:
            assert fourth.slot == 2
            assert [entry.location_id for entry in fourth.entries(Step.SENT)] == ["loc 9"]


def test_a_journal_whose_lock_file_somebody_deleted_is_taken_over_all_the_same(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A restored backup, or a person who clears away locks: there are tokens in it."""
    left_behind(tmp_path, clock)
    for path in tmp_path.glob("*.lock"):
        path.unlink()
    with closing(opened(tmp_path, clock)) as journal:
        assert_taken_over(journal)


def test_an_empty_file_of_a_process_that_died_at_its_start_is_cleared_away(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "journal-2.sqlite3").touch(0o600)
    with closing(opened(tmp_path, clock)):
        assert names(tmp_path) == ["journal-1.lock", "journal-1.sqlite3"]


def test_a_taking_that_was_cut_off_is_repeated_without_a_second_copy(tmp_path: Path, clock: FakeClock) -> None:
    left_behind(tmp_path, clock)

    def cut(slot: int, _folder: Path, dead_slot: int) -> None:
        if dead_slot != slot:
            raise RuntimeError("killed between the copy and the deletion")

    with pytest.raises(RuntimeError):
        opened(tmp_path, clock, inherit=cut)
    assert "journal-2.sqlite3" in names(tmp_path)
    with closing(opened(tmp_path, clock)) as journal:
        assert_taken_over(journal)


def test_claims_are_inherited_before_the_dead_process_s_file_is_deleted(tmp_path: Path, clock: FakeClock) -> None:
    """The other way round a kill between the two would leave rows that nobody may touch."""
    left_behind(tmp_path, clock)
    seen: list[tuple[int, int, bool]] = []

    def inherit(slot: int, folder: Path, dead_slot: int) -> None:
        seen.append((slot, dead_slot, (folder / f"journal-{dead_slot}.sqlite3").exists()))

    opened(tmp_path, clock, inherit=inherit).close()
    assert seen == [(1, 1, True), (1, 2, True)]  # those that died with its own slot, too


def test_a_database_is_deleted_after_its_log_and_before_its_lock(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is left would be replayed into the next database of that name."""
    left_behind(tmp_path, clock)
    order: list[str] = []
    unlink = Path.unlink

    def noting(path: Path, missing_ok: bool = False) -> None:
        order.append(path.name.removeprefix("journal-2."))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noting)
    opened(tmp_path, clock).close()
    assert order == ["sqlite3-wal", "sqlite3-shm", "sqlite3", "lock"]


def test_a_dead_process_s_file_that_cannot_be_read_stops_the_start_and_stays(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "journal-2.sqlite3").write_bytes(b"not a database" * 100)
    for _ in range(2):  # the first attempt holds nothing afterwards
        with pytest.raises(JournalError, match=r"journal-2\.sqlite3 of an earlier run cannot be read") as error:
            opened(tmp_path, clock)
        assert "Restore it from a backup" in error.value.action
    assert (tmp_path / "journal-2.sqlite3").read_bytes() == b"not a database" * 100


def test_of_two_failures_of_one_row_the_later_one_is_taken_over(tmp_path: Path, clock: FakeClock) -> None:
    """Otherwise a grant that was found dead last would be sent again."""
    earlier, later = Row("rec1", "loc", "app", last_error="old"), Row("rec1", "loc", "app", last_error="new")
    with closing(opened(tmp_path, clock)) as first, closing(opened(tmp_path, clock)) as second:
        first.failures.record([failure_of(earlier, KEYRING, clock.now())], [])
        clock.advance(60)
        second.failures.record([failure_of(later, KEYRING, clock.now())], [])
    with closing(opened(tmp_path, clock)) as next_one:
        known = next_one.failures.find(later.key, KEYRING.fingerprints(later.encrypted_refresh))
        assert known is not None
        assert known.last_error == "new"


def test_a_failure_that_is_older_than_our_own_is_not_taken_over(tmp_path: Path, clock: FakeClock) -> None:
    earlier, later = Row("rec1", "loc", "app", last_error="old"), Row("rec1", "loc", "app", last_error="new")
    with closing(opened(tmp_path, clock)) as first, closing(opened(tmp_path, clock)) as second:
        second.failures.record([failure_of(earlier, KEYRING, clock.now())], [])
        clock.advance(60)
        first.failures.record([failure_of(later, KEYRING, clock.now())], [])
    with closing(opened(tmp_path, clock)) as next_one:
        known = next_one.failures.find(later.key, KEYRING.fingerprints(later.encrypted_refresh))
        assert known is not None
        assert known.last_error == "new"


# What other processes know


def test_a_token_that_another_living_process_has_spent_is_known(tmp_path: Path, clock: FakeClock) -> None:
    with another_process(tmp_path), closing(opened(tmp_path, clock)) as journal:
        assert is_spent(journal, "token 9")
        assert not is_spent(journal, "token")


def test_what_moves_on_into_a_file_that_was_read_already_is_found(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run looks while another starts, which takes over what a killed one left."""
    first = opened(tmp_path, clock)
    with ExitStack() as starting, closing(opened(tmp_path, clock)) as journal:
        with another_process(tmp_path):
            pass
        first.close()
        peek = journal_file._peek

        def late(path: Path, *rest: Any) -> list[Any]:
            if path.name == "journal-3.sqlite3" and path.exists():
                assert starting.enter_context(closing(opened(tmp_path, clock))).slot == 1
            return peek(path, *rest)

        monkeypatch.setattr(journal_file, "_peek", late)
        assert is_spent(journal, "token 9")
        assert not (tmp_path / "journal-3.sqlite3").exists()


def test_the_folder_of_a_store_that_is_taken_over_during_a_look_at_all_of_them_ends_no_look(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("a" * 16, "b" * 16)]
    for folder in folders:
        folder.mkdir()

    def then_gone(path: Path) -> bool:
        is_one = is_store_folder(path)
        if path == folders[1] and is_one:
            path.rmdir()
        return is_one

    with closing(opened(folders[0], clock, state=tmp_path)) as journal, another_process(folders[0]):
        monkeypatch.setattr(journal_file, "is_store_folder", then_gone)
        assert is_spent(journal, "token 9")
        assert not folders[1].exists()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_token_that_two_processes_spent_was_spent_by_the_later(
    tmp_path: Path, clock: FakeClock, order: tuple[int, int]
) -> None:
    with closing(opened(tmp_path, clock)) as one, closing(opened(tmp_path, clock)) as two:
        files = (one, two)
        for number in order:
            clock.advance(1)
            files[number].finish([noted := intend(files[number], ROW, "token", "acme", ORIGIN)], [noted])
    with closing(opened(tmp_path, clock)) as after:
        assert after.spent_at([after.fingerprint("token")]) == clock.now()


def test_what_another_process_looked_at_today_is_not_looked_at_again(tmp_path: Path, clock: FakeClock) -> None:
    """This one looked as well, the day before."""
    with closing(opened(tmp_path, clock)) as one, closing(opened(tmp_path, clock)) as two:
        assert one.failures.starts_daily_check()
        clock.advance(86_400)
        assert two.failures.starts_daily_check()
    with closing(opened(tmp_path, clock)) as after:
        assert after.slot == 1
        assert not after.failures.starts_daily_check()


@pytest.mark.parametrize("slot", [1, 2])
def test_of_two_runs_that_noted_one_entry_of_another_store_the_one_that_went_on_is_believed(
    tmp_path: Path, clock: FakeClock, slot: int
) -> None:
    """Its new token was refused: it is not tried a second time."""
    folders = [tmp_path / "state" / name for name in ("a" * 16, "b" * 16)]
    for folder in folders:
        folder.mkdir(parents=True)
    state = tmp_path / "state"
    with closing(opened(folders[0], clock, state=state)) as before:
        noted = intend(before, ROW, "token", "acme", ORIGIN)
        before.keep(noted, RawAnswer(200, {}, b"answer", START), Context(ANSWER_FIELD, ROW.location_id, ORIGIN))
        before.note_unproven(noted, before.fingerprint("new token"), "sealed")
        before.give_to_row(noted, ROW.key, Step.UNPROVEN)
    with closing(opened(folders[1], clock, state=state)) as one, closing(opened(folders[1], clock, state=state)) as two:
        adopted = [(run, run.adopt(run.entries_elsewhere()[0], ROW.key)) for run in (one, two)]
        [(run, entry)] = [(run, entry) for run, entry in adopted if run.slot == slot]
        run.mark_lost(entry.id)
    with closing(opened(folders[1], clock, state=state)) as after:
        [known] = after.entries()
        assert (known.step, known.previous) == (Step.LOST, "")
        assert after.is_refuted(known, "new token")


def test_a_failure_that_another_living_process_met_later_counts(tmp_path: Path, clock: FakeClock) -> None:
    rows = [Row("rec1", "loc", "app", last_error=error) for error in ("first", "second", "third")]
    with (
        closing(opened(tmp_path, clock)) as one,
        closing(opened(tmp_path, clock)) as two,
        closing(opened(tmp_path, clock)) as three,
    ):
        for journal, row in ((two, rows[0]), (one, rows[1]), (three, rows[2])):
            journal.failures.record([failure_of(row, KEYRING, clock.now())], [])
            clock.advance(1)
        with closing(opened(tmp_path, clock)) as reader:
            known = reader.failures.find(rows[0].key, KEYRING.fingerprints(rows[0].encrypted_refresh))
    assert known is not None
    assert known.last_error == "third"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_later_failure_counts_whichever_file_is_read_first(
    tmp_path: Path, clock: FakeClock, order: tuple[int, int]
) -> None:
    with closing(opened(tmp_path, clock)) as one, closing(opened(tmp_path, clock)) as two:
        files = (one, two)
        earlier, later = (Row("rec1", "loc", "app", last_error=error) for error in ("old", "new"))
        files[order[0]].failures.record([failure_of(earlier, KEYRING, clock.now())], [])
        clock.advance(1)
        files[order[1]].failures.record([failure_of(later, KEYRING, clock.now())], [])
        row = remembered(tmp_path, Row("rec1", "loc", "app"))
    assert row.last_error == "new"


def test_a_file_that_another_process_is_only_just_making_stops_nobody(tmp_path: Path, clock: FakeClock) -> None:
    """Empty as yet, or gone between the listing and the look."""
    with closing(opened(tmp_path, clock)) as journal:
        (tmp_path / "journal-2.sqlite3").touch(0o600)
        (tmp_path / "journal-3.sqlite3").symlink_to(tmp_path / "nowhere")
        assert not is_spent(journal, "token")
        assert remembered(tmp_path, ROW) == ROW


def test_reading_beside_a_run_makes_no_file_and_takes_none(tmp_path: Path, clock: FakeClock) -> None:
    left_behind(tmp_path, clock)
    before = names(tmp_path)
    row = remembered(tmp_path, Row("rec1", "loc 1", "app", encrypted_refresh="cell"))
    assert row.failure_count == ROW.failure_count
    assert names(tmp_path) == before


# The lock of a file that its holder deletes


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_lock_on_a_file_that_was_deleted_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """Its holder deleted it between our opening and our locking it; somebody may have made another by then."""
    path = tmp_path / "journal-2.lock"
    flock = fcntl.flock

    def after_the_holder(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        if is_replaced:
            path.touch(0o600)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_holder)
    held = hold(path)
    assert held is not None
    assert os.path.samestat(os.fstat(held), path.stat())
    assert hold(path) is None
    let_go(held)


# Trouble


def test_a_value_that_sqlite_cannot_take_costs_only_whoever_brought_it(tmp_path: Path) -> None:
    """Threads share a commit; those whose answers are fine must not be told that all is well, and lose them."""
    with closing(JournalFile(tmp_path, 0, sqlite3.connect, inherit_nothing)) as file:
        insert = "INSERT INTO looks VALUES (?, '')"
        good, bad = (
            [journal_file._Ticket(all_of([(insert, (name,))]), True) for name in names] for names in ("ab", "\ud800")
        )
        file._transact([good[0], *bad, good[1]])
        assert [ticket.error for ticket in good] == [None, None]
        assert [type(ticket.error) for ticket in bad] == [UnicodeEncodeError]
        assert file.select("SELECT name FROM looks ORDER BY name") == [("a",), ("b",)]
        with pytest.raises(UnicodeEncodeError):
            file.commit(all_of([(insert, ("\ud800",))]))
        file.commit(all_of([(insert, ("c",))]))


def await_waiting(file: JournalFile, count: int) -> None:
    """Until so many threads wait for their commit."""
    while len(file._waiting) < count:
        pass


def test_threads_that_commit_at_once_share_a_sync_and_each_learns_its_own_end(tmp_path: Path) -> None:
    with closing(JournalFile(tmp_path, 0, sqlite3.connect, inherit_nothing)) as file:
        file._lock.acquire()
        threads = [
            threading.Thread(target=file.commit, args=(all_of([("INSERT INTO looks VALUES (?, '')", (str(number),))]),))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        await_waiting(file, len(threads))
        file._lock.release()
        for thread in threads:
            thread.join()
        assert len(file.select("SELECT * FROM looks")) == len(threads)


def test_what_an_interrupted_thread_was_to_write_for_others_is_written_all_the_same(tmp_path: Path) -> None:
    """Otherwise their requests would leave without a trace in the journal."""

    class Interrupted(sqlite3.Connection):
        strikes = 0

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and self.strikes:
                self.strikes -= 1
                raise KeyboardInterrupt
            return super().execute(statement, *values)

    def connect(path: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(path, factory=Interrupted, **options)

    ends: dict[str, object] = {}

    def commit(name: str) -> None:
        try:
            ends[name] = file.commit(all_of([("INSERT INTO looks VALUES (?, '')", (name,))]))
        except BaseException as error:
            ends[name] = type(error)

    with closing(JournalFile(tmp_path, 0, connect, inherit_nothing)) as file:
        file._lock.acquire()
        threads = [threading.Thread(target=commit, args=(name,)) for name in ("leader", "follower")]
        for number, thread in enumerate(threads, 1):
            thread.start()
            await_waiting(file, number)
        cast(Interrupted, file._database).strikes = 1
        file._lock.release()
        for thread in threads:
            thread.join()
        assert ends["leader"] is KeyboardInterrupt
        assert isinstance(ends["follower"], int)
        assert ("follower",) in file.select("SELECT name FROM looks")


def test_a_thread_that_is_interrupted_while_it_waits_holds_nobody_up(tmp_path: Path) -> None:
    def commit(name: str) -> None:
        file.commit(all_of([("INSERT INTO looks VALUES (?, '')", (name,))]))

    def interrupt() -> None:
        await_waiting(file, 2)
        # One that comes just before the thread falls asleep is not heard until it wakes. Nothing written in Python is
        # called meanwhile: while a signal waits for the main thread, a tracer's threads do not get into a function
        # (CPython 3.11).
        while not struck:
            signal.pthread_kill(waiting_thread, signal.SIGUSR1)

    def raise_interrupt(*_: object) -> None:
        if not struck:
            struck.append(True)
            raise KeyboardInterrupt

    struck = list[bool]()
    waiting_thread = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, raise_interrupt)

    with closing(JournalFile(tmp_path, 0, sqlite3.connect, inherit_nothing)) as file:
        file._lock.acquire()
        threads = [threading.Thread(target=commit, args=(name,)) for name in ("leader", "later")]
        threads[0].start()
        await_waiting(file, 1)
        striker = threading.Thread(target=interrupt)
        striker.start()
        with pytest.raises(KeyboardInterrupt):
            commit("interrupted")
        striker.join()
        signal.signal(signal.SIGUSR1, before)
        threads[1].start()
        await_waiting(file, 2)
        file._lock.release()
        for thread in threads:
            thread.join()
        assert file.select("SELECT name FROM looks ORDER BY name") == [("later",), ("leader",)]


def test_a_thread_that_is_interrupted_when_it_is_to_lead_leaves_that_to_the_next(tmp_path: Path) -> None:
    with closing(JournalFile(tmp_path, 0, sqlite3.connect, inherit_nothing)) as file:
        heir, after = tickets = [journal_file._Ticket(all_of([]), True) for _ in range(2)]
        file._waiting, file._is_led, heir.leads = [*tickets], True, True
        file._leave(heir)
        assert (file._waiting, file._is_led, after.leads) == ([after], True, True)
        assert after.woken.acquire(blocking=False)
        file._leave(after)
        assert (file._waiting, file._is_led) == ([], False)


def test_a_journal_that_cannot_be_read_any_more_is_reported_with_its_fix(tmp_path: Path, clock: FakeClock) -> None:
    with closing(opened(tmp_path, clock)) as journal:
        journal._file._database.execute("DROP TABLE entries")
        with pytest.raises(JournalError) as error:
            journal.entries(Step.SENT)
    assert "STATE_DIR" in error.value.action
