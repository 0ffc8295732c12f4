"""Threads for calls: what no new thread can be started for may be done by one that is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from token_refresh.library.pools import Pool


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
