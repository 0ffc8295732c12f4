"""What an earlier run left in the journal is dealt with before a run, or another command, does anything of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from crypto import SealedCellError
from providers.base import Answer, Verdict
from token_refresh.base.errors import internal_error
from token_refresh.base.events import FanOut, Notice, NoticeCode, RowFinished, Subscriber, onboarding_ended
from token_refresh.base.program import RESTORE_KEY, TOKEN_MANAGER
from token_refresh.journal.entries import OPEN_STEPS, Entry, Step, by_token, predecessors
from token_refresh.journal.file import JournalError
from token_refresh.refresh.claims import released_at_the_end
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.replay import is_newer
from token_refresh.refresh.run_context import RunContext
from token_refresh.refresh.write_back import WriteBack
from token_refresh.stores.base import Row, StoreError


def store_leftovers(context: RunContext, emit: Subscriber, *, with_superseded: bool = False) -> frozenset[str]:
    """Store them, and say what became of each. The caller holds the lock.

    Args:
        context: what it works with.
        emit: gets a `RowFinished` for each answer that was stored, and notices.
        with_superseded: see `replay`.

    Returns:
        the keys of rows whose own answer still waits.

    Raises:
        StoreError, JournalError: not everything could be stored.
    """
    writeback = WriteBack(context, FanOut(emit))
    with released_at_the_end(context):
        blocked = replay(context, writeback, emit, with_superseded=with_superseded)
    writeback.end_unproven()
    if (error := writeback.error or writeback.journal_error) is not None:
        raise error
    return blocked


def replay(
    context: RunContext, writeback: WriteBack, emit: Subscriber, *, with_superseded: bool = False
) -> frozenset[str]:
    """Write back the answers that an earlier run received and could not store.

    `with_superseded`: also those that somebody else's credential superseded, where a row holds the token again that
    they are the successors of; onboardings, where the row has no credential, or the one from before them, again; and
    those of a table of another name, for this one may have been renamed.
    Returns the keys of rows that must not be refreshed now, because their own answer still waits.
    """
    context.journal.correct_times()
    steps = (*OPEN_STEPS, Step.SUPERSEDED) if with_superseded else OPEN_STEPS
    _resume_onboarding(context, emit, steps, with_renamed=with_superseded)
    open_entries = context.journal.entries(*OPEN_STEPS)
    writeback.replaced_cells = frozenset(one for entry in open_entries if entry.admission for one in entry.cell.split())
    _review_unproven(context, emit)
    entries = _waiting(context)
    # Once for all of them: an outage of the provider may have left thousands of lost ones.
    unproven = context.journal.unproven() + context.journal.entries(Step.LOST) if entries or with_superseded else []
    rows = context.store.store.read([entry.row_key for entry in entries]) if entries else {}
    for entry, row in _restored(context, unproven) if with_superseded else ():
        if row.key not in rows:
            entries.append(entry)
            rows[row.key] = row
    for entry in entries:
        try:
            notice = of_another_table(context, entry, NoticeCode.TOKENS_WAIT)
            if notice is None or entry.row_key in rows or with_superseded:
                _replay_one(context, writeback, emit, entry, rows.get(entry.row_key), _led_to(entry, unproven))
            else:
                emit(notice)
        except JournalError:
            raise
        except Exception as error:  # one entry that cannot be read must not keep the others' tokens from the store
            emit(_unreadable(entry, "its answer", error))
    writeback.finish()
    return frozenset(entry.row_key for entry in _waiting(context))


def _waiting(context: RunContext) -> list[Entry]:
    """Answers to refreshes that the store has not confirmed: the tokens that their rows hold are spent."""
    return [entry for entry in context.journal.entries(Step.ANSWERED) if not entry.admission]


def _review_unproven(context: RunContext, emit: Subscriber) -> None:
    """Rows that were to hold an unproven token, and hold another by now: the one before, or somebody else's."""
    entries = context.journal.entries(Step.UNPROVEN)
    rows = context.store.store.read([entry.row_key for entry in entries]) if entries else {}
    noted = [*entries, *context.journal.entries(Step.ANSWERED)] if entries else []
    for entry in entries:
        # What is not there was deleted, and may have been imported again as another row.
        of, is_there = entry.location_id, entry.row_key in rows
        found = [rows[entry.row_key]] if is_there else context.store.store.find(of)
        jobs = [context.job_factory.job(row) for row in found if row.encrypted_refresh]
        back = [job for job in jobs if is_there and isinstance(job, Job) and entry.token in job.token]
        is_tried = any(one.token in entry.successor.split() for one in noted)
        if entry.answer and not is_tried and any(job.provider.replay == "last_minute" for job in back):
            context.journal.mark(entry.id, Step.ANSWERED)  # the old token could end the new one, which goes first
        elif back:
            context.journal.mark_lost(entry.id, is_refuted=is_tried)  # else it is tried where the old one is refused
        elif not any(entry in predecessors(job.token, of, noted) if isinstance(job, Job) else is_there for job in jobs):
            spent_at = context.journal.spent_at([entry.token], of)
            if spent_at is not None and spent_at > entry.sent_at:  # another run had noted it, too, and ended it
                context.journal.finish([entry.id])
            else:
                _supersede(context, entry, None, emit)


def _restored(context: RunContext, unproven: Sequence[Entry]) -> Iterator[tuple[Entry, Row]]:
    """Superseded entries, with the row that holds their token again, restored or edited back, or an older one.

    And those with an answer in the journals of other stores, which are noted here first.
    """
    journal, store = context.journal, context.store.store
    superseded = [entry for entry in reversed(journal.entries(Step.SUPERSEDED)) if not entry.admission]
    pairs = [(entry, row) for entry in superseded for row in store.find(entry.location_id)]
    for fits in (_is_of, _is_newer):
        for entry, row in [(one, row) for one, row in pairs if fits(context, one, row, _led_to(one, unproven))]:
            yield replace(entry, row_key=row.key, cell=journal.fingerprint(row.encrypted_refresh)), row
    elsewhere = [entry for entry in journal.entries_elsewhere() if not entry.lacks_answer]
    for entry, row in [(one, row) for one in elsewhere for row in store.find(one.location_id)]:
        if _is_of(context, entry, row, _led_to(entry, unproven)):
            yield journal.adopt(entry, row.key), row


def _is_newer(context: RunContext, entry: Entry, row: Row, _: Sequence[Entry] = ()) -> bool:
    """Whether the row's own token is of no use any more, as after a backup of the table was restored."""
    job = context.job_factory.job(row)
    return isinstance(job, Job) and is_newer(entry, job.provider, context.journal.spent_at(job.token))


def of_another_table(context: RunContext, entry: Entry, code: NoticeCode) -> Notice | None:
    """What to say where it was made for a table of the same base that, as far as is known, is not this one."""
    store = context.store.store
    if entry.place in ("", store.place) or entry.place in store.places:
        return None
    action = f"Set AIRTABLE_TABLE_NAME to it. If it is this one, renamed: {TOKEN_MANAGER} recover --replay"
    return _notice(code, entry, f"what waits for it in the journal belongs to the table {entry.place}", action)


def _resume_onboarding(context: RunContext, emit: Subscriber, steps: Sequence[str], *, with_renamed: bool) -> None:
    """The newest of a row first: those before it are superseded by it. While it waits, they wait, too."""
    waiting: set[tuple[str, str]] = set()
    for entry in sorted(context.journal.entries(*steps), key=lambda one: (one.started_at, one.id), reverse=True):
        of = (entry.location_id, entry.provider)
        if not entry.admission or of in waiting:
            continue
        notice = of_another_table(context, entry, NoticeCode.ONBOARDING_WAITS)
        if notice is not None and not with_renamed:
            emit(notice)
            continue
        try:
            end = context.resume_admission(context, entry)
        except SealedCellError as error:
            end = _locked(entry, "its onboarding", error)
        except (JournalError, StoreError):
            raise
        except Exception as error:
            end = _unreadable(entry, "its onboarding", error)
        if any(one.id == entry.id and one.admission for one in context.journal.entries(*OPEN_STEPS)):
            waiting.add(of)
        emit(onboarding_ended(end, is_open=of in waiting) if isinstance(end, RowFinished) else end)


def _unreadable(entry: Entry, what: str, error: Exception) -> Notice:
    message = f"{what} stays in the journal: {internal_error(error)}"
    return _notice(NoticeCode.ANSWER_UNREADABLE, entry, message, "Please report it.")


def _locked(entry: Entry, what: str, error: SealedCellError) -> Notice:
    message = f"{what} in the journal does not open: it {error}"
    return _notice(NoticeCode.KEY_MISSING, entry, message, RESTORE_KEY)


def _notice(code: NoticeCode, entry: Entry, message: str, action: str = "") -> Notice:
    return Notice(code, entry.location_id, message, action, entry.provider)


def _replay_one(
    context: RunContext, writeback: WriteBack, emit: Subscriber, entry: Entry, row: Row | None, led_to: Sequence[Entry]
) -> None:
    """Hand one entry to the write-back, or keep it as superseded; where neither can be done it still waits."""
    try:
        raw = context.journal.open_answer(entry)
    except SealedCellError as error:
        if row is None or isinstance(context.job_factory.job(row), UnusableRow) or _is_of(context, entry, row, led_to):
            emit(_locked(entry, "an answer", error))
        else:  # which waits for its key no longer: the row has another credential, that opens
            _supersede(context, entry, None, emit)
        return
    if row is None:
        answer = context.job_factory.find_provider(entry.provider).read_answer(raw)
        if answer.brings_token:
            _supersede(context, entry, answer, emit, is_gone=True)
        else:
            _close(context, entry, answer)
        return
    job = context.job_factory.job(row)
    if isinstance(job, UnusableRow):
        what = f"new tokens wait in the journal, but {job.error}"
        emit(_notice(NoticeCode.TOKENS_WAIT, entry, what, job.error.action))
        return
    answer = job.provider.read_answer(raw)
    is_proof = answer.verdict is Verdict.GRANTED and answer.refresh_token is not None  # which goes over any before
    if not _is_of(context, entry, row, led_to if is_proof else ()):
        _end_overtaken(context, entry, job, answer, emit)
    elif answer.brings_token or (answer.verdict in (Verdict.DEAD_GRANT, Verdict.UNREAD) and not job.agency):
        before = tuple(context.journal.adopt(one, row.key) for one in led_to)
        writeback.add(replace(job, proves=before), answer, answer.verdict, entry.id, entry.lost_at)
    else:
        _close(context, entry, answer)


def _close(context: RunContext, entry: Entry, answer: Answer) -> None:
    """End an entry whose answer brings no token: it counts as lost where the provider may have acted."""
    if answer.verdict is Verdict.UNREAD:
        context.journal.mark(entry.id, Step.UNREAD)
    elif answer.verdict is Verdict.UNCLEAR or entry.lost_at is not None:
        context.journal.mark(entry.id, Step.LOST)
    else:
        context.journal.finish([entry.id])  # the provider did nothing: the row is tried again


def _is_of(context: RunContext, entry: Entry, row: Row, led_to: Sequence[Entry]) -> bool:
    """Whether the row still holds the token that was sent, in whichever cell, or one that led to it, unproven."""
    if context.journal.is_of(entry, row.encrypted_refresh):
        return True
    job = context.job_factory.job(row)
    return isinstance(job, Job) and by_token([entry, *led_to])(job.token) is not None


def _led_to(entry: Entry, unproven: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries whose unproven tokens led to the token of this one, also where one was put back meanwhile."""
    return predecessors([entry.token], entry.location_id, unproven)


def _end_overtaken(context: RunContext, entry: Entry, job: Job, answer: Answer, emit: Subscriber) -> None:
    """The row holds another cell by now: either it is ours already, or somebody onboarded and theirs stays."""
    if entry.previous and predecessors(job.token, entry.location_id, [entry]):  # by any of its answers
        context.journal.give_to_row(entry.id, job.row.key, Step.UNPROVEN)
    elif answer.refresh_token is not None and answer.refresh_token == job.credential.refresh_token:
        context.journal.finish([entry.id], [entry.id])  # it was stored; only the entry outlived the run
    elif answer.brings_token:
        _supersede(context, entry, answer, emit)
    elif answer.verdict is Verdict.UNREAD:
        _close(context, entry, answer)
    else:
        context.journal.finish([entry.id])


def _supersede(
    context: RunContext, entry: Entry, answer: Answer | None, emit: Subscriber, *, is_gone: bool = False
) -> None:
    """Keep the tokens of an entry's answer that have no place in the table any more.

    The token that was sent has a successor then, whichever row it turns up in again; but not where `answer` is None:
    it does not open, or its tokens are not proved.
    """
    context.journal.mark(entry.id, Step.SUPERSEDED)
    if answer is not None and answer.refresh_token is not None and not answer.is_unproven:
        context.journal.finish([], [entry.id])
    code = NoticeCode.ROW_GONE if is_gone else NoticeCode.SUPERSEDED
    what = "the row is gone; its tokens" if is_gone else "the row was changed or deleted meanwhile; the earlier tokens"
    emit(_notice(code, entry, f"{what} are kept, encrypted, in the journal"))
