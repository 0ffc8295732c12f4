"""One run at a time per host and store, by `flock`: a lock that dies with its process and cannot go stale."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind

LOCK_FILE = "run.lock"
POLL_SECONDS = 1.0


class LockedError(ActionableError):
    """Another run is active. The message says who holds the lock and since when."""

    kind = Kind.BUSY


def hold(path: Path) -> int | None:
    """Lock a file, made where there is none, until the returned descriptor is closed; None where another process
    holds it.

    Unlike `RunLock`'s it may be deleted by its holder, so a lock counts only on the file that has the name.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _has_name(descriptor, path):
            return descriptor
        os.close(descriptor)


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class RunLock:
    """The lock of one store's folder, held while used as a context manager.

    Args:
        folder: the store's state folder, on a local disk.
        clock: for the note that others read.
        wait_seconds: how long to wait for another run to end.
        on_wait: called once when the wait begins.

    Raises:
        LockedError: on entering, where another process holds it.
    """

    def __init__(
        self, folder: Path, clock: Clock, wait_seconds: float = 0.0, on_wait: Callable[[], None] | None = None
    ) -> None:
        self._path = folder / LOCK_FILE
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._on_wait = on_wait
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        # The file is never deleted: a deleted one could be locked twice under the same name.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        note = json.dumps({"pid": os.getpid(), "since": iso(self._clock.now())})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)  # the note is of this holder, not of the next
        os.close(self._descriptor)
        self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        deadline = self._clock.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock.monotonic() >= deadline:
                    raise LockedError(_holder(descriptor), "Try again in a minute.") from None
                if self._on_wait is not None:
                    self._on_wait()
                    self._on_wait = None
                self._clock.sleep(POLL_SECONDS)


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 200, 0))
        return f"another run is active: process {note['pid']}, since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "another run is active; it has only just started"
