"""Threads that finish what they were given, however often the one that waits for them is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

import pytest

from tests.callers import log_in, manager_of
from tests.conftest import World
from tests.world.http import Response
from tests.world.oauth import faults
from token_refresh.base.threads import Threads

PATIENCE_SECONDS = 60
AGAIN_SECONDS = 0.1  # a signal that comes right before a wait would be noticed only at its end


class CtrlC:
    """Ctrl-C at the main thread while it waits: it counts where that stands still, in a call of `within`."""

    def __init__(self) -> None:
        self.is_over = False
        self._main = threading.get_ident()
        # No class written in Python: while a signal waits for the main thread, a tracer's threads do not get into a
        # function of one (CPython 3.11).
        self._handled = threading.Lock()
        self._handled.acquire()
        self._within: CodeType | None = None
        self._place: tuple[CodeType, int] | None = None

    def press(self, within: CodeType) -> None:
        """Raise `KeyboardInterrupt` there, as soon as it waits."""
        self._within, self._place = within, None
        while self._within is not None and not self.is_over:
            signal.pthread_kill(self._main, signal.SIGINT)
            self._handled.acquire(timeout=AGAIN_SECONDS)

    def handle(self, _: int, frame: FrameType | None) -> None:
        """Python's part of the signal."""
        place = (frame.f_code, frame.f_lasti) if frame is not None else None
        is_within = any(code is self._within for code in _codes(frame))
        counts = place == self._place and is_within and not self.is_over
        self._place = place
        if counts:
            self._within = None
        if self._handled.locked():
            self._handled.release()
        if counts:
            raise KeyboardInterrupt


def _codes(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


@contextmanager
def pressing(script: Callable[[CtrlC], object]) -> Iterator[None]:
    """Another thread presses Ctrl-C meanwhile."""
    pressed = CtrlC()
    thread = threading.Thread(target=script, args=(pressed,))
    before = signal.signal(signal.SIGINT, pressed.handle)
    thread.start()
    try:
        yield
    finally:
        pressed.is_over = True
        thread.join(PATIENCE_SECONDS)
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_however_often_does_not_end_the_wait_for_what_was_begun(times: int) -> None:
    go, done = threading.Event(), list[int]()
    threads = Threads(2)

    def act() -> None:
        go.wait(PATIENCE_SECONDS)
        done.append(1)

    def press(pressed: CtrlC) -> None:
        for _ in range(times):
            pressed.press(Threads.__exit__.__code__)
        go.set()

    def work() -> None:
        with threads:
            threads.submit(act)
            threads.submit(act)

    with pressing(press), pytest.raises(KeyboardInterrupt):
        work()
    assert len(done) == 2
    assert not any(thread.is_alive() for thread in threads._threads)


def test_ctrl_c_twice_during_a_refresh_leaves_its_answer_for_the_next_run(world: World) -> None:
    manager = manager_of(world)
    log_in(world, manager)
    world.clock.advance(3700)
    arrived, go = threading.Event(), threading.Event()

    def hold(_: faults.Call, act: faults.Act) -> Response:
        answer = act()
        arrived.set()
        go.wait(PATIENCE_SECONDS)
        return answer

    def press(pressed: CtrlC) -> None:
        arrived.wait(PATIENCE_SECONDS)
        pressed.press(type(manager).get_token.__code__)
        pressed.press(Threads.__exit__.__code__)
        go.set()

    world.oauth.fail(faults.Fault("hold", hold))
    with pressing(press), pytest.raises(KeyboardInterrupt):
        manager.get_token("loc1")
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert world.token_of("loc1") == world.oauth.current("loc1")
    assert (len(world.oauth.requests), world.oauth.replayed(), world.journalled()) == (1, [], [])


def test_ctrl_c_while_the_threads_are_started_leaves_none_of_them_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, [3]

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), Threads(5):
        pass
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
