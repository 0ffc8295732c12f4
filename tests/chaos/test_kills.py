"""Some sixty kills with a fixed seed; `make chaos` does a thousand with another seed each time."""

from __future__ import annotations

import pytest

from tests.chaos import child
from tests.chaos.kills import PHASES, Figures, play

pytestmark = pytest.mark.long

KILLS = 60


def test_no_token_is_lost_by_a_kill_but_in_the_window_that_nobody_can_close() -> None:
    forks, figures, number = child.context(), Figures(), 0
    while figures.kills < KILLS and not figures.violations:
        figures.add(play("fixed", number, forks))
        number += 1
    assert figures.violations == []
    assert figures.kills >= KILLS
    assert figures.runs > figures.kills
    hit = [phase for phase in PHASES if figures.kills_in[phase]]
    assert {"answer on its way", "answer kept", "after"} <= set(hit)
