"""The state folder and the spare one: whether they will be of use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.world.disk import fill, small_disk
from tests.world.unprivileged import unprivileged
from token_refresh.base.checks import BAD, DOUBTFUL, GOOD
from token_refresh.diagnosis.folders import check_security_log, check_spare_folder, check_state_folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than those of tests."""
    others = (Path("/dev/shm"), Path("/var/tmp"))
    other = next((one for one in others if one.is_dir() and one.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=other) as name:
        yield Path(name)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """As on a machine where everything is on a disk, wherever the folders of tests are."""
    file = tmp_path / "mounts"
    file.write_text("/dev/sda1 / ext4 rw 0 0\n")
    return file


def found(spare: Path, state: Path, mounts: Path) -> list[tuple[str, str]]:
    """The states and the beginnings of what is found."""
    return [(one.state, one.message.split(":")[0]) for one in check_spare_folder(spare, state, mounts)]


def test_a_private_folder_on_another_disk_is_good(tmp_path: Path, elsewhere: Path, mounts: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    assert [state for state, _ in found(own, elsewhere, mounts)] == [GOOD]
    assert list(own.iterdir()) == []


def test_a_folder_that_has_yet_to_be_made_is_judged_by_the_one_above(
    tmp_path: Path, elsewhere: Path, mounts: Path
) -> None:
    assert [state for state, _ in found(tmp_path / "a/b", elsewhere, mounts)] == [GOOD]
    assert not (tmp_path / "a").exists()


def test_the_disk_of_the_state_folder_is_no_other_disk(tmp_path: Path, mounts: Path) -> None:
    assert found(tmp_path, tmp_path, mounts) == [(DOUBTFUL, f"{tmp_path} is on the same disk as the state folder")]


def test_memory_is_no_disk(tmp_path: Path, elsewhere: Path, mounts: Path) -> None:
    mounts.write_text(f"{mounts.read_text()}tmpfs {elsewhere} tmpfs rw 0 0\n")
    what = f"{elsewhere} lies on tmpfs, which is not kept over a restart"
    assert found(elsewhere, tmp_path, mounts) == [(DOUBTFUL, what)]


@pytest.mark.parametrize(("mode", "is_named"), [(0o1777, False), (0o755, False), (0o777, True), (0o770, True)])
def test_a_folder_whose_files_others_can_delete_is_named(
    tmp_path: Path, elsewhere: Path, mounts: Path, mode: int, is_named: bool
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    named = [(DOUBTFUL, f"other users can delete files in {folder}")]
    assert (found(folder, elsewhere, mounts) == named) == is_named


def test_a_folder_that_cannot_be_written_is_named_with_the_reason(elsewhere: Path, mounts: Path) -> None:
    def act(home: Path) -> None:
        home.chmod(0o500)
        assert found(home, elsewhere, mounts) == [(DOUBTFUL, f"{home} cannot be written (Permission denied)")]

    unprivileged(act)


def test_a_state_folder_on_a_full_disk_cannot_be_written(tmp_path: Path) -> None:
    """An empty file may be made there, an answer could not be."""
    with ExitStack() as end:
        disk = small_disk(tmp_path / "disk", "64k", end)
        assert check_state_folder(disk, 4096).state == GOOD
        fill(disk)
        found = check_state_folder(disk, 4096)
        assert (found.state, found.message) == (BAD, f"{disk} cannot be written (No space left on device)")
        assert found.action == "Free disk space there."


def test_a_security_log_that_can_be_written_is_good_and_nothing_is_made(tmp_path: Path) -> None:
    assert check_security_log(tmp_path / "log").state == GOOD
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [("gone/log", "No such file or directory"), ("folder", "Is a directory")])
def test_a_security_log_that_cannot_be_written_is_named_with_what_it_means(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    found = check_security_log(tmp_path / name)
    what = f"{tmp_path / name} cannot be written ({reason}): no use of a credential is noted"
    assert (found.state, found.message) == (DOUBTFUL, what)
