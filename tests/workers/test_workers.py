"""A small table of the same kind; `make workers` takes a large one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.workers import child
from tests.workers.play import STILL_SECONDS, Stage, play
from tests.world.oauth.faults import Act, Call, Fault
from tests.world.postgres import PostgresServer

pytestmark = pytest.mark.long


ROWS = 600


def test_workers_that_die_or_stand_still_lose_nothing_and_spend_nothing_twice(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    figures = play(postgres, tmp_path, child.context(), ROWS)
    assert figures.violations == []
    assert figures.killed == 2
    assert figures.fresh + figures.lost == ROWS
    assert figures.lost <= figures.window


@pytest.mark.parametrize("is_late", [False, True])
def test_answers_to_a_worker_that_stood_still_are_taken(
    postgres: PostgresServer, tmp_path: Path, is_late: bool
) -> None:
    """A stopped process: on waking, the limit of every exchange is over, and its answer waits, or is about to come."""
    count, is_stopped = 10, threading.Event()
    out = threading.Semaphore(0)

    def hold(call: Call, act: Act) -> Any:
        answer = act()
        out.release()
        is_stopped.wait(30)
        return answer

    with Stage(postgres, tmp_path, child.context(), count) as stage:
        stage.fill()
        stage.oauth.behave()
        stage.oauth.fail(Fault("hold", hold), times=float("inf"))
        worker = stage.start("c")
        assert worker.pid is not None
        assert all(out.acquire(timeout=30) for _ in range(count))
        os.kill(worker.pid, signal.SIGSTOP)
        if not is_late:
            is_stopped.set()
        time.sleep(STILL_SECONDS)
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(0.5 if is_late else 0)
        is_stopped.set()
        worker.join(60)
        assert worker.exitcode == 0
        assert stage.oauth.sent_twice() == []
