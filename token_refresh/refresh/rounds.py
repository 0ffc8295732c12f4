"""Round after round, for those without cron: at fixed times from the first one on, until somebody wants the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from token_refresh.base.clock import Clock

TICK_SECONDS = 0.5  # how long the end may go unnoticed


class Stop:
    """Somebody wants the end: the run that is under way is asked to stop, and no other begins.

    Called with the reason; from a signal handler or another thread, too.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._tell: Callable[[str], None] | None = None

    def __call__(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self._tell is not None:
            self._tell(reason)

    @contextmanager
    def reaching(self, tell: Callable[[str], None]) -> Iterator[None]:
        """While inside, whoever wants the end is passed on to `tell`; at once, where it is wanted already."""
        self._tell = tell
        if self.reason is not None:
            tell(self.reason)
        try:
            yield
        finally:
            self._tell = None


def rounds(interval: float, clock: Clock, stop: Stop) -> Iterator[None]:
    """Yield at once and then at every multiple of `interval` seconds, until `stop` was called.

    What happens in a round does not move the next one; one that takes too long skips those that it misses.
    """
    first = clock.monotonic()
    number = 0
    while stop.reason is None:
        yield
        number = max(number + 1, math.ceil((clock.monotonic() - first) / interval))
        while stop.reason is None and (left := first + number * interval - clock.monotonic()) > 0:
            clock.sleep(min(left, TICK_SECONDS))
