"""The threads of a run: many that ask providers, one that owns the store, and this one that decides."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from providers.base import Answer, Verdict
from token_refresh.base.errors import internal_error
from token_refresh.journal.file import JournalError
from token_refresh.refresh.exchange import exchange
from token_refresh.refresh.jobs import Fault
from token_refresh.refresh.parts import Parts
from token_refresh.refresh.schedule import Schedule, Settled, Task
from token_refresh.refresh.write_back import Draft, Pending, WriteBack
from token_refresh.stores.base import Pause, StoreError, WriteResult

TICK_SECONDS = 0.5  # how long a signal may go unnoticed
HEAR_SECONDS = 1.0  # how often other processes are asked which providers to leave alone
UNSAVED_BATCHES = 2  # beyond so many full batches waiting for the store, nothing new is refreshed


@dataclass(frozen=True)
class _Answered:
    task: Task
    answer: Answer


@dataclass(frozen=True)
class _NotSent:
    """The journal took no note of the request, so it did not leave."""

    task: Task


@dataclass(frozen=True)
class _Failed:
    """A mistake of this program met one row."""

    task: Task
    error: Exception


@dataclass(frozen=True)
class _Wrote:
    batch: list[Pending]
    results: list[WriteResult]


@dataclass(frozen=True)
class _Heard:
    """Which providers the processes on this table leave alone."""

    pauses: list[Pause]


_Event = _Answered | _NotSent | _Failed | _Wrote | _Heard
_Queue = queue.SimpleQueue[Callable[[], _Event] | None]


class Loop:
    """Works a schedule off.

    Args:
        parts: what the run is made of.
        schedule: which row goes next.
        draft: makes results.
        writeback: stores them.
        may_start: whether new refreshes may begin; asked before each.
    """

    def __init__(
        self, parts: Parts, schedule: Schedule, draft: Draft, writeback: WriteBack, may_start: Callable[[], bool]
    ) -> None:
        self._parts = parts
        self._schedule = schedule
        self._draft = draft
        self._writeback = writeback
        self._may_start = may_start
        self._events: queue.SimpleQueue[_Event | BaseException] = queue.SimpleQueue()
        self._to_ask: _Queue = queue.SimpleQueue()
        self._to_write: _Queue = queue.SimpleQueue()  # served by one thread alone: it owns the store
        self._failures: dict[Task, Exception] = {}
        self._in_flight = 0
        self._is_writing = False
        self._is_hearing = False
        self._hears_at = 0.0
        self._news: list[Pause] = []
        self.journal_error: JournalError | None = None
        self.not_saved: list[tuple[str, JournalError]] = []  # whose answers the journal does not hold, and why

    def work(self) -> None:
        """Return when everything that was started is finished and stored, or waits in the journal."""
        if self._parts.store.store.claims:  # elsewhere there is but one process
            self._heed(self._share([]))
        with self._threads():
            while True:
                self._start()
                self._write()
                self._hear()
                if self._in_flight or self._is_writing or self._is_hearing:
                    self._take_event()
                elif not self._wait():
                    break
        for settled in self._schedule.drain():
            self._end(settled)
        self._writeback.finish()

    # Starting

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """Threads that take what is put before them; a pool with futures would cost more than some answers do."""
        queues = [self._to_ask] * self._parts.concurrency + [self._to_write]
        threads = [threading.Thread(target=self._serve, args=(tasks,)) for tasks in queues]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for tasks in queues:
                tasks.put(None)
            for thread in threads:
                thread.join()

    def _start(self) -> None:
        while self._in_flight < self._parts.concurrency and self._has_room():
            task = self._schedule.next(self._parts.clock.monotonic())
            if task is None:
                return
            self._in_flight += 1
            self._to_ask.put(partial(self._ask, task))

    def _has_room(self) -> bool:
        if self._is_journal_closed() or self._writeback.is_waiting_for_store or not self._may_start():
            return False
        unsaved = len(self._writeback) + self._in_flight
        return unsaved < UNSAVED_BATCHES * self._parts.store.store.flush_size + self._parts.concurrency

    def _is_journal_closed(self) -> bool:
        return self.journal_error is not None or self._writeback.journal_error is not None

    def _write(self) -> None:
        if self._is_writing or not len(self._writeback) or self._writeback.is_given_up:
            return
        at = self._writeback.flushes_at()
        is_late = at is not None and self._parts.clock.monotonic() >= at
        if self._writeback.is_full() or is_late or (not self._in_flight and self._writeback.may_retry()):
            batch = self._writeback.take()
            self._is_writing = True
            self._to_write.put(lambda: _Wrote(batch, self._writeback.write(batch)))

    # Other processes on the same table

    def _hear(self) -> None:
        halts, now = self._schedule.take_halts(), self._parts.clock.now()
        self._news += [Pause(one.provider, now + timedelta(seconds=one.seconds), one.is_broken) for one in halts]
        is_time = self._news or self._parts.clock.monotonic() >= self._hears_at
        if self._is_hearing or not is_time or not self._parts.store.store.claims:
            return
        news, self._news = self._news, []
        self._is_hearing = True
        self._to_write.put(lambda: self._share(news))

    def _share(self, news: list[Pause]) -> _Heard:
        """In the thread that owns the store. A courtesy: where the store is away, the run has other worries."""
        with contextlib.suppress(StoreError):
            return _Heard(self._parts.store.store.share_pauses(news))
        return _Heard([])

    def _heed(self, heard: _Heard) -> None:
        self._is_hearing = False
        self._hears_at = self._parts.clock.monotonic() + HEAR_SECONDS
        now, moment = self._parts.clock.now(), self._parts.clock.monotonic()
        for pause in heard.pauses:
            seconds = (pause.until - now).total_seconds()
            for settled in self._schedule.hold(pause.provider, seconds, moment, is_broken=pause.is_broken):
                self._end(settled)

    def _serve(self, acts: _Queue) -> None:
        """A thread's life: whatever happens to one act, the loop hears of it."""
        while (act := acts.get()) is not None:
            try:
                self._events.put(act())
            except BaseException as error:
                self._events.put(error)

    # Waiting

    def _take_event(self) -> None:
        try:
            event = self._events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return
        if isinstance(event, _Answered):
            self._in_flight -= 1
            self._settle(event.task, event.answer)
        elif isinstance(event, _NotSent):
            self._in_flight -= 1
            self._schedule.withdraw(event.task)
        elif isinstance(event, _Failed):
            self._in_flight -= 1
            self._failures[event.task] = event.error
            self._settle(event.task, Answer(Verdict.REQUEST_REFUSED))
        elif isinstance(event, _Wrote):
            self._is_writing = False
            self._writeback.confirm(event.batch, event.results)
        elif isinstance(event, _Heard):
            self._heed(event)
        else:
            raise event

    def _wait(self) -> bool:
        """Sleep until something can be done; False where nothing ever will."""
        now = self._parts.clock.monotonic()
        times = [] if self._writeback.is_given_up else [self._writeback.flushes_at()]
        if self._has_room():  # otherwise there is nothing that a task's turn would change
            times.append(self._schedule.wakes_at(now))
        at = min((time for time in times if time is not None), default=None)
        if at is None:
            return False
        self._parts.clock.sleep(min(max(at - now, 0.0), TICK_SECONDS))
        return True

    # One exchange, in a thread of the pool

    def _ask(self, task: Task) -> _Answered | _NotSent | _Failed:
        try:
            return self._exchange(task)
        except Exception as error:  # a mistake that one row brings to light must not cost the others' answers
            return _Failed(task, error)

    def _exchange(self, task: Task) -> _Answered | _NotSent:
        job = task.job
        try:
            exchanged = exchange(
                self._parts.journal,
                self._parts.transport,
                job.provider,
                job.credential,
                location_id=job.row.location_id,
                origin=job.endpoint.origin,
                note_intent=partial(self._note_intent, task),
            )
        except JournalError as error:
            self.journal_error = error
            return _NotSent(task)
        if exchanged.not_saved is not None:
            self.journal_error = exchanged.not_saved
            self.not_saved.append((job.row.location_id, exchanged.not_saved))
        return _Answered(task, exchanged.answer)

    def _note_intent(self, task: Task) -> int:
        job, journal = task.job, self._parts.journal
        if task.entry_id is not None:
            return journal.send_again(task.entry_id, job.endpoint.origin, is_lost=task.is_lost)
        task.entry_id = journal.intend(
            row_key=job.row.key,
            location_id=job.row.location_id,
            provider=job.provider.slug,
            origin=job.endpoint.origin,
            cell=job.row.encrypted_refresh,
            token=job.credential.refresh_token,
            lost_entry=job.lost.entry_id if job.lost else None,
        )
        return task.entry_id

    # Ends

    def _settle(self, task: Task, answer: Answer) -> None:
        for settled in self._schedule.settle(task, answer, self._parts.clock.monotonic()):
            self._end(settled)

    def _end(self, settled: Settled) -> None:
        failure = self._failures.get(settled.task)
        if failure is None:
            try:
                pending = self._pending(settled)
            except Exception as error:
                failure = error
        if failure is not None:
            pending = self._draft.of_fault(_fault(settled.task, failure))  # its journal entry stays
        self._writeback.add(pending)

    def _pending(self, settled: Settled) -> Pending:
        task = settled.task
        lost_at: datetime | None = task.job.lost.at if task.job.lost else None
        if lost_at is None and task.is_lost:
            lost_at = self._parts.clock.now()
        return self._draft.of(task.job, settled.answer, settled.verdict, task.entry_id, lost_at)


def _fault(task: Task, error: Exception) -> Fault:
    """What to say of a row that met a mistake of this program; the error's own words may hold a secret."""
    return Fault(
        task.job.row,
        task.job.provider.slug,
        str(internal_error(error)),
        "Please report it. What was received is kept, sealed, in the journal.",
    )
