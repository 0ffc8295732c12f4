"""One pace for all processes that call a base from this machine, and the month's calls."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.world.clock import FakeClock
from token_refresh.stores.airtable.pace import Pace
from token_refresh.stores.base import Usage

SPACING_SECONDS = 0.25


def _moments(clock: FakeClock, *paces: Pace) -> list[float]:
    """When each of these, in turn, was let through."""
    moments = []
    for pace in paces:
        clock.sleep(pace.take())
        moments.append(clock.monotonic())
    return moments


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pace.json"


def test_two_processes_in_one_second_share_one_pace(file: Path, clock: FakeClock) -> None:
    one, other = Pace(file, clock, 4), Pace(file, clock, 4)
    moments = _moments(clock, one, other, one, other, other)
    assert all(later - sooner >= SPACING_SECONDS for sooner, later in itertools.pairwise(moments))


def test_a_penalty_that_one_process_met_holds_the_other_back(file: Path, clock: FakeClock) -> None:
    one, other = Pace(file, clock, 4), Pace(file, clock, 4)
    one.take()
    one.pause(30)
    before = clock.monotonic()
    assert _moments(clock, other)[0] - before >= 30


@pytest.mark.parametrize(("ahead", "waited"), [(119, 119), (121, 0), (99_999_999_999, 0)])
def test_a_moment_far_ahead_was_written_before_the_clock_was_set_back(
    file: Path, clock: FakeClock, ahead: int, waited: int
) -> None:
    """No penalty is that long; nobody is to wait for hours because a clock once ran fast."""
    file.write_text(json.dumps({"next_at": clock.timestamp() + ahead}))
    before = clock.monotonic()
    assert _moments(clock, Pace(file, clock, 4)) == [before + waited]


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"next_at": "soon", "calls": null}', "\x00" * 50])
def test_a_file_that_cannot_be_read_begins_again(file: Path, clock: FakeClock, content: str) -> None:
    file.write_text(content)
    pace = Pace(file, clock, 4)
    pace.take()
    assert pace.usage().calls == 1


def test_without_a_disk_the_pace_is_this_process_s_own(tmp_path: Path, clock: FakeClock) -> None:
    pace = Pace(tmp_path / "nowhere" / "pace.json", clock, 4)
    first, second = _moments(clock, pace, pace)
    assert second - first >= SPACING_SECONDS
    assert pace.usage().calls == 2


def test_calls_are_counted_over_processes_and_begin_again_each_month(file: Path, clock: FakeClock) -> None:
    """The clock starts on the first of March at noon; a forecast of less than a day would be a guess."""
    _moments(clock, Pace(file, clock, 4), Pace(file, clock, 4))
    assert Pace(file, clock, 4).usage() == Usage(2, 2, 30.5 * 86_400)
    clock.advance(15 * 86_400)  # half of March's 31 days
    assert Pace(file, clock, 4).usage() == Usage(2, 4, 15.5 * 86_400)
    clock.advance(16 * 86_400)
    assert Pace(file, clock, 4).usage() == Usage(0, 0, 29.5 * 86_400)
