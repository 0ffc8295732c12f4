"""When a refresh token may be sent, or sent again: each rule on its own."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from providers.base import Judgement, Provider, Replay, Verdict
from tests.world.clock import START
from token_refresh.journal.entries import Entry, Step
from token_refresh.journal.failures import Failure
from token_refresh.refresh.replay import (
    Wait,
    arrives_by,
    is_lost,
    is_used_up,
    limit_of,
    may_live,
    may_resend_within,
    may_retry,
    reason_to_wait,
)

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def lost(seconds: int, *, is_resend: bool = False) -> Entry:
    """The entry of a request that left so many seconds ago, and whose answer never came."""
    sent_at = START - seconds * SECOND
    lost_at = sent_at - SECOND if is_resend else None
    return Entry(1, "uid", "", "row", "loc", "acme", "o", "c", "t", Step.SENT, sent_at, sent_at, lost_at, "", "")


def provider(replay: Replay = "once", **more: object) -> Provider:
    return replace(Provider("acme", "Acme", "https://acme.example/token", replay=replay), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "rotates", "expected"),
    [
        (Judgement(Verdict.UNCLEAR), "always", True),
        (Judgement(Verdict.UNCLEAR), "sometimes", True),
        (Judgement(Verdict.UNCLEAR), "never", False),
        (Judgement(Verdict.UNCLEAR, brings_refresh_token=True), "always", False),
        (Judgement(Verdict.NOT_ACTED), "always", False),
        (Judgement(Verdict.DEAD_GRANT), "always", False),
    ],
)
def test_an_answer_is_lost_where_it_may_have_brought_a_token(answer: Judgement, rotates: str, expected: bool) -> None:
    assert is_lost(provider(rotates=rotates), answer) is expected


@pytest.mark.parametrize(
    ("replay", "attempts", "was_lost", "is_last_minute", "expected", "in_window"),
    [
        ("safe", 1, False, False, math.inf, math.inf),
        ("safe", 2, True, False, math.inf, math.inf),
        ("safe", 3, True, False, 0, 0),
        ("once", 1, False, False, math.inf, math.inf),
        ("once", 1, True, True, 0, 0),
        ("last_minute", 1, False, False, 0, 30),
        ("last_minute", 1, False, True, math.inf, math.inf),
        ("last_minute", 1, True, True, 0, 0),
    ],
)
def test_after_a_lost_answer_the_provider_s_window_and_then_its_rule_decide(
    replay: Replay, attempts: int, was_lost: bool, is_last_minute: bool, expected: float, in_window: float
) -> None:
    for window, seconds in ((0, expected), (14, expected), (30, in_window)):
        one = provider(replay, replay_window=window)
        assert may_resend_within(one, attempts, was_lost=was_lost, is_last_minute=is_last_minute) == seconds


@pytest.mark.parametrize(("window", "seconds"), [(0, 90), (14, 90), (15, 5), (30, 10), (36, 12), (1800, 12)])
def test_the_first_request_leaves_two_thirds_of_a_window_and_ends_after_twelve_seconds(
    window: int, seconds: float
) -> None:
    one = provider(replay_window=window)
    assert limit_of(one, is_first=True) == seconds
    assert limit_of(one, is_first=False) == 90
    assert arrives_by(lost(0), one) == START + seconds * SECOND
    assert arrives_by(lost(0, is_resend=True), one) == START + 90 * SECOND
    assert arrives_by(lost(0)) == START + 90 * SECOND


@pytest.mark.parametrize(
    ("answer", "attempts", "expected"),
    [
        (Judgement(Verdict.NOT_ACTED), 1, True),
        (Judgement(Verdict.NOT_ACTED, status=429), 2, True),
        (Judgement(Verdict.NOT_ACTED, status=503), 3, False),
        (Judgement(Verdict.NOT_ACTED, status=404), 1, False),
        (Judgement(Verdict.UNCLEAR, status=500), 1, True),
        (Judgement(Verdict.REQUEST_REFUSED), 1, False),
        (Judgement(Verdict.DEAD_GRANT), 1, False),
    ],
)
def test_a_failure_that_may_pass_is_tried_again_a_few_times(answer: Judgement, attempts: int, expected: bool) -> None:
    assert may_retry(answer, attempts) is expected


@pytest.mark.parametrize(
    ("replay", "earliest", "left", "lost_ago", "expected", "seconds"),
    [
        ("once", 0, 3000, None, None, 0),
        ("once", 30, 3000, None, Wait.TOO_EARLY, 2970),
        ("once", 30, 30, None, None, 0),
        ("once", 30, None, None, None, 0),
        ("once", 0, 3000, 89, Wait.UNDER_WAY, 1),
        ("once", 0, 3000, 90, None, 0),
        ("safe", 0, 3000, 90, None, 0),
        ("last_minute", 0, 3000, 90, Wait.LAST_MINUTE, 2940),
        ("last_minute", 0, 60, 90, None, 0),
        ("last_minute", 0, None, 90, None, 0),
        ("last_minute", 0, 10, 10, Wait.UNDER_WAY, 80),
        ("last_minute", 0, 3000, None, None, 0),
    ],
)
def test_a_token_waits_while_its_provider_would_refuse_or_punish_it(
    replay: Replay, earliest: int, left: int | None, lost_ago: int | None, expected: Wait | None, seconds: int
) -> None:
    expires_at = START + left * SECOND if left is not None else None
    last_minute = expires_at - 60 * SECOND if expires_at is not None else None
    entry = lost(lost_ago) if lost_ago is not None else None
    found = reason_to_wait(provider(replay, earliest=earliest), expires_at, entry, START, last_minute)
    assert found == (None if expected is None else (expected, START + seconds * SECOND))


@pytest.mark.parametrize(
    ("replay", "window", "lost_ago", "is_resend", "expected"),
    [
        ("last_minute", 30, 0, False, None),
        ("last_minute", 30, 29, False, None),
        ("last_minute", 30, 30, False, Wait.LAST_MINUTE),
        ("last_minute", 600, 10, True, Wait.UNDER_WAY),
        ("last_minute", 600, 91, True, Wait.LAST_MINUTE),
        ("once", 30, 0, False, None),
        ("once", 30, 31, False, None),
        ("once", 30, 31, True, Wait.UNDER_WAY),
        ("once", 14, 10, False, Wait.UNDER_WAY),
        ("once", 30, -1, False, Wait.UNDER_WAY),  # by another clock: of another table's journal
    ],
)
def test_in_a_window_the_token_of_a_first_request_does_not_wait_for_a_later_run(
    replay: Replay, window: int, lost_ago: int, is_resend: bool, expected: Wait | None
) -> None:
    one = provider(replay, replay_window=window)
    last_minute = START + 3000 * SECOND
    found = reason_to_wait(one, last_minute, lost(lost_ago, is_resend=is_resend), START, last_minute)
    assert (found and found[0]) == expected


@pytest.mark.parametrize(
    ("replay", "rotates", "is_spent", "expected"),
    [
        ("once", "always", True, True),
        ("last_minute", "sometimes", True, True),
        ("once", "always", False, False),
        ("safe", "always", True, False),
        ("once", "never", True, False),
    ],
)
def test_a_spent_token_is_not_sent_where_that_may_cost_the_grant(
    replay: Replay, rotates: str, is_spent: bool, expected: bool
) -> None:
    assert is_used_up(provider(replay, rotates=rotates), is_spent=is_spent) is expected


@pytest.mark.parametrize(
    ("dead_since", "tried_at", "is_doubtful", "expected"),
    [
        (START - DAY, START - DAY, True, True),
        (START - DAY, START - DAY, False, False),
        (START - DAY, START - 3600 * SECOND, True, False),
        (START - 7 * DAY, START - DAY, True, True),
        (START - 8 * DAY, START - DAY, True, False),
        (None, START - DAY, True, False),
    ],
)
def test_a_dead_grant_is_tried_again_once_a_day_for_a_week_where_the_provider_is_known_to_err(
    dead_since: datetime | None, tried_at: datetime, is_doubtful: bool, expected: bool
) -> None:
    failure = Failure("key", "loc", "acme", "cell", "reauthorize", "dead", 1, dead_since, tried_at)
    assert may_live(provider(unreliable_invalid_grant=is_doubtful), failure, START) is expected


def test_of_an_unknown_provider_no_dead_grant_is_tried_again() -> None:
    failure = Failure("key", "loc", "acme", "cell", "reauthorize", "dead", 1, START - DAY, START - DAY)
    assert not may_live(None, failure, START)
