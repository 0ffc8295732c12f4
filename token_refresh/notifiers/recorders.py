"""Those who write down what a run did: after each run that was no dry one, whoever started it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from token_refresh.notifiers.history import History
from token_refresh.notifiers.last_run import file_of, folder_of_last_run, keep_last_run
from token_refresh.notifiers.summary import RunSummary
from token_refresh.notifiers.watch import Limit, Notifier, Surroundings


def recorders_of(surroundings: Surroundings) -> Iterator[Notifier]:
    """The last run's summary, the history, and METRICS_FILE where it is set."""
    yield Notifier("last run", partial(_keep_last_run, surroundings), is_recorder=True)
    yield Notifier("history", partial(_record, surroundings), is_recorder=True)
    if (file := surroundings.settings.metrics_file) is not None:
        yield Notifier("METRICS_FILE", partial(_write_metrics, surroundings, file), is_recorder=True)


def _keep_last_run(surroundings: Surroundings, summary: RunSummary, _: Limit) -> None:
    keep_last_run(file_of(surroundings.state, surroundings.name), summary)


def _record(surroundings: Surroundings, summary: RunSummary, _: Limit) -> None:
    if (history := _history(surroundings, summary)) is not None:
        history.record(summary)


def _write_metrics(surroundings: Surroundings, file: Path, summary: RunSummary, _: Limit) -> None:
    from token_refresh.notifiers.metrics import Numbers, write_metrics

    counts, success = {}, None
    if (history := _history(surroundings, summary)) is not None:
        history.record(summary)  # whichever of the two comes first
        counts, success = history.counts(), history.last_success()
    write_metrics(file, Numbers(summary, summary.facts, counts, success))


def _history(surroundings: Surroundings, summary: RunSummary) -> History | None:
    """That of the store; where it could not be opened, of the one that the last run found."""
    folder = summary.folder or folder_of_last_run(surroundings.state, surroundings.name)
    return History(folder, surroundings.say) if folder is not None and folder.is_dir() else None
