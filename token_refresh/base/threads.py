"""Threads that end their work even where the program around them is about to end."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from token_refresh.base.errors import RunError


class Threads:
    """Threads that carry out what they are given; used as a context manager, which waits for all of it.

    Not `ThreadPoolExecutor`: that takes no task once the interpreter ends, and the open round of a program that ends
    must still send back to the store what providers answered. The end of the program waits for them, also where the
    thread that starts them is a daemon: what is open then is answered and stored.

    Attributes:
        count: how many there are; fewer than were asked for where the system starts no more.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> None:
        """Start them. Raises `RunError` where there can be none."""
        with contextlib.suppress(RuntimeError):
            while len(self._threads) < self.count:
                thread = threading.Thread(target=self._serve, daemon=False)
                thread.start()
                self._threads.append(thread)
        self.count = len(self._threads)
        if not self._threads:
            raise RunError(
                "the system starts no more threads, so nothing was refreshed",
                "Raise its limit of processes for this user or service (ulimit -u, TasksMax), or end what uses it up.",
            )

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._acts.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, act: Callable[[], None]) -> None:
        """Have a thread do it. It must not raise."""
        self._acts.put(act)

    def _serve(self) -> None:
        while (act := self._acts.get()) is not None:
            act()
