"""When a refresh token may be sent, or sent again: each rule on its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from providers.base import Judgement, Provider, Replay, Verdict
from tests.world.clock import START
from token_refresh.journal.failures import Failure
from token_refresh.refresh.replay import (
    Wait,
    is_lost,
    is_under_way,
    is_used_up,
    may_live,
    may_resend,
    may_retry,
    reason_to_wait,
)

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


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
    ("replay", "attempts", "was_lost", "is_last_minute", "expected"),
    [
        ("safe", 1, False, False, True),
        ("safe", 2, True, False, True),
        ("safe", 3, True, False, False),
        ("once", 1, False, False, True),
        ("once", 1, True, True, False),
        ("last_minute", 1, False, False, False),
        ("last_minute", 1, False, True, True),
        ("last_minute", 1, True, True, False),
    ],
)
def test_after_a_lost_answer_the_provider_s_rule_decides(
    replay: Replay, attempts: int, was_lost: bool, is_last_minute: bool, expected: bool
) -> None:
    assert may_resend(provider(replay), attempts, was_lost=was_lost, is_last_minute=is_last_minute) is expected


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


@pytest.mark.parametrize(("seconds", "expected"), [(0, True), (89, True), (90, False), (1000, False)])
def test_a_request_may_arrive_as_long_as_one_exchange_may_take(seconds: int, expected: bool) -> None:
    assert is_under_way(START, START + seconds * SECOND) is expected


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
    lost_at = START - lost_ago * SECOND if lost_ago is not None else None
    found = reason_to_wait(provider(replay, earliest=earliest), expires_at, lost_at, START, last_minute)
    assert found == (None if expected is None else (expected, START + seconds * SECOND))


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
