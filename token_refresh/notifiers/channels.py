"""Everybody who wants to know of runs: a line each. A new notifier gets its line here.

Those who write down what a run did act after each run that was no dry one, whoever started it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from token_refresh.base.errors import ActionableError
from token_refresh.base.events import RunFinished
from token_refresh.notifiers.last_run import LastRun
from token_refresh.notifiers.news import Channel, Message, News
from token_refresh.notifiers.ping import Ping
from token_refresh.notifiers.summary import Item, RunSummary
from token_refresh.notifiers.watch import Limit, Notifier, Surroundings


def notifiers_of(surroundings: Surroundings) -> Iterator[Notifier]:
    """Those that the settings ask for."""
    settings = surroundings.settings
    yield Notifier("last run", lambda summary, _: _last_run(surroundings).keep(summary), is_recorder=True)
    yield Notifier("history", lambda summary, _: _record(surroundings, summary), is_recorder=True)
    if settings.metrics_file is not None:
        write = partial(_write_metrics, surroundings, settings.metrics_file)
        yield Notifier("METRICS_FILE", write, is_recorder=True)
    if settings.ping_url is not None:
        ping = Ping(surroundings, settings.ping_url.reveal())
        yield Notifier("PING_URL", ping.act, ping.begin)
    if channels := list(channels_of(surroundings)):
        yield Notifier("news", News(surroundings, channels).act)


def channels_of(surroundings: Surroundings) -> Iterator[Channel]:
    """Where messages go."""
    settings = surroundings.settings
    if settings.notify_urls or settings.notify_command:
        from token_refresh.notifiers.messages import message_channels

        yield from message_channels(settings)
    if settings.webhook_url is not None:
        from token_refresh.notifiers.webhook import Webhook

        yield Channel("WEBHOOK_URL", Webhook(surroundings, settings.webhook_url.reveal()).send)


def tests_of(surroundings: Surroundings, limit: Limit) -> Iterator[tuple[str, Callable[[], None]]]:
    """What sends one of each to those that are set, by the name of the setting."""
    settings, run = surroundings.settings, RunFinished("test", surroundings.clock.now())
    summary = RunSummary(run, is_scheduled=False, interval=settings.refresh_interval)
    message = Message(run.run_id, [Item("test", "nothing has happened", "It came by `notify --test`.")])
    for name, send in channels_of(surroundings):
        yield name, partial(send, message, summary, limit)
    if settings.ping_url is not None:
        yield "PING_URL", partial(Ping(surroundings, settings.ping_url.reveal()).send, "", "test", limit)


def _last_run(surroundings: Surroundings) -> LastRun:
    """Read when it is needed: another process may have ended since this one began."""
    return LastRun(surroundings.state, surroundings.name)


def _record(surroundings: Surroundings, summary: RunSummary) -> dict[tuple[str, str], int]:
    """Put the run into the history, where it is not there yet; what is counted there."""
    with surroundings.open_history(summary.folder or _last_run(surroundings).folder) as history:
        history.record(summary)
        return history.counts()


def _write_metrics(surroundings: Surroundings, file: Path, summary: RunSummary, _: Limit) -> None:
    """Once without the counts: they may be in a database that does not answer."""
    from token_refresh.notifiers.messages import require_extra

    require_extra("prometheus_client")
    from token_refresh.notifiers.metrics import Numbers, write_metrics

    success = summary.ended_at if summary.did_its_work else _last_run(surroundings).success_at
    numbers = Numbers(summary, None, success)
    write_metrics(file, numbers)
    with suppress(ActionableError):  # the history says it
        write_metrics(file, replace(numbers, counts=_record(surroundings, summary)))
