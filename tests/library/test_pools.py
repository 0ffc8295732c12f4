"""Threads for calls: what is begun is done once, whoever has gone, and whichever thread comes to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from token_refresh.library.pools import Lanes, Pool


def test_what_a_thread_came_to_that_is_there_already_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1, "test")

    def submit(work: Callable[[], Any]) -> None:
        work()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool._executor, "submit", submit)
    begun = pool.begin(lambda: "done")
    assert not isinstance(begun, Exception)
    assert begun.result() == "done"
    pool.shutdown()


def test_a_call_whose_caller_is_gone_is_done_and_leaves_its_lane_to_the_next() -> None:
    lanes, go, done = Lanes(2, "test"), threading.Event(), list[str]()

    def first() -> None:
        go.wait()
        done.append("first")

    begun, following = lanes.begin(first, "provider"), lanes.begin(lambda: "next", "provider")
    assert isinstance(begun, Future)
    assert isinstance(following, Future)
    begun.cancel()
    go.set()
    assert following.result(10) == "next"
    assert done == ["first"]
    lanes.shutdown()
