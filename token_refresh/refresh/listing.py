"""What is due, as jobs: all of it is listed and looked at before the first refresh."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from providers.base import Verdict
from token_refresh.base.errors import ActionableError, Kind, RunError
from token_refresh.base.events import Notice, NoticeCode, Outcome, RowsListed, RowWaiting, Subscriber
from token_refresh.journal.entries import STEP_SUPERSEDED, STEP_UNPROVEN, STEP_UNREAD, by_token
from token_refresh.journal.failures import Failure
from token_refresh.refresh import replay
from token_refresh.refresh.clock_check import clock_notice, refuse_hopeless
from token_refresh.refresh.duplicates import duplicates_among
from token_refresh.refresh.jobs import Job, UnusableRow, unknown_status_notice
from token_refresh.refresh.remembered_failures import with_remembered_failure
from token_refresh.refresh.result import action_of
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import STATUS_DISABLED, STATUS_REAUTHORIZE, DueQuery, Row

_WAITS = {
    replay.Wait.TOO_EARLY: "{provider.name} accepts a refresh only {provider.earliest} s before the access token ends",
    replay.Wait.UNDER_WAY: "a request of an earlier run may still be on its way",
    replay.Wait.LAST_MINUTE: "the last answer was lost; the provider is asked again when the access token runs out",
}
_TOO_FEW_RUNS = {
    0: "not longer than REFRESH_INTERVAL",
    1: "too short for two runs at REFRESH_INTERVAL: where one refresh fails, the token ends before the next",
}
WARNED_AHEAD = timedelta(days=30)  # of a refresh token's end
_BLOCKED = "what the journal holds for it comes first, and cannot be stored yet"
CLAIMED_ROWS = 500  # at a time: others find work, too, a host that dies holds up few, and memory stays small


def list_due(
    context: RunContext,
    scope: Scope,
    query: DueQuery,
    blocked: frozenset[str],
    emit: Subscriber,
    unusable: Callable[[UnusableRow], None],
) -> Iterator[list[Job]]:
    """List what `scope` takes, by the store's answer to `query_of`, and prove that the store takes writes.

    Where rows are claimed, round by round: each is claimed when it is asked for, and no row is in two of them.

    Args:
        blocked: the keys of rows that wait for their journal entry.
        emit: gets notices, and of each round how many rows there are by now.
        unusable: gets the rows that somebody has to fix.

    Raises:
        RunError: no row opens with the configured keys, or another installation refreshes this table.
        StoreError: the store cannot be read, or takes no writes.
    """
    store = context.store.store
    unseen = set(scope.locations) if scope.everything else set()
    total = due = 0

    def jobs_of(listed: Sequence[Row]) -> list[Job]:
        nonlocal total, due
        now = context.clock.now()
        _check_clock(context, emit)
        rows = _wanted(context, scope, listed, now)
        unseen.difference_update(row.location_id for row in rows)
        horizon = now - timedelta(seconds=2 * context.policy.interval)
        for row in rows if not scope.takeover else ():
            context.identity.refuse_others_row(row, horizon)
        notices = (*_of_statuses(rows), *_of_lifetimes(context, rows), *_of_times(context, rows, now))
        for notice in (*notices, *_of_ends(context, listed, query, now)):
            emit(notice)
        for row in rows:
            if row.key in blocked:
                emit(RowWaiting(row.location_id, context.job_factory.provider_name(row), _BLOCKED))
        jobs, faults = _sorted_out(context, scope, [row for row in rows if row.key not in blocked], now, emit)
        if jobs and not due and not scope.dry_run:
            store.prove_writable(jobs[0].row)
        due += len(jobs)
        total += len(jobs) + len(faults)
        emit(RowsListed(total, due))
        for fault in faults:
            unusable(fault)
        return jobs

    claimant = replace(context.claimant, takes_over=scope.takeover)
    rounds = iter([store.due(query)]) if scope.dry_run else store.claim_due(query, claimant, CLAIMED_ROWS)
    yield from map(jobs_of, rounds)  # which, unlike a loop, does not hold the rows while they are worked off
    _check_clock(context, emit)  # also where nothing seems to be due: a clock may be why
    for notice in _of_locations(unseen):
        emit(notice)


def _check_clock(context: RunContext, emit: Subscriber) -> None:
    """By the store's, which has answered by now. Raises `RunError` where nothing may be refreshed with ours."""
    name = "Airtable" if context.store.store.kind == "airtable" else "the database"
    offset, now = context.store.store.clock_offset, context.clock.now()
    refuse_hopeless(name, offset, now)
    if (notice := clock_notice(name, offset, now)) is not None:
        emit(notice)


def _sorted_out(
    context: RunContext, scope: Scope, rows: Sequence[Row], now: datetime, emit: Subscriber
) -> tuple[list[Job], list[UnusableRow]]:
    """The rows that can be refreshed, and those that somebody has to fix; the others have to wait for a later run."""
    unfinished = _Unfinished(context)
    made = [unfinished.made(row, now, emit) for row in rows]
    if not scope.dry_run:
        unfinished.forget_overtaken()
    faults = [one for one in made if isinstance(one, UnusableRow)]
    _refuse_wrong_key(faults, len(made))
    jobs = [one for one in made if isinstance(one, Job)]
    duplicates = duplicates_among(jobs)
    return [job for job in jobs if job.row.key not in duplicates], [*faults, *duplicates.values()]


def list_unproven(
    context: RunContext, keys: Collection[str], emit: Subscriber, unusable: Callable[[UnusableRow], None]
) -> Iterator[list[Job]]:
    """Of the rows with these keys those that hold a new token which no refresh has proved, as one more round.

    `keys` are looked at when the round is asked for. `emit`, `unusable`: see `list_due`.
    """
    if not keys:
        return
    now, unfinished = context.clock.now(), _Unfinished(context)
    rows = context.store.store.read(list(keys))
    made = [unfinished.made(row, now, emit) for row in rows.values()]
    for fault in made:
        if isinstance(fault, UnusableRow):
            unusable(fault)
    yield [job for job in made if isinstance(job, Job) and job.proves is not None]


def query_of(context: RunContext, scope: Scope) -> DueQuery:
    """What the store is asked for.

    Once a day also rows with a dead grant, in case somebody fixed one, and those whose refresh token ends soon.
    """
    query = context.policy.query(context.providers.values(), context.default_provider, context.clock.now())
    query = replace(query, everything=scope.everything, locations=scope.locations, providers=scope.providers)
    failures = context.journal.failures
    if not scope.is_by_hand and not scope.dry_run and failures.starts_daily_check():
        query = replace(query, ending=context.clock.now() + WARNED_AHEAD)
        return replace(query, idle=(STATUS_DISABLED,)) if failures.has_dead_grant else query
    return query


def _wanted(context: RunContext, scope: Scope, rows: Sequence[Row], now: datetime) -> list[Row]:
    """Of the rows that the store calls due those that are, by all that is known of them.

    They come with what their table has no columns for.
    """
    failures, store = context.journal.failures, context.store.store
    columns = store.columns - store.journalled_columns
    kept: list[Row] = []
    for listed in rows:
        cell = context.store.keyring.fingerprints(listed.encrypted_refresh)
        failure = failures.find(listed.key, cell)
        row = listed if failure is None else with_remembered_failure(listed, failure, columns)
        if row.status == STATUS_REAUTHORIZE and not _may_live(context, row, cell, failure, now):
            continue
        if (scope.everything or _is_due(context, row, now)) and (scope.still is None or scope.still(row)):
            kept.append(row)
    return kept


def _may_live(context: RunContext, row: Row, cell: Sequence[str], failure: Failure | None, now: datetime) -> bool:
    """Whether a row that was found dead is tried: another credential is in it, or its provider is known to err."""
    if failure is None:
        return context.journal.failures.died_with_another_cell(row.key, cell)
    return replay.may_live(context.providers.get(context.job_factory.provider_name(row)), failure, now)


def _is_due(context: RunContext, row: Row, now: datetime) -> bool:
    provider = context.providers.get(context.job_factory.provider_name(row))
    return provider is None or context.policy.is_due(row, provider, now)


class _Unfinished:
    """Makes jobs of rows, by what the journal knows of their tokens.

    By the tokens, not by the rows: rows are copied, deleted and restored.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        lost = context.journal.lost()
        self._lost_of_row = {entry.row_key: entry for entry in lost}
        self._lost = by_token(lost)
        self._superseded = by_token(context.journal.entries(STEP_SUPERSEDED))
        self._unread = by_token(context.journal.entries(STEP_UNREAD))
        self._unproven_of_row = {entry.row_key: entry for entry in context.journal.entries(STEP_UNPROVEN)}
        self._overtaken: list[int] = []

    def made(self, row: Row, now: datetime, emit: Subscriber) -> Job | UnusableRow | None:
        """The row's job or fault; None where it has to wait for a later run."""
        job = self._context.job_factory.job(row)
        if not isinstance(job, Job):
            return job
        entry = self._lost(job.token)
        of_row = self._lost_of_row.get(row.key)
        if of_row is not None and of_row is not entry:
            if entry is None and self._context.journal.is_of(of_row, row.encrypted_refresh):
                entry = of_row  # the key that its token was hashed with is gone
            else:
                self._overtaken.append(of_row.id)
        if entry is not None:
            job = replace(job, lost_entry=entry.id, lost_at=entry.lost_at or entry.sent_at)
        unproven = self._unproven_of_row.get(row.key)
        if unproven is not None and unproven.successor in job.token:
            job = replace(job, proves=unproven.id, previous=unproven.previous)
        if job.provider.rotates == "never":
            return job
        fault = self._used_up(job)
        if fault is not None:
            return fault
        sent_at = entry.sent_at if entry is not None else None
        last_minute = self._context.policy.last_minute(row)
        wait = replay.reason_to_wait(job.provider, row.access_token_expiry, sent_at, now, last_minute)
        if wait is not None:
            reason, until = wait
            words = _WAITS[reason].format(provider=job.provider)
            emit(RowWaiting(row.location_id, job.provider.slug, words, until))
        return job if wait is None else None

    def forget_overtaken(self) -> None:
        """Lost answers to tokens that are in their rows no more concern nobody."""
        self._context.journal.finish(self._overtaken)

    def _used_up(self, job: Job) -> UnusableRow | None:
        """Why the token must not be sent: it has a successor."""
        if self._superseded(job.token) is not None:
            what = "newer tokens of this row were kept in the journal when it was changed or deleted"
            error = ActionableError(what, "Store them: python token_manager.py recover --replay", Kind.ROW)
            return UnusableRow(job.row, job.provider.slug, error)
        if self._unread(job.token) is not None:
            what = "the provider's answer has a form that is not known; it is kept, encrypted, in the journal"
            error = ActionableError(what, action_of(Outcome.OPERATOR, Verdict.UNREAD) or "", Kind.ROW)
            return UnusableRow(job.row, job.provider.slug, error)
        if not replay.is_used_up(job.provider, is_spent=self._context.journal.is_spent(job.token)):
            return None
        error = ActionableError(
            "this refresh token is older than the last refresh; was the row restored from a backup?",
            "Restore the newer cell, or onboard the client again with `python onboard_client.py`.",
            Kind.ROW,
        )
        return UnusableRow(job.row, job.provider.slug, error)


def _of_statuses(rows: Iterable[Row]) -> list[Notice]:
    return [notice for notice in map(unknown_status_notice, rows) if notice is not None]


def _of_locations(unseen: Iterable[str]) -> list[Notice]:
    """What to say of each location that was asked for in vain."""
    message = "no such row, or it has no credential, or its status rules it out"
    return [Notice(NoticeCode.NOT_SELECTED, name, message) for name in sorted(unseen)]


def _of_lifetimes(context: RunContext, rows: Iterable[Row]) -> list[Notice]:
    """What to say of each provider whose tokens expire before the next run can renew them."""
    named = {context.job_factory.provider_name(row) for row in rows}
    providers = [context.providers[name] for name in sorted(named) if name in context.providers]
    return [
        Notice(
            NoticeCode.SHORT_LIFETIME,
            None,
            f"{provider.name}: tokens live {provider.default_lifetime} s, {_TOO_FEW_RUNS[runs]}",
            "Run cron more often and lower it, or ask for a token with `get` when it is needed.",
            provider.slug,
        )
        for provider in providers
        if (runs := context.policy.runs_in(provider)) in _TOO_FEW_RUNS
    ]


def _of_ends(context: RunContext, rows: Iterable[Row], query: DueQuery, now: datetime) -> Iterator[Notice]:
    """What to say of refresh tokens that end soon, where no refresh brings another one."""
    for row in rows:
        end, provider = row.refresh_token_expiry, context.providers.get(context.job_factory.provider_name(row))
        if end is None or query.ending is None or provider is None or provider.rotates != "never":
            continue
        if now < end < query.ending:
            message = f"its refresh token ends on {end:%Y-%m-%d %H:%M} UTC, and no refresh renews it"
            action = "Connect the account again before, then run: python onboard_client.py"
            yield Notice(NoticeCode.LOGIN_ENDS, row.location_id, message, action, provider.slug)


def _of_times(context: RunContext, rows: Iterable[Row], now: datetime) -> Iterator[Notice]:
    """What to say of rows whose times cannot be."""
    for row in rows:
        provider = context.providers.get(context.job_factory.provider_name(row))
        if provider is not None and context.policy.is_impossible(row, provider, now):
            times = ", ".join(
                f"{name} {moment:%Y-%m-%d %H:%M}"
                for name, moment in (("last_refreshed", row.last_refreshed), ("expiry", row.access_token_expiry))
                if moment is not None
            )
            message = f"its times cannot be ({times} UTC): written by hand, or by a clock that was wrong; it is due now"
            yield Notice(NoticeCode.IMPOSSIBLE_TIME, row.location_id, message, provider=provider.slug)


def _refuse_wrong_key(faults: Sequence[UnusableRow], looked_at: int) -> None:
    if faults and len(faults) == looked_at and all(fault.is_key_unknown for fault in faults):
        raise RunError(
            f"ENCRYPTION_KEY opens none of the {looked_at} rows that are due",
            "Set the key that the rows were sealed with; older keys go into ENCRYPTION_KEY_FALLBACKS.",
        )
