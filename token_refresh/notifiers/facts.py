"""What is known of all rows at the end of a run, for everybody who acts after it.

A database says in each run which rows need a person, by its indexes, and counts all rows where somebody wants to know.
At Airtable a listing costs calls: all rows are listed once a day, where somebody wants to know of all, and a file in
the state folder keeps them. Between two listings, and where nobody does, the file follows what the runs do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crypto import Context, Keyring, SealedCellError, UnknownKeyError, is_sealed
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import KINDS, Outcome, RowFinished, RunFinished
from token_refresh.diagnosis.ends import WORDS
from token_refresh.diagnosis.row_state import ALARMS, RowStatus, State, row_statuses, state_of
from token_refresh.journal.entries import Step
from token_refresh.journal.failures import A_DAY, read_failures
from token_refresh.notifiers.ledger import write_file
from token_refresh.notifiers.summary import Code, Facts, RowFact, Usage
from token_refresh.refresh.jobs import ProviderIndex
from token_refresh.refresh.listing import WARNED_AHEAD
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import CELL_HEAD, STATUS_ACTIVE, STATUS_REAUTHORIZE, Row, RowGroup, Store, group_rows

FILE = "facts.json"
OTHER = "other"  # the provider of rows whose own nobody knows: what a table says is no name for a metric
_WITH_TOKENS = (Step.ANSWERED, Step.SUPERSEDED, Step.UNREAD)
_TIMES = ("access_token_expiry", "refresh_token_expiry", "last_refreshed")
_CELLS = ("encrypted_secret", "encrypted_refresh", "last_access_token")
_KEPT = ("key", "location_id", "provider", "provider_params", "status", "last_error", "failure_count")
_THERE = "-"  # what stands for a text that is there and is not kept
_OF_AN_OPERATOR = (Code.NEEDS_FIXING, Code.UNREADABLE_CELL)
_IN_USE = (State.EXPIRED, State.FAILING, State.VALID)
Identity = tuple[str, str]


@dataclass(frozen=True)
class Look:
    """How to look at a table.

    Attributes:
        providers: the catalogue.
        recall: adds to rows what is remembered of their failures and the table has no columns for.
        quota: how many calls a month the plan has; None where that is not known.
        wants_all: somebody wants to know of all rows, also of those that need nobody.
        is_scheduled: see `RunSummary`; only such a run lists all rows.
    """

    providers: ProviderIndex
    recall: Callable[[Store, Iterable[Row]], list[Row]]
    quota: int | None
    wants_all: bool
    is_scheduled: bool


def find_facts(context: RunContext, run: RunFinished, look: Look) -> Facts:
    """Look at all rows. Called once a run, while the store is open.

    Raises:
        StoreError: the store does not answer any more.
        OSError: the state folder rejects writes.
    """
    now, store = context.clock.now(), context.store.store
    memory = Memory(context, look)
    alarming = store.alarming(now)
    if look.wants_all and look.is_scheduled and memory.is_old(now):
        memory.list_again(now, keeps_all=alarming is None)
    elif alarming is None:
        memory.follow(run)
    elif memory.listed_at is None:
        memory.rows = {}
    kept = memory.statuses(now)
    if alarming is None:
        statuses, groups = kept, group_rows(memory.rows.values(), now) if memory.listed_at else []
    else:
        marked = memory.statuses(now, look.recall(store, alarming))
        unmarked = _unmarked(run, marked)
        statuses = [*marked, *memory.statuses(now, unmarked)]
        groups = [*store.tally(now), *_moved(unmarked, now)] if look.wants_all else []
    results = {(one.location_id, one.provider): one for one in run.results}
    rows = [memory.fact(one, results.get((one.row.location_id, one.provider))) for one in statuses if one.state in ALARMS]
    memory.write()
    entries, usage = context.journal.entries(), store.usage()
    stale, unreadable = _cells(groups, context.store.keyring)
    return Facts(
        rows=[*rows, *_ending(kept, rows)],
        **_counted(groups, memory.name_of),
        unreadable_cells=unreadable + sum(one.code is Code.UNREADABLE_CELL for one in rows),
        journal_entries=Counter(str(entry.step) for entry in entries),
        old_entries=sum(entry.step in _WITH_TOKENS and now - entry.sent_at > timedelta(days=1) for entry in entries),
        rows_to_rotate=stale,
        usage=Usage(usage.calls, usage.forecast, look.quota) if usage else None,
    )


def _unmarked(run: RunFinished, marked: Iterable[RowStatus]) -> list[Row]:
    """The rows that failed without a mark on them: a refused client is no row's fault."""
    known = {(one.row.location_id, one.provider) for one in marked}
    failed = (one for one in run.results if one.kind is not None and (one.location_id, one.provider) not in known)
    return [_after(Row("", one.location_id, "", provider=one.provider), one) for one in failed]


def _moved(rows: Iterable[Row], now: datetime) -> Iterator[RowGroup]:
    """What makes these rows count as failing, and no longer as valid."""
    for row in rows:
        yield RowGroup.of(row, now)
        yield RowGroup.of(replace(row, last_error="", failure_count=0), now)._replace(count=-1)


def _ending(statuses: Iterable[RowStatus], alarms: Iterable[RowFact]) -> list[RowFact]:
    states = {(one.location_id, one.provider): one.state for one in alarms}
    return [
        RowFact(
            one.row.location_id,
            one.provider,
            states.get((one.row.location_id, one.provider), State.VALID),
            Code.ENDING,
            f"{WORDS[one.end[0]]} ends on {one.end[1]:%Y-%m-%d}, and no refresh renews it",
            one.action,
            token_ends=one.row.access_token_expiry,
            ends=one.end[1],
            part=one.end[0],
        )
        for one in statuses
        if one.end is not None and one.state in (State.VALID, State.FAILING)
    ]


def _counted(groups: Sequence[RowGroup], name_of: Callable[[str], str]) -> dict[str, Any]:
    tokens = Counter[tuple[str, str]]()
    ends: dict[str, dict[str, datetime]] = {"next_expiry": {}, "refresh_token_ends": {}}
    for group in groups:
        state, provider = state_of(group), name_of(group.provider)
        if state is not None:
            tokens[provider, state] += group.count
        for firsts, end in zip(ends.values(), (group.next_expiry, group.refresh_token_end), strict=True):
            if state in _IN_USE and end is not None:
                firsts[provider] = min(end, firsts.get(provider, end))
    return {"tokens": tokens, **ends}


def _cells(groups: Sequence[RowGroup], keyring: Keyring) -> tuple[int, int]:
    """How many rows hold a cell under an older key, and how many cells are under a key that is not configured."""
    stale = unknown = 0
    for group in groups:
        cells = [cell for cell in (group.refresh_cell, group.secret_cell) if is_sealed(cell)]
        known = [cell for cell in cells if _is_known(keyring, cell)]
        unknown += group.count * (len(cells) - len(known))
        stale += group.count if any(map(keyring.needs_reseal, known)) else 0
    return stale, unknown


def _is_known(keyring: Keyring, cell: str) -> bool:
    """Whether the key is configured that a cell which begins so names."""
    try:
        keyring.open(f"{cell}:{'A' * 40}", Context("", "", ""))
    except UnknownKeyError:
        return False
    except SealedCellError:
        pass
    return True


class Memory:
    """What is kept of rows between two runs, in a file: of a cell at most which key it names.

    Attributes:
        rows: at Airtable all of them, or where they were not listed those that need a person; of a database those of
            which something ends.
        listed_at: when they were listed; None where nobody wants to know of all.
    """

    def __init__(self, context: RunContext, look: Look) -> None:
        self._context = context
        self._look = look
        self._file = context.folder / FILE
        self._before, rows, self._codes_before = _read(self._file)
        self.rows: dict[Identity, Row] = {self._identity(row): row for row in rows}
        self.listed_at = parse_time(self._before.get("listed_at")) if look.wants_all else None
        self._codes: dict[str, Code] = {}

    def name_of(self, provider: str) -> str:
        """The provider's slug, for a cell that says so; `OTHER` where nobody has the name."""
        return self._look.providers.slug_of(provider or self._context.default_provider) or OTHER

    def _identity(self, row: Row) -> Identity:
        provider = row.provider or self._context.default_provider
        return row.location_id, self._look.providers.slug_of(provider) or provider

    def statuses(self, now: datetime, rows: Iterable[Row] | None = None) -> list[RowStatus]:
        """The states of these rows; by default of those that are kept."""
        rows = self.rows.values() if rows is None else rows
        look, context = self._look, self._context
        return row_statuses(rows, look.providers, context.default_provider, context.policy, now)

    def is_old(self, now: datetime) -> bool:
        """Whether to list again."""
        return self.listed_at is None or not timedelta(0) <= now - self.listed_at < A_DAY

    def list_again(self, now: datetime, *, keeps_all: bool) -> None:
        """Ask the store."""
        store = self._context.store.store
        watched = store.watched(now + WARNED_AHEAD)
        rows = self._look.recall(store, watched) if keeps_all else (row for row in watched if self._ends(row, now))
        self.rows = {self._identity(row): row for row in rows}
        self.listed_at = now

    def _ends(self, row: Row, now: datetime) -> bool:
        return self.statuses(now, [row])[0].end is not None

    def follow(self, run: RunFinished) -> None:
        """Take in what a run did to the rows of a table that is not asked."""
        tried = {(one.location_id, one.provider) for one in (*run.results, *run.waiting)}
        for result in run.results:
            identity = result.location_id, result.provider
            known = self.rows.get(identity) or Row("", result.location_id, "", provider=result.provider)
            self.rows[identity] = _after(known, result)
        if self.listed_at is None:  # only those that need a person, as long as the journal remembers them
            failures = read_failures(self._context.folder).values()
            remembered = {self._identity(Row("", one.location_id, "", provider=one.provider)) for one in failures}
            is_whole = self._look.is_scheduled and run.error is None and run.stopped is None
            self.rows = {
                identity: row
                for identity, row in self.rows.items()
                if (row.is_failing or row.status == STATUS_REAUTHORIZE)
                and identity in remembered
                and (identity in tried or row.status == STATUS_REAUTHORIZE or not is_whole)
            }

    def fact(self, one: RowStatus, result: RowFinished | None) -> RowFact:
        """What a person should look at; `result` is what this run did to the row."""
        row = one.row
        name = f"{row.location_id}\n{one.provider}"
        code = _code(one, result) or self._codes_before.get(name, Code.FAILING)
        if code in _OF_AN_OPERATOR:  # which a run that does not try the row would not know
            self._codes[name] = code
        failed = result if result is not None and result.kind is not None else None
        return RowFact(
            row.location_id,
            one.provider,
            str(one.state),
            code,
            (failed.error if failed else None) or one.error or "its access token has expired",
            (failed.action if failed else None) or one.action,
            failures=max(1, row.failure_count),
            token_ends=row.access_token_expiry,
        )

    def write(self) -> None:
        """Keep it, where it has changed."""
        after = {
            "listed_at": iso(self.listed_at) if self.listed_at else None,
            "rows": [_object_of(row) for row in self.rows.values()],
            "codes": self._codes,
        }
        if after != self._before and (self._before or any(after.values())):
            write_file(self._file, json.dumps(after).encode())


def _after(row: Row, result: RowFinished) -> Row:
    """The row as it is after its refresh; at Airtable it is not read again for that."""
    row = replace(row, encrypted_refresh=row.encrypted_refresh or _THERE, access_token_expiry=result.expires_at)
    if result.outcome not in KINDS:
        return replace(row, status=STATUS_ACTIVE, last_error="", failure_count=0, error=None)
    status = STATUS_REAUTHORIZE if result.outcome is Outcome.REAUTHORIZE else row.status
    return replace(row, status=status, last_error=result.error or _THERE, failure_count=row.failure_count + 1)


def _code(one: RowStatus, result: RowFinished | None) -> Code | None:
    """What news it is; None where only an earlier run knows."""
    if one.state is State.LOGIN_NEEDED or one.row.has_only_access_token:
        return Code.LOGIN_NEEDED
    if result is not None and result.outcome is Outcome.OPERATOR:
        return Code.UNREADABLE_CELL if result.is_unreadable else Code.NEEDS_FIXING
    if one.row.error is not None:
        return Code.NEEDS_FIXING
    return Code.FAILING if result is not None else None


def _read(file: Path) -> tuple[dict[str, Any], list[Row], dict[str, Code]]:
    """What is not there, or is broken, counts as nothing: it is found out again."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        kept = json.loads(file.read_bytes())
        codes = {name: Code(code) for name, code in kept["codes"].items()}
        return kept, [_row_of(one) for one in kept["rows"]], codes
    return {}, [], {}


def _object_of(row: Row) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in _KEPT}
    kept |= {name: iso(moment) for name in _TIMES if (moment := getattr(row, name)) is not None}
    kept |= {name: cell[:CELL_HEAD] if is_sealed(cell) else _THERE for name in _CELLS if (cell := getattr(row, name))}
    if row.error is not None:
        kept["error"] = [str(row.error), row.error.action]
    return {name: value for name, value in kept.items() if value}


def _row_of(kept: Mapping[str, Any]) -> Row:
    values: dict[str, Any] = {name: str(kept.get(name, "")) for name in (*_KEPT, *_CELLS)}
    values |= {name: parse_time(kept.get(name)) for name in _TIMES}
    values["error"] = ActionableError(*kept["error"], Kind.ROW) if kept.get("error") else None
    return Row(**values | {"client_id": "", "failure_count": int(kept.get("failure_count", 0))})
