"""That somebody wants the end of what is under way: asked for anywhere, known wherever it is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """Whether the end is wanted: what is under way is finished, and nothing else begins.

    Called with the reason; from a signal handler or another thread, too.

    Attributes:
        reason: the first one; None as long as nobody wants the end.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._forwards: list[Callable[[str], None]] = []

    def __call__(self, reason: str) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        for forward in list(self._forwards):
            forward(reason)

    @property
    def is_forwarding(self) -> bool:
        """Whether anybody is inside whom the wish is, or was, passed on to."""
        return bool(self._forwards)

    @contextmanager
    def forwarding_to(self, forward: Callable[[str], None]) -> Iterator[None]:
        """While inside, the wish for the end is passed on to `forward`; at once, where it is there already.

        Several threads may be inside. A wish that comes at the very moment of entering may be passed on twice.
        """
        self._forwards.append(forward)
        try:
            if self.reason is not None:
                forward(self.reason)
            yield
        finally:
            self._forwards.remove(forward)
