"""A clock that tests move: nobody ever really waits for it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """See `clock.Clock`. `sleep` moves it on at once; `slept` adds up how long the code wanted to wait."""

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._passed = 0.0
        self.slept = 0.0

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return 1000.0 + self._passed

    def timestamp(self) -> float:
        """The wall clock as Unix seconds, for the fake servers."""
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        self.advance(seconds)
        with self._lock:
            self.slept += seconds

    def set_back(self, seconds: float) -> None:
        """Somebody corrects the wall clock; what measures intervals goes on."""
        with self._lock:
            self._start -= timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._passed += max(0.0, seconds)
