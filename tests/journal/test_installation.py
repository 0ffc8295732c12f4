"""An installation knows itself: it goes on where it was moved, and notices that it was copied, restored or cloned."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import Keyring
from tests.world.clock import START
from token_refresh.journal.file import JournalError
from token_refresh.journal.installation import EARLIER_ID_FILE, FILE, KEPT_RUNS, MARK_FILE, Identity, InstallationFile

STORE = "airtable appBase"
OLD_KEY, NEW_KEY = bytes(range(32)), bytes(range(1, 33))


def begin(folder: Path, *, takes_over: bool = False, store: str = STORE) -> Identity:
    return InstallationFile(folder).begin(store, START, Keyring(OLD_KEY), takes_over=takes_over)


def test_the_id_stays_and_each_run_has_a_number_of_its_own(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    assert first.id == second.id
    assert second.number > first.number > 0
    assert not second.is_copy
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_the_id_of_version_0_1_0_is_kept(tmp_path: Path) -> None:
    (tmp_path / EARLIER_ID_FILE).write_text("0a1b2c3d")
    assert begin(tmp_path).id == "0a1b2c3d"


def test_an_earlier_id_that_was_never_written_out_is_another_one(tmp_path: Path) -> None:
    (tmp_path / EARLIER_ID_FILE).write_text("")
    assert len(begin(tmp_path).id) == 16


def test_processes_that_start_together_agree_on_the_id_and_have_different_numbers(tmp_path: Path) -> None:
    ready = threading.Barrier(8)
    found: list[Identity] = []

    def ask() -> None:
        ready.wait()
        found.append(begin(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.id for one in found}) == 1
    assert len({one.number for one in found}) == 8


def test_a_number_that_was_never_issued_is_known(tmp_path: Path) -> None:
    """Two clones of a machine go on from the same number; their next ones differ."""
    number = begin(tmp_path).number
    installation = InstallationFile(tmp_path)
    assert installation.has_issued(number)
    assert not installation.has_issued(number + 1)
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy2(tmp_path / FILE, clone / FILE)
    numbers = {begin(tmp_path).number for _ in range(5)}
    later = InstallationFile(clone)
    assert not any(later.has_issued(one) for one in numbers)


def test_of_runs_of_long_ago_it_is_assumed_that_they_were_ours(tmp_path: Path) -> None:
    first = begin(tmp_path).number
    installation = InstallationFile(tmp_path)
    installation._transact(  # as many runs as are kept
        lambda database: database.executemany(
            "INSERT INTO runs VALUES (?)", [(first + number,) for number in range(1, KEPT_RUNS + 1)]
        )
    )
    begin(tmp_path)
    kept = installation._transact(
        lambda database: database.execute("SELECT count(*), min(number) FROM runs").fetchone()
    )
    assert kept[0] == KEPT_RUNS
    assert installation.has_issued(kept[1] - 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("box-{id}-17", 17),
        ("another-name-{id}-17", 17),  # a container's name is another one at each start
        ("box-{id}", 0),  # version 0.1.0
        ("-{id}-3", 3),
        ("box-{id}-", None),
        ("box-{id}-x", None),
        ("box-{id}0-17", None),
        ("box-0{id}-17", None),
        ("{id}-17", None),
        ("box", None),
        ("", None),
    ],
)
def test_a_row_says_which_installation_refreshed_it_whatever_the_machine_is_called(
    tmp_path: Path, text: str, number: int | None
) -> None:
    identity = begin(tmp_path)
    assert identity.number_in(text.format(id=identity.id)) == number


def test_a_takeover_counts_from_then_on_for_its_store_alone(tmp_path: Path) -> None:
    before = begin(tmp_path)
    assert before.taken_over_at is None
    later = START + timedelta(hours=1)
    assert InstallationFile(tmp_path).begin(STORE, later, Keyring(OLD_KEY), takes_over=True).id == before.id
    assert begin(tmp_path).taken_over_at == later
    assert begin(tmp_path, store="database 1").taken_over_at is None


def test_a_copy_says_so_until_somebody_takes_over_and_is_another_one_then(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    before = begin(original)
    shutil.copytree(original, copy)
    for _ in range(2):
        found = begin(copy)
        assert (found.id, found.is_copy) == (before.id, True)
        assert InstallationFile(original).has_issued(found.number)  # what a copy stores is no sign of a twin
    taken = begin(copy, takes_over=True)
    assert (taken.is_copy, taken.id != before.id) == (False, True)
    assert begin(copy).id == taken.id
    assert not begin(copy).is_copy
    assert not begin(original).is_copy


def test_a_restored_folder_is_noticed_although_its_files_get_the_inodes_of_those_that_were_deleted() -> None:
    """As the next file that is made does on ext4; in memory, where tests are, numbers do not come again."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        state, backup = Path(folder) / "state", Path(folder) / "backup"
        state.mkdir()
        begin(state)
        shutil.copytree(state, backup)
        for path in (state / FILE, state / MARK_FILE):
            path.unlink()
            shutil.copy2(backup / path.name, path)
        assert begin(state).is_copy


def test_a_folder_that_is_restored_over_itself_is_noticed_where_files_that_differ_are_replaced(tmp_path: Path) -> None:
    """As rsync does; the file that tells a copy is empty, and never differs."""
    begin(tmp_path)
    kept = (tmp_path / FILE).read_bytes()
    begin(tmp_path)
    (tmp_path / "new").write_bytes(kept)
    (tmp_path / "new").replace(tmp_path / FILE)
    assert begin(tmp_path).is_copy


def test_a_doubt_stays_until_somebody_takes_over(tmp_path: Path) -> None:
    before = begin(tmp_path)
    InstallationFile(tmp_path).doubt()
    assert begin(tmp_path).is_copy
    assert begin(tmp_path).is_copy
    assert begin(tmp_path, takes_over=True).id != before.id
    assert not begin(tmp_path).is_copy


def test_a_disk_that_refuses_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        begin(tmp_path)


@contextmanager
def folders() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


@given(
    st.lists(st.sampled_from(["run", "move", "copy", "restore", "take over", "run the copy", "back up"]), max_size=12)
)
def test_whatever_is_done_to_a_folder_only_the_one_that_somebody_chose_goes_on(steps: list[str]) -> None:
    """The model: which file on the disk is the installation's, and which folder holds it."""
    with folders() as root:
        state = root / "state"
        state.mkdir()
        ids = {begin(state).id}
        is_own = True
        copies: list[Path] = []
        backup: Path | None = None
        for number, step in enumerate(steps):
            if step == "run":
                assert begin(state).is_copy is not is_own
            elif step == "move":
                state = state.rename(root / f"moved {number}")
            elif step == "copy":
                copies.append(Path(shutil.copytree(state, root / f"copy {number}")))
            elif step == "run the copy" and copies:
                assert begin(copies[-1]).is_copy
            elif step == "back up":
                backup = Path(shutil.copytree(state, root / f"backup {number}"))
            elif step == "restore" and backup is not None:
                shutil.rmtree(state)
                shutil.copytree(backup, state)
                is_own = False
            elif step == "take over":
                taken = begin(state, takes_over=True)
                assert not taken.is_copy
                assert (taken.id in ids) is is_own
                ids.add(taken.id)
                is_own = True


# What tokens are recognised by


def test_rotation_forgets_nothing_and_only_re_encrypts(tmp_path: Path) -> None:
    installation = InstallationFile(tmp_path)
    before = installation.keyring(OLD_KEY, []).fingerprint("token")
    both = installation.keyring(NEW_KEY, [OLD_KEY])
    assert both.fingerprint("token") == before
    installation.reseal_keys(both)
    assert installation.keyring(NEW_KEY, []).fingerprint("token") == before


def test_each_installation_recognises_by_a_key_of_its_own(tmp_path: Path) -> None:
    marks = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        marks.add(InstallationFile(tmp_path / name).keyring(OLD_KEY, []).fingerprint("token"))
    assert len(marks) == 2
    assert Keyring(OLD_KEY).fingerprint("token") not in marks


def test_no_key_lies_readable_in_the_folder(tmp_path: Path) -> None:
    import base64

    keyring = InstallationFile(tmp_path).keyring(OLD_KEY, [])
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for key in keyring.fingerprint_keys:
        assert key.raw not in content
        assert base64.b64encode(key.raw) not in content


def test_with_another_key_altogether_nothing_is_recognised_and_the_key_that_is_missing_is_named(tmp_path: Path) -> None:
    installation = InstallationFile(tmp_path)
    before = installation.keyring(OLD_KEY, []).fingerprint("token")
    for keys, missing in (((NEW_KEY, []), Keyring(OLD_KEY).key_id), ((NEW_KEY, [OLD_KEY]), "")):
        keyring = installation.keyring(*keys)
        assert (before in keyring.fingerprints("token")) is (missing == "")
        assert installation.begin(STORE, START, keyring, takes_over=False).missing_key == missing


def test_who_takes_over_goes_on_without_what_needs_a_key_that_is_gone(tmp_path: Path) -> None:
    installation = InstallationFile(tmp_path)
    installation.keyring(OLD_KEY, [])
    during = installation.keyring(NEW_KEY, [])
    assert installation.begin(STORE, START, during, takes_over=True).missing_key == ""
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / "journal-1.sqlite3").touch()  # which noted what that run sent
    later = installation.keyring(NEW_KEY, [])
    assert installation.begin(STORE, START, later, takes_over=False).missing_key == ""
    assert during.fingerprint("token") in later.fingerprints("token")
    assert later.fingerprint("token") != during.fingerprint("token")


def test_what_version_0_1_0_recognised_is_still_recognised_after_a_rotation(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / "journal-1.sqlite3").touch()
    earlier = Keyring(OLD_KEY).fingerprint("token")
    installation = InstallationFile(tmp_path)
    keyring = installation.keyring(NEW_KEY, [OLD_KEY])
    installation.reseal_keys(keyring)
    alone = installation.keyring(NEW_KEY, [])
    assert earlier in alone.fingerprints("token")
    assert alone.fingerprint("token") not in (earlier, Keyring(NEW_KEY).fingerprint("token"))
