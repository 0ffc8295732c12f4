"""Runs that have ended, as those who act after them get them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from tests.world.clock import START
from token_refresh.base.events import Outcome, RowFinished, RunFinished
from token_refresh.notifiers.summary import Facts, RunSummary


def finished(
    *ends: tuple[str, Outcome], run_id: str = "run", at: datetime = START, provider: str = "acme", **more: Any
) -> RunFinished:
    """A run in which these locations came to these ends."""
    results = [RowFinished(location, provider, outcome) for location, outcome in ends]
    return RunFinished(run_id, at, finished_at=at, results=results, due=len(results), **more)


def summary_of(run: RunFinished, folder: Path | None = None, facts: Facts | None = None, **more: Any) -> RunSummary:
    """What is known of it."""
    usual: dict[str, Any] = {"is_scheduled": True, "interval": 3600, "exit_code": 0}
    return RunSummary(run, folder=folder, facts=facts, **(usual | more))
