"""The moved clock of several processes: whoever waits moves it on for all of them."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from pathlib import Path

from tests.world.clock import START, FakeClock

_SECONDS = struct.Struct("d")


class SharedClock(FakeClock):
    """See `FakeClock`; what has passed is kept in `file`, which is made where it does not exist."""

    def __init__(self, file: Path) -> None:
        # Not the base's own beginning, which would set the time back for those who are there already.
        self._lock, self._start, self.slept = threading.Lock(), START, 0.0
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size < _SECONDS.size:
            os.pwrite(self._descriptor, _SECONDS.pack(0.0), 0)
        self._memory = mmap.mmap(self._descriptor, _SECONDS.size)

    @property
    def _passed(self) -> float:
        return float(_SECONDS.unpack_from(self._memory)[0])

    @_passed.setter
    def _passed(self, seconds: float) -> None:
        _SECONDS.pack_into(self._memory, 0, seconds)

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
