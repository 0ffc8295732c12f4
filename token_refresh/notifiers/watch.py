"""Follows one run, and afterwards lets everybody act who wants to know of it: in parallel, in ten seconds together.

Nothing here changes a token or an exit code, and no package is loaded for what is not set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind, actionable_error, exit_code
from token_refresh.base.events import Event, RunFinished, RunStarted
from token_refresh.notifiers.summary import Facts, RunSummary

if TYPE_CHECKING:
    from token_refresh.net.transport import HTTPTransport
    from token_refresh.notifiers.history import History
    from token_refresh.refresh.run_context import RunContext
    from token_refresh.settings import Settings
    from token_refresh.stores.base import Store

ALL_SECONDS = 9.0
GRACE_SECONDS = 1.0  # after these, to leave things in order
_TICK_SECONDS = 0.05
_LATE = "it could not be started, or did not end in time"
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

    def left(self) -> float:
        """Seconds; none, or less, once it is over."""
        if self._is_stopped():
            self._end = min(self._end, time.monotonic())
        return self._end - time.monotonic()

    def is_over(self) -> bool:
        """Whether to end at once."""
        return self.left() <= 0


class Notifier(NamedTuple):
    """Somebody who wants to know of runs.

    Attributes:
        name: of the setting, or of what is kept, for the warning where it fails.
        act: called after the run, in a thread of its own; it ends soon after the limit is over. An `ActionableError`
            that it raises is the warning, any other exception is a mistake that is named without its words.
        begin: called when a scheduled run begins, in the run's thread, so it must not wait for anything.
        is_recorder: it acts after every run that was no dry one; others only after scheduled ones.
    """

    name: str
    act: Callable[[RunSummary, Limit], object]
    begin: Callable[[], None] = lambda: None
    is_recorder: bool = False


class Surroundings(NamedTuple):
    """What those who act may need; nothing of it is made before it is asked for.

    Attributes:
        state: the state folder.
        name: stands for the table in the names of files there, also where it cannot be reached: 16 hex digits.
        open_store: the table; its calls count like a run's.
        open_transport: sends requests, each of them limited to so many seconds; to be closed.
        open_history: see `wiring.open_history`.
        say: warn of something, with what to do about it.
    """

    settings: Settings
    state: Path
    name: str
    clock: Clock
    open_store: Callable[[], AbstractContextManager[Store]]
    open_transport: Callable[[float], HTTPTransport]
    open_history: Callable[[Path | None], AbstractContextManager[History]]
    say: Callable[[str, str], None]


class RunWatch:
    """One run, and a subscriber of its events.

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
        self._surroundings, self._make, self._find_facts = surroundings, notifiers, find_facts
        run = RunFinished("", surroundings.clock.now())
        self._summary = RunSummary(run, is_scheduled, surroundings.settings.refresh_interval)

    def __call__(self, event: Event) -> None:
        """A subscriber: take note of the run."""
        if isinstance(event, RunFinished):
            self._summary.run = event
        elif isinstance(event, RunStarted) and self._summary.is_scheduled:
            for notifier in self._notifiers:
                notifier.begin()

    def over(self, act: Callable[[], _T]) -> _T:
        """What `act` returns; an error that it raises is kept for those who want to know why nothing was refreshed."""
        try:
            return act()
        except BrokenPipeError:  # whoever read the output has gone
            raise
        except BaseException as error:
            self._summary.run.error = actionable_error(error)
            raise

    @contextmanager
    def following(self, context: RunContext) -> Iterator[None]:
        """While inside, the run works; at its end, all rows are looked at, where the store answers."""
        summary = self._summary
        summary.folder, summary.interval = context.folder, context.policy.interval
        try:
            yield
            if not summary.run.dry_run and summary.run.store_error is None:
                self._guard(lambda: setattr(summary, "facts", self._find_facts(context, summary.run)))
        finally:
            summary.store_calls = context.store.store.calls

    def tell(self, kinds: Iterable[Kind], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Let everybody act, once lock and journal are free again; each that fails is one warning. Never raises.

        Args:
            kinds: of the failures of the run, as the exit code counts them; where another run was active, nobody acts.
            is_stopped: whether somebody wants the end at once; asked again and again. Who wanted the end of the run
                itself did not mean those that act after it.
        """
        kinds, summary, was_stopped = set(kinds), self._summary, is_stopped()
        if summary.run.dry_run or Kind.BUSY in kinds:
            return
        summary.exit_code = exit_code(kinds)
        summary.run.finished_at = summary.run.finished_at or self._surroundings.clock.now()
        limit = Limit(ALL_SECONDS, lambda: not was_stopped and is_stopped())
        acting = (one for one in self._notifiers if one.is_recorder or summary.is_scheduled)
        acts = {one.name: partial(one.act, summary, limit) for one in acting}
        for name, problem in act_together(acts, limit).items():
            self._say(name, problem)

    @cached_property
    def _notifiers(self) -> list[Notifier]:
        made: list[Notifier] = []
        self._guard(lambda: made.extend(self._make()))
        return made

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._say("what follows a run", actionable_error(error))

    def _say(self, name: str, problem: ActionableError) -> None:
        said = (self._summary.run.error, self._summary.run.store_error)  # as of a package that is missing, or a server
        if not any(type(problem) is type(one) and problem.action == one.action for one in said if one is not None):
            self._surroundings.say(f"{name}: {problem}", problem.action)


def act_together(acts: Mapping[str, Callable[[], object]], limit: Limit) -> dict[str, ActionableError]:
    """Do them in threads, until all have ended or the limit is over; what went wrong, by name.

    The threads are daemons: whatever hangs in one, the program can end.
    """
    problems = {name: ActionableError(_LATE, "") for name in acts}

    def act(name: str) -> None:
        try:
            acts[name]()
            del problems[name]
        except Exception as error:
            problems[name] = actionable_error(error)

    threads = [threading.Thread(target=act, args=(name,), name=name, daemon=True) for name in acts]
    with suppress(RuntimeError):  # the system starts no more threads
        for thread in threads:
            thread.start()
    for thread in threads:
        while thread.is_alive() and limit.left() > -GRACE_SECONDS:
            thread.join(_TICK_SECONDS)
    return dict(problems)
