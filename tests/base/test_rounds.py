"""Rounds at fixed times: what one round takes moves no other, and the end is noticed at once."""

from __future__ import annotations

import pytest

from tests.world.clock import FakeClock
from token_refresh.base.rounds import TICK_SECONDS, rounds
from token_refresh.base.stop import Stop


def starts(interval: float, *lengths: float) -> list[float]:
    """When rounds of these lengths begin, in seconds from the first."""
    clock, stop = FakeClock(), Stop()
    first, begun = clock.monotonic(), list[float]()
    left = iter(lengths)
    for _ in rounds(interval, clock, stop):
        begun.append(clock.monotonic() - first)
        length = next(left, None)
        if length is None:
            stop("enough")
        else:
            clock.advance(length)
    return begun


def test_rounds_begin_at_multiples_of_the_interval_whatever_they_take() -> None:
    assert starts(10, 0, 3.3, 9.9, 0.1) == pytest.approx([0, 10, 20, 30, 40])


def test_a_hundred_rounds_do_not_drift() -> None:
    assert starts(10.1, *[0.7] * 100)[-1] == pytest.approx(1010)


def test_a_round_that_takes_too_long_skips_those_that_it_missed() -> None:
    assert starts(10, 25, 1, 10, 30) == pytest.approx([0, 30, 40, 50, 80])


def test_no_round_begins_after_the_end_is_wanted_before_the_first() -> None:
    stop = Stop()
    stop("not today")
    assert list(rounds(10, FakeClock(), stop)) == []


def test_the_end_is_noticed_between_two_rounds_within_a_tick() -> None:
    class Ended(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            stop("enough")

    clock, stop = Ended(), Stop()
    assert len(list(rounds(3600, clock, stop))) == 1
    assert clock.slept == TICK_SECONDS
