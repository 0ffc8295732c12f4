"""One run at a time: by a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world.clock import FakeClock
from tests.world.program import ROOT
from tests.world.unprivileged import unprivileged
from token_refresh.journal.lock import LOCK_FILE, LockedError, run_lock

HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from token_refresh.base.clock import SystemClock
from token_refresh.journal.lock import run_lock
with run_lock(Path(sys.argv[2]), SystemClock()):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ROOT), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_run_learns_who_holds_the_lock_and_since_when(tmp_path: Path, clock: FakeClock) -> None:
    with holder(tmp_path) as process, pytest.raises(LockedError) as error, run_lock(tmp_path, clock):
        pass
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(f"another run is active: process {process.pid}, since {time}", str(error.value))


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, clock: FakeClock) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    with run_lock(tmp_path, clock):
        pass
    assert clock.slept == 0


def test_the_lock_excludes_within_one_process_too(tmp_path: Path, clock: FakeClock) -> None:
    with run_lock(tmp_path, clock), pytest.raises(LockedError), run_lock(tmp_path, clock):
        pass


def test_the_file_stays_the_same_so_that_two_runs_cannot_lock_two_files(tmp_path: Path, clock: FakeClock) -> None:
    with run_lock(tmp_path, clock):
        first = (tmp_path / LOCK_FILE).stat().st_ino
    with run_lock(tmp_path, clock):
        assert (tmp_path / LOCK_FILE).stat().st_ino == first
    assert (tmp_path / LOCK_FILE).exists()


def test_the_file_is_for_its_owner_alone(tmp_path: Path, clock: FakeClock) -> None:
    with run_lock(tmp_path, clock):
        assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o600


def test_a_holder_that_has_written_no_note_yet_is_not_mistaken_for_the_one_before(
    tmp_path: Path, clock: FakeClock
) -> None:
    with run_lock(tmp_path, clock):
        pass
    with (tmp_path / LOCK_FILE).open() as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="only just started"), run_lock(tmp_path, clock):
            pass
    assert (tmp_path / LOCK_FILE).read_text() == ""


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", "7", '{"pid": 1}', "\0" * 50])
def test_an_unreadable_note_still_says_that_a_run_is_active(tmp_path: Path, clock: FakeClock, note: str) -> None:
    with run_lock(tmp_path, clock):
        (tmp_path / LOCK_FILE).write_text(note)
        with pytest.raises(LockedError, match="another run is active"), run_lock(tmp_path, clock):
            pass


def test_waiting_ends_as_soon_as_the_other_run_does(tmp_path: Path, clock: FakeClock) -> None:
    told: list[str] = []
    with holder(tmp_path) as process:

        def end() -> None:
            told.append("waiting")
            process.kill()
            process.wait()

        with run_lock(tmp_path, clock, wait_seconds=60, on_wait=end):
            pass
    assert told == ["waiting"]
    assert clock.slept == 1


def test_waiting_has_an_end(tmp_path: Path, clock: FakeClock) -> None:
    told: list[str] = []
    with (
        run_lock(tmp_path, clock),
        pytest.raises(LockedError),
        run_lock(tmp_path, clock, wait_seconds=60, on_wait=lambda: told.append("waiting")),
    ):
        pass
    assert told == ["waiting"]
    assert clock.slept == 60


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path, clock: FakeClock) -> None:
    """Otherwise a notifier that outlives the run would keep the next one out."""
    with run_lock(tmp_path, clock) as descriptor:
        assert not os.get_inheritable(descriptor)


def test_a_full_disk_keeps_nobody_from_the_lock() -> None:
    """The note in it is for others alone; what needs the disk says so later, in words."""

    def locked(home: Path) -> None:
        with run_lock(home, FakeClock()):
            pass  # the file is made
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        with run_lock(home, FakeClock()):
            assert (home / LOCK_FILE).stat().st_size == 0
            descriptor = os.open(home / LOCK_FILE, os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    unprivileged(locked)
