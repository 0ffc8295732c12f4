"""Putting results into the store: in full batches, by one thread, repeated until the store confirms.

Nothing waits here that the journal does not hold as well; what the store never takes is stored by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from providers.base import Answer, Verdict
from token_refresh.base.clock_check import clock_notice
from token_refresh.base.errors import internal_error
from token_refresh.base.events import Notice, NoticeCode, Outcome, RowFinished, Subscriber
from token_refresh.journal.entries import Place, Step
from token_refresh.journal.failures import Failure
from token_refresh.journal.file import JournalError
from token_refresh.refresh.exchange import kept_pair
from token_refresh.refresh.jobs import Held, Job, UnusableRow
from token_refresh.refresh.result import RowResult, failure_of, result_of, result_of_refuted, result_of_unusable
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import (
    Change,
    Row,
    StoreError,
    StoreQuotaError,
    StoreRefusedError,
    Value,
    WriteResult,
    Written,
)
from token_refresh.stores.sealed import CellError

OUTAGE_SECONDS = 120.0  # how long a store that does not answer is waited for
RETRY_SECONDS = 5.0
MAX_UNPROVEN = 5  # new tokens in a row, where they never change: the tokens before are kept
SHORT_WAIT_SECONDS = 2.0  # where a refresh may end the old access token, which automations still read


@dataclass(frozen=True)
class Pending:
    """A result on its way into the store.

    Attributes:
        change: what is to be written.
        result: what is said and remembered then.
        entry_id: the journal entry that is finished by it; None where there is none.
        is_urgent: a refresh may have ended the old access token, which automations still read.
        brings_token: there is a new token among the values.
        is_spent: the token that was sent has a successor among them that is known to work.
        step: what the entry is at then; None where it is finished.
        proves: the entries of the tokens before, all of which a success ends; a refusal opens the last again.
    """

    change: Change
    result: RowResult
    entry_id: int | None = None
    is_urgent: bool = False
    brings_token: bool = False
    is_spent: bool = False
    step: Step | None = None
    proves: tuple[int, ...] = ()


class WriteBack:
    """Collects what came of rows, and writes it; `write` runs in the thread that owns the store.

    Args:
        context: the store and its seals, the journal, the clock.
        emit: gets each row's final result, and what a provider's clock says of ours.

    Attributes:
        error: why the store's last write failed.
        journal_error: why the journal takes no more; set by whoever writes to it.
        is_clock_confirmed: a provider's clock agreed with ours.
        unproven: the rows that hold a new token which is still to be proved, by key, with what is said of them else.
        unminted: rows whose pair is dead or lost, before their agencies are asked.
        replaced_cells: the fingerprints of refresh cells that onboardings are to replace which wait in the journal.
    """

    def __init__(self, context: RunContext, emit: Subscriber) -> None:
        self._store = context.store
        self._journal = context.journal
        self._clock = context.clock
        self._context = context
        self._emit = emit
        self.is_clock_confirmed = False
        self.unproven: dict[str, RowFinished] = {}
        self.unminted: list[Held] = []
        self._is_ending = False  # no agency is asked any more
        self.replaced_cells: frozenset[str] = frozenset()
        self._buffer: list[Pending] = []
        self._since: float | None = None
        self._retry_at = 0.0
        self._failing_since: float | None = None
        # Entries to be forgotten, and those whose tokens are to be remembered, with the journal's next transaction.
        self._finished, self._spent = list[int](), list[int]()
        self._failed, self._well = list[Failure](), list[str]()
        self.error: StoreError | None = None
        self.journal_error: JournalError | None = None
        self.is_given_up = False

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, job: Job, answer: Answer, verdict: Verdict, entry_id: int | None, lost_at: datetime | None) -> None:
        """Take the end of a row that was sent: its new tokens, or what it should say about the failure.

        See `result_of`; `entry_id` is its journal entry.
        """
        self._check_times(job, answer)
        if verdict is Verdict.DEAD_GRANT:
            pair = kept_pair(self._journal, job.provider, entry_id, job.credential.refresh_token)
            if pair is not None:
                answer, verdict = pair, pair.verdict
            elif job.proves or job.row.previous_refresh:
                with suppress(CellError):  # somebody may have edited the row's
                    self._restore(job, answer, entry_id)
                    return
        if answer.is_unproven and self._context.identity.refusal is not None:
            return  # the original may prove it, and would not know the token before
        is_useless = verdict in (Verdict.DEAD_GRANT, Verdict.UNCLEAR) and not answer.brings_token
        if is_useless and job.agency and not self._is_ending:
            self.unminted.append((job, answer, verdict, entry_id, lost_at))
            return
        before = self._journal.failures.find(job.row.key, job.cell)
        result = result_of(job, answer, verdict, lost_at, before, self._context.claimant.refreshed_by)
        has_successor = job.has_successor_in(answer)
        step = _step_after(result, verdict, is_unproven=answer.is_unproven and has_successor)
        values = dict(result.values)
        if answer.brings_token:
            values |= self._store.renewed_cells(job.row, job.binding, answer.access_token, answer.refresh_token)
            if not self.replaced_cells.isdisjoint(job.cell) and "encrypted_refresh" in values:
                self._try(self._journal.follow, job.cell, str(values["encrypted_refresh"]))
        if step is Step.UNPROVEN and entry_id is not None:
            values |= {"access_token_expiry": None, **self._note_unproven(job, answer, entry_id)}
        self._take_in(
            Pending(
                self._change(job.row, values, keeps_claim=result.is_lost or step is Step.UNPROVEN),
                result,
                entry_id,
                is_urgent=job.provider.rotates != "never",
                brings_token=answer.brings_token,
                is_spent=has_successor and step is not Step.UNPROVEN,
                step=step,
                proves=_proved(job, verdict, step),
            )
        )

    def _check_times(self, job: Job, answer: Answer) -> None:
        if answer.expiry_claim is not None:
            message = f"the answer cannot be right about the end of its token ({answer.expiry_claim}): not believed"
            self._emit(Notice(NoticeCode.IMPOSSIBLE_TIME, job.row.location_id, message, provider=job.provider.slug))
        if answer.server_time is None or answer.received_at is None:
            return
        offset, name = answer.server_time - answer.received_at, job.provider.name
        if (notice := clock_notice(name, offset, answer.received_at, job.provider.slug)) is not None:
            self._emit(notice)
        self.is_clock_confirmed |= notice is None

    def _note_unproven(self, job: Job, answer: Answer, entry_id: int) -> dict[str, Value]:
        """Keep the token that was sent beside its unproven successor, in the journal before anything is stored."""
        sent = self._store.cells(job.row.location_id, job.binding, previous_refresh=job.credential.refresh_token)
        successor = self._store.keyring.fingerprint(answer.refresh_token or "")
        self._journal.note_unproven(entry_id, successor, str(sent["previous_refresh"]))
        marks: tuple[str, ...] = ()
        with suppress(CellError):  # by the token: rotated keys and replays have sealed it twice
            marks = self._store.keyring.fingerprints(self._previous(job, job.row.previous_refresh))
        is_known = any(one.token in marks for one in job.proves) if marks else bool(job.proves)
        return {} if job.row.previous_refresh and not is_known else sent  # what no entry here knows of stays

    def _previous(self, job: Job, cell: str) -> str:
        return self._store.open_text("previous_refresh", cell, job.row, job.binding)

    def _restore(self, job: Job, answer: Answer, entry_id: int | None) -> None:
        """An unproven token was refused: the one before it goes back into the row, and counts as never replaced."""
        result = result_of_refuted(job, answer, self._journal.failures.find(job.row.key, job.cell))
        # Where another host has the journal's entry, or had it, the row alone holds the token before.
        previous = (job.proves[0].previous if job.proves else "") or job.row.previous_refresh
        token = self._previous(job, previous)
        left = job.row.previous_refresh.removeprefix(previous)
        with suppress(CellError):  # a run that was killed leaves the same token sealed twice
            left = left if self._previous(job, left) != token else ""
        cells = self._store.cells(job.row.location_id, job.binding, encrypted_refresh=token)
        values = {**result.values, **cells, "access_token_expiry": None, "previous_refresh": left}
        change = self._change(job.row, values, keeps_claim=True)
        self._take_in(Pending(change, result, entry_id, is_urgent=True, proves=tuple(one.id for one in job.proves[:1])))

    def add_unusable(self, fault: UnusableRow) -> None:
        """Take a row that cannot be tried."""
        cell = self._store.keyring.fingerprints(fault.row.encrypted_refresh)
        result = result_of_unusable(fault, self._journal.failures.find(fault.row.key, cell))
        self._take_in(Pending(self._change(fault.row, result.values), result))

    def _change(self, row: Row, values: Mapping[str, Value], *, keeps_claim: bool = False) -> Change:
        known = {name: value for name, value in values.items() if name in self._store.store.columns}
        return Change(row.key, row.encrypted_refresh, known, keeps_claim)

    def _take_in(self, pending: Pending) -> None:
        """What changes nothing in the store is done at once."""
        self.unproven.pop(pending.change.key, None)
        if not pending.change.values:
            self._close(pending, WriteResult(Written.STORED))
            self._say(pending.result.finished)
            return
        self._since = self._clock.monotonic() if self._since is None else self._since
        self._buffer.append(pending)

    def flushes_at(self) -> float | None:
        """When the buffer is to be written although it is not full; None where it is empty."""
        if self._since is None or not self._buffer:
            return None
        wait = self._store.store.max_wait_seconds
        if any(pending.is_urgent for pending in self._buffer):
            wait = min(wait, SHORT_WAIT_SECONDS)
        return max(self._since + wait, self._retry_at)

    def is_full(self) -> bool:
        """Whether a write is worth its calls now."""
        return len(self._buffer) >= self._store.store.flush_size and self.may_retry()

    def may_retry(self) -> bool:
        """Whether the pause after a failed write is over."""
        return self._clock.monotonic() >= self._retry_at

    @property
    def has_failed(self) -> bool:
        """Whether the store's last write failed, or the journal takes no more: nothing new may be refreshed then."""
        return self.error is not None or self.journal_error is not None

    def take(self) -> list[Pending]:
        """What is to be written next."""
        batch, self._buffer, self._since = self._buffer, [], None
        self._failing_since = self._clock.monotonic() if self._failing_since is None else self._failing_since
        return batch

    def write(self, batch: Sequence[Pending]) -> list[WriteResult]:
        """Write a batch; runs in the thread that owns the store. Never raises: others' tokens hang on it."""
        try:
            return self._store.store.write([pending.change for pending in batch])
        except StoreError as error:
            return [WriteResult(Written.UNDONE, error) for _ in batch]
        except Exception as error:
            if len(batch) > 1:  # one row must not keep the others' tokens out of the store
                return [result for pending in batch for result in self.write([pending])]
            return [WriteResult(Written.REFUSED, StoreRefusedError(str(internal_error(error)), "Please report it."))]

    def finish(self) -> None:
        """Write all that is left, waiting for a store that does not answer; then give up."""
        while self._buffer and not self.is_given_up:
            if (wait := self._retry_at - self._clock.monotonic()) > 0:
                self._clock.sleep(wait)
            batch = self.take()
            self.confirm(batch, self.write(batch))
        self._abandon()
        self._settle()  # once more, where the journal refused before

    def confirm(self, batch: Sequence[Pending], results: Sequence[WriteResult]) -> None:
        """Take in what became of a batch: journal, results, and what is to be written again."""
        undone, done = list[Pending](), list[RowFinished]()
        for pending, result in zip(batch, results, strict=True):
            if result.written is Written.UNDONE:
                undone.append(pending)
                self.error = result.error
                continue
            self._close(pending, result)
            final = _final(pending, result, self._journal.place_of(pending.entry_id))
            if pending.step is Step.UNPROVEN and result.written is Written.STORED:
                self.unproven[pending.change.key] = final
            else:
                done.append(final)
        self._settle()
        self._after(undone, len(batch))
        self._say(*done)

    def end_unproven(self) -> None:
        """Say what became of the rows whose new token could not be proved in this run, or whose agency has no other."""
        self._is_ending = True
        if self.unminted:
            for held in self.unminted:
                self.add(*held)
            self.finish()
        while self.unproven:
            self._say(self.unproven.popitem()[1])

    def _say(self, *ends: RowFinished) -> None:
        """Say what became of rows. The security log gets them together: each time it is opened holds up the threads."""
        self._context.audit(*ends)
        for end in ends:
            self._emit(end)

    def _abandon(self) -> None:
        """Give up what the store does not take; the journal keeps the tokens among it for the next run."""
        for pending in self.take():
            place = self._journal.place_of(pending.entry_id)
            self._say(_waiting(pending, place, self.error) if pending.brings_token else pending.result.finished)

    def _close(self, pending: Pending, result: WriteResult) -> None:
        if result.written is Written.STORED:
            if (failed := pending.result.failed) is not None:
                retry_after = pending.result.retry_after
                self._failed.append(failure_of(failed, self._store.keyring, self._clock.now(), retry_after))
            else:
                self._well.append(pending.change.key)
        if pending.entry_id is not None:
            self._close_entry(pending.entry_id, pending, result)
        if pending.proves:
            self._close_proved(pending.proves, pending, result)

    def _close_entry(self, entry_id: int, pending: Pending, result: WriteResult) -> None:
        is_overtaken = result.written in (Written.CHANGED, Written.GONE)
        step = pending.step
        if is_overtaken:
            step = Step.SUPERSEDED if pending.brings_token or step is Step.UNREAD else None
        elif result.written is Written.UNCLAIMED and not pending.is_urgent:
            step = None  # its token was not spent: whoever has the row brings another
        elif result.written is not Written.STORED and pending.brings_token:
            return  # the next run tries to store it again
        elif result.written is Written.REFUSED and pending.proves:
            return  # the next run tries to put the token before back
        if pending.is_spent and (is_overtaken or result.written is Written.STORED):
            self._spent.append(entry_id)
        if step is None:
            self._finished.append(entry_id)
        elif step is Step.UNPROVEN:
            self._try(self._journal.give_to_row, entry_id, pending.change.key, step)
        else:
            self._try(self._journal.mark, entry_id, step)

    def _close_proved(self, entry_ids: Sequence[int], pending: Pending, result: WriteResult) -> None:
        """The entries of the tokens before: they have a successor that works, or the last has one that does not."""
        if pending.result.failed is None:
            self._finished += entry_ids
            self._spent += entry_ids
        elif result.written is Written.STORED:
            self._try(self._journal.mark_lost, entry_ids[0])
        elif result.written in (Written.CHANGED, Written.GONE):
            self._try(self._journal.mark, entry_ids[0], Step.SUPERSEDED)

    def _try(self, act: Callable[..., None], *args: object) -> None:
        try:
            act(*args)
        except JournalError as error:
            self.journal_error = error  # the entry stays as it is, and the next run comes to the same end

    def _settle(self) -> None:
        """A journal that takes no more writes must not keep the answers of other rows from the store."""
        try:
            self._journal.finish(self._finished, self._spent)
            self._journal.failures.record(self._failed, self._well)
        except JournalError as error:
            self.journal_error = error
            return
        self._finished, self._spent, self._failed, self._well = [], [], [], []

    def _after(self, undone: list[Pending], tried: int) -> None:
        now = self._clock.monotonic()
        if len(undone) < tried:
            self._failing_since = None
        if not undone:
            self.error, self._retry_at = None, 0.0
            return
        self._failing_since = now if self._failing_since is None else self._failing_since
        self._buffer = undone + self._buffer
        self._since = now if self._since is None else self._since
        self._retry_at = now + RETRY_SECONDS
        is_final = self._store.store.is_hurried or isinstance(self.error, StoreRefusedError | StoreQuotaError)
        self.is_given_up = is_final or now + RETRY_SECONDS - self._failing_since > OUTAGE_SECONDS


_CHANGED = {
    Written.CHANGED: None,
    Written.UNCLAIMED: "another process took the row over meanwhile",
    Written.GONE: "the row was deleted during the run",
}


def _step_after(result: RowResult, verdict: Verdict, *, is_unproven: bool) -> Step | None:
    """What an entry is at when the store has what came of it; None where it is finished."""
    if verdict is Verdict.UNREAD:
        return Step.UNREAD
    if is_unproven:
        return Step.UNPROVEN
    return Step.LOST if result.is_lost else None


def _proved(job: Job, verdict: Verdict, step: Step | None) -> tuple[int, ...]:
    """The entries of the tokens before that a success ends. A success that is itself to be proved proves none of them.

    Of more than `MAX_UNPROVEN` it ends the oldest all the same: that provider does replace its refresh tokens.
    """
    kept = MAX_UNPROVEN if step is Step.UNPROVEN else 0
    return tuple(one.id for one in job.proves[kept:]) if verdict is Verdict.GRANTED else ()


def _final(pending: Pending, result: WriteResult, place: Place) -> RowFinished:
    """The row's end, once the store has spoken; `place` is where its answer waits."""
    if result.written in _CHANGED:
        error = _CHANGED[result.written]
        if result.written is Written.UNCLAIMED and pending.is_urgent:
            error = f"{error}; the new tokens wait {place.where}"
        return replace(pending.result.finished, outcome=Outcome.CHANGED, error=error, action=None, expires_at=None)
    if result.written is Written.REFUSED and result.error is not None and (pending.brings_token or pending.proves):
        return replace(
            pending.result.finished,
            outcome=Outcome.OPERATOR,
            error=f"the {'new' if pending.brings_token else 'earlier'} tokens are {place.where}: {result.error}",
            action=result.error.action,
            is_news=True,
        )
    return pending.result.finished


def _waiting(pending: Pending, place: Place, error: StoreError | None) -> RowFinished:
    why = error if isinstance(error, StoreRefusedError) else "the store does not answer"
    return replace(
        pending.result.finished,
        outcome=Outcome.TRANSIENT,
        error=f"{why}: the new tokens wait, encrypted, {place.where}",
        action=f"Keep {place.keep} as it is: {place.stored_by} stores them.",
        is_news=True,
    )
