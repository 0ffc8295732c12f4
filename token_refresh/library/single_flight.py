"""One act for all who ask for the same thing at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from token_refresh.base.errors import RetryLaterError, TokenError

_T = TypeVar("_T")


class Flight(Generic[_T]):
    """What those who ask for the same thing at the same time wait for. Whoever leads first does it, and nobody twice.

    All may try to lead: where somebody was interrupted before he began, the next one begins.

    Attributes:
        answer: to come. It cannot be cancelled: others may wait for it.
        is_handed_over: a thread has been asked to lead.
    """

    def __init__(self, act: Callable[[], _T | TokenError], end: Callable[[Flight[_T]], None]) -> None:
        self.answer: Future[_T | TokenError] = Future()
        self.answer.set_running_or_notify_cancel()
        self.is_handed_over = False
        self._act = act
        self._end = end
        self._leader: dict[str, int] = {}

    @property
    def is_led_here(self) -> bool:
        """Whether this very thread is at it, further up: it would wait for itself."""
        return self._leader.get("thread") == threading.get_ident() and not self.answer.done()

    def lead(self) -> None:
        """Do it, unless somebody is at it already; in any thread."""
        self._take(self._act)

    def give_up(self, error: TokenError) -> None:
        """Tell all who wait that there will be no answer, unless somebody is at it."""
        self._take(lambda: error)

    def _take(self, act: Callable[[], _T | TokenError]) -> None:
        if self._leader:
            return
        me = threading.get_ident()
        answer: _T | TokenError = RetryLaterError("whoever asked first was interrupted", "Ask again.")
        try:
            if self._leader.setdefault("thread", me) == me:  # in one step, whatever the number of threads
                answer = act()
        finally:
            if self._leader.get("thread") == me:
                self._land(answer)

    def _land(self, answer: _T | TokenError) -> None:
        """An interrupt is raised when nobody waits any more."""
        interrupt: BaseException | None = None
        while not self.answer.done():
            try:
                self._end(self)  # who comes from now on asks again
                self.answer.set_result(answer)
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


class SingleFlight(Generic[_T]):
    """Whoever asks first leads; the others get what the leader gets."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Flight[_T]] = {}

    def join(self, key: Hashable, act: Callable[[], _T | TokenError]) -> Flight[_T]:
        """The flight of all who ask for it now: to be led, or handed over to a thread that leads, then waited for."""
        key = (os.getpid(), key)  # a child that was forked in the middle would wait for a thread that it has not

        def end(flight: Flight[_T]) -> None:
            if self._open.get(key) is flight:
                del self._open[key]

        flight = Flight(act, end)
        return self._open.setdefault(key, flight)  # in one step, whatever the number of threads
