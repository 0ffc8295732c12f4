"""Mistakes of the program itself, and a disk that is full, in the middle of a run: no row pays for another's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pytest

from providers.base import Answer, Credential, Provider, RawAnswer, TokenRequest, Verdict
from tests.callers import Listed
from tests.conftest import World
from tests.journal.requests import is_spent
from tests.refresh.runs.faults_world import DATABASES, AirtableRows, Rows, entries, kept_token, table_of
from tests.world.oauth import faults
from token_refresh.base.errors import ActionableError
from token_refresh.base.events import Event, NoticeCode, RunFinished, Subscriber
from token_refresh.commands import prepare
from token_refresh.journal.entries import Journal
from token_refresh.journal.file import JournalError
from token_refresh.refresh import loop
from token_refresh.refresh.jobs import Client, Job, JobFactory, UnusableRow
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.refresh.schedule import Schedule
from token_refresh.refresh.write_back import WriteBack
from token_refresh.stores.base import Change, Row, Store, StoreUnavailableError, Value, WriteResult, Written
from token_refresh.stores.database import DatabaseStore
from token_refresh.stores.sealed import SealedStore
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_run_context

pytestmark = pytest.mark.by_turns("rows")

NAMES = [f"loc{number}" for number in range(6)]


@dataclass(frozen=True)
class Clumsy(Provider):
    """A provider module with a mistake that one row brings to light."""

    step: str = ""

    def read_answer(self, raw: RawAnswer) -> Answer:
        if self.step == "read" and b"-f3-" in raw.body:
            raise IndexError("CANARY: a message may quote what it was given")
        return super().read_answer(raw)

    def refresh_request(self, credential: Credential) -> TokenRequest:
        if self.step == "ask" and "-f3-" in credential.refresh_token:
            raise UnicodeError("CANARY")
        return super().refresh_request(credential)


@pytest.fixture(params=DATABASES)
def rows(request: pytest.FixtureRequest) -> Rows:
    made = table_of(request.param, request)
    for name in NAMES:
        made.add("acme", name)
    return made


@contextmanager
def run_context_of(rows: Rows) -> Iterator[RunContext]:
    with open_run_context(prepare(rows.world.program.settings, rows.world.clock, Console())) as context:
        yield context


def run(
    rows: Rows, change: Callable[[RunContext], RunContext] = lambda context: context, *subscribers: Subscriber
) -> RunFinished:
    """A run with its context changed."""
    with run_context_of(rows) as context:
        return Refresher(change(context), *subscribers).run(Scope())


def clumsy(step: str) -> Callable[[RunContext], RunContext]:
    def change(context: RunContext) -> RunContext:
        usual = context.job_factory.find_provider("acme")
        own = Clumsy(**{field.name: getattr(usual, field.name) for field in fields(Provider)}, step=step)
        job_factory = JobFactory(context.store, Listed(own), context.default_provider, lambda _: Client())
        return context._replace(job_factory=job_factory, providers={"acme": own})

    return change


def outcomes(report: RunFinished) -> dict[str, str | None]:
    return {result.location_id: result.outcome for result in report.results}


def test_a_mistake_in_reading_one_answer_leaves_it_in_the_journal_and_the_others_fresh(rows: Rows) -> None:
    report = run(rows, clumsy("read"))
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed") | {"loc2": "operator"}
    [failed] = [result for result in report.results if result.outcome == "operator"]
    assert failed.error is not None
    assert failed.error.startswith("internal error: IndexError at test_faults_inside.py:")
    assert failed.action
    assert "CANARY" not in failed.error
    assert rows.row("loc2").last_error == failed.error
    [entry] = entries(rows.world)
    assert (entry.step, kept_token(rows.world, entry)) == ("answered", rows.world.oauth.current("loc2"))


def test_an_answer_that_still_cannot_be_read_blocks_its_row_only_and_is_stored_by_a_fixed_program(rows: Rows) -> None:
    run(rows, clumsy("read"))
    rows.add("acme", "another")
    again = run(rows, clumsy("read"))
    assert outcomes(again) == {"another": "refreshed"}
    [notice] = [notice for notice in again.notices if notice.code is NoticeCode.ANSWER_UNREADABLE]
    assert str(notice).startswith("loc2: its answer stays in the journal: internal error: IndexError")
    before = len(rows.world.oauth.requests)
    assert outcomes(run(rows)) == {"loc2": "refreshed"}
    assert len(rows.world.oauth.requests) == before
    assert rows.is_current("loc2")
    assert rows.world.oauth.sent_twice() == []


def test_a_mistake_in_making_one_request_sends_nothing_for_that_row_and_all_others_go_on(rows: Rows) -> None:
    report = run(rows, clumsy("ask"))
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed") | {"loc2": "operator"}
    assert len(rows.world.oauth.requests) == 5
    assert entries(rows.world) == []
    assert outcomes(run(rows)) == {"loc2": "refreshed"}


class OtherStore:
    """A store that is like another but for what its subclass changes."""

    def __init__(self, usual: Store) -> None:
        self.usual = usual

    def __getattr__(self, name: str) -> Any:
        return getattr(self.usual, name)


def on(context: RunContext, store: Any) -> RunContext:
    """The same context on another store."""
    sealed = copy.copy(context.store)
    sealed.store = store
    return context._replace(store=sealed)


class OddStore(OtherStore):
    """Stumbles over one row."""

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        if any(change.key == "3" for change in changes):
            raise TypeError("CANARY")
        return self.usual.write(changes)


def test_a_mistake_in_writing_one_row_keeps_its_tokens_in_the_journal_and_stores_the_others(rows: Rows) -> None:
    report = run(rows, lambda context: on(context, OddStore(context.store.store)))
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed") | {"loc2": "operator"}
    assert [rows.is_current(name) for name in NAMES] == [name != "loc2" for name in NAMES]
    [entry] = entries(rows.world)
    assert kept_token(rows.world, entry) == rows.world.oauth.current("loc2")
    assert outcomes(run(rows)) == {"loc2": "refreshed"}
    assert rows.is_current("loc2")


class OddSeal(SealedStore):
    """Cannot seal one row's new tokens."""

    def renewed_cells(self, row: Row, *rest: Any) -> dict[str, Value]:
        if row.location_id == "loc2":
            raise ValueError("CANARY")
        return super().renewed_cells(row, *rest)


def test_a_mistake_in_sealing_one_row_keeps_its_answer_in_the_journal_and_stores_the_others(rows: Rows) -> None:
    def odd_seal(context: RunContext) -> RunContext:
        store = OddSeal(context.store.store, context.store.keyring, accept_legacy=True, seal_access_tokens=True)
        return context._replace(store=store)

    report = run(rows, odd_seal)
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed") | {"loc2": "operator"}
    assert "CANARY" not in rows.row("loc2").last_error
    [entry] = entries(rows.world)
    assert kept_token(rows.world, entry) == rows.world.oauth.current("loc2")
    assert outcomes(run(rows)) == {"loc2": "refreshed"}
    assert rows.is_current("loc2")


class EndedThread:
    """A library that ends the thread it is called in."""

    def post(self, _: TokenRequest) -> RawAnswer:
        raise SystemExit


def test_a_thread_that_is_ended_ends_the_run_and_leaves_nobody_waiting_for_it(rows: Rows) -> None:
    """And a request that may have left is known to the next run."""
    with pytest.raises(SystemExit):
        run(rows, lambda context: context._replace(transport=EndedThread()))
    assert {entry.location_id for entry in entries(rows.world, "sent")} == set(NAMES)
    rows.world.clock.advance(100)
    assert outcomes(run(rows)) == dict.fromkeys(NAMES, "refreshed")


def test_answers_that_take_longer_than_a_tick_are_waited_for(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop only looks up now and then, for a signal."""
    monkeypatch.setattr(loop, "TICK_SECONDS", 0.0)
    assert outcomes(run(rows)) == dict.fromkeys(NAMES, "refreshed")


def test_answers_that_the_store_has_not_taken_yet_hold_back_new_requests(rows: Rows) -> None:
    """A store that is slow must not let what waits in memory and journal grow with the table."""
    with run_context_of(rows) as context:
        writeback = WriteBack(context, lambda _: None)
        work = loop.Loop(context, Schedule(context.jitter), writeback, lambda: True)
        row = rows.row(NAMES[0])
        for number in range(2 * context.store.store.flush_size + context.concurrency):
            assert work._has_room()
            writeback.add_unusable(UnusableRow(row, "acme", ActionableError(f"fault {number}", "Fix it.")))
        assert not work._has_room()


def test_a_finished_row_waits_for_company_but_not_for_long(airtable_world: World) -> None:
    """Elsewhere company saves calls; but where a refresh ends the old access token, automations fail meanwhile."""
    rows = AirtableRows(airtable_world)
    rows.add("acme-never", "lives on")
    rows.add("acme", "is dead")
    with run_context_of(rows) as context:
        writeback = WriteBack(context, lambda _: None)
        assert writeback.flushes_at() is None
        now = context.clock.monotonic()
        for name, seconds in (("lives on", 20), ("is dead", 2)):
            job = context.job_factory.job(rows.row(name))
            assert isinstance(job, Job)
            writeback.add(job, Answer(Verdict.NOT_ACTED, error="HTTP 503"), Verdict.NOT_ACTED, None, None)
            assert writeback.flushes_at() == now + seconds


class HalfStore(OtherStore):
    """Takes the first half of a batch only, as often as it is told."""

    failures = 1

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        if self.failures == 0:
            return self.usual.write(changes)
        self.failures -= 1
        half = len(changes) // 2
        undone = WriteResult(Written.UNDONE, StoreUnavailableError("the database is locked", "Wait."))
        return self.usual.write(changes[:half]) + [undone] * (len(changes) - half)


@pytest.mark.parametrize("failures", [1, 3])
def test_the_rest_of_a_batch_is_written_when_the_store_is_back(rows: Rows, failures: int) -> None:
    def change(context: RunContext) -> RunContext:
        store = HalfStore(context.store.store)
        store.failures = failures
        return on(context, store)

    report = run(rows, change)
    assert report.store_error is None
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed")
    assert all(map(rows.is_current, NAMES))
    assert entries(rows.world) == []


class SlowStore(OtherStore):
    """Takes nothing for some seconds after the first attempt."""

    seconds = 20.0
    back_at = 0.0

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        assert isinstance(self.usual, DatabaseStore)
        now = self.usual._clock.monotonic()
        self.back_at = self.back_at or now + self.seconds
        if now < self.back_at:
            raise StoreUnavailableError("the database is locked", "Wait.")
        return self.usual.write(changes)


def test_a_row_whose_next_attempt_falls_into_an_outage_of_the_store_waits_for_its_end(rows: Rows) -> None:
    """The loop sleeps until the store may be tried again; it does not spin, and the row gets its attempt."""
    rows.add("acme-never", "again")
    rows.world.oauth.fail(faults.status(503), provider="acme-never")

    report = run(rows, lambda context: on(context, SlowStore(context.store.store)))
    assert report.store_error is None
    assert outcomes(report) == dict.fromkeys([*NAMES, "again"], "refreshed")
    assert 20 <= rows.world.clock.slept <= 40


@pytest.mark.parametrize(("seconds", "outcome"), [(110, "refreshed"), (130, "transient")])
def test_a_store_that_is_away_is_waited_for_two_minutes(rows: Rows, seconds: float, outcome: str) -> None:
    def change(context: RunContext) -> RunContext:
        store = SlowStore(context.store.store)
        store.seconds = seconds
        return on(context, store)

    report = run(rows, change)
    assert outcomes(report) == dict.fromkeys(NAMES, outcome)
    assert (report.store_error is None) == (outcome == "refreshed")
    assert rows.world.clock.slept <= 121


def test_words_that_nobody_reads_any_more_do_not_stop_the_run(rows: Rows) -> None:
    """Somebody piped them into a program that has ended."""

    def gone(_: Event) -> None:
        raise BrokenPipeError

    report = run(rows, lambda context: context, gone)
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed")
    assert all(map(rows.is_current, NAMES))


# The journal takes no writes


def test_room_is_kept_for_one_answer_of_each_request_that_may_be_out(rows: Rows) -> None:
    rows.world.program.settings["CONCURRENCY"] = "3"
    run(rows)
    [ballast] = rows.world.program.home.glob("state/*/ballast")
    assert (ballast.stat().st_size, ballast.stat().st_blocks * 512 >= 3 << 18) == (3 << 18, True)


class FullJournal(Journal):
    """A journal whose disk is full for one kind of write."""

    refuses = ""
    after = 0

    def _check(self, step: str) -> None:
        if step != self.refuses:
            return
        self.after -= 1
        if self.after < 0:
            raise JournalError("the journal cannot be written (disk full)", "Free disk space.")

    def intend(self, *args: Any, **more: Any) -> int:
        self._check("intend")
        return super().intend(*args, **more)

    def keep(self, *args: Any) -> None:
        self._check("keep")
        super().keep(*args)

    def mark(self, entry_id: int, step: str) -> None:
        self._check("mark")
        super().mark(entry_id, step)

    def finish(self, entry_ids: Any, spent: Any = ()) -> None:
        if entry_ids:
            self._check("finish")
        super().finish(entry_ids, spent)


@contextmanager
def full(rows: Rows, refuses: str, after: int = 0) -> Iterator[Callable[[RunContext], RunContext]]:
    opened: list[FullJournal] = []

    def change(context: RunContext) -> RunContext:
        [folder] = {path.parent for path in rows.world.program.home.glob("state/*/journal-1.sqlite3")}
        journal = FullJournal(folder, rows.world.program.keyring, context.clock)
        journal.refuses, journal.after = refuses, after
        opened.append(journal)
        return context._replace(journal=journal)

    yield change
    for journal in opened:
        journal.close()


def test_answers_that_the_journal_cannot_take_go_to_the_store_all_the_same(rows: Rows) -> None:
    with full(rows, "keep") as change:
        report = run(rows, change)
    assert report.journal_error is not None
    assert set(outcomes(report).values()) == {"refreshed"}
    assert all(rows.is_current(result.location_id) for result in report.results)


def test_a_journal_that_fails_on_the_way_starts_no_more_and_loses_nothing(rows: Rows) -> None:
    rows.world.program.settings["CONCURRENCY"] = "1"
    with full(rows, "intend", after=2) as change:
        report = run(rows, change)
    assert report.journal_error is not None
    assert len(report.results) == 2
    assert len(rows.world.oauth.requests) == 2
    assert all(map(rows.is_current, NAMES))
    assert [row.reason for row in report.waiting] == ["the journal cannot be written"] * 4


def test_a_journal_that_forgets_nothing_any_more_keeps_no_answer_from_the_store(rows: Rows) -> None:
    with full(rows, "finish") as change:
        report = run(rows, change)
    assert report.journal_error is not None
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed")
    assert all(map(rows.is_current, NAMES))
    assert len(entries(rows.world, "answered")) == 6
    before = len(rows.world.oauth.requests)
    assert outcomes(run(rows)) == {}
    assert entries(rows.world) == []
    assert len(rows.world.oauth.requests) == before


def test_a_loss_that_the_journal_cannot_note_keeps_no_answer_from_the_store(rows: Rows) -> None:
    rows.world.oauth.fail(faults.reset(), times=2, token="loc0")
    with full(rows, "mark") as change:
        report = run(rows, change)
    assert report.journal_error is not None
    assert outcomes(report) == dict.fromkeys(NAMES, "refreshed") | {"loc0": "unknown"}
    assert all(map(rows.is_current, NAMES))
    assert [entry.location_id for entry in entries(rows.world)] == ["loc0"]
    rows.world.clock.advance(100)
    assert outcomes(run(rows)) == {"loc0": "refreshed"}


def test_a_journal_that_recovers_within_the_run_remembers_what_was_spent(rows: Rows) -> None:
    tokens = {name: rows.stored(name) for name in NAMES}

    class Hiccup(FullJournal):
        def _check(self, step: str) -> None:
            if step == "finish" and self.after == 0:
                self.after = 1
                raise JournalError("the journal cannot be written", "")

    def change(context: RunContext) -> RunContext:
        context.journal.__class__ = Hiccup
        return context

    report = run(rows, change)
    assert report.journal_error is not None
    assert entries(rows.world) == []
    with run_context_of(rows) as context:
        assert all(is_spent(context.journal, token) for token in tokens.values())
