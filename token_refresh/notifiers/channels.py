"""Everybody who wants to know of runs: a line each, imported where it is set. A new notifier gets its line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from token_refresh.base.events import RunFinished
from token_refresh.notifiers.recorders import recorders_of
from token_refresh.notifiers.summary import RunSummary
from token_refresh.notifiers.watch import Limit, Notifier, Surroundings

if TYPE_CHECKING:
    from token_refresh.notifiers.news import Channel


def notifiers_of(surroundings: Surroundings) -> Iterator[Notifier]:
    """Those that the settings ask for."""
    yield from recorders_of(surroundings)
    if (ping_url := surroundings.settings.ping_url) is not None:
        from token_refresh.notifiers.ping import Ping

        ping = Ping(surroundings, ping_url.reveal())
        yield Notifier("PING_URL", ping.act, ping.begin)
    if channels := list(channels_of(surroundings)):
        from token_refresh.notifiers.news import News

        yield Notifier("news", News(surroundings, channels).act)


def channels_of(surroundings: Surroundings) -> Iterator[Channel]:
    """Where messages go."""
    settings = surroundings.settings
    if settings.notify_urls or settings.notify_command:
        from token_refresh.notifiers.messages import message_channels

        yield from message_channels(settings)
    if settings.webhook_url is not None:
        from token_refresh.notifiers.news import Channel
        from token_refresh.notifiers.webhook import Webhook

        yield Channel("WEBHOOK_URL", ("webhook",), Webhook(surroundings, settings.webhook_url.reveal()).send)


def tests_of(surroundings: Surroundings, limit: Limit) -> Iterator[tuple[str, Callable[[], None]]]:
    """What sends one of each to those that are set, by the name of the setting."""
    from token_refresh.notifiers.news import Item, Message

    settings, run = surroundings.settings, RunFinished("test", surroundings.clock.now())
    summary = RunSummary(run, is_scheduled=False, store=settings.store, interval=settings.refresh_interval)
    message = Message(run.run_id, [Item("test", "nothing has happened", "It came by `notify --test`.")])
    for channel in channels_of(surroundings):
        messages = dict.fromkeys(channel.keys, message)
        yield channel.name, partial(channel.send, messages, summary, limit, set())
    if settings.ping_url is not None:
        from token_refresh.notifiers.ping import Ping

        yield "PING_URL", partial(Ping(surroundings, settings.ping_url.reveal()).send, "", "test", limit)
