"""What is known of all rows at the end of a run, for everybody who acts after it.

A database says in each run which rows need a person, by its indexes, and counts all rows where somebody wants to know.
At Airtable a listing costs calls: all rows are listed once a day, where somebody wants to know of all, and kept in the
state folder. Between two listings, and where nobody does, what is kept follows what the runs do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from crypto import Context, Keyring, SealedCellError, UnknownKeyError
from providers.index import ProviderIndex
from token_refresh.base.clock import iso
from token_refresh.base.events import Outcome, RowFinished, RunFinished
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import counted
from token_refresh.diagnosis.ends import WORDS
from token_refresh.diagnosis.row_memory import RowMemory
from token_refresh.diagnosis.row_state import ALARMS, RememberedFailures, RowStatus, State, row_statuses, state_of
from token_refresh.journal.entries import Entry, Step
from token_refresh.notifiers.summary import Code, Facts, Item
from token_refresh.refresh.listing import WARNED_AHEAD
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, RowGroup, Store, Usage, group_rows

OTHER = "other"  # the provider of rows whose own nobody knows: what a table says is no name for a metric
END_DAYS = (30, 7, 1)  # before something ends for good
QUOTA_SHARES = (0.8, 1.0)
FORECAST_DAY = 3  # of the month, the first whose forecast is more than a guess
_WITH_TOKENS = (Step.ANSWERED, Step.SUPERSEDED, Step.UNREAD)
_IN_USE = (State.EXPIRED, State.FAILING, State.VALID)


class Look(NamedTuple):
    """How to look at a table.

    Attributes:
        providers: the catalogue.
        remember: what is remembered of the failures of a table's rows, and it has no columns for.
        monthly_calls: how many the plan has; None where that is not known.
        wants_all: somebody wants to know of all rows, also of those that need nobody.
        is_scheduled: see `RunSummary`; only such a run lists all rows.
    """

    providers: ProviderIndex
    remember: Callable[[Store], RememberedFailures]
    monthly_calls: int | None
    wants_all: bool
    is_scheduled: bool

    def facts(self, context: RunContext, run: RunFinished) -> Facts:
        """Look at all rows. Called once a run, while the store is open.

        Raises:
            StoreError: the store does not answer any more.
            OSError: the state folder rejects writes.
        """
        now, store = context.clock.now(), context.store.store
        alarming = store.alarming(now)
        known = self.remember(store)
        memory = self._memory(context, run, known, is_all=alarming is None)
        kept, unmarked = self._statuses(context, memory.rows.values()), list[RowStatus]()
        if alarming is None:
            statuses, groups = kept, group_rows(memory.rows.values(), now) if memory.listed_at else []
        else:
            statuses, groups = self._statuses(context, map(known.added_to, alarming)), []
            others = store.read([*known.keys.difference(row.key for row in alarming)])
            unmarked = self._statuses(
                context, map(known.added_to, others.values())
            )  # a refused client is not their fault
            if self.wants_all:
                groups = store.tally(now)
        alarms = [one for one in (*statuses, *unmarked) if one.state in ALARMS]
        results = {(one.location_id, one.provider): one for one in run.results}
        next_run = now + timedelta(seconds=context.policy.interval)
        items = [_alarm(one, results.get(_name(one)), next_run) for one in alarms]
        unreadable = sum(item.code == Code.UNREADABLE_CELL for item in items)
        items += (_ending(one, now) for one in kept if one.state in _IN_USE and one.end is not None)
        entries, usage = context.journal.entries(), store.usage()
        rotating, foreign = _cells(groups, context.store.keyring)
        items += _items_of_table(entries, rotating, now)
        items += quota_items(usage, self.monthly_calls, now)
        ends = (one.row.access_token_expiry for one in alarms)
        tokens, next_expiry, refresh_token_end = self._counted(context, groups, unmarked)
        return Facts(
            items=items,
            first_end=min(filter(None, ends), default=None),
            tokens=tokens,
            next_expiry=next_expiry,
            refresh_token_end=refresh_token_end,
            unreadable_cells=foreign + unreadable,
            journal_entries=Counter(str(entry.step) for entry in entries),
            usage=usage,
            monthly_calls=self.monthly_calls,
        )

    def _statuses(self, context: RunContext, rows: Iterable[Row]) -> list[RowStatus]:
        return row_statuses(rows, self.providers, context.default_provider, context.policy, context.clock.now())

    def _memory(self, context: RunContext, run: RunFinished, known: RememberedFailures, *, is_all: bool) -> RowMemory:
        """Brought up to date: at Airtable with all rows, of a database with those of which something ends."""
        memory, now, store = RowMemory(context), context.clock.now(), context.store.store
        if not self.wants_all:
            memory.listed_at = None
        if self.wants_all and self.is_scheduled and memory.is_old(now):
            watched = store.watched(now + WARNED_AHEAD)
            ends = (row for row in watched if self._statuses(context, [row])[0].end is not None)
            memory.list_again(map(known.added_to, watched) if is_all else ends, now)
        elif is_all:
            memory.follow(run, is_whole=self.is_scheduled and run.error is None and run.stopped is None)
        elif not self.wants_all:
            memory.rows.clear()
        memory.write()
        return memory

    def _counted(
        self, context: RunContext, groups: Sequence[RowGroup], unmarked: Iterable[RowStatus]
    ) -> tuple[Counter[tuple[str, str]], dict[str, datetime], dict[str, datetime]]:
        """How many rows are in which state, and the first ends of their tokens, by provider."""
        tokens = Counter[tuple[str, str]]()
        ends = dict[str, datetime](), dict[str, datetime]()
        for group in groups:
            state = state_of(group)
            provider = self.providers.slug_of(group.provider or context.default_provider) or OTHER
            if state is not None:
                tokens[provider, state] += group.rows
            for firsts, end in zip(ends, (group.next_expiry, group.refresh_token_end), strict=True):
                if state in _IN_USE and end is not None:
                    firsts[provider] = min(end, firsts.get(provider, end))
        for one in unmarked if groups else ():
            if one.state is State.FAILING:  # for the table they are valid
                tokens.update({(one.provider, State.FAILING): 1, (one.provider, State.VALID): -1})
        return +tokens, *ends


def _name(one: RowStatus) -> tuple[str, str]:
    return one.row.location_id, one.provider


def _alarm(one: RowStatus, result: RowFinished | None, next_run: datetime) -> Item:
    """Why somebody should look at a row; `result` is what this run did to it. A first failure may pass by itself."""
    if one.state is State.LOGIN_NEEDED or one.row.has_only_access_token:
        code = Code.LOGIN_NEEDED
    elif result is not None and result.outcome is Outcome.OPERATOR:
        code = Code.UNREADABLE_CELL if result.is_unreadable else Code.NEEDS_FIXING
    else:
        code = Code.NEEDS_FIXING if one.row.error is not None else Code.FAILING
    said, action = (result.error, result.action) if result is not None else (None, None)
    if code is Code.LOGIN_NEEDED:
        action = None  # the row's own names its login
    message, end = said or one.error or "its access token has expired", one.row.access_token_expiry
    is_early = code is Code.FAILING and one.row.failure_count < 2 and end is not None and end > next_run
    return Item(code, message, action or one.action, *_name(one), step=0 if is_early else 1)


def _ending(one: RowStatus, now: datetime) -> Item:
    assert one.end is not None
    part, end = one.end
    message = f"{WORDS[part]} ends on {end:%Y-%m-%d}, and no refresh renews it"
    return Item(Code.ENDING, message, one.action, *_name(one), part, ends=iso(end), step=end_step(end, now))


def end_step(end: datetime, now: datetime) -> int:
    """How near an end is; 0 where it is far."""
    return sum(end - now <= timedelta(days=days) for days in END_DAYS)


def _items_of_table(entries: Iterable[Entry], rotating: int, now: datetime) -> Iterator[Item]:
    if old := sum(entry.step in _WITH_TOKENS and now - entry.sent_at > timedelta(days=1) for entry in entries):
        what = f"new tokens of {counted(old, 'answer')} could not be stored in the table for more than a day"
        yield Item(Code.JOURNAL_WAITING, what, f"See: {TOKEN_MANAGER} recover")
    if rotating:
        what = f"{counted(rotating, 'row is', 'rows are')} still encrypted with an older key"
        yield Item(Code.ROTATION_UNFINISHED, what, f"Run: {TOKEN_MANAGER} rotate-key")


def quota_items(usage: Usage | None, monthly_calls: int | None, now: datetime) -> Iterator[Item]:
    """Whether the month's calls will not last: one item, or none."""
    if usage is not None and monthly_calls is not None and now.day >= FORECAST_DAY:
        calls = counted(usage.calls, "Airtable call")
        what = f"{calls} so far, {usage.forecast} by the end of the month, of {monthly_calls}"
        if step := sum(usage.forecast >= share * monthly_calls for share in QUOTA_SHARES):
            yield Item(Code.QUOTA, what, "Run less often, or change the plan.", step=step)


def _cells(groups: Iterable[RowGroup], keyring: Keyring) -> tuple[int, int]:
    """How many rows hold a cell under an older key, and how many cells are under a key that is not configured."""
    rotating = foreign = 0
    for group in groups:
        cells = [f"{cell}:" for cell in (group.refresh_cell, group.secret_cell) if cell]
        known = [cell for cell in cells if _is_known(keyring, cell)]
        foreign += group.rows * (len(cells) - len(known))
        rotating += group.rows * any(map(keyring.needs_reseal, known))
    return rotating, foreign


def _is_known(keyring: Keyring, cell: str) -> bool:
    """Whether the key is configured that a cell which begins so names."""
    try:
        keyring.open(f"{cell}{'A' * 40}", Context("", "", ""))
    except UnknownKeyError:
        return False
    except SealedCellError:
        pass  # nobody encrypted what follows here
    return True
