"""What somebody should know of a run: once when it begins, once a day while it lasts, once when it is over.

What a channel has accepted is remembered for that channel; what it has not is sent to it again by the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import Redactor, one_line
from token_refresh.notifiers.ledger import held_file, held_note
from token_refresh.notifiers.summary import Code, Facts, RunSummary
from token_refresh.notifiers.watch import GRACE_SECONDS, Limit, Surroundings, act_together

SHOWN_ROWS = 20
A_DAY = timedelta(hours=23)  # less than 24: a run is never on the second, and no day is to go by without the digest
END_DAYS = (30, 7, 1)
QUOTA_SHARES = (0.8, 1.0)
FORECAST_DAY = 3  # of the month, the first whose forecast is more than a guess
_CODES = list(Code)
_OF_ROWS = (Code.LOGIN_NEEDED, Code.UNREADABLE_CELL, Code.NEEDS_FIXING, Code.FAILING)
_STATUS = f"See: {TOKEN_MANAGER} status"


@dataclass(frozen=True)
class Item:
    """One thing, as long as it lasts. `step` grows where it gets worse: then it is sent again. Times are ISO 8601."""

    code: str
    message: str
    action: str = ""
    location_id: str = ""
    provider: str = ""
    part: str = ""
    since: str = ""
    ends: str = ""
    step: int = 1
    is_lasting: bool = False

    @property
    def key(self) -> str:
        """What tells it from others."""
        return "|".join((self.code, self.location_id, self.provider, self.part))

    @property
    def group(self) -> tuple[str, ...]:
        """What is over when all of it is: a row that needs a login instead has not recovered from failing."""
        return (self.location_id, self.provider) if self.code in (*_OF_ROWS, Code.STORE) else (self.key,)

    @property
    def is_of_table(self) -> bool:
        """Whether all machines that work on the table see the same; the rest is this machine's own."""
        return bool(self.location_id) or self.code == Code.ROTATION_UNFINISHED

    @property
    def words(self) -> str:
        """The code, for people; whether it is known already."""
        return ("still " if self.is_lasting else "") + self.code.replace("_", " ")

    def __str__(self) -> str:
        whose = f"{self.location_id} {self.provider}: " if self.location_id else ""
        since = f" (since {self.since[:16].replace('T', ' ')} UTC)" if self.since else ""
        return f"{self.words}: {whose}{self.message}. {self.action}".rstrip() + since


class Message(NamedTuple):
    """What one address is to accept, worst first."""

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


Send = Callable[[Mapping[str, Message], RunSummary, Limit, set[str]], None]


class Channel(NamedTuple):
    """Where messages go.

    Attributes:
        name: the setting.
        keys: its addresses; what each has accepted is kept for itself.
        send: sends each address its message, and puts those that accepted theirs into the set, at once. Raises
            `ActionableError` where not all of them did.
    """

    name: str
    keys: Sequence[str]
    send: Send


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
        yield from _items_of_rows(summary.facts, summary)
        yield from _items_of_store(summary.facts, summary.ended_at.day)


def _items_of_rows(facts: Facts, summary: RunSummary) -> Iterator[Item]:
    next_run = summary.ended_at + timedelta(seconds=summary.interval)
    for row in facts.rows:
        if row.code is Code.FAILING and row.failures < 2 and row.token_ends is not None and row.token_ends > next_run:
            continue
        step = sum(row.ends - summary.ended_at <= timedelta(days=days) for days in END_DAYS) if row.ends else 1
        since, ends = (iso(moment) if moment else "" for moment in (row.since, row.ends))
        if step:
            yield Item(row.code, row.message, row.action, row.location_id, row.provider, row.part, since, ends, step)


def _items_of_store(facts: Facts, day: int) -> Iterator[Item]:
    if facts.old_entries:
        what = f"new tokens of {facts.old_entries} answers could not be stored in the table for more than a day"
        yield Item(Code.JOURNAL_WAITING, what, f"See: {TOKEN_MANAGER} recover")
    if facts.rows_to_rotate:
        what = f"{facts.rows_to_rotate} rows are still encrypted with an older key"
        yield Item(Code.ROTATION_UNFINISHED, what, f"Run: {TOKEN_MANAGER} rotate-key")
    usage = facts.usage
    if usage is not None and usage.limit is not None and day >= FORECAST_DAY:
        what = f"{usage.calls} Airtable calls so far, {usage.forecast} by the end of the month, of {usage.limit}"
        if step := sum(usage.forecast >= share * usage.limit for share in QUOTA_SHARES):
            yield Item(Code.QUOTA, what, "Run less often, or change the plan.", step=step)


class Book:
    """What channels have accepted of one kind of items, by address, and what there is now.

    Args:
        accepted: read and changed.
        items: all that there is.
        judged: of which codes a thing that is not among them is over; of others nothing is known this time.
    """

    def __init__(self, accepted: dict[str, Any], items: Collection[Item], judged: Collection[str]) -> None:
        self._accepted = accepted
        self._items = {item.key: item for item in items}
        self._judged = judged

    def before(self, address: str) -> dict[str, Item]:
        """What the address has accepted; nothing where that cannot be read."""
        with suppress(TypeError, KeyError, AttributeError):
            return {key: Item(**kept) for key, kept in self._accepted[address]["items"].items()}
        return {}

    def wants_digest(self, address: str, now: datetime) -> bool:
        """Whether something lasts and the last digest was a day ago, or dated by a clock that was wrong."""
        at = parse_time(self._accepted.get(address, {}).get("digest_at"))
        is_over = at is None or not timedelta(0) <= now - at < A_DAY
        return is_over and any(item.code != Code.ENDING for item in self.before(address).values())

    def compare(self, address: str, now: datetime) -> tuple[list[Item], dict[str, Item]]:
        """What is new, lasts or is over, and what the address has accepted once it has accepted that."""
        before = self.before(address)
        after = {key: item for key, item in before.items() if item.code not in self._judged}
        news = []
        for key, item in self._items.items():
            old = before.get(key)
            since, step = (old.since, old.step) if old else (item.since or iso(now), 0)
            after[key] = replace(item, since=since, step=max(step, item.step))
            if item.step > step or item.code != Code.ENDING:
                news.append(replace(after[key], is_lasting=item.step <= step))
        groups = {item.group for item in after.values()}
        gone = (item for item in before.values() if item.key not in after and item.group not in groups)
        over = (item for item in gone if not item.ends or item.ends > iso(now))  # an end that came is no recovery
        news += (replace(item, code=Code.RECOVERED, message=f"no longer {item.words}", action="") for item in over)
        return news, after

    def keep(self, address: str, items: Mapping[str, Item], now: datetime | None) -> None:
        """Remember what it has accepted; `now`: with the digest."""
        at = iso(now) if now else self._accepted.get(address, {}).get("digest_at")
        self._accepted[address] = {"items": {key: asdict(item) for key, item in items.items()}, "digest_at": at}


class News:
    """Compares what there is with what each address has accepted, and sends it the difference.

    Args:
        surroundings: see there.
        channels: where messages go.
    """

    def __init__(self, surroundings: Surroundings, channels: Sequence[Channel]) -> None:
        self._surroundings, self._channels = surroundings, channels

    def act(self, summary: RunSummary, limit: Limit) -> None:
        """See `Notifier.act`. One process at a time does it on a machine, and for a table in a database."""
        around = self._surroundings
        with ExitStack() as stack:
            own = stack.enter_context(held_file(around.state / f"news-{around.name}.json"))
            if own is None:
                return
            table: dict[str, Any] | None = own.setdefault("table", {})
            if summary.store == "database" and summary.facts is not None:
                table = stack.enter_context(held_note(around.open_store, "news"))
            books = list(self._books(summary, own, table))
            self._send(books, summary, Limit(limit.left() - GRACE_SECONDS, limit.is_over))

    def _books(self, summary: RunSummary, own: dict[str, Any], table: dict[str, Any] | None) -> Iterator[Book]:
        redacted = Redactor(self._surroundings.settings.secrets())
        items = [
            replace(item, message=redacted(one_line(item.message)), action=redacted(one_line(item.action)))
            for item in items_of(summary, _due_since(own, summary))
        ]
        judged = {Code.STORE, Code.NEEDS_FIXING}
        judged |= {Code.HOST_UNAVAILABLE, Code.NOTHING_REFRESHED} if summary.run.error is None else set()
        judged |= {Code.JOURNAL_WAITING, Code.QUOTA} if summary.facts is not None else set()
        yield Book(own.setdefault("machine", {}), [item for item in items if not item.is_of_table], judged)
        if summary.facts is not None and table is not None:
            yield Book(table, [item for item in items if item.is_of_table], _CODES)

    def _send(self, books: Sequence[Book], summary: RunSummary, limit: Limit) -> None:
        now, accepted = summary.ended_at, set[str]()
        messages, kept = dict[str, Message](), list[tuple[str, Callable[[], None]]]()
        for address in (key for channel in self._channels for key in channel.keys):
            is_digest = any(book.wants_digest(address, now) for book in books)
            items: list[Item] = []
            for book in books:
                news, after = book.compare(address, now)
                items += (item for item in news if is_digest or not item.is_lasting)
                is_first = not book.before(address)
                if items or after.keys() != book.before(address).keys():
                    kept.append((address, partial(book.keep, address, after, now if is_digest or is_first else None)))
            if items:
                items.sort(key=lambda item: _CODES.index(Code(item.code)))
                messages[address] = Message(summary.run.run_id, items)
        own = {one: {key: messages[key] for key in one.keys if key in messages} for one in self._channels}
        acts = {one.name: partial(one.send, own[one], summary, limit, accepted) for one in self._channels}
        for name, problem in act_together(acts, limit).items():
            self._surroundings.say(f"{name}: {problem}", problem.action)
        for address, keep in kept:
            if address in accepted or address not in messages:
                keep()


def _due_since(own: dict[str, Any], summary: RunSummary) -> datetime | None:
    """Since when rows have been due and none was refreshed, by what is kept of earlier runs."""
    run = summary.run
    if run.error is None:
        has_due = run.due or any(not row.is_brief for row in run.waiting)
        is_stuck = has_due and all(result.kind is not None for result in run.results)
        own["due_since"] = (own.get("due_since") or iso(run.started_at)) if is_stuck else None
    return parse_time(own.get("due_since"))
