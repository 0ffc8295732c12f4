"""What is known of all rows at the end of a run, for everybody who acts after it.

A database says in each run which rows need a person, by its indexes, and counts all rows where somebody wants to know.
At Airtable a listing costs calls: all rows are listed once a day, where somebody wants to know of all, and kept in the
state folder. Between two listings, and where nobody does, what is kept follows what the runs do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from crypto import Context, Keyring, SealedCellError, UnknownKeyError
from token_refresh.base.events import Outcome, RowFinished, RunFinished
from token_refresh.diagnosis.ends import WORDS
from token_refresh.diagnosis.row_memory import RowMemory, after
from token_refresh.diagnosis.row_state import ALARMS, RowStatus, State, row_statuses, state_of
from token_refresh.journal.entries import Step
from token_refresh.notifiers.summary import Code, Facts, RowFact, Usage
from token_refresh.refresh.jobs import ProviderIndex
from token_refresh.refresh.listing import WARNED_AHEAD
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row, RowGroup, Store, group_rows

OTHER = "other"  # the provider of rows whose own nobody knows: what a table says is no name for a metric
_WITH_TOKENS = (Step.ANSWERED, Step.SUPERSEDED, Step.UNREAD)
_IN_USE = (State.EXPIRED, State.FAILING, State.VALID)


@dataclass(frozen=True)
class Look:
    """How to look at a table.

    Attributes:
        providers: the catalogue.
        recall: adds to rows what is remembered of their failures and the table has no columns for.
        monthly_calls: how many the plan has; None where that is not known.
        wants_all: somebody wants to know of all rows, also of those that need nobody.
        is_scheduled: see `RunSummary`; only such a run lists all rows.
    """

    providers: ProviderIndex
    recall: Callable[[Store, Iterable[Row]], list[Row]]
    monthly_calls: int | None
    wants_all: bool
    is_scheduled: bool


def find_facts(context: RunContext, run: RunFinished, look: Look) -> Facts:
    """Look at all rows. Called once a run, while the store is open.

    Raises:
        StoreError: the store does not answer any more.
        OSError: the state folder rejects writes.
    """
    now, store = context.clock.now(), context.store.store

    def statuses_of(rows: Iterable[Row]) -> list[RowStatus]:
        return row_statuses(rows, look.providers, context.default_provider, context.policy, now)

    alarming = store.alarming(now)
    memory = _memory(context, run, look, statuses_of, is_all=alarming is None)
    kept = statuses_of(memory.rows.values())
    if alarming is None:
        statuses, groups = kept, group_rows(memory.rows.values(), now) if memory.listed_at else []
    else:
        marked = statuses_of(look.recall(store, alarming))
        unmarked = list(_unmarked(run, marked))
        statuses = [*marked, *statuses_of(unmarked)]
        groups = [*store.tally(now), *_moved(unmarked, now)] if look.wants_all else []
    results = {(one.location_id, one.provider): one for one in run.results}
    alarms = {_name(one): _fact(one, results.get(_name(one))) for one in statuses if one.state in ALARMS}
    ending = [_ending(one, alarms.get(_name(one))) for one in kept if one.end is not None and one.state in _IN_USE]
    entries, usage = context.journal.entries(), store.usage()
    rotating, unreadable = _cells(groups, context.store.keyring)
    return Facts(
        rows=[*alarms.values(), *ending],
        **_counted(groups, lambda name: look.providers.slug_of(name or context.default_provider) or OTHER),
        unreadable_cells=unreadable + sum(one.code is Code.UNREADABLE_CELL for one in alarms.values()),
        journal_entries=Counter(str(entry.step) for entry in entries),
        old_entries=sum(entry.step in _WITH_TOKENS and now - entry.sent_at > timedelta(days=1) for entry in entries),
        rows_to_rotate=rotating,
        usage=Usage(usage.calls, usage.forecast, look.monthly_calls) if usage else None,
    )


def _memory(
    context: RunContext,
    run: RunFinished,
    look: Look,
    statuses_of: Callable[[Iterable[Row]], list[RowStatus]],
    *,
    is_all: bool,
) -> RowMemory:
    """Brought up to date: at Airtable with all rows, of a database with those of which something ends."""
    memory, now, store = RowMemory(context), context.clock.now(), context.store.store
    if not look.wants_all:
        memory.listed_at = None
    if look.wants_all and look.is_scheduled and memory.is_old(now):
        watched = store.watched(now + WARNED_AHEAD)
        ends = (row for row in watched if statuses_of([row])[0].end is not None)
        memory.list_again(look.recall(store, watched) if is_all else ends, now)
    elif is_all:
        memory.follow(run, is_whole=look.is_scheduled and run.error is None and run.stopped is None)
    elif not look.wants_all:
        memory.rows.clear()
    memory.write()
    return memory


def _unmarked(run: RunFinished, marked: Iterable[RowStatus]) -> Iterator[Row]:
    """The rows that failed without a mark on them: a refused client is no row's fault."""
    known = set(map(_name, marked))
    for one in run.results:
        if one.kind is not None and (one.location_id, one.provider) not in known:
            yield after(Row("", one.location_id, "", provider=one.provider), one)


def _moved(rows: Iterable[Row], now: datetime) -> Iterator[RowGroup]:
    """What makes these rows count as failing, and no longer as valid."""
    for row in rows:
        yield RowGroup.of(row, now)
        yield RowGroup.of(replace(row, last_error="", failure_count=0), now)._replace(rows=-1)


def _name(one: RowStatus) -> tuple[str, str]:
    return one.row.location_id, one.provider


def _fact(one: RowStatus, result: RowFinished | None) -> RowFact:
    """Why somebody should look at a row; `result` is what this run did to it."""
    if one.state is State.LOGIN_NEEDED or one.row.has_only_access_token:
        code = Code.LOGIN_NEEDED
    elif result is not None and result.outcome is Outcome.OPERATOR:
        code = Code.UNREADABLE_CELL if result.is_unreadable else Code.NEEDS_FIXING
    else:
        code = Code.NEEDS_FIXING if one.row.error is not None else Code.FAILING
    said, action = (result.error, result.action) if result is not None else (None, None)
    message = said or one.error or "its access token has expired"
    failures, end = max(1, one.row.failure_count), one.row.access_token_expiry
    where = one.row.location_id, one.provider, str(one.state)
    return RowFact(*where, code, message, action or one.action, failures=failures, token_ends=end)


def _ending(one: RowStatus, alarm: RowFact | None) -> RowFact:
    assert one.end is not None
    part, end = one.end
    message = f"{WORDS[part]} ends on {end:%Y-%m-%d}, and no refresh renews it"
    where = one.row.location_id, one.provider, alarm.state if alarm else str(State.VALID)
    return RowFact(*where, Code.ENDING, message, one.action, ends=end, part=part)


def _counted(groups: Sequence[RowGroup], name_of: Callable[[str], str]) -> dict[str, Any]:
    tokens = Counter[tuple[str, str]]()
    ends: dict[str, dict[str, datetime]] = {"next_expiry": {}, "refresh_token_ends": {}}
    for group in groups:
        state, provider = state_of(group), name_of(group.provider)
        if state is not None:
            tokens[provider, state] += group.rows
        for firsts, end in zip(ends.values(), (group.next_expiry, group.refresh_token_end), strict=True):
            if state in _IN_USE and end is not None:
                firsts[provider] = min(end, firsts.get(provider, end))
    return {"tokens": +tokens, **ends}


def _cells(groups: Sequence[RowGroup], keyring: Keyring) -> tuple[int, int]:
    """How many rows hold a cell under an older key, and how many cells are under a key that is not configured."""
    rotating = unknown = 0
    for group in groups:
        cells = [f"{cell}:" for cell in (group.refresh_cell, group.secret_cell) if cell]
        known = [cell for cell in cells if _is_known(keyring, cell)]
        unknown += group.rows * (len(cells) - len(known))
        rotating += group.rows if any(map(keyring.needs_reseal, known)) else 0
    return rotating, unknown


def _is_known(keyring: Keyring, cell: str) -> bool:
    """Whether the key is configured that a cell which begins so names."""
    try:
        keyring.open(f"{cell}{'A' * 40}", Context("", "", ""))
    except UnknownKeyError:
        return False
    except SealedCellError:
        pass
    return True
