"""Whose a file's place is, whichever links lead there, and that secrets are read from plain files alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.world.unprivileged import unprivileged
from token_refresh.base.files import SharedPlaceError, may_be_closed, read_plain_file, require_own_place, user_name

SOMEBODY = 65534
# A file of somebody else's is made by root alone (chown(2)); as another user there is nothing to show it with.
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
KEY_BYTES = 64


def folder(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def test_a_user_that_the_system_does_not_know_is_named_by_its_number() -> None:
    assert user_name(4_000_000_000) == "#4000000000"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o2775, 0o702])
def test_a_folder_that_others_can_write_in_holds_no_file_of_ours(tmp_path: Path, mode: int) -> None:
    shared = folder(tmp_path / "shared", mode)
    with pytest.raises(SharedPlaceError, match=f"other users can write in the folder {shared}") as raised:
        require_own_place(shared / "x")
    advice = "Name a folder that only you can write in"
    assert raised.value.action == (f"{advice}." if mode & stat.S_ISVTX else f"{advice}, or run: chmod go-w {shared}")


def test_a_folder_of_another_user_is_not_to_be_changed() -> None:
    """Root's /tmp and /opt: nobody but root may change their permissions, and everybody relies on them."""

    def act(_: Path) -> None:
        assert not may_be_closed(Path("/"))

    unprivileged(act)


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_on_the_way_that_others_can_write_in_could_lead_elsewhere_tomorrow(tmp_path: Path, mode: int) -> None:
    inner = folder(folder(tmp_path / "shared", mode) / "own", 0o700)
    with pytest.raises(SharedPlaceError, match="shared"):
        require_own_place(inner / "x")


def test_a_folder_of_ours_in_one_like_tmp_is_ours(tmp_path: Path) -> None:
    inner = folder(folder(tmp_path / "shared", 0o1777) / "own", 0o700)
    assert require_own_place(inner / "x") == inner / "x"


@AS_ROOT
@pytest.mark.parametrize("what", ["folder", "link to a folder", "link to a file", "file"])
def test_what_somebody_else_put_in_the_way_is_refused(tmp_path: Path, what: str) -> None:
    own = folder(tmp_path / "own", 0o700)
    (own / "x").write_text("what nobody else may change")
    shared = folder(tmp_path / "shared", 0o1777)
    theirs = shared / "theirs"
    path = theirs / "x" if "folder" in what else theirs
    if what == "folder":
        theirs.mkdir()
    elif what == "file":
        theirs.touch()
    else:
        theirs.symlink_to(own if "folder" in what else own / "x")
    os.chown(theirs, SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(SharedPlaceError, match=r"theirs belongs to|can write in the folder"):
        require_own_place(path)


@AS_ROOT
def test_a_link_of_ours_does_not_lead_through_one_of_somebody_else_s(tmp_path: Path) -> None:
    shared, own = folder(tmp_path / "shared", 0o1777), folder(tmp_path / "own", 0o700)
    (shared / "theirs").symlink_to(own)
    os.chown(shared / "theirs", SOMEBODY, SOMEBODY, follow_symlinks=False)
    (own / "link").symlink_to(Path("../shared/theirs/x"))
    with pytest.raises(SharedPlaceError, match="theirs belongs to"):
        require_own_place(own / "link")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["a", "b", "..", ".", "link", "up", "gone"]), min_size=1, max_size=6))
def test_the_place_is_the_one_that_the_system_finds(tmp_path: Path, steps: list[str]) -> None:
    for inner in (tmp_path / "a" / "b", tmp_path / "b" / "a"):
        inner.mkdir(parents=True, exist_ok=True)
    for holder in (tmp_path, tmp_path / "a"):
        if not (holder / "link").is_symlink():
            (holder / "link").symlink_to(tmp_path / "b")
            (holder / "up").symlink_to("../b")
    path = tmp_path.joinpath(*steps)
    try:
        place = require_own_place(path)
    except OSError:
        assert not path.parent.exists()
    except SharedPlaceError:
        assert tmp_path.resolve() not in (path.resolve(), *path.resolve().parents)  # it has left this test's folder
    else:
        assert place == path.resolve()


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        require_own_place(tmp_path / "a")


def test_a_plain_file_is_read_to_its_limit_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * KEY_BYTES)
    (tmp_path / "link").symlink_to("key")
    content, status = read_plain_file(tmp_path / "link", KEY_BYTES)
    assert (content, stat.S_ISREG(status.st_mode)) == (b"k" * KEY_BYTES, True)
    with pytest.raises(OSError, match="larger"):
        read_plain_file(tmp_path / "key", KEY_BYTES - 1)


def test_a_pipe_is_not_waited_for_and_a_folder_or_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match=r"no plain file|directory"):
            read_plain_file(path, KEY_BYTES)
