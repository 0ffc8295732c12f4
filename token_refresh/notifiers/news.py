"""What somebody should know of a run: once when it begins, once a day while it lasts, once when it is over.

What a channel has accepted is remembered for that channel; what it has not is sent to it again by the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import Redactor, one_line
from token_refresh.notifiers.ledger import held_file, held_note
from token_refresh.notifiers.summary import Code, Item, RunSummary
from token_refresh.notifiers.watch import GRACE_SECONDS, Limit, Surroundings, act_together

SHOWN_ROWS = 20
A_DAY = timedelta(hours=23)  # less than 24: a run is never on the second, and no day is to go by without the digest
_CODES = list(Code)
_STATUS = f"See: {TOKEN_MANAGER} status"


class Message(NamedTuple):
    """What one channel is to accept, worst first."""

    run_id: str
    items: Sequence[Item]

    @property
    def title(self) -> str:
        """How many of which code."""
        counts = Counter(item.words for item in self.items)
        return "token-refresh: " + ", ".join(f"{count} {words}" for words, count in counts.items())

    @property
    def text(self) -> str:
        """A line an item; of many the worst."""
        more = len(self.items) - SHOWN_ROWS
        return "\n".join([*map(str, self.items[:SHOWN_ROWS]), *([f"and {more} more"] if more > 0 else [])])


class Channel(NamedTuple):
    """Where messages go.

    Attributes:
        name: the setting, and which of its addresses; what it has accepted is remembered by this name.
        send: called after each run, also with a message that has no items. An error means that it was not accepted,
            unless it is a `WaitingError`.
    """

    name: str
    send: Callable[[Message, RunSummary, Limit], None]


class WaitingError(ActionableError):
    """The channel keeps the message, and delivers it with a later run."""


def items_of(summary: RunSummary, due_since: datetime | None) -> Iterator[Item]:
    """All that somebody should know; `due_since`: since when rows have been due and none was refreshed."""
    run = summary.run
    for error in (run.error, run.store_error, run.journal_error):
        if error is not None and error.kind is not Kind.STOPPED:
            is_away = error.kind is Kind.STORE_UNAVAILABLE
            yield Item(Code.STORE if is_away else Code.NEEDS_FIXING, str(error), error.action)
    for host in {row.host for row in run.waiting if row.host}:
        yield Item(Code.HOST_UNAVAILABLE, f"{host} does not answer", _STATUS, part=host)
    if due_since is not None and summary.ended_at - due_since >= timedelta(seconds=2 * summary.interval):
        yield Item(Code.NOTHING_REFRESHED, "rows are due, and none could be refreshed", _STATUS, since=iso(due_since))
    if summary.facts is not None:
        yield from (item for item in summary.facts.items if item.step)


class Book:
    """What channels have accepted of one kind of items, by their names, and what there is now.

    Args:
        accepted: read and changed.
        items: all that there is.
        judged: of which codes a thing that is not among them is over; of others nothing is known this time.
    """

    def __init__(self, accepted: dict[str, Any], items: Sequence[Item], judged: Collection[str]) -> None:
        self._accepted, self._items, self._judged = accepted, items, judged

    def before(self, channel: str) -> dict[str, Item]:
        """What the channel has accepted; nothing where that cannot be read."""
        with suppress(TypeError, KeyError, AttributeError):
            return {key: Item(**kept) for key, kept in self._accepted[channel]["items"].items()}
        return {}

    def wants_digest(self, channel: str, now: datetime) -> bool:
        """Whether something lasts and the last digest was a day ago, or dated by a clock that was wrong."""
        at = parse_time(self._accepted.get(channel, {}).get("digest_at"))
        is_over = at is None or not timedelta(0) <= now - at < A_DAY
        return is_over and any(item.code != Code.ENDING for item in self.before(channel).values())

    def compare(self, channel: str, now: datetime) -> tuple[list[Item], dict[str, Item]]:
        """What is new, lasts or is over, and what the channel has accepted once it has accepted that."""
        before = self.before(channel)
        after = {key: item for key, item in before.items() if item.code not in self._judged}
        news = []
        for item in self._items:
            old = before.get(item.key)
            if old is None and item.code == Code.FAILING:  # a row that this run did not try still has what it had
                same = (one for one in before.values() if (one.group, one.message) == (item.group, item.message))
                old = next(same, None)
                item = replace(item, code=old.code) if old else item
            since, step = (old.since, old.step) if old else (item.since or iso(now), 0)
            after[item.key] = replace(item, since=since, step=max(step, item.step))
            if item.step > step or item.code != Code.ENDING:
                news.append(replace(after[item.key], is_lasting=item.step <= step))
        groups = {item.group for item in after.values()}
        gone = (item for item in before.values() if item.key not in after and item.group not in groups)
        over = (item for item in gone if not item.ends or item.ends > iso(now))  # an end that came is no recovery
        news += (replace(item, code=Code.RECOVERED, message=f"no longer {item.words}", action="") for item in over)
        return news, after

    def keep(self, channel: str, now: datetime, *, is_digest: bool) -> None:
        """Remember that the channel has accepted all that there is now."""
        before, (_, after) = self.before(channel), self.compare(channel, now)
        at = iso(now) if is_digest or not before else self._accepted[channel].get("digest_at")
        if before or after:
            items = {key: asdict(item) for key, item in after.items()}
            self._accepted[channel] = {"items": items, "digest_at": at}


class News:
    """Compares what there is with what each channel has accepted, and sends it the difference.

    Args:
        surroundings: see there.
        channels: where messages go.
    """

    def __init__(self, surroundings: Surroundings, channels: Sequence[Channel]) -> None:
        self._surroundings, self._channels = surroundings, channels

    def act(self, summary: RunSummary, limit: Limit) -> None:
        """See `Notifier.act`. One process at a time compares, on a machine and for a table in a database.

        Another one that ends at the same time waits for it, half of its time at the most; then the next run has to say
        what is left, and only what is of this run alone is sent.
        """
        around, books = self._surroundings, list[Book]()
        limit = Limit(limit.left() - GRACE_SECONDS, limit.is_over)
        with ExitStack() as stack:
            with suppress(TimeoutError):
                own = stack.enter_context(held_file(around.state / f"news-{around.name}.json", limit.left() / 2))
                items = self._items(own, summary)
                mine, judged = [item for item in items if not item.is_of_table], _judged(summary)
                books.append(Book(own.setdefault("machine", {}), mine, judged))
                if summary.facts is not None:
                    table = own.setdefault("table", {})
                    if around.settings.store == "database":
                        table = stack.enter_context(held_note(around.open_store, "news", limit.left() / 2))
                    books.append(Book(table, [item for item in items if item.is_of_table], _CODES))
            self._send(books, summary, limit)

    def _items(self, own: dict[str, Any], summary: RunSummary) -> list[Item]:
        redacted = Redactor(self._surroundings.settings.secrets())
        return [
            replace(item, message=redacted(one_line(item.message)), action=redacted(one_line(item.action)))
            for item in items_of(summary, _due_since(own, summary))
        ]

    def _send(self, books: Sequence[Book], summary: RunSummary, limit: Limit) -> None:
        now, messages, digests = summary.ended_at, dict[str, Message](), set[str]()
        for name, _ in self._channels:
            if any(book.wants_digest(name, now) for book in books):
                digests.add(name)
            news = [item for book in books for item in book.compare(name, now)[0]]
            items = [item for item in news if name in digests or not item.is_lasting]
            items.sort(key=lambda item: _CODES.index(Code(item.code)))
            messages[name] = Message(summary.run.run_id, items)
        acts = {name: partial(send, messages[name], summary, limit) for name, send in self._channels}
        problems = act_together(acts, limit)
        for name, problem in problems.items():
            self._surroundings.say(f"{name}: {problem}", problem.action)
        for name in messages:
            if isinstance(problems.get(name), WaitingError | None):
                for book in books:
                    book.keep(name, now, is_digest=name in digests)


def _judged(summary: RunSummary) -> set[str]:
    """What of this machine is known to be over where it is not found any more."""
    judged: set[str] = {Code.STORE, Code.NEEDS_FIXING}
    judged |= {Code.HOST_UNAVAILABLE, Code.NOTHING_REFRESHED} if summary.run.error is None else set()
    return judged | ({Code.JOURNAL_WAITING, Code.QUOTA} if summary.facts is not None else set())


def _due_since(own: dict[str, Any], summary: RunSummary) -> datetime | None:
    """Since when rows have been due and none was refreshed, by what is kept of earlier runs."""
    run = summary.run
    if run.error is None:
        has_due = run.due or any(not row.is_brief for row in run.waiting)
        is_stuck = has_due and all(result.kind is not None for result in run.results)
        own["due_since"] = (own.get("due_since") or iso(run.started_at)) if is_stuck else None
    return parse_time(own.get("due_since"))
