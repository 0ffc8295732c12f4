"""Those who write down what a run did: after each run that was no dry one, whoever started it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from token_refresh.notifiers.history import History
from token_refresh.notifiers.last_run import LastRun
from token_refresh.notifiers.summary import RunSummary
from token_refresh.notifiers.watch import Limit, Notifier, Surroundings


def recorders_of(surroundings: Surroundings) -> Iterator[Notifier]:
    """The last run's summary, the history, and METRICS_FILE where it is set."""
    yield Notifier("last run", partial(_keep_last_run, surroundings), is_recorder=True)
    yield Notifier("history", partial(_record, surroundings), is_recorder=True)
    if (file := surroundings.settings.metrics_file) is not None:
        yield Notifier("METRICS_FILE", partial(_write_metrics, surroundings, file), is_recorder=True)


def _keep_last_run(surroundings: Surroundings, summary: RunSummary, _: Limit) -> None:
    LastRun(surroundings.state, surroundings.name).keep(summary)


def _record(surroundings: Surroundings, summary: RunSummary, _: Limit) -> None:
    _recorded(surroundings, summary)


def _recorded(surroundings: Surroundings, summary: RunSummary) -> History | None:
    """Where the store could not be opened, in the history of the one that the last run found."""
    folder = summary.folder or LastRun(surroundings.state, surroundings.name).folder
    if folder is None or not folder.is_dir():
        return None
    history = History(folder, surroundings.say, surroundings.slug_of)
    history.record(summary)
    return history


def _write_metrics(surroundings: Surroundings, file: Path, summary: RunSummary, _: Limit) -> None:
    from token_refresh.notifiers.metrics import Numbers, write_metrics

    history = _recorded(surroundings, summary)  # whichever of the two comes first
    counts, success = (history.counts(), history.last_success()) if history is not None else ({}, None)
    write_metrics(file, Numbers(summary, counts, success))
