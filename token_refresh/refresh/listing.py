"""What is due, as jobs: all of it is listed and looked at before the first refresh."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from providers.base import Verdict
from token_refresh.base.clock_check import clock_notice, refuse_hopeless
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Notice, NoticeCode, Outcome, RowsListed, RowWaiting, Subscriber
from token_refresh.base.program import ONBOARD_CLIENT, STORE_WAITING
from token_refresh.journal.entries import Entry, Step, by_token, predecessors
from token_refresh.journal.failures import Failure
from token_refresh.refresh import replay
from token_refresh.refresh.claims import rows_of_others
from token_refresh.refresh.due import ENDING
from token_refresh.refresh.duplicates import duplicates_among
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.result import action_of, with_remembered_failure
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import STATUS_DISABLED, STATUS_REAUTHORIZE, DueQuery, Row
from token_refresh.stores.sealed import wrong_key

WARNED_AHEAD = timedelta(days=30)  # of a refresh token's end
_PAUSED = "its provider asked for a pause"
_BLOCKED = "what the journal holds for it comes first, and cannot be stored yet"
MOST_SHUT = 20_000  # rows that no key opens, before it counts as wrong: more would need much memory
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
    unseen = set(scope.locations)
    total = due = 0
    faulty = _Faults(unusable)

    def jobs_of(listed: Sequence[Row]) -> list[Job]:
        nonlocal total, due
        now = context.clock.now()
        _check_clock(context, emit)
        waits: dict[str, datetime | None] = dict.fromkeys(blocked)
        rows = _wanted(context, scope, listed, now, waits)
        unseen.difference_update(row.location_id for row in rows)
        for row in rows if not scope.takeover else ():
            context.identity.refuse_others_row(row, context.policy.interval)
        for notice in context.row_notices(context, listed, rows, query):
            emit(notice)
        for row in rows:
            if row.key in waits:
                reason, until = (_PAUSED if waits[row.key] else _BLOCKED), waits[row.key]
                emit(RowWaiting(row.location_id, context.job_factory.provider_name(row), reason, until))
        store.give_up(() if scope.dry_run else {row.key for row in listed} - {row.key for row in rows})
        tried = [row for row in rows if row.key not in waits]
        jobs, faults = _sorted_out(context, scope, tried, now, emit)
        if jobs and not due and not scope.dry_run:
            store.prove_writable(jobs[0].row)
        due += len(jobs)
        total += len(jobs) + len(faults)
        emit(RowsListed(total, due))
        faulty.take(faults, len(tried))
        return jobs

    claimant = replace(context.claimant, takes_over=scope.takeover)
    rounds = iter([store.due(query)]) if scope.dry_run else store.claim_due(query, claimant, CLAIMED_ROWS)
    # Which, unlike a loop, does not hold the rows while they are worked off.
    yield from filter(lambda _: not faulty.shut, map(jobs_of, rounds))
    faulty.require_key()
    _check_clock(context, emit)  # also where nothing seems to be due: a clock may be why
    claimed = {row.location_id for row in rows_of_others(context, query)} if unseen else set()
    for name in sorted(unseen - claimed):
        if why := query.left_out(store.find(name)):
            emit(Notice(NoticeCode.NOT_SELECTED, name, *why))


class _Faults:
    """Says which rows somebody has to fix; those that no key opens once any row opens, for else it is the key.

    Attributes:
        shut: those that wait for that.
    """

    def __init__(self, tell: Callable[[UnusableRow], None]) -> None:
        self.shut: list[UnusableRow] = []
        self._tell, self._is_key_right = tell, False

    def take(self, faults: Sequence[UnusableRow], tried: int) -> None:
        """Those of so many rows that were tried."""
        self._is_key_right |= len(faults) < tried or any(not fault.is_key_unknown for fault in faults)
        self.shut += faults
        while self._is_key_right and self.shut:
            self._tell(self.shut.pop(0))
        self.require_key(MOST_SHUT)

    def require_key(self, most: int = 0) -> None:
        """Raise where no row has opened, and more than so many have not."""
        if len(self.shut) > most:
            raise wrong_key(len(self.shut))


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
    found = [context.job_factory.job(row) for row in rows]
    unfinished = _Unfinished(context, found, scope.dry_run)
    made = [unfinished.made(one, now, emit) for one in found]
    unfinished.forget_overtaken()
    faults = [one for one in made if isinstance(one, UnusableRow)]
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
    found = [context.job_factory.job(row) for row in context.store.store.read(list(keys)).values()]
    now, unfinished = context.clock.now(), _Unfinished(context, found)
    made = [unfinished.made(one, now, emit) for one in found]
    for fault in made:
        if isinstance(fault, UnusableRow):
            unusable(fault)
    yield [job for job in made if isinstance(job, Job) and job.proves]


def query_of(context: RunContext, scope: Scope) -> DueQuery:
    """What the store is asked for.

    Once a day also rows with a dead grant, in case somebody fixed one, and those whose refresh token ends soon, or
    whose access token where there is no other.
    """
    query = context.policy.query(context.providers.values(), context.default_provider, context.clock.now())
    query = replace(query, everything=scope.everything, locations=scope.locations, providers=scope.providers)
    failures = context.journal.failures
    if not scope.is_by_hand and not scope.dry_run and failures.starts_daily_check():
        now = context.clock.now()
        query = replace(query, ending=now + WARNED_AHEAD, lone=now + ENDING)
        return replace(query, idle=(STATUS_DISABLED,)) if failures.has_dead_grant else query
    return query


def _wanted(
    context: RunContext, scope: Scope, rows: Sequence[Row], now: datetime, waits: dict[str, datetime | None]
) -> list[Row]:
    """Of the rows that the store calls due those that are, by all that is known of them.

    They come with what their table has no columns for. In `waits` is put until when a provider asked for a pause.
    """
    failures, store = context.journal.failures, context.store.store
    columns = store.columns - store.journalled_columns
    kept: list[Row] = []
    for listed in rows:
        cell = context.store.keyring.fingerprints(listed.encrypted_refresh)
        failure = failures.find(listed.key, cell)
        row = listed if failure is None else with_remembered_failure(listed, failure, columns)
        if failure is not None and (until := failure.paused_until(now)) is not None:
            waits.setdefault(listed.key, until)
        if row.status == STATUS_REAUTHORIZE and not _may_live(context, row, cell, failure, now):
            continue
        if not (row.encrypted_refresh or row.error):
            continue  # an access token alone, whose end is near
        is_due = scope.everything or context.policy.is_due(row, context.provider_of(row), now)
        if is_due and (scope.still is None or scope.still(row)):
            kept.append(row)
    return kept


def _may_live(context: RunContext, row: Row, cell: Sequence[str], failure: Failure | None, now: datetime) -> bool:
    """Whether a dead row is tried: it has another credential, its provider errs, or its agency may give another."""
    if failure is None:
        return context.journal.failures.died_with_another_cell(row.key, cell)
    job = context.job_factory.job(row)
    return replay.may_live(context.provider_of(row), failure, now) or (isinstance(job, Job) and bool(job.agency))


class _Unfinished:
    """Makes jobs of rows, by what the journal knows of their tokens.

    By the tokens, not by the rows: rows are copied, deleted and restored.
    """

    def __init__(self, context: RunContext, found: Iterable[Job | UnusableRow], dry_run: bool = False) -> None:
        self._context, self._dry_run, journal = context, dry_run, context.journal
        others, lost, kept = journal.entries_elsewhere(), journal.lost(), journal.entries(Step.UNREAD, Step.SUPERSEDED)
        # With the location: SQLite gives the key of a row that was deleted to another one.
        self._lost_of_row = {(entry.row_key, entry.location_id): entry for entry in lost}
        self._lost = by_token([one for one in others if one.lacks_answer] + lost)
        self._kept = by_token([one for one in others if not one.lacks_answer] + kept)
        self._superseded = [one for one in kept if one.step is Step.SUPERSEDED and not one.admission]
        self._unproven = journal.unproven(others)
        # Last: whoever ends an entry meanwhile notes its token as spent.
        self._spent = journal.spent({token for one in found if isinstance(one, Job) for token in one.token})
        # What is in the journal of another table, or of this one before a restore, is noted here, too.
        self._noted: Callable[[Entry, str], Entry] = (lambda entry, _: entry) if dry_run else journal.adopt
        self._overtaken: list[int] = []

    def made(self, job: Job | UnusableRow, now: datetime, emit: Subscriber) -> Job | UnusableRow | None:
        """The row's job or fault; None where it has to wait for a later run."""
        if not isinstance(job, Job):
            return job
        entry, row = self._known(self._lost, job), job.row
        of_row = self._lost_of_row.get((row.key, row.location_id))
        if of_row is not None and of_row is not entry:
            self._overtaken.append(of_row.id)
        if entry is not None:
            entry = self._noted(entry, row.key)
            job = replace(job, lost_entry=entry.id, lost=entry)
        if before := predecessors(job.token, row.location_id, self._unproven):
            job = replace(job, proves=tuple(self._noted(one, row.key) for one in before))
        if job.provider.rotates == "never":
            return job
        if (fault := self._used_up(job)) is not None:
            return fault
        policy = self._context.policy
        expires_at = policy.believed_expiry(row, job.provider, now)
        wait = replay.reason_to_wait(job.provider, expires_at, entry, now, policy.last_minute(expires_at))
        if wait is not None:
            reason, until = wait
            emit(RowWaiting(row.location_id, job.provider.slug, reason.value.format(provider=job.provider), until))
        return job if wait is None else None

    def _known(self, find: Callable[[Collection[str]], Entry | None], job: Job) -> Entry | None:
        """What is found of its token; of another journal only what no refresh since then has overtaken.

        After that refresh nothing is known of the token any more, unless it was replaced: then somebody put it back.
        A refresh in the future was one by a clock that was ahead: nobody knows when it was.
        """
        entry, last = find(job.token), job.row.last_refreshed
        if entry is None or entry.id or last is None or job.provider.rotates == "always":
            return entry
        return entry if entry.sent_at > last or last > self._context.clock.now() else None

    def forget_overtaken(self) -> None:
        """Lost answers to tokens that are in their rows no more concern nobody."""
        self._context.journal.finish(() if self._dry_run else self._overtaken)

    def _used_up(self, job: Job) -> UnusableRow | None:
        """Why the token must not be sent: it has a successor."""
        spent_at, kept = max(filter(None, map(self._spent.get, job.token)), default=None), self._known(self._kept, job)
        step = kept.step if kept is not None and kept.id else None
        action = STORE_WAITING
        of_row = (one for one in self._superseded if one.location_id == job.row.location_id)
        if any(replay.is_newer(one, job.provider, spent_at) for one in of_row) or step is Step.SUPERSEDED:
            what = "newer tokens of this row were kept in the journal when it was changed or deleted"
        elif step is Step.UNREAD:
            what = "the provider's answer has a form that is not known; it is kept, encrypted, in the journal"
            action = action_of(Outcome.OPERATOR, Verdict.UNREAD) or ""
        elif replay.is_used_up(job.provider, is_spent=spent_at is not None):
            what = "this refresh token is older than the last refresh; was the row restored from a backup?"
            action = f"Restore the newer cell, or onboard the client again with `{ONBOARD_CLIENT}`."
        elif kept is not None:
            what = "newer tokens of this row are kept in the journal of another table, or of this one before a restore"
        else:
            return None
        return UnusableRow(job.row, job.provider.slug, ActionableError(what, action, Kind.ROW))
