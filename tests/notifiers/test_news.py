"""What somebody should know is sent once when it begins, once a day while it lasts, and once when it is over."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from tests.notifiers.news_world import DAY, HOUR, Desk, ending, ends_in, fact, said
from tests.world.clock import FakeClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Outcome, RowFinished, RowWaiting
from token_refresh.notifiers.facts import quota_items
from token_refresh.notifiers.summary import Code, Facts, Item
from token_refresh.stores.base import StoreUnavailableError, Usage


@pytest.fixture
def desk(tmp_path: Path, clock: FakeClock) -> Desk:
    return Desk(tmp_path / "state", clock)


def test_it_is_sent_when_it_begins_and_when_it_is_over_and_not_between(desk: Desk) -> None:
    assert said(desk.run(fact("loc"))) == [("login_needed", "loc", False)]
    assert [said(desk.run(fact("loc"))) for _ in range(5)] == [[]] * 5
    assert said(desk.run()) == [("recovered", "loc", False)]
    assert desk.run() == []


def test_what_lasts_comes_in_one_digest_a_day(desk: Desk) -> None:
    desk.run(fact("loc"), fact("other", Code.NEEDS_FIXING))
    digests = [said(desk.run(fact("loc"), fact("other", Code.NEEDS_FIXING))) for _ in range(72)]
    assert [digest for digest in digests if digest] == [
        [("login_needed", "loc", True), ("needs_fixing", "other", True)]
    ] * 3


def test_the_digest_and_what_is_new_are_one_message(desk: Desk) -> None:
    desk.run(fact("old"))
    [message] = desk.run(fact("old"), fact("new"), after=DAY)
    assert {(item.location_id, item.is_lasting) for item in message.items} == {("old", True), ("new", False)}
    assert message.title == "token-refresh: 1 still login needed, 1 login needed"


def test_a_digest_that_a_wrong_clock_dated_in_the_future_keeps_no_later_one_back(desk: Desk) -> None:
    desk.run(fact("loc"), after=30 * DAY)
    desk.clock.set_back(30 * DAY)
    assert said(desk.run(fact("loc"))) == [("login_needed", "loc", True)]


def test_a_row_that_needs_a_login_instead_has_not_recovered_from_failing(desk: Desk) -> None:
    assert said(desk.run(fact("loc", Code.FAILING))) == [("failing", "loc", False)]
    assert said(desk.run(fact("loc", Code.LOGIN_NEEDED))) == [("login_needed", "loc", False)]
    assert said(desk.run()) == [("recovered", "loc", False)]


def test_a_row_that_a_run_did_not_try_still_has_what_it_had(desk: Desk) -> None:
    """Such as one whose client was refused: others of that client were tried first."""
    desk.run(fact("loc", Code.NEEDS_FIXING))
    assert desk.run(fact("loc", Code.FAILING)) == []
    assert desk.run(fact("loc", Code.NEEDS_FIXING)) == []
    assert said(desk.run(fact("loc", Code.FAILING, message="HTTP 503"))) == [("failing", "loc", False)]


def test_what_is_found_too_early_to_say_is_news_only_when_it_lasts(desk: Desk) -> None:
    assert desk.run(fact("loc", Code.FAILING, step=0)) == []
    assert said(desk.run(fact("loc", Code.FAILING))) == [("failing", "loc", False)]


def test_an_end_is_news_thirty_seven_and_one_days_before(desk: Desk) -> None:
    end = ends_in(desk.clock, 40)
    news = {}
    for day in range(1, 41):
        if messages := desk.run(ending("loc", end, desk.clock.now() + timedelta(seconds=DAY)), after=DAY):
            news[day] = said(messages)
    assert news == {day: [("ending", "loc", False)] for day in (10, 33, 39)}
    assert desk.run(after=DAY) == []


def test_what_was_renewed_before_its_end_has_recovered(desk: Desk) -> None:
    desk.run(ending("loc", ends_in(desk.clock, 5), desk.clock.now()))
    assert said(desk.run()) == [("recovered", "loc", False)]


def test_what_ends_on_a_day_is_not_in_the_digest(desk: Desk) -> None:
    item = ending("ends", ends_in(desk.clock, 20), desk.clock.now())
    desk.run(item, fact("loc"))
    assert said(desk.run(item, fact("loc"), after=DAY)) == [("login_needed", "loc", True)]


def test_a_secret_and_a_login_that_end_are_two_things(desk: Desk) -> None:
    end, now = ends_in(desk.clock, 5), desk.clock.now()
    [message] = desk.run(*(ending("loc", end, now, part) for part in ("refresh_token", "client_secret")))
    assert len(message.items) == 2


def test_the_worst_comes_first_and_of_many_rows_twenty_are_shown(desk: Desk) -> None:
    rows = [fact(f"loc{number}", Code.FAILING) for number in range(30)]
    [message] = desk.run(*rows, fact("dead", Code.LOGIN_NEEDED))
    lines = message.text.splitlines()
    assert lines[0].startswith("login needed: dead acme: the grant is dead. Log in again. (since ")
    assert len(lines) == 21
    assert lines[-1] == "and 11 more"
    assert message.title == "token-refresh: 1 login needed, 30 failing"


def test_all_codes_are_in_the_order_of_their_severity(desk: Desk) -> None:
    desk.clock.advance(10 * DAY)
    rows = (Code.ENDING, Code.FAILING, Code.NEEDS_FIXING, Code.UNREADABLE_CELL, Code.LOGIN_NEEDED)
    others = (Code.JOURNAL_WAITING, Code.ROTATION_UNFINISHED, Code.QUOTA)
    facts = Facts([*(fact(code, code) for code in rows), *(Item(code, "what", "Do.") for code in others)])
    away = StoreUnavailableError("the table does not answer", "Wait.")
    waiting = [RowWaiting("w", "acme", "acme.example does not answer", host="acme.example")]
    [message] = desk.end(desk.summary(facts, store_error=away, waiting=waiting))
    codes = [str(item.code) for item in message.items]
    assert codes == [str(code) for code in Code if code not in (Code.NOTHING_REFRESHED, Code.RECOVERED)]


def test_the_state_is_kept_for_each_address(desk: Desk) -> None:
    """Mail that went out is not sent again because chat was down."""
    desk.addresses, desk.refuses = ("mail", "chat"), {"chat"}
    desk.run(fact("loc"))
    assert desk.warned == ["chat: it refuses"]
    desk.refuses = set()
    desk.run(fact("loc"))
    assert sorted(address for address, _ in desk.got) == ["chat", "chat", "mail"]


def test_what_nobody_accepted_is_sent_by_the_next_run_with_what_came_since(desk: Desk) -> None:
    desk.refuses = {"mail"}
    desk.run(fact("loc"))
    desk.refuses = set()
    assert said(desk.run(fact("loc"), fact("other"))) == [
        ("login_needed", "loc", False),
        ("login_needed", "other", False),
    ]


def test_what_is_over_before_anybody_accepted_it_is_never_sent(desk: Desk) -> None:
    desk.refuses = {"mail"}
    desk.run(fact("loc"))
    desk.refuses = set()
    assert desk.run() == []


def test_a_store_that_cannot_be_asked_ends_nothing_that_is_of_its_rows(desk: Desk) -> None:
    desk.run(fact("loc"))
    desk.clock.advance(HOUR)
    away = StoreUnavailableError("the table does not answer", "Wait.")
    assert said(desk.end(desk.summary(None, error=away))) == [("store_unavailable", "", False)]
    assert said(desk.run(fact("loc"))) == [("recovered", "", False)]


def test_what_a_run_that_could_not_look_knows_nothing_of_is_not_over(desk: Desk) -> None:
    desk.clock.advance(5 * DAY)
    waiting = [RowWaiting("w", "acme", "…", host="acme.example")]
    facts = Facts([Item(code, "what", "Do.") for code in (Code.JOURNAL_WAITING, Code.QUOTA)])
    begun = desk.end(desk.summary(facts, waiting=waiting))
    assert {code for code, *_ in said(begun)} == {"journal_waiting", "quota", "host_unavailable"}
    away = StoreUnavailableError("the table does not answer", "Wait.")
    assert said(desk.end(desk.summary(None, error=away))) == [("store_unavailable", "", False)]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("Log in again.", "login needed: loc acme: HTTP 400: Token was revoked. Log in again."),
        ("", "login needed: loc acme: HTTP 400: Token was revoked."),
    ],
)
def test_what_a_provider_ended_by_a_full_stop_gets_no_second_one(action: str, text: str) -> None:
    assert str(fact(message="HTTP 400: Token was revoked.", action=action)) == text


def test_another_mistake_of_the_set_up_is_not_the_end_of_the_first(desk: Desk) -> None:
    away = StoreUnavailableError("the table does not answer", "Wait.")
    wrong = ActionableError("Airtable does not accept the key", "Make another.", Kind.CONFIGURATION)
    assert said(desk.end(desk.summary(None, error=away))) == [("store_unavailable", "", False)]
    assert said(desk.end(desk.summary(None, error=wrong))) == [("needs_fixing", "", False)]
    assert said(desk.run()) == [("recovered", "", False)]


def test_a_deadline_or_a_signal_is_no_news(desk: Desk) -> None:
    assert desk.end(desk.summary(Facts(), error=ActionableError("stopped", "", Kind.STOPPED))) == []


def test_a_host_that_does_not_answer_is_news_until_no_row_waits_for_it(desk: Desk) -> None:
    waiting = [RowWaiting("a", "acme", "…", host="acme.example"), RowWaiting("b", "acme", "…", host="acme.example")]
    [message] = desk.run(waiting=waiting)
    assert [item.message for item in message.items] == ["acme.example does not answer"]
    assert said(desk.run()) == [("recovered", "", False)]


def test_that_nothing_is_refreshed_is_news_after_two_intervals(desk: Desk) -> None:
    failed = [RowFinished("loc", "acme", Outcome.TRANSIENT)]
    news = [said(desk.run(due=3, results=failed)) for _ in range(4)]
    assert news == [[], [], [("nothing_refreshed", "", False)], []]
    assert said(desk.run(due=3, results=[*failed, RowFinished("b", "acme", Outcome.REFRESHED)])) == [
        ("recovered", "", False)
    ]


def test_the_months_calls_are_news_at_eighty_and_at_a_hundred_percent_from_the_third_day_on(desk: Desk) -> None:
    shares = {2: 1000, 3: 799, 4: 800, 5: 900, 6: 1000, 7: 850, 8: 1000}  # day of the month: forecast
    news = {}
    for day, forecast in shares.items():
        desk.clock.advance((day - desk.clock.now().day) * DAY)
        items = list(quota_items(Usage(10, forecast, 0), 1000, desk.clock.now()))
        if messages := desk.end(desk.summary(Facts(items))):
            news[day] = [one for one in said(messages) if not one[2]]
    assert {day: one for day, one in news.items() if one} == {4: [("quota", "", False)], 6: [("quota", "", False)]}


def test_an_unknown_plan_is_no_news(desk: Desk) -> None:
    desk.clock.advance(10 * DAY)
    assert list(quota_items(Usage(10**6, 10**7, 0), None, desk.clock.now())) == []


def test_of_two_processes_that_end_together_the_second_waits_and_sends_what_only_it_has(desk: Desk) -> None:
    second, begun = Desk(desk.folder, desk.clock), threading.Event()
    later = threading.Thread(target=lambda: second.run(fact("loc"), fact("other"), after=0))

    def meanwhile(*_: object) -> None:
        later.start()
        begun.wait(0.2)

    desk._send = meanwhile  # type: ignore[method-assign,assignment]
    desk.run(fact("loc"))
    later.join(10)
    assert [said([message]) for _, message in second.got] == [[("login_needed", "other", False)]]
    assert desk.warned == second.warned == []


def test_who_waits_too_long_for_another_process_sends_no_news_but_what_is_of_its_run_alone(desk: Desk) -> None:
    second, called = Desk(desk.folder, desk.clock, seconds=1.2), []

    def meanwhile(*_: object) -> None:
        second._send = lambda _, message, *__: called.append(message.items)  # type: ignore[method-assign]
        second.run(fact("loc"))

    desk._send = meanwhile  # type: ignore[method-assign,assignment]
    desk.run(fact("loc"))
    assert called == [[]]
    assert desk.warned == second.warned == []


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"table": {"mail": {"items": {"x": {}}}}}'])
def test_a_state_file_that_is_broken_counts_as_none(desk: Desk, broken: str) -> None:
    desk.run()
    (desk.folder / f"news-{'0' * 16}.json").write_text(broken)
    assert said(desk.run(fact("loc"))) == [("login_needed", "loc", False)]
    assert said(desk.run(fact("loc"))) == []


def test_a_secret_that_a_provider_repeats_is_masked(desk: Desk) -> None:
    desk.more = {"MICROSOFT_CLIENT_SECRET": "a secret of many letters"}
    [message] = desk.run(
        fact("loc", message="no a secret of many letters\nhere", action="try a secret of many letters")
    )
    assert "a secret of many letters" not in message.text
    assert message.text.count("\n") == 0


def test_the_state_is_bounded_by_what_there_is(desk: Desk) -> None:
    desk.run(*(fact(f"loc{number}") for number in range(500)))
    desk.run()
    assert (desk.folder / f"news-{'0' * 16}.json").stat().st_size < 1000
