"""One run: what an earlier one left is stored, what is due is refreshed, and everything is reported."""

from __future__ import annotations

import contextlib

from refresher.jobs import Fault
from refresher.listing import Listing, list_due
from refresher.loop import Loop
from refresher.outcome import Report, RowResult
from refresher.parts import Observer, Parts, Scope
from refresher.recovery import replay
from refresher.schedule import Schedule
from refresher.writeback import Draft, WriteBack


class Refresher:
    """Runs once.

    Args:
        parts: what it works with.
        observer: is told each row's end.
    """

    def __init__(self, parts: Parts, observer: Observer) -> None:
        self._parts = parts
        self._observer = observer
        self._report = Report(parts.clock.now())
        self._draft = Draft(parts.store, parts.host_name)
        self._writeback = WriteBack(parts.store, parts.journal, parts.clock, self._done)
        self._deadline: float | None = None
        self._stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """Start no new refresh; the open ones are finished. May be called from a signal handler."""
        self._stop_reason = self._stop_reason or reason

    def run(self, scope: Scope) -> Report:
        """Refresh what is due.

        Raises:
            StoreError: the store cannot be read, or takes no writes: nothing was refreshed.
            RunError: nothing may be refreshed with this configuration.
            JournalError: the journal cannot be written: nothing was refreshed.
        """
        self._report.dry_run = scope.dry_run
        if scope.max_seconds is not None:
            self._deadline = self._parts.clock.monotonic() + scope.max_seconds
        blocked = frozenset[str]() if scope.dry_run else replay(self._parts, self._draft, self._writeback, self._note)
        if self._writeback.error is None and self._writeback.journal_error is None:
            self._refresh(scope, blocked)
        self._report.journal_error = self._report.journal_error or self._writeback.journal_error
        self._report.store_error = self._writeback.error
        self._report.finished_at = self._parts.clock.now()
        return self._report

    def _refresh(self, scope: Scope, blocked: frozenset[str]) -> None:
        listing = list_due(self._parts, scope, blocked, self._note)
        self._report.due = len(listing.jobs)
        self._observer.begin(len(listing.jobs) + len(listing.faults))
        if scope.dry_run:
            self._foresee(listing)
            return
        if listing.jobs:
            self._parts.store.store.prove_writable(listing.jobs[0].row)
        for fault in listing.faults:
            self._writeback.add(self._draft.of_fault(fault))
        self._work(listing)

    def _foresee(self, listing: Listing) -> None:
        self._report.results = [RowResult(job.row.location_id, job.provider.slug, None) for job in listing.jobs]
        for fault in listing.faults:
            self._note(_sentence(fault))

    def _work(self, listing: Listing) -> None:
        parts = self._parts
        schedule = Schedule(listing.jobs, parts.policy, parts.clock.now(), parts.jitter)
        listing.jobs.clear()  # the schedule lets go of what is finished; nobody else must hold it
        loop = Loop(parts, schedule, self._draft, self._writeback, self._may_start)
        loop.work()
        self._report.journal_error = loop.journal_error
        for location_id, sealed in loop.unkept:
            self._note(f"{location_id}: unless its row is refreshed, this sealed answer is all there is: {sealed}")
        left = schedule.not_begun()
        if left:
            self._report.stopped = self._stop_reason
            self._note(f"{len(left)} rows were not tried: {'; '.join(self._reasons(schedule))}.")

    def _reasons(self, schedule: Schedule) -> list[str]:
        reasons = schedule.why_not_begun()
        if self._stop_reason is not None:
            reasons.append(self._stop_reason)
        if (self._report.journal_error or self._writeback.journal_error) is not None:
            reasons.append("the journal cannot be written")
        return reasons or ["the store takes nothing"]

    def _may_start(self) -> bool:
        if self._deadline is not None and self._parts.clock.monotonic() >= self._deadline:
            self.stop("the time allowed by --max-seconds is over")
        return self._stop_reason is None

    def _done(self, result: RowResult) -> None:
        self._report.results.append(result)
        with contextlib.suppress(OSError):  # whoever read along has gone; the tokens still have to be stored
            self._observer.row(result)

    def _note(self, sentence: str) -> None:
        self._report.notices.append(sentence)
        with contextlib.suppress(OSError):
            self._observer.note(sentence)


def _sentence(fault: Fault) -> str:
    return f"{fault.row.location_id}: {fault.error}. {fault.action}"
