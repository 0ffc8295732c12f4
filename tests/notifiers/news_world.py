"""Runs that have ended, and somewhere for their news to go, without a program around them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import crypto
from tests.world.clock import FakeClock
from token_refresh.base.clock import iso
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import RunFinished
from token_refresh.notifiers.facts import end_step
from token_refresh.notifiers.news import Channel, Message, News
from token_refresh.notifiers.summary import Code, Facts, Item, RunSummary
from token_refresh.notifiers.watch import Limit, Surroundings
from token_refresh.settings import Settings, load
from token_refresh.stores.base import Store

HOUR, DAY = 3600, 86_400
AIRTABLE = {"AIRTABLE_API_KEY": "patABC.def", "AIRTABLE_BASE_ID": "appABCDEFGHIJKLMN"}


def settings_for(folder: Path, **more: str) -> Settings:
    """Those of a program in this folder."""
    folder.mkdir(exist_ok=True)
    return load({"ENCRYPTION_KEY": crypto.generate_key(), "STATE_DIR": str(folder), **more}, crypto.parse_key, folder)


def surroundings_for(settings: Settings, clock: FakeClock, store: Store | None = None) -> Surroundings:
    """What a notifier gets; what it warns of is an error of the test."""

    def say(what: str, action: str) -> None:
        raise AssertionError(f"{what}. {action}")

    def open_store() -> AbstractContextManager[Store]:
        assert store is not None, "no store is needed"
        return nullcontext(store)

    def nothing(_: object) -> Any:
        raise AssertionError("nothing is sent, and nothing is read")

    return Surroundings(settings, settings.state_dir, "0" * 16, clock, open_store, nothing, nothing, say)


def fact(location: str = "loc", code: Code = Code.LOGIN_NEEDED, **more: Any) -> Item:
    """Something of a row that a person should look at."""
    return replace(Item(code, "the grant is dead", "Log in again.", location, "acme"), **more)


def ending(location: str, end: datetime, now: datetime, part: str = "refresh_token") -> Item:
    """That something of a row ends."""
    return fact(location, Code.ENDING, part=part, ends=iso(end), step=end_step(end, now))


@dataclass
class Desk:
    """Where the news of one machine arrives.

    Attributes:
        folder: the machine's state.
        clock: of everybody.
        store: keeps what was accepted, for several machines; None: the machine's own file does.
        refuses: the addresses that accept nothing.
        got: what came, by address.
        seconds: how long it may take.
    """

    folder: Path
    clock: FakeClock
    store: Store | None = None
    addresses: tuple[str, ...] = ("mail",)
    refuses: set[str] = field(default_factory=set)
    got: list[tuple[str, Message]] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    more: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 5.0

    def run(self, *facts: Item, after: float = HOUR, **more: Any) -> list[Message]:
        """Let a run end so many seconds after the one before; what the first address then gets."""
        self.clock.advance(after)
        return self.end(self.summary(Facts(facts), **more))

    def summary(self, facts: Facts | None, **more: Any) -> RunSummary:
        """A run that ends now."""
        now = self.clock.now()
        run = RunFinished("run-1", now, finished_at=now, **more)
        return RunSummary(run, is_scheduled=True, interval=HOUR, facts=facts)

    def end(self, summary: RunSummary) -> list[Message]:
        """What the first address gets of it."""
        before = len(self.got)
        settings = settings_for(self.folder, **(AIRTABLE if self.store is None else {}), **self.more)
        around = surroundings_for(settings, self.clock, self.store)
        around = around._replace(say=lambda what, _: self.warned.append(what))
        channels = [Channel(name, partial(self._send, name)) for name in self.addresses]
        News(around, channels).act(summary, Limit(self.seconds))
        return [message for address, message in self.got[before:] if address == self.addresses[0]]

    def _send(self, name: str, message: Message, _: RunSummary, __: Limit) -> None:
        if message.items:
            self.got.append((name, message))
        if message.items and name in self.refuses:
            raise ActionableError("it refuses", "Try it again.")


def said(messages: list[Message]) -> list[tuple[str, str, bool]]:
    """Of messages: each item's code and location, and whether it was known before."""
    return [(str(item.code), item.location_id, item.is_lasting) for message in messages for item in message.items]


def ends_in(clock: FakeClock, days: float) -> datetime:
    """So many days from now."""
    return clock.now() + timedelta(days=days)
