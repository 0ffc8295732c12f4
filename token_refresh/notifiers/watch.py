"""Follows one run, and afterwards lets everybody act who wants to know of it: in parallel, in ten seconds together.

Nothing here changes a token or an exit code. Where nothing is set, nothing of the modules beside this one is imported
but what keeps the history and the last run's summary.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind, actionable_error, exit_code
from token_refresh.base.events import Event, RunFinished, RunStarted
from token_refresh.notifiers.summary import Facts, RunSummary

if TYPE_CHECKING:
    from token_refresh.net.transport import HTTPTransport
    from token_refresh.refresh.run_context import RunContext
    from token_refresh.settings import Settings
    from token_refresh.stores.base import Store

ALL_SECONDS = 10.0
_TICK_SECONDS = 0.05
_T = TypeVar("_T")


class Limit:
    """How long those who act after a run may still take, on the machine's own clock: sockets hang in real time.

    Args:
        seconds: how long at the most.
        is_stopped: whether somebody wants the end at once.
    """

    def __init__(self, seconds: float, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self._end = time.monotonic() + seconds
        self._is_stopped = is_stopped

    def seconds_left(self) -> float:
        """None are left where somebody wants the end."""
        return 0.0 if self._is_stopped() else max(0.0, self._end - time.monotonic())

    def is_over(self) -> bool:
        """Whether to end at once."""
        return self.seconds_left() <= 0


@dataclass(frozen=True)
class Notifier:
    """Somebody who wants to know of runs.

    Attributes:
        name: of the setting, or of what is kept, for the warning where it fails.
        act: called after the run, in a thread of its own; it ends soon after `Limit.is_over`. An `ActionableError`
            that it raises is the warning, any other exception is a mistake that is named without its words.
        begin: called when a scheduled run begins, in the run's thread, so it must not wait for anything.
        is_recorder: it acts after every run that was no dry one; others only after scheduled ones.
    """

    name: str
    act: Callable[[RunSummary, Limit], None]
    begin: Callable[[], None] = lambda: None
    is_recorder: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What those who act may need; nothing of it is made before it is asked for.

    Attributes:
        state: the state folder.
        name: stands for the table in the names of files there, also where it cannot be reached: 16 hex digits.
        open_store: the table; its calls count like a run's.
        open_transport: sends requests, each of them limited to so many seconds; to be closed.
        say: warn of something, with what to do about it.
    """

    settings: Settings
    state: Path
    name: str
    clock: Clock
    open_store: Callable[[], AbstractContextManager[Store]]
    open_transport: Callable[[float], HTTPTransport]
    say: Callable[[str, str], None]


class RunWatch:
    """One run. Also a subscriber of its events.

    Use: `watch.over(act)` around everything with lock and store, `with watch.following(context)` inside of it around
    the run itself, with the watch as a subscriber; and `watch.tell(kinds)` when lock and journal are free again.

    Args:
        surroundings: see there.
        notifiers: makes those who want to know; called once, when the first of them is needed.
        find_facts: looks at all rows; called while the store is open.
        is_scheduled: see `RunSummary`.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        notifiers: Callable[[], Iterable[Notifier]],
        find_facts: Callable[[RunContext, RunFinished], Facts],
        *,
        is_scheduled: bool,
    ) -> None:
        self._surroundings = surroundings
        self._make = notifiers
        self._find_facts = find_facts
        self._is_scheduled = is_scheduled
        self._notifiers: list[Notifier] | None = None
        self._run = RunFinished("", surroundings.clock.now())
        self._facts: Facts | None = None
        self._folder: Path | None = None
        self._interval: float = surroundings.settings.refresh_interval
        self._calls = 0

    def __call__(self, event: Event) -> None:
        """A subscriber: take note of the run."""
        if isinstance(event, RunFinished):
            self._run = event
        elif isinstance(event, RunStarted) and self._is_scheduled:
            for notifier in self._known():
                notifier.begin()

    def over(self, act: Callable[[], _T]) -> _T:
        """What `act` returns; an error that it raises is kept for those who want to know why nothing was refreshed."""
        try:
            return act()
        except BaseException as error:
            self._run.error = self._run.error or actionable_error(error)
            raise

    @contextmanager
    def following(self, context: RunContext) -> Iterator[None]:
        """While inside, the run works; at its end, all rows are looked at, where the store answers."""
        self._folder, self._interval = context.folder, context.policy.interval
        try:
            yield
            if not self._run.dry_run and self._run.store_error is None:
                self._guard("facts", lambda: self._find(context))
        finally:
            self._calls = context.store.store.calls

    def tell(self, kinds: Iterable[Kind], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Let everybody act, once lock and journal are free again; each that fails is one warning. Never raises.

        Args:
            kinds: of the failures of the run, as the exit code counts them; where another run was active, nobody acts.
            is_stopped: whether somebody wants the end at once; asked again and again. Who wanted the end of the run
                itself did not mean those that act after it.
        """
        kinds, was_stopped = set(kinds), is_stopped()
        if self._run.dry_run or Kind.BUSY in kinds:
            return
        self._run.finished_at = self._run.finished_at or self._surroundings.clock.now()
        surroundings = self._surroundings
        summary = RunSummary(
            run=self._run,
            exit_code=exit_code(kinds),
            is_scheduled=self._is_scheduled,
            store=surroundings.settings.store,
            store_calls=self._calls,
            interval=self._interval,
            folder=self._folder,
            facts=self._facts,
        )
        acting = [one for one in self._known() if one.is_recorder or self._is_scheduled]
        limit = Limit(ALL_SECONDS, lambda: not was_stopped and is_stopped())
        for name, problem in act_together(acting, summary, limit):
            surroundings.say(f"{name}: {problem}", problem.action)

    def _known(self) -> list[Notifier]:
        if self._notifiers is None:
            made: list[Notifier] = []
            self._guard("what acts after a run", lambda: made.extend(self._make()))
            self._notifiers = made
        return self._notifiers

    def _find(self, context: RunContext) -> None:
        self._facts = self._find_facts(context, self._run)

    def _guard(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            problem = actionable_error(error)
            self._surroundings.say(f"{name}: {problem}", problem.action)


def act_together(
    notifiers: Iterable[Notifier], summary: RunSummary, limit: Limit
) -> list[tuple[str, ActionableError]]:
    """Let each of them act in a thread of its own, until all have or the limit is over; the names of those that failed.

    The threads are daemons: whatever hangs in one, the program can end.
    """
    failed: dict[str, ActionableError] = {}

    def act(notifier: Notifier) -> None:
        try:
            notifier.act(summary, limit)
        except Exception as error:
            failed[notifier.name] = actionable_error(error)

    threads: dict[str, threading.Thread] = {}
    for notifier in notifiers:
        thread = threading.Thread(target=partial(act, notifier), name=notifier.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            failed[notifier.name] = ActionableError("the system starts no more threads", "Raise its limit (ulimit -u).")
        else:
            threads[notifier.name] = thread
    for thread in threads.values():
        while thread.is_alive() and not limit.is_over():
            thread.join(_TICK_SECONDS)
    for name, thread in threads.items():
        if thread.is_alive():
            late = ActionableError(f"it did not end within {ALL_SECONDS:g} s, or the program was stopped", "")
            failed.setdefault(name, late)
    return list(failed.items())
