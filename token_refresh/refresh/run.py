"""One run: what an earlier one left is stored, what is due is refreshed, and everything is reported."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import chain

from token_refresh.base.errors import actionable_error
from token_refresh.base.events import (
    Event,
    FanOut,
    Notice,
    NoticeCode,
    RowFinished,
    RowWaiting,
    RunFinished,
    RunStarted,
    Subscriber,
)
from token_refresh.journal.file import JournalError
from token_refresh.refresh.claims import released_at_the_end, rows_of_others
from token_refresh.refresh.jobs import UnusableRow
from token_refresh.refresh.listing import list_due, list_unproven, query_of
from token_refresh.refresh.loop import Loop
from token_refresh.refresh.recovery import replay
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.refresh.schedule import Schedule
from token_refresh.refresh.write_back import WriteBack


class Refresher:
    """Runs once.

    Args:
        context: what it works with.
        subscribers: get the run's events, in this thread.
    """

    def __init__(self, context: RunContext, *subscribers: Subscriber) -> None:
        self._context = context
        self._report = RunFinished(context.claimant.run, context.clock.now())
        self._emit = FanOut(self._report.collect, *subscribers)
        self._writeback = WriteBack(context, self._emit_once)
        self._said: dict[tuple[NoticeCode | None, str | None, str | None], Event] = {}
        self._deadline: float | None = None
        self._stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """Start no new refresh; the open ones are finished, and no outage of the store is waited out.

        May be called from a signal handler.
        """
        self._stop_reason = self._stop_reason or reason
        self._context.store.store.hurry()

    def run(self, scope: Scope) -> RunFinished:
        """Refresh what is due.

        Raises:
            StoreError: the store cannot be read, or takes no writes: nothing was refreshed.
            RunError: nothing may be refreshed with this configuration.
            JournalError: the journal cannot be written: nothing was refreshed.
        """
        report = self._report
        report.dry_run = scope.dry_run
        if scope.max_seconds is not None:
            self._deadline = self._context.clock.monotonic() + scope.max_seconds
        self._emit(RunStarted(report.run_id, report.started_at, report.dry_run))
        try:
            for notice in self._context.first_notices(self._context, scope):
                self._emit(notice)
            if scope.dry_run:
                self._foresee(scope)
            else:
                self._replay_and_refresh(scope)
        except BaseException as error:
            report.error = actionable_error(error)
            raise
        finally:
            report.journal_error = self._writeback.journal_error
            report.store_error = self._writeback.error
            report.finished_at = self._context.clock.now()
            self._emit(report)
        return report

    def _replay_and_refresh(self, scope: Scope) -> None:
        blocked = replay(self._context, self._writeback, self._emit)
        self._context.identity.require_alone()
        if not self._writeback.has_failed:
            with released_at_the_end(self._context):
                self._refresh(scope, blocked)

    def _refresh(self, scope: Scope, blocked: frozenset[str]) -> None:
        """Round by round, where rows are claimed; all at once elsewhere."""
        schedule = Schedule(self._context.jitter)
        query = query_of(self._context, scope)
        loop = Loop(self._context, schedule, self._writeback, self._may_start)
        unusable = self._writeback.add_unusable
        try:
            due = list_due(self._context, scope, query, blocked, self._emit_once, unusable)
            unproven = list_unproven(self._context, self._writeback.unproven, self._emit_once, unusable)
            loop.work(chain(due, unproven, self._context.minting(self._context, self._writeback.unminted)))
        finally:
            self._writeback.end_unproven()
        for what, action in self._context.store.store.warnings():
            self._emit(Notice(NoticeCode.COLUMN_UNSUITABLE, None, what, action))
        self._forget_old_spent()
        self._name_what_was_left(loop)
        if not self._writeback.has_failed:
            for row in rows_of_others(self._context, query):
                self._emit(row)

    def _forget_old_spent(self) -> None:
        """By a clock that was confirmed in this run: one that is wrong would forget what must not be sent."""
        is_confirmed = self._writeback.is_clock_confirmed or self._context.store.store.clock_offset is not None
        is_off = any(notice.code is NoticeCode.CLOCK_OFF for notice in self._report.notices)
        if is_confirmed and not is_off and not self._writeback.has_failed:
            with suppress(JournalError):  # the next run may do it
                self._context.journal.forget_old_spent()

    def _foresee(self, scope: Scope) -> None:
        """Say what would be refreshed, and what somebody has to fix first."""
        if not scope.takeover:
            self._context.identity.require_alone()
        query = query_of(self._context, scope)
        rounds = list_due(self._context, scope, query, frozenset(), self._emit, self._name_unusable)
        for job in chain.from_iterable(rounds):
            self._emit(RowFinished(job.row.location_id, job.provider.slug, None))

    def _name_unusable(self, fault: UnusableRow) -> None:
        what, action = str(fault.error), fault.error.action
        self._emit(Notice(NoticeCode.ROW_UNUSABLE, fault.row.location_id, what, action, fault.provider))

    def _name_what_was_left(self, loop: Loop) -> None:
        """A row that its host or client holds back says so; the others what ended the run."""
        late = "another process took it over, or the time in which its token may be sent again is over"
        why = self._stop_reason or ("the store rejects writes" if self._writeback.has_failed else late)
        reason = "the journal cannot be written" if self._writeback.journal_error is not None else why
        for row in loop.not_begun():
            self._report.stopped = self._stop_reason
            self._emit(row if row.reason else replace(row, reason=reason))
        if self._stop_reason and (left := self._context.store.store.rows_left):
            self._report.stopped = self._stop_reason
            self._emit(Notice(NoticeCode.ROWS_LEFT, None, f"{left} more due rows were not looked at", "Run it again."))

    def _may_start(self) -> bool:
        if self._deadline is not None and self._context.clock.monotonic() >= self._deadline:
            self._stop_reason = self._stop_reason or "the time allowed by --max-seconds is over"
        return self._stop_reason is None

    def _emit_once(self, event: Event) -> None:
        """For the listing, which each round of rows repeats: what was said of a row is not said again."""
        if isinstance(event, (Notice, RowWaiting)):
            key = (event.code if isinstance(event, Notice) else None, event.location_id, event.provider)
            if self._said.setdefault(key, event) is not event:
                return
        self._emit(event)
