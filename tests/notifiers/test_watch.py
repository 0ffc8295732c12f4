"""Who acts after a run: in parallel, in time, and without a say in how the run ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.notifiers.news_world import settings_for, surroundings_for
from tests.world.clock import FakeClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import RunFinished, RunStarted
from token_refresh.notifiers import watch as module
from token_refresh.notifiers.summary import Facts, RunSummary
from token_refresh.notifiers.watch import Limit, Notifier, RunWatch, Surroundings, act_together


@pytest.fixture
def surroundings(tmp_path: Path, clock: FakeClock) -> Surroundings:
    return surroundings_for(settings_for(tmp_path), clock)


class Watched:
    """A run's watch, with what was warned of and who has acted."""

    def __init__(self, surroundings: Surroundings, *notifiers: Notifier, is_scheduled: bool = True) -> None:
        self.warned: list[str] = []
        self.seen: list[RunSummary] = []
        self.begun = 0
        around = surroundings._replace(say=lambda what, action: self.warned.append(f"{what}. {action}"))
        seeing = Notifier("seeing", lambda summary, _: self.seen.append(summary), self._begin)
        made = [seeing, *notifiers]
        self.find: Callable[..., Facts] = lambda *_: Facts(unreadable_cells=7)
        self.watch = RunWatch(around, lambda: made, lambda *given: self.find(*given), is_scheduled=is_scheduled)

    def _begin(self) -> None:
        self.begun += 1


def context(tmp_path: Path) -> Any:
    return SimpleNamespace(
        folder=tmp_path, policy=SimpleNamespace(interval=600), store=SimpleNamespace(store=SimpleNamespace(calls=4))
    )


def test_who_acts_knows_the_run_its_exit_code_and_all_rows(surroundings: Surroundings, tmp_path: Path) -> None:
    watched = Watched(surroundings)
    run = RunFinished("run-1", surroundings.clock.now())
    with watched.watch.following(context(tmp_path)):
        watched.watch(RunStarted("run-1", run.started_at))
        watched.watch(run)
    watched.watch.tell({Kind.RETRY_LATER})
    [summary] = watched.seen
    assert (summary.run, summary.exit_code, summary.is_scheduled) == (run, 1, True)
    assert (summary.folder, summary.interval, summary.store_calls) == (tmp_path, 600, 4)
    assert summary.facts == Facts(unreadable_cells=7)
    assert watched.begun == 1


def test_who_acts_knows_the_error_of_a_run_that_never_began(surroundings: Surroundings) -> None:
    watched = Watched(surroundings)
    error = ActionableError("the table does not answer", "Wait.", Kind.STORE_UNAVAILABLE)

    def fail() -> None:
        raise error

    with pytest.raises(ActionableError):
        watched.watch.over(fail)
    watched.watch.tell({error.kind})
    [summary] = watched.seen
    assert (summary.exit_code, summary.run.error, summary.facts, summary.folder) == (3, error, None, None)
    assert summary.run.finished_at == surroundings.clock.now()


def test_nobody_acts_where_another_run_is_active_nor_after_a_dry_run(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    watched = Watched(surroundings)
    watched.watch.tell({Kind.BUSY})
    with watched.watch.following(context(tmp_path)):
        watched.watch(RunFinished("run-1", surroundings.clock.now(), dry_run=True))
    watched.watch.tell(())
    assert watched.seen == []


def test_after_a_run_that_a_person_started_recorders_act_alone(surroundings: Surroundings) -> None:
    recorded: list[RunSummary] = []
    recorder = Notifier("recorder", lambda summary, _: recorded.append(summary), is_recorder=True)
    watched = Watched(surroundings, recorder, is_scheduled=False)
    watched.watch(RunStarted("run-1", surroundings.clock.now()))
    watched.watch.tell(())
    assert (len(recorded), watched.seen, watched.begun) == (1, [], 0)


def test_who_fails_is_named_in_one_warning_and_keeps_nobody_else(surroundings: Surroundings) -> None:
    def refuse(*_: object) -> None:
        raise ActionableError("it refuses", "Ask it.")

    def mistake(*_: object) -> None:
        raise KeyError("a secret")

    watched = Watched(surroundings, Notifier("one", refuse), Notifier("two", mistake))
    watched.watch.tell(())
    assert len(watched.seen) == 1
    assert watched.warned[0] == "one: it refuses. Ask it."
    assert watched.warned[1].startswith("two: internal error: KeyError at test_watch.py:")
    assert len(watched.warned) == 2


def test_facts_that_cannot_be_found_are_one_warning(surroundings: Surroundings, tmp_path: Path) -> None:
    watched = Watched(surroundings)
    watched.find = lambda *_: Facts(unreadable_cells=1 // 0)
    with watched.watch.following(context(tmp_path)):
        watched.watch(RunFinished("run-1", surroundings.clock.now()))
    watched.watch.tell(())
    assert watched.seen[0].facts is None
    assert [warning.partition(" at ")[0] for warning in watched.warned] == [
        "what follows a run: internal error: ZeroDivisionError"
    ]


def test_a_store_that_failed_is_not_asked_for_facts(surroundings: Surroundings, tmp_path: Path) -> None:
    watched = Watched(surroundings)
    with watched.watch.following(context(tmp_path)):
        away = ActionableError("away", "", Kind.STORE_UNAVAILABLE)
        watched.watch(RunFinished("run-1", surroundings.clock.now(), store_error=away))
    watched.watch.tell({Kind.STORE_UNAVAILABLE})
    assert watched.seen[0].facts is None


def hanging(until: threading.Event) -> Callable[[], None]:
    def hang() -> None:
        until.wait(30)

    return hang


def test_what_hangs_is_left_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    done, end = [], threading.Event()
    begin = time.monotonic()
    problems = act_together({"hangs": hanging(end), "works": lambda: done.append(1)}, Limit(0.1))
    assert time.monotonic() - begin < 5
    assert (list(problems), done) == (["hangs"], [1])
    end.set()


def test_a_signal_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    stopped, end = threading.Event(), threading.Event()
    begin = time.monotonic()
    threading.Timer(0.1, stopped.set).start()
    assert list(act_together({"hangs": hanging(end)}, Limit(30, stopped.is_set))) == ["hangs"]
    assert time.monotonic() - begin < 5
    end.set()


def test_the_end_of_the_run_itself_is_not_that_of_those_who_act(surroundings: Surroundings) -> None:
    lefts: list[float] = []
    watched = Watched(surroundings, Notifier("left", lambda _, limit: lefts.append(limit.left())))
    watched.watch.tell({Kind.STOPPED}, lambda: True)
    assert len(lefts) == 1
    assert lefts[0] > 1


def test_they_act_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def meet() -> None:
        barrier.wait()

    assert act_together(dict.fromkeys("abc", meet), Limit(10)) == {}


def test_a_system_that_starts_no_more_threads_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    [(name, problem)] = act_together({"one": lambda: None}, Limit(10)).items()
    assert (name, str(problem)) == ("one", "it could not be started, or did not end in time")
