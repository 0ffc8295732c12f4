"""The spare folder: a private file for each answer; what others put there is never opened."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.world.clock import START
from tests.world.unprivileged import NOBODY, unprivileged
from token_refresh.base.checks import DOUBTFUL, GOOD
from token_refresh.journal.spare import MAX_BYTES, SpareFolder, read, remove

UID, OTHER = "0123456789abcdef", "fedcba9876543210"
SEALED = "sealed:v1:0123456789abcdef:AAAA"
# A file of somebody else's is made by root alone (chown(2)); as another user there is nothing to show it with.
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def spare(tmp_path: Path) -> SpareFolder:
    return SpareFolder(tmp_path / "volume" / "spare")


def test_an_answer_is_a_private_file_in_a_private_folder_whatever_the_umask(spare: SpareFolder, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = spare.save(UID, SEALED, START)
    finally:
        os.umask(before)
    assert path.parent == tmp_path / "volume" / "spare"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
    assert read(path) == SEALED


def test_files_are_found_by_their_entries_newest_first_and_two_of_one_moment_are_two(spare: SpareFolder) -> None:
    older = spare.save(UID, SEALED, START)
    newer = spare.save(OTHER, SEALED, START + timedelta(microseconds=1))
    twin = spare.save(OTHER, SEALED, START + timedelta(microseconds=1))
    assert spare.files()[2] == (UID, older)
    assert {path for uid, path in spare.files() if uid == OTHER} == {newer, twin}


def test_a_folder_that_is_not_there_holds_nothing(spare: SpareFolder) -> None:
    assert spare.files() == []


def test_a_folder_may_be_a_link(tmp_path: Path) -> None:
    """As /var/tmp is on some systems."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    path = SpareFolder(tmp_path / "link").save(UID, SEALED, START)
    assert SpareFolder(tmp_path / "real").files() == [(UID, tmp_path / "real" / path.name)]


def test_a_file_in_the_folders_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "spare").touch()
    with pytest.raises(OSError, match="File exists"):
        SpareFolder(tmp_path / "spare").save(UID, SEALED, START)


def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    def act(home: Path) -> None:
        home.chmod(0o500)
        with pytest.raises(PermissionError):
            SpareFolder(home).save(UID, SEALED, START)

    unprivileged(act)


def test_a_full_disk_leaves_no_half_file(spare: SpareFolder) -> None:
    """The kernel refuses whatever lies beyond the limit, as it does on a full disk, in the middle of the answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            spare.save(UID, "sealed:v1:" + "A" * (MAX_BYTES - 10), START)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spare.files() == []


# Whether it will be of use


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a disk: those of other tests may be in memory."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def elsewhere(disk: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == disk.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """As on a machine where everything is on a disk but what is in memory."""
    file = tmp_path / "mounts"
    file.write_text("/dev/sda1 / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n")
    return file


def found(spare: Path, state: Path, mounts: Path) -> list[tuple[str, str]]:
    """The states and the beginnings of what is found."""
    return [(one.state, one.message.split(":")[0]) for one in SpareFolder(spare).check(state, mounts)]


def test_a_private_folder_on_another_disk_is_good(disk: Path, elsewhere: Path, mounts: Path) -> None:
    own = disk / "own"
    own.mkdir(mode=0o700)
    assert [state for state, _ in found(own, elsewhere, mounts)] == [GOOD]
    assert list(own.iterdir()) == []


def test_a_folder_that_has_yet_to_be_made_is_judged_by_the_one_above(disk: Path, elsewhere: Path, mounts: Path) -> None:
    assert [state for state, _ in found(disk / "a/b", elsewhere, mounts)] == [GOOD]
    assert not (disk / "a").exists()


def test_the_disk_of_the_state_folder_is_no_other_disk(disk: Path, mounts: Path) -> None:
    assert found(disk, disk, mounts) == [(DOUBTFUL, f"{disk} is on the same disk as the state folder")]


def test_memory_is_no_disk(disk: Path, elsewhere: Path, mounts: Path) -> None:
    what = f"{elsewhere} lies on tmpfs, which is not kept over a restart"
    assert found(elsewhere, disk, mounts) == [(DOUBTFUL, what)]


@pytest.mark.parametrize(("mode", "is_named"), [(0o1777, False), (0o755, False), (0o777, True), (0o770, True)])
def test_a_folder_whose_files_others_can_delete_is_named(
    disk: Path, elsewhere: Path, mounts: Path, mode: int, is_named: bool
) -> None:
    folder = disk / "shared"
    folder.mkdir()
    folder.chmod(mode)
    named = [(DOUBTFUL, f"other users can delete files in {folder}")]
    assert (found(folder, elsewhere, mounts) == named) == is_named


def test_a_folder_that_cannot_be_written_is_named_with_the_reason(elsewhere: Path, mounts: Path) -> None:
    def act(home: Path) -> None:
        home.chmod(0o500)
        assert found(home, elsewhere, mounts) == [(DOUBTFUL, f"{home} cannot be written (Permission denied)")]

    unprivileged(act)


# What others put there


def name_of(spare: SpareFolder) -> Path:
    """A name as the folder's own files have it, of no file."""
    path = spare.save(UID, SEALED, START)
    path.unlink()
    return path


def test_a_link_is_not_followed(spare: SpareFolder, tmp_path: Path) -> None:
    path = name_of(spare)
    (tmp_path / "elsewhere").write_text(SEALED)
    path.symlink_to(tmp_path / "elsewhere")
    assert read(path) == ""


def test_a_pipe_is_not_waited_for(spare: SpareFolder) -> None:
    path = name_of(spare)
    os.mkfifo(path)
    assert read(path) == ""


def test_a_folder_of_that_name_is_none(spare: SpareFolder) -> None:
    path = name_of(spare)
    path.mkdir()
    assert read(path) == ""
    remove(path)
    assert path.is_dir()


@AS_ROOT
def test_a_file_of_another_user_is_not_read(spare: SpareFolder) -> None:
    path = spare.save(UID, SEALED, START)
    os.chown(path, NOBODY, NOBODY)
    assert read(path) == ""


def test_a_file_that_is_no_text_or_gone_is_none(spare: SpareFolder) -> None:
    path = name_of(spare)
    assert read(path) == ""
    path.write_bytes(b"\xff")
    assert read(path) == ""
    remove(path)
    remove(path)
    assert not path.exists()
