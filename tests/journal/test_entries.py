"""The journal: what is on its way survives, sealed, and what was spent is remembered."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto import Context, Keyring, TamperedError, UnknownKeyError
from providers.base import RawAnswer
from tests.journal.requests import intend, is_spent
from tests.world.clock import START, FakeClock
from tests.world.program import ROOT
from token_refresh.journal.entries import ANSWER_FIELD, MOST_VALUES, Journal, Step, key_ids
from token_refresh.journal.file import BALLAST_FILE, SCHEMA_VERSION, JournalError, _Ticket, all_of
from token_refresh.stores.base import Row

FILE = "journal-1.sqlite3"
ORIGIN = "https://acme.example"
OLD_KEY, NEW_KEY = bytes(range(32)), bytes(range(1, 33))
ROW = Row("rec1", "loc 1", "app", encrypted_refresh="sealed:v1:cell")
ANSWER = RawAnswer(200, {"content-type": "application/json"}, b'{"refresh_token": "CANARY-ANSWER"}', START)


@pytest.fixture
def journal(tmp_path: Path, clock: FakeClock) -> Iterator[Journal]:
    opened = Journal(tmp_path, Keyring(OLD_KEY), clock)
    yield opened
    opened.close()


def keep(journal: Journal, entry_id: int, raw: RawAnswer = ANSWER) -> None:
    journal.keep(entry_id, raw, Context(ANSWER_FIELD, ROW.location_id, ORIGIN))


def spend(journal: Journal, token: str) -> None:
    """A refresh whose successor was stored."""
    entry_id = intend(journal, ROW, token, "acme", ORIGIN)
    journal.finish([entry_id], [entry_id])


def test_every_commit_is_synced_to_the_disk(journal: Journal) -> None:
    """EXTRA also syncs the folder's entry; NORMAL would lose the last commits when the power fails."""
    assert journal._file._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._file._database.execute("PRAGMA synchronous").fetchone() == (3,)


def test_an_answer_is_synced_although_the_commit_before_it_was_not(journal: Journal) -> None:
    def level() -> Any:
        return journal._file._database.execute("PRAGMA synchronous").fetchone()

    entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
    journal.mark(entry_id, Step.LOST)
    assert level() == (1,)
    for act in (
        lambda: journal.send_again(entry_id, ORIGIN, is_lost=True),
        lambda: keep(journal, entry_id),
        lambda: journal.admit("loc 2", "acme", ORIGIN, "", "token", "{}"),
        lambda: intend(journal, ROW, "token 2", "acme", ORIGIN),
    ):
        journal.mark(entry_id, Step.LOST)
        act()
        assert level() == (3,)


def test_an_entry_is_readable_by_another_process_as_soon_as_intend_returns(journal: Journal, tmp_path: Path) -> None:
    intend(journal, ROW, "token", "acme", ORIGIN)
    with closing(sqlite3.connect(tmp_path / FILE)) as other, other:
        assert other.execute("SELECT location_id, provider, step FROM entries").fetchall() == [
            ("loc 1", "acme", Step.SENT)
        ]
    other.close()


def test_an_entry_goes_from_sent_to_answered_to_forgotten(journal: Journal) -> None:
    entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
    [sent] = journal.lost()
    assert (sent.id, sent.row_key, sent.step, sent.sent_at, sent.lost_at) == (
        entry_id,
        "rec1",
        Step.SENT,
        START,
        None,
    )
    keep(journal, entry_id)
    assert journal.lost() == []
    [answered] = journal.entries(Step.ANSWERED)
    assert journal.open_answer(answered) == ANSWER
    journal.finish([entry_id])
    assert journal.entries(Step.SENT, Step.ANSWERED, Step.LOST, Step.SUPERSEDED) == []


def test_any_bytes_of_an_answer_come_back_as_they_were(journal: Journal) -> None:
    for body in (b"", b"\xff\x00\n" * 300_000, b'{"refresh_token": "\\ud800"}', "…".encode("utf-16")):
        entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
        keep(journal, entry_id, RawAnswer(502, {"retry-after": "é"}, body, START))
        assert journal.open_answer(journal.entries(Step.ANSWERED)[-1]).body == body


def test_an_entry_knows_the_cell_it_was_made_from(journal: Journal) -> None:
    intend(journal, ROW, "token", "acme", ORIGIN)
    [entry] = journal.lost()
    assert journal.is_of(entry, ROW.encrypted_refresh)
    assert not journal.is_of(entry, "sealed:v1:another cell")
    assert not journal.is_of(entry, "")


def test_sending_again_keeps_the_entry_and_the_time_of_the_first_loss(journal: Journal, clock: FakeClock) -> None:
    entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
    clock.advance(100)
    assert intend(journal, ROW, "token", "acme", "https://new.example", lost_entry=entry_id) == entry_id
    clock.advance(100)
    journal.send_again(entry_id, "https://new.example", is_lost=True)
    [entry] = journal.lost()
    assert entry.started_at == START
    assert entry.lost_at == START
    assert entry.sent_at == START + timedelta(seconds=200)
    assert entry.origin == "https://new.example"


def test_sending_again_after_an_answer_that_did_nothing_is_no_loss(journal: Journal) -> None:
    entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
    keep(journal, entry_id)
    journal.send_again(entry_id, ORIGIN, is_lost=False)
    [entry] = journal.lost()
    assert (entry.step, entry.lost_at) == (Step.SENT, None)


def test_an_onboarding_is_kept_sealed_and_is_no_lost_refresh(journal: Journal) -> None:
    journal.admit("loc 1", "acme", ORIGIN, "", "token", '{"refresh_token": "CANARY"}')
    [entry] = journal.entries(Step.SENT)
    assert journal.open_admission(entry) == '{"refresh_token": "CANARY"}'
    assert journal.lost() == []


def test_a_key_that_was_taken_away_is_named_and_the_answer_stays(tmp_path: Path, clock: FakeClock) -> None:
    first = Journal(tmp_path, Keyring(OLD_KEY), clock)
    keep(first, intend(first, ROW, "token", "acme", ORIGIN))
    first.close()
    second = Journal(tmp_path, Keyring(NEW_KEY), clock)
    [entry] = second.entries(Step.ANSWERED)
    with pytest.raises(UnknownKeyError) as error:
        second.open_answer(entry)
    assert error.value.key_id == Keyring(OLD_KEY).key_id
    assert len(second.entries(Step.ANSWERED)) == 1
    second.close()


def test_an_answer_that_was_moved_to_another_location_does_not_open(journal: Journal, tmp_path: Path) -> None:
    keep(journal, intend(journal, ROW, "token", "acme", ORIGIN))
    with closing(sqlite3.connect(tmp_path / FILE)) as vandal, vandal:
        vandal.execute("UPDATE entries SET location_id = 'loc 2'")
    vandal.close()
    with pytest.raises(TamperedError):
        journal.open_answer(journal.entries(Step.ANSWERED)[0])


# Spent refresh tokens


def test_a_replaced_refresh_token_is_remembered_across_a_change_of_keys(tmp_path: Path, clock: FakeClock) -> None:
    first = Journal(tmp_path, Keyring(OLD_KEY), clock)
    spend(first, "spent token")
    assert is_spent(first, "spent token")
    assert not is_spent(first, "another token")
    first.close()
    rotated = Journal(tmp_path, Keyring(NEW_KEY, [OLD_KEY]), clock)
    assert is_spent(rotated, "spent token")
    rotated.close()


def test_an_entry_is_recognised_after_a_change_of_keys(tmp_path: Path, clock: FakeClock) -> None:
    first = Journal(tmp_path, Keyring(OLD_KEY), clock)
    keep(first, intend(first, ROW, "token", "acme", ORIGIN))
    first.close()
    rotated = Journal(tmp_path, Keyring(NEW_KEY, [OLD_KEY]), clock)
    [entry] = rotated.entries(Step.ANSWERED)
    assert rotated.is_of(entry, ROW.encrypted_refresh)
    assert rotated.open_answer(entry) == ANSWER
    rotated.close()


def test_an_entry_follows_its_token_into_another_cell(tmp_path: Path, clock: FakeClock) -> None:
    """Whether the store took the new cell or not: the row holds one of the two."""
    first = Journal(tmp_path, Keyring(OLD_KEY), clock)
    keep(first, intend(first, ROW, "token", "acme", ORIGIN))
    intend(first, replace(ROW, encrypted_refresh="another row's"), "token", "acme", ORIGIN)
    first.close()
    rotated = Journal(tmp_path, Keyring(NEW_KEY, [OLD_KEY]), clock)
    for new in ("sealed anew", "sealed once more"):
        rotated.rekey_entries({ROW.encrypted_refresh: new, "": "nothing"})
    [entry] = rotated.entries(Step.ANSWERED)
    assert rotated.is_of(entry, ROW.encrypted_refresh)
    assert rotated.is_of(entry, "sealed once more")
    assert not rotated.is_of(entry, "another row's")
    rotated.rekey_entries({"sealed once more": "and again"})
    [entry] = rotated.entries(Step.ANSWERED)
    assert [rotated.is_of(entry, cell) for cell in ("sealed once more", "and again", "")] == [True, True, False]
    [other] = rotated.entries(Step.SENT)
    assert not rotated.is_of(other, "sealed once more")
    rotated.close()
    alone = Journal(tmp_path, Keyring(NEW_KEY), clock)  # without the older key the new cell is still known
    assert alone.is_of(alone.entries(Step.ANSWERED)[0], "and again")
    alone.close()


def test_answers_under_an_older_key_are_encrypted_again_and_those_under_the_key_in_force_stay(
    tmp_path: Path, clock: FakeClock
) -> None:
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock)) as first:
        keep(first, intend(first, ROW, "token", "acme", ORIGIN))
    with closing(Journal(tmp_path, Keyring(NEW_KEY, [OLD_KEY]), clock)) as rotated:
        keep(rotated, rotated.entries()[0].id)  # another answer to the same request
        [before] = rotated.entries()
        assert rotated.reseal() == 1
        [after] = rotated.entries()
        assert (after.answers[0] == before.answers[0], after.answers[1]) == (False, before.answers[1])
        assert key_ids(rotated.entries()) == {Keyring(NEW_KEY).key_id}
        assert list(rotated.answers(after)) == [ANSWER, ANSWER]
        assert (rotated.reseal(), rotated.entries()) == (0, [after])


def test_spent_tokens_are_forgotten_after_four_hundred_days(journal: Journal, clock: FakeClock) -> None:
    spend(journal, "old")
    clock.advance(400 * 86_400 - 1)
    spend(journal, "newer")
    assert is_spent(journal, "old")
    clock.advance(2)
    spend(journal, "newest")
    assert is_spent(journal, "old")  # only where somebody says that the clock is right
    journal.forget_old_spent()
    assert not is_spent(journal, "old")
    assert is_spent(journal, "newer")


def test_what_is_spent_among_many_tokens_is_found_wherever_it_stands(journal: Journal) -> None:
    spent, others = [f"spent {number}" for number in range(3)], [f"token {number}" for number in range(MOST_VALUES)]
    for token in spent:
        spend(journal, token)
    asked = [spent[0], *others, spent[1], *others, spent[2]]
    found = journal.spent([one for token in asked for one in journal._keyring.fingerprints(token)])
    assert set(found) == {one for token in spent for one in journal._keyring.fingerprints(token)}
    assert journal.spent([]) == {}


def test_forgetting_spent_tokens_reads_only_those_that_are_forgotten(journal: Journal) -> None:
    """It is done with every few hundred refreshes, and there may be millions of them."""
    plan = journal._file.select("EXPLAIN QUERY PLAN DELETE FROM spent WHERE spent_at < ?", "now")
    assert [record[3] for record in plan if record[3].startswith("SCAN")] == []


# Secrets


def test_no_token_secret_or_answer_stands_readable_in_any_file_of_the_folder(journal: Journal, tmp_path: Path) -> None:
    """Also while the write-ahead log is there, and after entries were deleted."""
    for _ in range(3):
        entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
        keep(journal, entry_id)
        journal.admit(
            "loc 1", "acme", ORIGIN, "", "token", '{"refresh_token": "CANARY-ENTERED", "client_secret": "CANARY-S"}'
        )
        journal.finish([entry_id])
        spend(journal, "CANARY-SPENT")
    keep(journal, intend(journal, ROW, "token", "acme", ORIGIN))
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {FILE, f"{FILE}-wal"}
    for path in files:
        content = path.read_bytes()
        assert b"CANARY" not in content
        assert ROW.encrypted_refresh.encode() not in content
        assert b"Q0FOQVJZ" not in content  # the same in base64


def test_nothing_of_an_answer_is_in_the_repr_of_an_entry(journal: Journal) -> None:
    keep(journal, intend(journal, ROW, "token", "acme", ORIGIN))
    [entry] = journal.entries(Step.ANSWERED)
    assert "sealed:" not in repr(entry)


def test_the_files_are_for_their_owner_alone(journal: Journal, tmp_path: Path) -> None:
    intend(journal, ROW, "token", "acme", ORIGIN)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


# Trouble


def test_in_a_file_of_an_older_version_the_step_gets_its_new_name(tmp_path: Path, clock: FakeClock) -> None:
    """As version 0.1.0 wrote it: there a credential that was superseded was `aside`."""
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock)) as journal:
        entry_ids = [intend(journal, ROW, f"token {number}", "acme", ORIGIN) for number in range(2)]
    with closing(sqlite3.connect(tmp_path / FILE)) as older:
        older.execute("UPDATE entries SET step = 'aside' WHERE id = ?", (entry_ids[0],))
        for column in ("successor", "previous", "place"):  # which came with version 4
            older.execute(f"ALTER TABLE entries DROP COLUMN {column}")
        older.execute("ALTER TABLE entries RENAME COLUMN admission TO enrolment")
        older.execute("ALTER TABLE failures DROP COLUMN retry_at")  # with version 5
        older.execute("PRAGMA user_version = 2")
        older.commit()
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock)) as journal:
        [superseded] = journal.entries(Step.SUPERSEDED)
        [sent] = journal.entries(Step.SENT)
    assert [superseded.id, sent.id] == entry_ids


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as newer, newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer.close()
    with pytest.raises(JournalError, match="newer version"):
        Journal(tmp_path, Keyring(OLD_KEY), clock)


def test_a_file_that_is_no_journal_is_refused_with_a_fix(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError) as error:
        Journal(tmp_path, Keyring(OLD_KEY), clock)
    assert "STATE_DIR" in error.value.action


def test_a_folder_that_is_gone_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(JournalError):
        Journal(tmp_path / "nowhere", Keyring(OLD_KEY), clock)


def test_a_refused_write_raises_and_leaves_the_journal_usable(journal: Journal) -> None:
    entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
    [pages] = journal._file._database.execute("PRAGMA page_count").fetchone()
    journal._file._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="full"):
        keep(journal, entry_id, RawAnswer(200, {}, b"x" * 100_000, START))
    journal._file._database.execute("PRAGMA max_page_count = 1000000")
    keep(journal, entry_id)
    assert journal.open_answer(journal.entries(Step.ANSWERED)[0]) == ANSWER


KILLED = """
import sys, os, signal
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from token_refresh.base.clock import SystemClock
from crypto import Context, Keyring
from providers.base import RawAnswer
from token_refresh.journal.entries import ANSWER_FIELD, Journal
from token_refresh.stores.base import Row
clock = SystemClock()
journal = Journal(Path(sys.argv[2]), Keyring(bytes(range(32))), clock)
entry = journal.intend(
    row_key="rec1", location_id="loc 1", provider="acme", origin="https://acme.example", cell="cell", token="token"
)
journal.keep(entry, RawAnswer(200, {}, b"answer", clock.now()), Context(ANSWER_FIELD, "loc 1", "https://acme.example"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_written_before_a_kill_is_there_afterwards(tmp_path: Path, clock: FakeClock) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(ROOT), str(tmp_path)], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    journal = Journal(tmp_path, Keyring(bytes(range(32))), clock)
    [entry] = journal.entries(Step.ANSWERED)
    assert journal.open_answer(entry).body == b"answer"
    journal.close()


class FullDisk:
    """A disk that has room again once the ballast is gone; every commit before that is refused."""

    def __init__(self, folder: Path, *, for_good: bool = False) -> None:
        self.ballast = folder / BALLAST_FILE
        self.is_full = False
        self.for_good = for_good

    def connect(self, *args: Any, **options: Any) -> Any:
        database = sqlite3.connect(*args, **options)
        disk = self

        class Connection:
            def execute(self, statement: str, *values: Any) -> Any:
                has_room = disk.for_good is False and not disk.ballast.exists()
                if statement == "COMMIT" and disk.is_full and not has_room:
                    raise sqlite3.OperationalError("database or disk is full")
                return database.execute(statement, *values)

            def __getattr__(self, name: str) -> Any:
                return getattr(database, name)

        return Connection()


def _with_ballast(tmp_path: Path, clock: FakeClock, disk: FullDisk) -> Journal:
    return Journal(tmp_path, Keyring(OLD_KEY), clock, 64 * 1024, disk.connect)


def test_on_a_full_disk_the_ballast_makes_room_for_the_answer(tmp_path: Path, clock: FakeClock) -> None:
    disk = FullDisk(tmp_path)
    with closing(_with_ballast(tmp_path, clock, disk)) as journal:
        assert disk.ballast.stat().st_blocks * 512 >= 64 * 1024
        entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
        disk.is_full = True
        journal.keep(entry_id, ANSWER, Context(ANSWER_FIELD, ROW.location_id, ORIGIN))
        [entry] = journal.entries(Step.ANSWERED)
        assert journal.open_answer(entry).body == ANSWER.body
        assert not disk.ballast.exists()
    disk.is_full = False
    with closing(_with_ballast(tmp_path, clock, disk)):
        assert disk.ballast.exists()


def request(journal: Journal) -> int:
    return intend(journal, ROW, "token", "acme", ORIGIN)


@contextmanager
def without_room(
    tmp_path: Path, clock: FakeClock, spare: Path | None, begin: Callable[[Journal], object] = request
) -> Iterator[Journal]:
    """A journal that has noted a request, by default the first of all, and then has no room for an answer."""
    disk = FullDisk(tmp_path, for_good=True)
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock, 1024, disk.connect, spare=spare)) as journal:
        begin(journal)
        disk.is_full = True
        yield journal


def in_spare(tmp_path: Path, clock: FakeClock, raw: RawAnswer = ANSWER) -> Path:
    """The file of an answer that the journal did not take; its process has ended."""
    with without_room(tmp_path, clock, tmp_path / "spare") as journal, pytest.raises(JournalError):
        keep(journal, 1, raw)
    return max((tmp_path / "spare").iterdir())


@contextmanager
def next_start(tmp_path: Path, clock: FakeClock, key: bytes = OLD_KEY) -> Iterator[Journal]:
    with closing(Journal(tmp_path, Keyring(key), clock, spare=tmp_path / "spare")) as journal:
        yield journal


def test_where_even_the_ballast_is_no_help_the_sealed_answer_goes_to_the_spare_folder(
    tmp_path: Path, clock: FakeClock
) -> None:
    spare = tmp_path / "spare"
    with without_room(tmp_path, clock, spare) as journal:
        with pytest.raises(JournalError, match="the journal cannot be written"):
            keep(journal, 1)
        [file] = spare.iterdir()  # before anybody asks the store
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        [unsaved] = journal.not_saved()
        assert (unsaved.location_id, unsaved.provider, unsaved.file) == (ROW.location_id, "acme", file)
        assert file.read_text() == f"{unsaved.sealed}\n"
        assert "CANARY" not in file.name + unsaved.sealed
        assert journal.place_of(1).where == f"in {file}"


@pytest.mark.parametrize("spare", [None, "/dev/null"])
def test_what_the_spare_folder_does_not_take_either_is_handed_out_sealed(
    tmp_path: Path, clock: FakeClock, spare: str | None
) -> None:
    with without_room(tmp_path, clock, Path(spare) if spare else None) as journal:
        with pytest.raises(JournalError):
            keep(journal, 1)
        [unsaved] = journal.not_saved()
        [entry] = journal.entries(Step.SENT)
        assert (unsaved.file, journal.open_answer(entry, unsaved.sealed)) == (None, ANSWER)
        assert unsaved.message.endswith("could not be saved anywhere")
        assert unsaved.action.endswith(f"recover --cell -`: {unsaved.sealed}")
        assert journal.place_of(1).stored_by == "`recover --cell`"


def test_what_the_store_confirmed_counts_as_saved_although_the_journal_cannot_note_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    with without_room(tmp_path, clock, tmp_path / "spare") as journal:
        with pytest.raises(JournalError):
            keep(journal, 1)
        with pytest.raises(JournalError):
            journal.finish([1])
        assert (journal.not_saved(), list((tmp_path / "spare").iterdir())) == ([], [])
        assert journal.place_of(1) == journal.place_of(None)


def test_an_answer_in_the_spare_folder_is_taken_over_by_the_next_start(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    with next_start(tmp_path, clock) as journal:
        [entry] = journal.entries(Step.ANSWERED)
        assert journal.open_answer(entry) == ANSWER
        assert (file.exists(), journal.not_saved()) == (False, [])


def test_an_answer_goes_to_its_own_request_and_no_other_of_its_row(tmp_path: Path, clock: FakeClock) -> None:
    """The row was onboarded with another grant while the answer to the first was lost: both would open it."""
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock)) as journal:
        older = intend(journal, ROW, "older token", "acme", ORIGIN)
        journal.mark(older, Step.LOST)
    with without_room(tmp_path, clock, tmp_path / "spare") as journal, pytest.raises(JournalError):
        keep(journal, older + 1)
    with next_start(tmp_path, clock) as journal:
        assert [entry.id for entry in journal.entries(Step.ANSWERED)] == [older + 1]
        assert [entry.id for entry in journal.entries(Step.LOST)] == [older]


def send_again(journal: Journal) -> None:
    journal.send_again(1, ORIGIN, is_lost=True)


def intend_again(journal: Journal) -> None:
    intend(journal, ROW, "token", "acme", ORIGIN, lost_entry=1)


@pytest.mark.parametrize("again", [send_again, intend_again])
def test_an_answer_to_a_request_that_an_earlier_process_began_finds_its_entry(
    tmp_path: Path, clock: FakeClock, again: Callable[[Journal], object]
) -> None:
    with next_start(tmp_path, clock) as journal:
        request(journal)
    with without_room(tmp_path, clock, tmp_path / "spare", again) as journal:
        with pytest.raises(JournalError):
            keep(journal, 1)
        assert [unsaved.provider for unsaved in journal.not_saved()] == ["acme"]
    with next_start(tmp_path, clock) as journal:
        assert [entry.id for entry in journal.entries(Step.ANSWERED)] == [1]


def test_an_answer_whose_row_was_changed_meanwhile_is_taken_over_all_the_same(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    with closing(Journal(tmp_path, Keyring(OLD_KEY), clock)) as journal:  # as the run does that could not keep it
        journal.mark(1, Step.SUPERSEDED)
    with next_start(tmp_path, clock) as journal:
        [entry] = journal.entries(Step.ANSWERED)
        assert (journal.open_answer(entry), file.exists()) == (ANSWER, False)


def test_a_file_that_outlived_its_takeover_is_deleted_and_changes_nothing(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    content = file.read_bytes()
    with next_start(tmp_path, clock) as journal:
        journal.mark(1, Step.SUPERSEDED)
    file.write_bytes(content)
    with next_start(tmp_path, clock) as journal:
        assert [entry.id for entry in journal.entries(Step.SUPERSEDED)] == [1]
        assert not file.exists()


def test_of_two_answers_to_one_request_the_newest_counts_and_the_other_stays_until_the_end(
    tmp_path: Path, clock: FakeClock
) -> None:
    older = in_spare(tmp_path, clock, RawAnswer(503, {}, b"", START))
    hidden = older.rename(tmp_path / older.name)  # a start took place without the spare folder's disk
    clock.advance(1)
    with without_room(tmp_path, clock, tmp_path / "spare", send_again) as journal, pytest.raises(JournalError):
        keep(journal, 1)
    hidden.rename(older)
    for _ in range(2):
        with next_start(tmp_path, clock) as journal:
            [entry] = journal.entries(Step.ANSWERED)
            assert journal.open_answer(entry) == ANSWER
            assert list((tmp_path / "spare").iterdir()) == [older]
    with next_start(tmp_path, clock) as journal:
        journal.finish([1], [1])
        assert not older.exists()


def test_what_belongs_to_no_request_here_or_does_not_open_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    content, uid = file.read_bytes(), file.name.split("-")[3]
    names = {
        file.name: content[:-10],  # cut off
        file.name.replace(uid, "0123456789abcdef"): content,  # another installation's
        "token-refresh-note.txt": b"sealed:v1:",
        f"{file.name}.bak": content,
    }
    for name, text in names.items():
        (tmp_path / "spare" / name).write_bytes(text)
    with next_start(tmp_path, clock) as journal:
        assert [entry.step for entry in journal.entries(Step.SENT, Step.ANSWERED)] == [Step.SENT]
    assert {path.name for path in (tmp_path / "spare").iterdir()} == set(names)


def test_an_answer_whose_key_is_gone_waits_for_that_key(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    with next_start(tmp_path, clock, NEW_KEY) as journal:
        assert journal.entries(Step.ANSWERED) == []
        assert file.exists()
    with next_start(tmp_path, clock) as journal:
        assert len(journal.entries(Step.ANSWERED)) == 1


def test_a_journal_that_still_has_no_room_leaves_the_file_and_starts_nothing(tmp_path: Path, clock: FakeClock) -> None:
    file = in_spare(tmp_path, clock)
    disk = FullDisk(tmp_path, for_good=True)
    disk.is_full = True
    with pytest.raises(JournalError):
        Journal(tmp_path, Keyring(OLD_KEY), clock, 0, disk.connect, spare=tmp_path / "spare")
    assert file.exists()
    with next_start(tmp_path, clock) as journal:
        assert len(journal.entries(Step.ANSWERED)) == 1


def test_on_a_disk_that_lets_nothing_be_deleted_either_the_sealed_answer_is_handed_out(
    tmp_path: Path, clock: FakeClock
) -> None:
    """As Linux does after an error of the disk: the file system is read-only from then on."""
    disk = FullDisk(tmp_path, for_good=True)
    with closing(_with_ballast(tmp_path, clock, disk)) as journal:
        entry_id = intend(journal, ROW, "token", "acme", ORIGIN)
        disk.ballast.unlink()
        disk.ballast.mkdir()  # cannot be unlinked, not even by root
        disk.is_full = True
        with pytest.raises(JournalError):
            keep(journal, entry_id)
        assert len(journal.not_saved()) == 1


def test_without_room_for_the_ballast_nothing_is_refreshed(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / BALLAST_FILE).mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        Journal(tmp_path, Keyring(OLD_KEY), clock, 64 * 1024)


def test_what_one_thread_cannot_write_is_no_success_for_those_who_share_its_commit(journal: Journal) -> None:
    """SQLite refuses a lone surrogate with an error that is none of its own."""
    file = journal._file
    bad, good = (
        _Ticket(all_of([("INSERT INTO looks VALUES (?, ?)", (name, "now"))]), synced=True)
        for name in ("\ud800", "fine")
    )
    file._transact([bad, good])
    assert isinstance(bad.error, UnicodeEncodeError)
    assert good.error is None
    assert journal._file.select("SELECT name FROM looks") == [("fine",)]
    keep(journal, intend(journal, ROW, "token", "acme", ORIGIN))  # and the journal is usable


IS_LOCKED = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # SQLite's shared bytes
except OSError:
    print("locked")
"""


def test_a_journal_of_this_process_that_another_reads_keeps_its_locks(tmp_path: Path, clock: FakeClock) -> None:
    """Programs have several open at once; to open and close a file drops all locks that a process has on it (POSIX)."""
    Journal(tmp_path, Keyring(OLD_KEY), clock).close()
    with closing(sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro", uri=True)) as reader:
        reader.execute("SELECT * FROM entries").fetchall()
        opened = Journal(tmp_path, Keyring(OLD_KEY), clock)
    found = subprocess.run(
        [sys.executable, "-c", IS_LOCKED, str(tmp_path / FILE)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "locked\n"
    opened.close()
