"""What is due, as jobs: all of it is listed and looked at before the first refresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from token_refresh.base.errors import ActionableError, Kind, RunError
from token_refresh.base.events import Notice, NoticeCode, RowsListed, Subscriber
from token_refresh.journal.entries import STEP_SUPERSEDED, by_token
from token_refresh.journal.failures import Failure
from token_refresh.refresh import replay
from token_refresh.refresh.duplicates import duplicates_among
from token_refresh.refresh.jobs import Job, UnusableRow, unknown_status_notice
from token_refresh.refresh.remembered_failures import with_remembered_failure
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import STATUS_DISABLED, STATUS_REAUTHORIZE, DueQuery, Row

_WAITS = {
    replay.Wait.TOO_EARLY: (
        NoticeCode.TOO_EARLY,
        "{provider.name} accepts a refresh only in the last {provider.earliest} s of an access token",
    ),
    replay.Wait.UNDER_WAY: (
        NoticeCode.REQUEST_UNDER_WAY,
        "a request of an earlier run may still be on its way; the next run goes on from there",
    ),
    replay.Wait.LAST_MINUTE: (
        NoticeCode.WAITS_FOR_EXPIRY,
        "the last answer was lost; the provider is asked again when the access token runs out",
    ),
}
CLAIMED_ROWS = 500  # at a time: others find work, too, a host that dies holds up few, and memory stays small


def list_due(
    parts: RunContext,
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
    store = parts.store.store
    unseen = set(scope.locations) if scope.everything else set()
    total = due = 0

    def jobs_of(listed: Sequence[Row]) -> list[Job]:
        nonlocal total, due
        now = parts.clock.now()
        rows = _wanted(parts, scope, listed, now)
        unseen.difference_update(row.location_id for row in rows)
        horizon = now - timedelta(seconds=2 * parts.policy.interval)
        for row in rows if not scope.takeover else ():
            parts.identity.refuse_others_row(row, horizon)
        for notice in (*_of_statuses(rows), *_of_lifetimes(parts, rows)):
            emit(notice)
        jobs, faults = _sorted_out(parts, scope, [row for row in rows if row.key not in blocked], now, emit)
        if jobs and not due and not scope.dry_run:
            store.prove_writable(jobs[0].row)
        due += len(jobs)
        total += len(jobs) + len(faults)
        emit(RowsListed(total, due))
        for fault in faults:
            unusable(fault)
        return jobs

    claimant = replace(parts.claimant, takes_over=scope.takeover)
    rounds = iter([store.due(query)]) if scope.dry_run else store.claim_due(query, claimant, CLAIMED_ROWS)
    yield from map(jobs_of, rounds)  # which, unlike a loop, does not hold the rows while they are worked off
    for notice in _of_locations(unseen):
        emit(notice)


def _sorted_out(
    parts: RunContext, scope: Scope, rows: Sequence[Row], now: datetime, emit: Subscriber
) -> tuple[list[Job], list[UnusableRow]]:
    """The rows that can be refreshed, and those that somebody has to fix; the others have to wait for a later run."""
    unfinished = _Unfinished(parts)
    made = [unfinished.made(row, now, emit) for row in rows]
    if not scope.dry_run:
        unfinished.forget_overtaken()
    faults = [one for one in made if isinstance(one, UnusableRow)]
    _refuse_wrong_key(faults, len(made))
    jobs = [one for one in made if isinstance(one, Job)]
    duplicates = duplicates_among(jobs)
    return [job for job in jobs if job.row.key not in duplicates], [*faults, *duplicates.values()]


def query_of(parts: RunContext, scope: Scope) -> DueQuery:
    """What the store is asked for. Rows with a dead grant are looked at once a day, in case somebody fixed one."""
    query = parts.policy.query(parts.providers.values(), parts.default_provider, parts.clock.now())
    query = replace(query, everything=scope.everything, locations=scope.locations, providers=scope.providers)
    if not scope.is_by_hand and not scope.dry_run and parts.journal.failures.starts_daily_check():
        return replace(query, idle=(STATUS_DISABLED,))
    return query


def _wanted(parts: RunContext, scope: Scope, rows: Sequence[Row], now: datetime) -> list[Row]:
    """Of the rows that the store calls due those that are, by all that is known of them.

    They come with what their table has no columns for.
    """
    failures, columns = parts.journal.failures, parts.store.store.columns
    kept: list[Row] = []
    for listed in rows:
        cell = parts.store.keyring.fingerprints(listed.encrypted_refresh)
        failure = failures.find(listed.key, cell)
        row = listed if failure is None else with_remembered_failure(listed, failure, columns)
        if row.status == STATUS_REAUTHORIZE and not _may_live(parts, row, cell, failure, now):
            continue
        if (scope.everything or _is_due(parts, row, now)) and (scope.still is None or scope.still(row)):
            kept.append(row)
    return kept


def _may_live(parts: RunContext, row: Row, cell: Sequence[str], failure: Failure | None, now: datetime) -> bool:
    """Whether a row that was found dead is tried: another credential is in it, or its provider is known to err."""
    if failure is None:
        return parts.journal.failures.died_with_another_cell(row.key, cell)
    return replay.may_live(parts.providers.get(parts.job_factory.provider_name(row)), failure, now)


def _is_due(parts: RunContext, row: Row, now: datetime) -> bool:
    provider = parts.providers.get(parts.job_factory.provider_name(row))
    return provider is None or parts.policy.is_due(row, provider, now)


class _Unfinished:
    """Makes jobs of rows, by what the journal knows of their tokens.

    By the tokens, not by the rows: rows are copied, deleted and restored.
    """

    def __init__(self, parts: RunContext) -> None:
        self._parts = parts
        lost = parts.journal.lost()
        self._lost_of_row = {entry.row_key: entry for entry in lost}
        self._lost = by_token(lost)
        self._superseded = by_token(parts.journal.entries(STEP_SUPERSEDED))
        self._overtaken: list[int] = []

    def made(self, row: Row, now: datetime, emit: Subscriber) -> Job | UnusableRow | None:
        """The row's job or fault; None where it has to wait for a later run."""
        job = self._parts.job_factory.job(row)
        if not isinstance(job, Job):
            return job
        entry = self._lost(job.token)
        of_row = self._lost_of_row.get(row.key)
        if of_row is not None and of_row is not entry:
            if entry is None and self._parts.journal.is_of(of_row, row.encrypted_refresh):
                entry = of_row  # the key that its token was hashed with is gone
            else:
                self._overtaken.append(of_row.id)
        if entry is not None:
            job = replace(job, lost_entry=entry.id, lost_at=entry.lost_at or entry.sent_at)
        if job.provider.rotates == "never":
            return job
        fault = self._used_up(job)
        if fault is not None:
            return fault
        wait = replay.reason_to_wait(
            job.provider,
            row.access_token_expiry,
            entry.sent_at if entry is not None else None,
            now,
            last_minute=self._parts.policy.is_last_minute(row, now),
        )
        if wait is not None:
            code, message = _WAITS[wait]
            message = message.format(provider=job.provider)
            emit(Notice(code, row.location_id, message, provider=job.provider.slug))
        return job if wait is None else None

    def forget_overtaken(self) -> None:
        """Lost answers to tokens that are in their rows no more concern nobody."""
        self._parts.journal.finish(self._overtaken)

    def _used_up(self, job: Job) -> UnusableRow | None:
        """Why the token must not be sent: it has a successor."""
        if self._superseded(job.token) is not None:
            what = "newer tokens of this row were kept in the journal when it was changed or deleted"
            error = ActionableError(what, "Store them: python token_manager.py recover --replay", Kind.ROW)
            return UnusableRow(job.row, job.provider.slug, error)
        if not replay.is_used_up(job.provider, is_spent=self._parts.journal.is_spent(job.token)):
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


def _of_lifetimes(parts: RunContext, rows: Iterable[Row]) -> list[Notice]:
    """What to say of each provider whose tokens expire before the next run can renew them."""
    named = {parts.job_factory.provider_name(row) for row in rows}
    providers = [parts.providers[name] for name in sorted(named) if name in parts.providers]
    return [
        Notice(
            NoticeCode.SHORT_LIFETIME,
            None,
            f"{provider.name}: tokens live {provider.default_lifetime} s, not longer than REFRESH_INTERVAL",
            "Run cron more often and lower it, or ask for a token with `get` when it is needed.",
            provider.slug,
        )
        for provider in providers
        if not parts.policy.outpaces(provider)
    ]


def _refuse_wrong_key(faults: Sequence[UnusableRow], looked_at: int) -> None:
    if faults and len(faults) == looked_at and all(fault.is_key_unknown for fault in faults):
        raise RunError(
            f"ENCRYPTION_KEY opens none of the {looked_at} rows that are due",
            "Set the key that the rows were sealed with; older keys go into ENCRYPTION_KEY_FALLBACKS.",
        )
