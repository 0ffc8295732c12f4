"""The threads of a run: many that ask providers, one that owns the store, and this one that decides."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from crypto import Context
from providers.base import Answer, Judgement, Verdict
from token_refresh.base.errors import ActionableError, Kind, internal_error
from token_refresh.base.events import RowWaiting
from token_refresh.base.threads import Threads
from token_refresh.journal.entries import ANSWER_FIELD
from token_refresh.journal.file import JournalError
from token_refresh.refresh import replay
from token_refresh.refresh.exchange import exchange
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.run_context import RunContext
from token_refresh.refresh.schedule import Hold, Schedule, Task
from token_refresh.refresh.write_back import Pending, WriteBack
from token_refresh.stores.base import Pause, StoreError, WriteResult

TICK_SECONDS = 0.5  # how long a signal may go unnoticed
POLL_SECONDS = 1.0  # how often other processes are asked which providers to leave alone
UNSAVED_BATCHES = 2  # beyond so many full batches waiting for the store, nothing new is refreshed


# What a thread hands back: what the loop is to do about it.
_Event = Callable[[], None]


class Loop:
    """Refreshes rows, and has what came of them written back.

    Args:
        context: what the run is made of.
        schedule: which row goes next; it gets all of them.
        writeback: stores the results.
        may_start: whether new refreshes may begin; asked before each.
    """

    def __init__(
        self, context: RunContext, schedule: Schedule, writeback: WriteBack, may_start: Callable[[], bool]
    ) -> None:
        self._context = context
        self._schedule = schedule
        self._writeback = writeback
        self._may_start = may_start
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._provider_threads = Threads(context.concurrency)
        self._store_thread = Threads(1)  # one alone: it owns the store
        self._jobs: dict[Task, Job] = {}  # of the rows that have not ended
        self._answers: dict[Task, Answer] = {}  # to the last request of each
        self._in_flight = 0
        self._is_writing = False
        self._is_polling = False
        self._polls_at = 0.0
        self._unpublished: list[Pause] = []

    def work(self, rounds: Iterable[Sequence[Job]]) -> None:
        """Work off round after round, until there is none or nothing may be refreshed any more.

        Of each, everything that was started is finished and stored, or waits in the journal, before the next is
        asked for.
        """
        with self._store_thread, contextlib.ExitStack() as stack:
            with Threads(1):  # whose room is then there for the watchdog, without which no request leaves
                stack.enter_context(self._provider_threads)
            for jobs in rounds:
                tasks = {self._task(job): job for job in jobs}
                self._jobs |= tasks
                self._schedule.extend(tasks)
                del jobs, tasks  # what has ended is let go
                self._work_off()
                if self._writeback.has_failed or not self._may_start():
                    break

    def not_begun(self) -> Iterator[RowWaiting]:
        """The rows that no request went out for; the reason is empty where no host or client holds them back."""
        now, moment = self._context.clock.now(), self._context.clock.monotonic()
        for task, reason, until, host in self._schedule.not_begun(moment):
            ends_at = None if until is None else now + timedelta(seconds=until - moment)
            yield RowWaiting(self._jobs[task].row.location_id, task.provider.slug, reason, ends_at, host=host)

    def _task(self, job: Job) -> Task:
        now, expires_at = self._context.clock.now(), job.row.access_token_expiry
        is_last_minute = self._context.policy.is_last_minute(job.row, job.provider, now)
        has_failed = job.row.failure_count > 0
        lost_at = (job.lost.lost_at or job.lost.sent_at) if job.lost is not None else None
        task = Task(job.row.key, job.provider, job.client, expires_at, lost_at, is_last_minute, has_failed)
        if job.lost is not None and replay.is_in_window(job.provider, job.lost, now):
            first = self._context.clock.monotonic() - (now - job.lost.sent_at).total_seconds()
            within = replay.may_resend_within(job.provider, 1, was_lost=False, is_last_minute=is_last_minute)
            task.not_before, task.not_after = first + replay.limit_of(job.provider, is_first=True), first + within
        return task

    def _work_off(self) -> None:
        if self._context.store.store.claims:  # elsewhere there is but one process
            self._apply_pauses(self._publish_pauses([]))
        while True:
            self._start()
            self._write()
            self._poll_pauses()
            if self._in_flight or self._is_writing or self._is_polling:
                self._take_event()
            elif not self._wait():
                break
        for task in self._schedule.drain():
            self._end(task)
        self._writeback.finish()

    # Starting

    def _start(self) -> None:
        while self._in_flight < self._provider_threads.count and self._has_room():
            task = self._schedule.next(self._context.clock.monotonic())
            if task is None:
                return
            self._in_flight += 1
            self._run(self._provider_threads, partial(self._ask, task))

    def _has_room(self) -> bool:
        store = self._context.store.store
        if self._writeback.has_failed or store.in_trouble or not store.knows_claims or not self._may_start():
            return False
        unsaved = len(self._writeback) + self._in_flight
        return unsaved < UNSAVED_BATCHES * store.flush_size + self._context.concurrency

    def _write(self) -> None:
        if self._is_writing or not len(self._writeback) or self._writeback.is_given_up:
            return
        at = self._writeback.flushes_at()
        is_late = at is not None and self._context.clock.monotonic() >= at
        if self._writeback.is_full() or is_late or (not self._in_flight and self._writeback.may_retry()):
            batch = self._writeback.take()
            self._is_writing = True
            self._run(self._store_thread, lambda: partial(self._confirm, batch, self._writeback.write(batch)))

    def _run(self, pool: Threads, act: Callable[[], _Event]) -> None:
        """Have a thread do it; whatever happens there, the loop gets an event."""

        def run() -> None:
            try:
                self._events.put(act())
            except BaseException as error:
                self._events.put(partial(_raise, error))

        pool.submit(run)

    # Other processes on the same table

    def _poll_pauses(self) -> None:
        now = self._context.clock.now()
        for hold in self._schedule.take_holds():
            self._unpublished.append(Pause(hold.key, now + timedelta(seconds=hold.seconds), hold.is_broken))
        is_time = self._unpublished or self._context.clock.monotonic() >= self._polls_at
        if self._is_polling or not is_time or not self._context.store.store.claims:
            return
        news, self._unpublished = self._unpublished, []
        self._is_polling = True
        self._run(self._store_thread, lambda: partial(self._apply_pauses, self._publish_pauses(news)))

    def _publish_pauses(self, news: list[Pause]) -> list[Pause]:
        """In the thread that owns the store; returns those of all processes on the table.

        A courtesy: where the store cannot be reached, the run has other worries, unless its claims may be others'.
        """
        store = self._context.store.store
        try:
            store.keep_claims()
            return store.share_pauses(news)
        except StoreError as error:
            self._writeback.error = self._writeback.error if store.knows_claims else error
            return []

    def _apply_pauses(self, pauses: list[Pause]) -> None:
        self._is_polling = False
        self._polls_at = self._context.clock.monotonic() + POLL_SECONDS
        now, moment = self._context.clock.now(), self._context.clock.monotonic()
        for pause in pauses:
            hold = Hold(pause.key, (pause.until - now).total_seconds(), pause.is_broken)
            for task in self._schedule.hold(hold, moment):
                self._end(task)

    # Waiting

    def _take_event(self) -> None:
        try:
            event = self._events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return
        event()

    def _wait(self) -> bool:
        """Sleep until something can be done; False where nothing ever will."""
        now = self._context.clock.monotonic()
        times = [] if self._writeback.is_given_up else [self._writeback.flushes_at()]
        if self._has_room():  # otherwise there is nothing that a task's turn would change
            times.append(self._schedule.wakes_at(now))
        elif not (self._context.store.store.knows_claims or self._writeback.has_failed):
            times.append(self._polls_at)
        at = min((time for time in times if time is not None), default=None)
        if at is None:
            return False
        self._context.clock.sleep(min(max(at - now, 0.0), TICK_SECONDS))
        return True

    # One exchange, in a thread of the pool

    def _ask(self, task: Task) -> _Event:
        job = self._jobs[task]
        if not self._context.store.store.has_claim(job.row.key):
            return partial(self._withdraw, task)
        seconds = replay.limit_of(job.provider, is_first=job.lost_entry is None and not task.is_lost)
        try:
            _, answer, not_saved = exchange(
                self._context.journal,
                self._context.transport,
                replace(job.provider.refresh_request(job.credential), seconds=seconds),
                job.provider.read_answer,
                Context(ANSWER_FIELD, job.row.location_id, job.endpoint.origin),
                partial(self._note_intent, task),
            )
        except JournalError as error:
            self._writeback.journal_error = error
            return partial(self._withdraw, task)
        except Exception as error:  # a mistake that one row brings to light must not cost the others' answers
            task.failure = error
            return partial(self._settle, task, Judgement(Verdict.REQUEST_REFUSED))
        self._writeback.journal_error = self._writeback.journal_error or not_saved
        self._answers[task] = answer
        return partial(self._settle, task, answer.judgement)

    def _note_intent(self, task: Task) -> int:
        job, journal = self._jobs[task], self._context.journal
        if task.entry_id is not None:
            return journal.send_again(task.entry_id, job.endpoint.origin, is_lost=task.is_lost)
        task.entry_id = journal.intend(
            row_key=job.row.key,
            location_id=job.row.location_id,
            provider=job.provider.slug,
            origin=job.endpoint.origin,
            cell=job.cell[0],
            token=job.token[0],
            lost_entry=job.lost_entry,
        )
        return task.entry_id

    # Ends

    def _withdraw(self, task: Task) -> None:
        self._in_flight -= 1
        self._schedule.withdraw(task)

    def _settle(self, task: Task, answer: Judgement) -> None:
        self._in_flight -= 1
        for ended in self._schedule.settle(task, answer, self._context.clock.monotonic()):
            self._end(ended)

    def _confirm(self, batch: list[Pending], results: list[WriteResult]) -> None:
        self._is_writing = False
        self._writeback.confirm(batch, results)

    def _end(self, task: Task) -> None:
        job, answer = self._jobs.pop(task), self._answers.pop(task, None)
        lost_at = task.lost_at
        if lost_at is None and task.is_lost:
            lost_at = self._context.clock.now()
        try:
            if task.failure is not None or answer is None or task.verdict is None:
                raise task.failure or AssertionError("a task ended without an answer")
            self._writeback.add(job, answer, task.verdict, task.entry_id, lost_at)
        except JournalError as error:  # full, perhaps; what was received is kept, or in the spare folder
            self._writeback.journal_error = error
            self._writeback.add_unusable(UnusableRow(job.row, job.provider.slug, error))
        except Exception as error:
            # Its journal entry stays; the error's own words may hold a secret.
            kept = "Please report it. What was received is kept, encrypted, in the journal."
            problem = ActionableError(str(internal_error(error)), kept, Kind.INTERNAL)
            self._writeback.add_unusable(UnusableRow(job.row, job.provider.slug, problem))


def _raise(error: BaseException) -> None:
    raise error
