"""Airtable's limits on requests, on a clock that a test can hold in its hand.

Five requests a second for a base, fifty for a user; after a 429 thirty seconds of silence
(airtable.com/developers/web/api/rate-limits).
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable

PER_BASE = 5
PER_USER = 50
PENALTY_SECONDS = 30.0


class RateLimiter:
    """Counts requests by key (a base, a user) and remembers who has to be silent.

    Args:
        clock: seconds, monotonic.
        penalty_seconds: how long every request is refused after one too many.
        restarts: whether a request during the penalty begins it anew. Undocumented, so off unless asked for.
    """

    def __init__(
        self, clock: Callable[[], float], *, penalty_seconds: float = PENALTY_SECONDS, restarts: bool = False
    ) -> None:
        self.clock = clock
        self.penalty_seconds = penalty_seconds
        self.restarts = restarts
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._silent_until: dict[str, float] = {}
        self._arrivals: dict[str, list[float]] = defaultdict(list)

    def admit(self, key: str, per_second: int | None) -> bool:
        """Whether a request that arrives now is let through; it is counted either way. `None`: no limit."""
        with self._lock:
            now = self.clock()
            self._arrivals[key].append(now)
            if per_second is None:
                return True
            if now < self._silent_until.get(key, now):
                if self.restarts:
                    self._silent_until[key] = now + self.penalty_seconds
                return False
            return self._within(key, now, per_second)

    def _within(self, key: str, now: float, per_second: int) -> bool:
        recent = self._recent[key]
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        if len(recent) >= per_second:
            self._silent_until[key] = now + self.penalty_seconds
            return False
        recent.append(now)
        return True

    def max_in_window(self, key: str, seconds: float = 1.0) -> int:
        """The most requests that arrived for `key` in any window [t, t + seconds), refused ones too."""
        with self._lock:
            arrivals = sorted(self._arrivals[key])
        most = start = 0
        for end, moment in enumerate(arrivals):
            while arrivals[start] <= moment - seconds:
                start += 1
            most = max(most, end - start + 1)
        return most

    def forgive(self) -> None:
        """End every penalty and forget what was counted towards one."""
        with self._lock:
            self._silent_until.clear()
            self._recent.clear()
