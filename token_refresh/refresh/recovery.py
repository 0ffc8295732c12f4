"""What an earlier run left in the journal is dealt with before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crypto import SealedCellError
from providers.base import Answer, Verdict
from token_refresh.base.errors import internal_error
from token_refresh.base.events import Notice, NoticeCode, RowFinished, Subscriber
from token_refresh.journal.entries import (
    STEP_ANSWERED,
    STEP_LOST,
    STEP_SENT,
    STEP_SUPERSEDED,
    STEP_UNPROVEN,
    STEP_UNREAD,
    Entry,
    by_token,
)
from token_refresh.journal.file import JournalError
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.run_context import RunContext
from token_refresh.refresh.write_back import WriteBack
from token_refresh.stores.base import Row, StoreError


def replay(
    parts: RunContext, writeback: WriteBack, emit: Subscriber, *, with_superseded: bool = False
) -> frozenset[str]:
    """Write back the answers that an earlier run received and could not store.

    `with_superseded`: also those that somebody else's credential superseded, where a row holds the token again that
    they are the successors of.
    Returns the keys of rows that must not be refreshed now, because their own answer still waits.
    """
    _resume_onboarding(parts, emit)
    _review_unproven(parts, emit)
    entries = _waiting(parts)
    rows = parts.store.store.read([entry.row_key for entry in entries]) if entries else {}
    if with_superseded:
        for entry, row in _restored(parts):
            entries.append(replace(entry, row_key=row.key))
            rows[row.key] = row
    for entry in entries:
        try:
            _replay_one(parts, writeback, emit, entry, rows)
        except JournalError:
            raise
        except Exception as error:  # one entry that cannot be read must not keep the others' tokens from the store
            emit(_unreadable(entry, "its answer", error))
    writeback.finish()
    return frozenset(entry.row_key for entry in _waiting(parts))


def _waiting(parts: RunContext) -> list[Entry]:
    """Answers to refreshes that the store has not confirmed: the tokens that their rows hold are spent."""
    return [entry for entry in parts.journal.entries(STEP_ANSWERED) if not entry.enrolment]


def _review_unproven(parts: RunContext, emit: Subscriber) -> None:
    """Rows that were to hold an unproven token, and hold another by now: the one before, or somebody else's."""
    entries = parts.journal.entries(STEP_UNPROVEN)
    rows = parts.store.store.read([entry.row_key for entry in entries]) if entries else {}
    for entry in entries:
        row = rows.get(entry.row_key)
        job = parts.job_factory.job(row) if row is not None and row.encrypted_refresh else None
        if isinstance(job, UnusableRow) or (job is not None and entry.successor in job.token):
            continue
        if job is not None and entry.token in job.token:
            parts.journal.mark_lost(entry.id)
            continue
        parts.journal.mark(entry.id, STEP_SUPERSEDED)
        message = "the row was changed or deleted before its new tokens were proved; they are kept in the journal"
        emit(_notice(NoticeCode.SUPERSEDED, entry, message))


def _restored(parts: RunContext) -> Iterator[tuple[Entry, Row]]:
    """Superseded entries, with the row that holds their token again: restored, or edited back."""
    for entry in parts.journal.entries(STEP_SUPERSEDED):
        if entry.enrolment:
            continue
        found = parts.store.store.find(entry.location_id)
        yield from [(entry, row) for row in found if _is_of(parts, entry, row)][:1]


def _resume_onboarding(parts: RunContext, emit: Subscriber) -> None:
    for entry in parts.journal.entries(STEP_ANSWERED, STEP_SENT, STEP_LOST):
        if not entry.enrolment:
            continue
        try:
            end = parts.resume_admission(parts, entry)
        except SealedCellError as error:
            end = _locked(entry, "its onboarding", error)
        except (JournalError, StoreError):
            raise
        except Exception as error:
            end = _unreadable(entry, "its onboarding", error)
        emit(_onboarding_finished(end) if isinstance(end, RowFinished) else end)


def _onboarding_finished(end: RowFinished) -> Notice:
    message = f"its onboarding was brought to an end: {end.outcome}" + (f", {end.error}" if end.error else "")
    return Notice(NoticeCode.ONBOARDING_FINISHED, end.location_id, message, end.action or "", end.provider)


def _unreadable(entry: Entry, what: str, error: Exception) -> Notice:
    message = f"{what} stays in the journal: {internal_error(error)}"
    return _notice(NoticeCode.ANSWER_UNREADABLE, entry, message, "Please report it.")


def _locked(entry: Entry, what: str, error: SealedCellError) -> Notice:
    message = f"{what} in the journal does not open: it {error}"
    return _notice(NoticeCode.KEY_MISSING, entry, message, "Restore that key.")


def _notice(code: NoticeCode, entry: Entry, message: str, action: str = "") -> Notice:
    return Notice(code, entry.location_id, message, action, entry.provider)


def _replay_one(parts: RunContext, writeback: WriteBack, emit: Subscriber, entry: Entry, rows: dict[str, Row]) -> None:
    """Hand one entry to the write-back, or keep it as superseded; where neither can be done it still waits."""
    row = rows.get(entry.row_key)
    try:
        raw = parts.journal.open_answer(entry)
    except SealedCellError as error:
        emit(_locked(entry, "an answer", error))
        return
    if row is None:
        answer = parts.job_factory.find_provider(entry.provider).read_answer(raw)
        if _brings_token(answer):
            _keep_aside(parts, entry, answer)
            message = "the row is gone; its tokens are kept, encrypted, in the journal"
            emit(_notice(NoticeCode.ROW_GONE, entry, message))
        else:
            _close(parts, entry, answer)
        return
    job = parts.job_factory.job(row)
    if isinstance(job, UnusableRow):
        emit(
            _notice(NoticeCode.TOKENS_WAIT, entry, f"new tokens wait in the journal, but {job.error}", job.error.action)
        )
        return
    answer = job.provider.read_answer(raw)
    if not _is_of(parts, entry, row):
        _supersede(parts, entry, job, answer, emit)
    elif _brings_token(answer) or answer.verdict in (Verdict.DEAD_GRANT, Verdict.UNREAD):
        writeback.add(job, answer, answer.verdict, entry.id, entry.lost_at)
    else:
        _close(parts, entry, answer)


def _close(parts: RunContext, entry: Entry, answer: Answer) -> None:
    """End an entry whose answer brings no token: it counts as lost where the provider may have acted."""
    if answer.verdict is Verdict.UNREAD:
        parts.journal.mark(entry.id, STEP_UNREAD)
    elif answer.verdict is Verdict.UNCLEAR or entry.lost_at is not None:
        parts.journal.mark(entry.id, STEP_LOST)
    else:
        parts.journal.finish([entry.id])  # the provider did nothing: the row is tried again


def _is_of(parts: RunContext, entry: Entry, row: Row) -> bool:
    """Whether the row still holds the token that was sent: in the same cell, or encrypted again in another."""
    if parts.journal.is_of(entry, row.encrypted_refresh):
        return True
    job = parts.job_factory.job(row)
    return isinstance(job, Job) and by_token([entry])(job.token) is not None


def _brings_token(answer: Answer) -> bool:
    return answer.access_token is not None or answer.refresh_token is not None


def _supersede(parts: RunContext, entry: Entry, job: Job, answer: Answer, emit: Subscriber) -> None:
    """The row holds another cell by now: either it is ours already, or somebody onboarded and theirs stays."""
    if answer.refresh_token is not None and answer.refresh_token == job.credential.refresh_token:
        if answer.is_unproven:
            parts.journal.mark_unproven(entry.id, job.row.key)
        else:
            parts.journal.finish([entry.id], [entry.id])  # it was stored; only the entry outlived the run
        return
    if not _brings_token(answer):
        parts.journal.finish([entry.id])
        return
    _keep_aside(parts, entry, answer)
    message = "the row was onboarded again meanwhile; the earlier tokens are kept, encrypted, in the journal"
    emit(_notice(NoticeCode.SUPERSEDED, entry, message))


def _keep_aside(parts: RunContext, entry: Entry, answer: Answer) -> None:
    """Keep the tokens; the one that was sent has a successor now, whichever row it turns up in again."""
    parts.journal.mark(entry.id, STEP_SUPERSEDED)
    if answer.refresh_token is not None:
        parts.journal.finish([], [entry.id])
