"""Round after round, for those without cron: at fixed times from the first one on, until somebody wants the end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from token_refresh.base.clock import Clock
from token_refresh.base.stop import Stop

TICK_SECONDS = 0.5  # how long the end may go unnoticed


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
