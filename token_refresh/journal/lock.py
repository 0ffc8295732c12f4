"""One run at a time per host and store, by `flock`: a lock that dies with its process and cannot go stale."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.fork import let_go, open_unshared

LOCK_FILE = "run.lock"
POLL_SECONDS = 1.0


class LockedError(ActionableError):
    """Another run is active. The message says who holds the lock and since when."""

    kind = Kind.BUSY


def hold(path: Path) -> int | None:
    """Lock a file, made where there is none, until `let_go` gets the descriptor; None where another process holds it.

    Its holder may delete it, so a lock counts only on the file that has the name.
    """
    while True:
        descriptor = open_unshared(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            let_go(descriptor)
            return None
        let_go(descriptor)


@contextmanager
def run_lock(
    folder: Path, clock: Clock, wait_seconds: float = 0.0, on_wait: Callable[[], None] | None = None
) -> Iterator[int]:
    """Hold the lock of one store's folder; gives its descriptor.

    Args:
        folder: the store's state folder, on a local disk.
        clock: for the note that others read.
        wait_seconds: how long to wait for another run to end.
        on_wait: called once when the wait begins.

    Raises:
        LockedError: another process holds it.
    """
    path, deadline = folder / LOCK_FILE, clock.monotonic() + wait_seconds
    while (descriptor := hold(path)) is None:
        if clock.monotonic() >= deadline:
            raise LockedError(_holder(path), "Try again in a minute.")
        if on_wait is not None:
            on_wait()
            on_wait = None
        clock.sleep(POLL_SECONDS)
    try:
        with contextlib.suppress(OSError):  # a full disk: the note is only for others, and the lock holds without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": iso(clock.now())}).encode(), 0)
        yield descriptor
    finally:  # the file stays; the note is of this holder, not of the next
        let_go(descriptor, empty=True)


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.read_bytes())
        return f"another run is active: process {note['pid']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run is active; it has only just started"
