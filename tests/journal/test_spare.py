"""The spare folder: a private file for each answer; what others put there is never opened."""

from __future__ import annotations

import os
import resource
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from tests.world.clock import START
from tests.world.unprivileged import NOBODY, unprivileged
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
