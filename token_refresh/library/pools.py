"""Threads for calls, and an error for what no thread can be started for."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from token_refresh.base.errors import RetryLaterError

_T = TypeVar("_T")


class Pool:
    """At most so many threads, which carry out what they are given in the order in which it comes."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def begin(self, act: Callable[[], _T]) -> Future[_T] | RetryLaterError:
        """Have a thread do it. Its end, or the error where no thread can be started; then it is never done."""
        work = _Work(act)
        try:
            self._executor.submit(work)
        except RuntimeError:  # it is in the queue all the same, and threads that are there already may come to it
            if work.take():
                what = "the system starts no more threads, or the program ends; nothing was done"
                return RetryLaterError(what, "Repeat it.")
        return work.end

    def shutdown(self) -> None:
        """Wait for what is open."""
        self._executor.shutdown()


class Lanes:
    """A pool of which each lane takes half at most: what is slow in one leaves threads for the others."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = Pool(threads, name)
        self._most = max(1, threads // 2)
        self._lock = threading.Lock()
        self._going = Counter[str]()
        self._waiting = defaultdict[str, deque[_Work[Any]]](deque)

    def begin(self, act: Callable[[], _T], lane: str) -> Future[_T] | RetryLaterError:
        """See `Pool.begin`."""
        work = _Work(act)
        with self._lock:
            self._waiting[lane].append(work)
            if self._going[lane] < self._most:
                begun = self._pool.begin(partial(self._serve, lane))
                if isinstance(begun, RetryLaterError):
                    self._waiting[lane].pop()
                    return begun
                self._going[lane] += 1
        return work.end

    def shutdown(self) -> None:
        """Wait for what is open."""
        self._pool.shutdown()

    def _serve(self, lane: str) -> None:
        while (work := self._next(lane)) is not None:
            work()

    def _next(self, lane: str) -> _Work[Any] | None:
        with self._lock:
            if self._waiting[lane]:
                return self._waiting[lane].popleft()
            self._going[lane] -= 1
            if not self._going[lane]:
                del self._going[lane], self._waiting[lane]
            return None


class _Work(Generic[_T]):
    """What is done once at most: whoever takes it first may do it, or see to it that nobody does."""

    def __init__(self, act: Callable[[], _T]) -> None:
        self.end: Future[_T] = Future()
        self.end.set_running_or_notify_cancel()  # whoever is cancelled stops waiting, no more
        self._act = act
        self._taken = threading.Lock()

    def take(self) -> bool:
        return self._taken.acquire(blocking=False)

    def __call__(self) -> None:
        if not self.take():
            return
        try:
            self.end.set_result(self._act())
        except BaseException as error:
            self.end.set_exception(error)
        finally:
            del self._act  # which may hold a login
