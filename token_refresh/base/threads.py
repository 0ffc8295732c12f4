"""Threads that end their work even where the program around them is about to end."""

from __future__ import annotations

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
        self._at_work: set[threading.Thread] = set()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> None:
        """Start them. Raises `RunError` where there can be none."""
        try:
            while len(self._threads) < self.count and self._start():
                pass
        except BaseException:  # Ctrl-C: `__exit__` is not called, and nobody would end those that wait already
            self._dismiss()
            raise
        self.count = len(self._threads)
        if not self._threads:
            raise RunError(
                "the system starts no more threads, so nothing was refreshed",
                "Raise its limit of processes for this user or service (ulimit -u, TasksMax), or end what uses it up.",
            )

    def __exit__(self, *_: object) -> None:
        """Wait for all of it. A repeated Ctrl-C does not end the wait: it is raised when everything is done."""
        interrupt: BaseException | None = None
        self._dismiss()
        while self._at_work:  # not `join`, which takes a thread for ended when it is interrupted
            try:
                self._ended.get()
            except BaseException as error:
                interrupt = error
        for thread in self._threads:
            thread.join()  # what is left of it: the system may count it a moment longer
        if interrupt is not None:
            raise interrupt

    def submit(self, act: Callable[[], None]) -> None:
        """Have a thread do it. It must not raise."""
        self._acts.put(act)

    def _start(self) -> bool:
        """Start one more; false where the system starts no more. It is known before it is there: see `__enter__`."""
        thread = threading.Thread(target=self._serve, daemon=False)
        self._threads.append(thread)
        self._at_work.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            self._at_work.remove(thread)
            return False
        return True

    def _dismiss(self) -> None:
        for _thread in self._threads:
            self._acts.put(None)

    def _serve(self) -> None:
        try:
            while (act := self._acts.get()) is not None:
                act()
        finally:
            self._at_work.discard(threading.current_thread())
            self._ended.put(None)
