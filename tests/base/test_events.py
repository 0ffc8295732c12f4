"""What a run says reaches everybody who listens, whatever becomes of one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from token_refresh.base.events import Event, FanOut, Notice, NoticeCode, RowFinished, RowsListed, RunStarted

TESTS = Path(__file__).resolve().parents[1]
STARTED = RunStarted("run", datetime(2026, 3, 1, tzinfo=UTC))


def test_each_subscriber_gets_each_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    emit = FanOut(first.append, second.append)
    events: list[Event] = [STARTED, RowsListed(3, 2)]
    for event in events:
        emit(event)
    assert first == second == events


def test_a_reader_that_has_gone_keeps_no_event_from_the_others_and_is_not_worth_a_word() -> None:
    def gone(_: Event) -> None:
        raise BrokenPipeError

    heard: list[Event] = []
    emit = FanOut(gone, heard.append)
    emit(STARTED)
    assert heard == [STARTED]


def test_a_mistake_in_a_subscriber_stops_nothing_and_is_named_once_without_its_words() -> None:
    def clumsy(_: Event) -> None:
        raise IndexError("CANARY")

    heard: list[Event] = []
    emit = FanOut(heard.append, clumsy)
    emit(STARTED)
    emit(RowsListed(3, 2))
    [started, notice, listed] = heard
    assert (started, listed) == (STARTED, RowsListed(3, 2))
    assert isinstance(notice, Notice)
    assert notice.code is NoticeCode.SUBSCRIBER_FAILED
    assert notice.message.startswith("internal error: IndexError at test_events.py:")
    assert "CANARY" not in notice.message


def test_two_subscribers_with_mistakes_are_both_named() -> None:
    def one(_: Event) -> None:
        raise IndexError

    def other(_: Event) -> None:
        raise KeyError

    heard: list[Event] = []
    FanOut(one, other, heard.append)(STARTED)
    assert sorted(event.message[:25] for event in heard if isinstance(event, Notice)) == [
        "internal error: IndexErro",
        "internal error: KeyError ",
    ]


def test_whoever_wants_the_end_is_not_held_up() -> None:
    def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FanOut(interrupted)(STARTED)


def test_a_notice_names_the_row_that_it_is_about() -> None:
    assert str(Notice(NoticeCode.ROW_GONE, "loc", "the row is gone")) == "loc: the row is gone"
    assert str(Notice(NoticeCode.RARE_RUNS, None, "the last run was long ago")) == "the last run was long ago"


def test_every_row_that_did_not_succeed_is_an_error_for_whoever_wanted_its_token() -> None:
    assert str(RowFinished("loc", "acme", None).as_error()) == "loc acme: None, no reason was given"


@pytest.mark.parametrize("code", NoticeCode)
def test_each_code_is_said_by_the_program_and_asked_for_by_a_test(code: NoticeCode) -> None:
    name = f"NoticeCode.{code.name}"
    product = {path for path in (TESTS.parent / "token_refresh").rglob("*.py") if name in path.read_text()}
    tests = {path for path in TESTS.rglob("test_*.py") if name in path.read_text()}
    assert product, f"nothing says {name}"
    assert tests, f"no test asks for {name}"
