"""One act for all who ask for the same thing at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from token_refresh.base.errors import RetryLaterError, TokenError

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Whoever asks first leads; the others get what the leader gets."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Future[_T | TokenError]] = {}

    def join(
        self, key: Hashable, act: Callable[[], _T | TokenError]
    ) -> tuple[Future[_T | TokenError], Callable[[], None] | None]:
        """The answer to come, and, for the leader alone, what makes it come: to be called once, in any thread.

        The future cannot be cancelled: others may wait for it.
        """
        key = (os.getpid(), key)  # a child that was forked in the middle would wait for a thread that it has not
        future: Future[_T | TokenError] = Future()
        future.set_running_or_notify_cancel()
        shared = self._open.setdefault(key, future)  # in one step, whatever the number of threads
        if shared is not future:
            return shared, None

        def lead() -> None:
            answer: _T | TokenError = RetryLaterError("whoever asked first was interrupted", "Ask again.")
            try:
                answer = act()
            finally:
                del self._open[key]  # who comes from now on asks again
                future.set_result(answer)

        return future, lead
