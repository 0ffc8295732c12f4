"""What a process has locked is free when it lets go, whatever children it has forked meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.journal.test_file import opened
from tests.world.clock import FakeClock
from token_refresh.journal.lock import hold, run_lock
from token_refresh.stores.airtable.pace import Pace


@contextmanager
def child() -> Iterator[None]:
    """A child that is forked here, and lives on meanwhile."""
    ready, begun = os.pipe()
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        with suppress(BaseException):
            os.close(writing)
            os.write(begun, b"1")
            os.read(reading, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        yield
    finally:
        for descriptor in (ready, begun, reading, writing):
            os.close(descriptor)
        os.waitpid(process, 0)


def test_a_child_that_was_forked_during_a_run_keeps_nobody_from_the_next_one(tmp_path: Path, clock: FakeClock) -> None:
    with ExitStack() as stack:
        with run_lock(tmp_path, clock):
            stack.enter_context(child())
            with pytest.raises(Exception, match="another run is active"), run_lock(tmp_path, clock):
                pass
        with run_lock(tmp_path, clock):
            pass


def test_a_child_that_was_forked_while_a_journal_was_open_keeps_it_from_nobody(
    tmp_path: Path, clock: FakeClock
) -> None:
    with ExitStack() as stack:
        with closing(opened(tmp_path, clock)):
            stack.enter_context(child())
        with closing(opened(tmp_path, clock)) as journal:
            assert journal.slot == 1


def test_a_child_that_was_forked_while_a_call_took_its_moment_holds_up_no_other(
    tmp_path: Path, clock: FakeClock
) -> None:
    file = tmp_path / "pace"
    with ExitStack() as stack:

        def fork(_: object) -> float:
            stack.enter_context(child())
            return 0.0

        Pace(file, clock, 4)._update(fork)
        with file.open() as taken:
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_child_that_leaves_its_parents_run_touches_no_file_that_got_the_locks_number(
    tmp_path: Path, clock: FakeClock
) -> None:
    file = tmp_path / "another"
    file.write_text("what it holds")
    with run_lock(tmp_path, clock) as descriptor:
        process = os.fork()
        if process == 0:
            with suppress(BaseException):
                reused = os.open(file, os.O_RDWR)
    if process == 0:
        is_kept = reused == descriptor and os.pread(reused, 50, 0) == b"what it holds"
        os._exit(0 if is_kept else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_a_child_keeps_a_file_that_got_the_number_of_a_lock_which_another_hand_closed(tmp_path: Path) -> None:
    held = hold(tmp_path / "lock")
    assert held is not None
    os.close(held)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == held
    process = os.fork()
    if process == 0:
        with suppress(OSError):
            os.write(other, b"written by the child")
        os._exit(0)
    os.waitpid(process, 0)
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b"written by the child"
