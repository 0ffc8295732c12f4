"""The moved clock of several processes: whoever waits moves it on for all of them."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from datetime import datetime, timedelta
from pathlib import Path

from tests.world.clock import START, FakeClock

_FIELDS = struct.Struct("dd")  # seconds that have passed, and by how many the clock of the program's machine is ahead


class SharedClock(FakeClock):
    """See `FakeClock`; what has passed is kept in `file`, which is made where it does not exist.

    `is_machines` makes it the wall clock of the program's machine, which may be wrong; else it is the services'.
    """

    def __init__(self, file: Path, *, is_machines: bool = False) -> None:
        # Not the base's own beginning, which would set the time back for those who are there already.
        self._lock, self._start, self.slept = threading.Lock(), START, 0.0
        self._is_machines = is_machines
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size < _FIELDS.size:
            os.pwrite(self._descriptor, _FIELDS.pack(0.0, 0.0), 0)
        self._memory = mmap.mmap(self._descriptor, _FIELDS.size)

    @property
    def _passed(self) -> float:
        return float(_FIELDS.unpack_from(self._memory)[0])

    @_passed.setter
    def _passed(self, seconds: float) -> None:
        _FIELDS.pack_into(self._memory, 0, seconds, self.ahead)

    @property
    def ahead(self) -> float:
        """By how many seconds the clock of the program's machine is wrong."""
        return float(_FIELDS.unpack_from(self._memory)[1])

    @ahead.setter
    def ahead(self, seconds: float) -> None:
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                _FIELDS.pack_into(self._memory, 0, self._passed, seconds)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def now(self) -> datetime:
        """See `Clock.now`."""
        return super().now() + timedelta(seconds=self.ahead if self._is_machines else 0)

    def machines_now(self) -> datetime:
        """What the clock of the program's machine says."""
        return super().now() + timedelta(seconds=self.ahead)

    def advance(self, seconds: float) -> None:
        """Let time pass. The lock dies with its process, so a kill in here stops nobody."""
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                self._passed += max(0.0, seconds)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the file."""
        self._memory.close()
        os.close(self._descriptor)
