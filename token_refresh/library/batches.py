"""What is asked for while an answer is under way, answered together: one trip to the store for all of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from token_refresh.base.errors import TokenError

_Asked = TypeVar("_Asked")
_T = TypeVar("_T")


class Batches(Generic[_Asked, _T]):
    """Whoever asks first leads; who comes meanwhile is in the next batch.

    Args:
        act: answers a batch, each in its place, or ends it with one error for all; it never raises.
    """

    def __init__(self, act: Callable[[list[_Asked]], list[_T] | TokenError]) -> None:
        self._act = act
        self._lock = threading.Lock()
        self._waiting: list[tuple[_Asked, Future[_T | TokenError]]] = []
        self._leader = 0  # the process that it is in; a child that was forked meanwhile has no such thread

    def join(self, asked: _Asked) -> tuple[Future[_T | TokenError], Callable[[], None] | None]:
        """The answer to come, and, for the leader alone, what makes it come: to be called once, in any thread."""
        future: Future[_T | TokenError] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._waiting.append((asked, future))
            is_led, self._leader = self._leader == os.getpid(), os.getpid()
        return future, None if is_led else self._lead

    def _lead(self) -> None:
        while batch := self._next():
            answers = self._act([asked for asked, _ in batch])
            for place, (_, future) in enumerate(batch):
                future.set_result(answers if isinstance(answers, TokenError) else answers[place])

    def _next(self) -> list[tuple[_Asked, Future[_T | TokenError]]]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            if not batch:
                self._leader = 0
        return batch
