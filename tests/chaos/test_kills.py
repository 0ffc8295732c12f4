"""Some sixty kills with a fixed seed; `make chaos` does a thousand with another seed each time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos import child
from tests.chaos.kills import PHASES, Figures, play
from tests.chaos.life import Life
from tests.chaos.stage import Plan, Stage
from tests.chaos.world import installation, shared_clock

pytestmark = pytest.mark.long

KILLS = 60
TAKES_OVER = 13  # a seed of this: the second machine takes over, unharmed, and then the first one is used again


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


def test_what_a_takeover_leaves_in_the_journal_of_the_other_machine_is_a_person_s_loss(tmp_path: Path) -> None:
    quick = {"REFRESH_INTERVAL": "600", "TOKEN_EXPIRY_BUFFER": "120", "CONCURRENCY": "9"}
    with shared_clock(tmp_path) as clock, installation("sqlite", tmp_path, clock, **quick) as rows:
        stage = Stage(rows, child.context(), tmp_path)
        life = Life(stage, "sqlite", random.Random(TAKES_OVER), lambda plan: stage.run(plan, "--json"))
        assert not stage.run(None).is_killed
        life.copies_the_state()
        clock.advance(4000)
        assert stage.run(Plan("busy", nth=1, delay=0.5, acts=True, drops=0, is_double=False), "--json").is_killed
        clock.advance(95)
        life.lets_another_run()
        life.tend()
    assert stage.oracle.violations == []
    assert any(name.startswith("lost by people") for name in life.counts)
